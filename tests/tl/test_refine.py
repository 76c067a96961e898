"""The vote of the neighbourhood: what it changes and what it must leave."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from stmmr import InputError
from stmmr._core import kernel
from stmmr._core.borders import contacts
from stmmr._core.kernel import nearest
from stmmr._core.pieces import gap_of, on_one_piece
from stmmr.tl._refine import refine


def spots(xy, domains):
    """Make an AnnData of spots with coordinates and domains."""
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(xy))]))
    adata.obsm["spatial"] = np.asarray(xy, dtype=float)
    adata.obs["stmmr_domain"] = domains
    return adata


def hexagonal(n_rows, n_columns):
    """Coordinates of a hexagonal array with spots 1 apart."""
    row, column = np.divmod(np.arange(n_rows * n_columns), n_columns)
    return np.column_stack([column + row % 2 / 2, row * np.sqrt(3) / 2]), row


def counted(xy, domains, n_neighbors):
    """Vote spot by spot, among those linked by steps of at most three distances between spots."""
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    gap = 3 * np.median(np.sort(distance, axis=1)[:, 1])
    refined = list(domains)
    for i in range(len(xy)):
        voters = np.array([i, *distance[i].argsort()[:n_neighbors]])
        _, piece = connected_components(distance[np.ix_(voters, voters)] <= gap)
        voters = voters[piece == piece[0]]
        (first, most), *others = Counter(domains[v] for v in voters).most_common()
        if not others or most > others[0][1]:
            refined[i] = first
    return refined


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 60), st.integers(1, 15), st.integers(1, 5))
def test_agrees_with_a_count_by_hand(seed, n, n_neighbors, n_domains):
    rng = np.random.default_rng(seed)
    xy, domains = rng.normal(size=(n, 2)), np.array(list("abcde"))[rng.integers(0, n_domains, n)]
    adata = spots(xy, pd.Categorical(domains))
    refine(adata, n_neighbors=n_neighbors)
    assert list(adata.obs["stmmr_domain_refined"]) == counted(xy, domains, n_neighbors)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(40)))
def test_names_and_order_of_spots_do_not_matter(seed, order):
    rng = np.random.default_rng(seed)
    xy, codes = rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
    here, there = spots(xy, codes.astype(str)), spots(xy[order], np.array(list("dbac"))[codes[order]])
    refine(here)
    refine(there)
    renamed = np.array(list("dbac"))[here.obs["stmmr_domain_refined"].astype(int)]
    assert list(there.obs["stmmr_domain_refined"]) == list(renamed[order])


def test_chunks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    adata = spots(rng.normal(size=(100, 2)), rng.integers(0, 5, 100))
    refine(adata, key_added="whole")
    monkeypatch.setattr(kernel, "TILE", 7)
    refine(adata, key_added="chunks")
    assert list(adata.obs["whole"]) == list(adata.obs["chunks"])


def test_default_keeps_a_layer_two_spots_thin_and_drops_a_stray_spot():
    xy, row = hexagonal(20, 20)
    layers = np.select([row < 9, row < 11], ["above", "thin"], "below")
    noisy = layers.copy()
    noisy[[65, 327]] = "thin"
    adata = spots(xy, pd.Categorical(noisy))
    refine(adata)
    refined = adata.obs["stmmr_domain_refined"].to_numpy()
    inside = (xy[:, 0] >= 2) & (xy[:, 0] <= 17.5)
    assert np.array_equal(refined[inside], layers[inside])
    refine(adata, n_neighbors=50)
    assert (adata.obs["stmmr_domain_refined"][row == 9] == "thin").mean() < 0.5


def test_a_domain_that_vanishes_keeps_its_category():
    xy, _ = hexagonal(6, 6)
    domains = pd.Categorical(["1"] * 36, categories=["2", "1", "3"], ordered=True)
    domains[14] = "3"
    adata = spots(xy, domains)
    refine(adata)
    refined = adata.obs["stmmr_domain_refined"]
    assert (refined == "1").all()
    assert refined.dtype == adata.obs["stmmr_domain"].dtype


def test_spots_without_domain_neither_vote_nor_get_one():
    xy, _ = hexagonal(6, 6)
    domains = pd.Categorical(["1"] * 36)
    domains[10:30] = None
    adata = spots(xy, domains)
    refine(adata)
    refined = adata.obs["stmmr_domain_refined"]
    assert refined.iloc[10:30].isna().all()
    assert (refined.drop(refined.index[10:30]) == "1").all()


def test_records_what_it_did_and_leaves_the_rest():
    xy, _ = hexagonal(6, 6)
    adata = spots(xy, ["a"] * 14 + ["b"] + ["a"] * 21)
    adata.uns["stmmr"] = {"graph": {"l": 2}}
    refine(adata, n_neighbors=6, key_added="smooth")
    assert adata.uns["stmmr"] == {
        "graph": {"l": 2},
        "refine": {"smooth": {"n_neighbors": 6, "domain_key": "stmmr_domain", "changed": 1 / 36}},
    }
    assert list(adata.obs.columns) == ["stmmr_domain", "smooth"]
    assert adata.obs["stmmr_domain"].iloc[14] == "b"


def test_refuses_a_neighbourhood_larger_than_the_tissue():
    adata = spots(hexagonal(6, 6)[0], ["a"] * 36)
    with pytest.raises(InputError, match="between 1 and 35, the number of other spots, found 36"):
        refine(adata, n_neighbors=36)


def test_refuses_what_has_no_domains():
    adata = spots(hexagonal(6, 6)[0], [None] * 36)
    with pytest.raises(InputError, match="found only missing values"):
        refine(adata)
    with pytest.raises(InputError, match=r"'domain' in obs.*Did you mean 'stmmr_domain'"):
        refine(adata, domain_key="domain")


def test_nearest_never_names_the_spot_itself():
    xy = np.repeat([[0.0, 0], [5, 5]], 8, axis=0)
    found = nearest(xy, 4)
    assert found.shape == (16, 4)
    assert not (found == np.arange(16)[:, None]).any()
    assert np.array_equal(found < 8, np.repeat([[True], [False]], 8, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize("cells", [False, True])
def test_a_piece_beyond_a_gap_keeps_its_domain(cells):
    """Six spots sixty distances away have only each other as neighbours."""
    xy = np.array([[x, y] for x in range(20) for y in range(20)], dtype=float)
    if cells:
        xy += np.random.default_rng(0).uniform(-0.45, 0.45, xy.shape)
    piece = np.array([[80 + x, y] for x in range(3) for y in range(2)], dtype=float)
    domains = np.repeat(["a", "b", "c"], [200, 200, 6])
    adata = spots(np.vstack([xy, piece]), domains)
    for n_neighbors in (12, 50):
        refine(adata, n_neighbors=n_neighbors)
        assert list(adata.obs["stmmr_domain_refined"].iloc[400:]) == ["c"] * 6
        assert (adata.obs["stmmr_domain_refined"] == domains).mean() > 0.9
    codes = np.repeat([0, 1, 2], [200, 200, 6])
    contact = contacts(adata.obsm["spatial"], codes, np.zeros(406, int), n_domains=3, n_neighbors=12)
    assert contact[0, 1] > 0
    assert contact[2, :2].sum() == contact[:2, 2].sum() == 0


@pytest.mark.parametrize(("width", "crosses"), [(2, True), (3, True), (4, False), (5, False)])
def test_a_tear_in_the_tissue(width, crosses):
    """Spots vote across a tear of up to three distances, also where the halves are connected around its ends."""
    xy = np.array([[x, y] for x in range(24) for y in range(24)], dtype=float)
    torn = (xy[:, 0] > 10) & (xy[:, 0] < 10 + width) & (xy[:, 1] > 2) & (xy[:, 1] < 21)
    xy = xy[~torn]
    near = nearest(xy, 50)
    spots = np.flatnonzero((xy[:, 0] == 10) & (xy[:, 1] == 12))
    beyond = xy[near[spots[0]], 0] > 10
    assert beyond.any()
    on_piece = on_one_piece(xy, spots, near[spots], gap_of(xy))[0]
    assert on_piece[~beyond].all()
    assert on_piece[beyond].all() if crosses else not on_piece[beyond].any()
