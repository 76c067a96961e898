"""The tree of domains: against SciPy's Ward, nesting, names, and bad input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.cluster import hierarchy

import stmmr
from stmmr.pl import domain_tree as draw
from stmmr.tl import cut_tree, domain_tree
from stmmr.tl._tree import centres_within, ward


@pytest.fixture
def tissue():
    """Ten domains in pairs that are close, two of the pairs closer to each other; one spot without a domain."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(5, 6)) * 20, 2, axis=0) + rng.normal(size=(10, 6)) * 2
    codes = np.repeat(np.arange(10), np.arange(40, 10, -3))
    points = centres[codes] + 0.3 * rng.normal(size=(len(codes), 6))
    adata = ad.AnnData(shape=(len(codes), 0), obsm={"X_stmmr": points.astype(np.float32)})
    adata.obs["stmmr_domain"] = pd.Categorical([str(c + 1) for c in codes], categories=[str(i) for i in range(1, 11)])
    adata.obs.iloc[0, 0] = np.nan
    return adata


def test_ward_is_scipys_on_points_that_coincide():
    rng = np.random.default_rng(1)
    centres, sizes = rng.normal(size=(12, 4)), rng.integers(1, 30, 12)
    whole = hierarchy.ward(np.repeat(centres, sizes, axis=0))[-11:]
    mine = ward(centres, sizes.astype(float))
    np.testing.assert_allclose(mine[:, 2], whole[:, 2])
    assert hierarchy.is_valid_linkage(mine)
    points = np.repeat(centres, sizes, axis=0)
    for k in (2, 5, 9):
        theirs = hierarchy.cut_tree(hierarchy.ward(points), k)[:, 0]
        ours = np.repeat(hierarchy.cut_tree(mine, k)[:, 0], sizes)
        assert len(set(zip(theirs, ours, strict=True))) == k


def test_distances_do_not_depend_on_the_scale_of_the_embedding():
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 4, 400)
    points = 10 * rng.normal(size=(4, 3))[codes] + rng.normal(size=(400, 3))
    mixing = rng.normal(size=(3, 3))
    one, sizes = centres_within(points, codes)
    other, _ = centres_within(points @ mixing, codes)
    np.testing.assert_allclose(ward(one, sizes)[:, [0, 1, 3]], ward(other, sizes)[:, [0, 1, 3]])


def test_cuts_nest_and_keep_the_name_of_the_largest(tissue):
    domain_tree(tissue)
    before = None
    for k in range(1, 11):
        cut_tree(tissue, k, key_added="cut")
        cut = tissue.obs["cut"]
        assert cut.nunique() == k == len(cut.cat.categories)
        assert list(cut.isna()) == [True] + [False] * (tissue.n_obs - 1)
        for name, members in tissue.obs.dropna().groupby("cut", observed=True):
            assert members["stmmr_domain"].value_counts().index[0] == name
        if before is not None:
            assert len(set(zip(cut.dropna(), before.dropna(), strict=True))) == k
        before = cut.copy()
    assert (tissue.obs["cut"].dropna() == tissue.obs["stmmr_domain"].dropna()).all()


def test_pairs_merge_first(tissue):
    domain_tree(tissue)
    cut_tree(tissue, 5, key_added="cut")
    pairs = {frozenset(group["stmmr_domain"]) for _, group in tissue.obs.dropna().groupby("cut", observed=True)}
    assert pairs == {frozenset({str(i), str(i + 1)}) for i in range(1, 11, 2)}


def test_a_file_keeps_the_tree(tissue, tmp_path):
    domain_tree(tissue)
    tissue.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    cut_tree(again, 3)
    assert again.obs["stmmr_domain"].nunique() == 3


def test_drawn_with_each_domain_in_its_colour(tissue):
    domain_tree(tissue)
    ax = draw(tissue)
    assert {label.get_text() for label in ax.get_yticklabels()} == set(tissue.obs["stmmr_domain"].cat.categories)
    leaf = [label.get_text() for label in ax.get_yticklabels()].index("3")
    points = ax.collections[-1]
    from matplotlib.colors import to_rgba

    from stmmr._core.categories import PALETTE

    np.testing.assert_allclose(points.get_facecolors()[leaf], to_rgba(PALETTE[2]))


def test_bad_input(tissue):
    with pytest.raises(stmmr.InputError, match=r"Run stmmr\.tl\.domain_tree"):
        cut_tree(tissue, 3)
    with pytest.raises(stmmr.InputError, match=r"Run stmmr\.tl\.domain_tree"):
        draw(tissue)
    with pytest.raises(stmmr.InputError, match="Did you mean 'stmmr_domain'"):
        domain_tree(tissue, domain_key="stmmr_domains")
    domain_tree(tissue)
    with pytest.raises(stmmr.InputError, match="between 1 and 10, the leaves of the tree, found 11"):
        cut_tree(tissue, 11)
    cut_tree(tissue, 4)
    with pytest.raises(stmmr.InputError, match="found others"):
        cut_tree(tissue, 6)
    tissue.obs["stmmr_domain"] = pd.Categorical(["1"] * tissue.n_obs)
    with pytest.raises(stmmr.InputError, match=r"at least 2 domains in obs\['stmmr_domain'\], found 1"):
        domain_tree(tissue)


def test_a_tree_of_other_domains_of_the_same_names_is_refused():
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=30)
    adata.obsm["X"] = adata.obsm["spatial"]
    stmmr.tl.domains(adata, 4, method="kmeans", use_rep="X")
    stmmr.tl.domain_tree(adata, use_rep="X")
    stmmr.tl.domains(adata, 4, method="kmeans", use_rep="X", random_state=3)
    adata.obs["stmmr_domain"] = adata.obs["stmmr_domain"].to_numpy()[::-1]
    with pytest.raises(stmmr.InputError, match="Expected the domains of the tree"):
        stmmr.tl.cut_tree(adata, 2)
