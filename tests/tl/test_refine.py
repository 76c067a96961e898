"""The vote of the neighbourhood: what it changes and what it must leave."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from stmmr import InputError
from stmmr._core import kernel
from stmmr._core.kernel import nearest
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
    """Vote spot by spot."""
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    refined = list(domains)
    for i in range(len(xy)):
        voters = [i, *distance[i].argsort()[:n_neighbors]]
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
