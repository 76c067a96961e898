"""Colours of domains: far apart where domains touch, the same every time, and kept."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba_array
from scipy.spatial import cKDTree
from skimage.color import deltaE_ciede2000, rgb2lab

import stmmr
from stmmr._core import keys
from stmmr._core.categories import MISSING, PALETTE, hex_colors
from stmmr._core.colors import assigned_colors, borders_of, seen_distances, set_colors

COLORS = keys.DOMAIN_COLORS


def tissue(n_domains, kind):
    """Draw layers, or patches around random points, on a grid."""
    xy = np.array([(x, y) for x in range(40) for y in range(40)], dtype=float)
    if kind == "layers":
        codes = (xy[:, 1] * n_domains / 40).astype(int)
    else:
        codes = cKDTree(np.random.default_rng(n_domains).random((n_domains, 2)) * 40).query(xy)[1]
    names = [str(i + 1) for i in range(n_domains)]
    adata = ad.AnnData(shape=(len(xy), 0), obsm={"spatial": xy})
    adata.obs[keys.DOMAIN] = pd.Categorical.from_codes(codes, names)
    return adata


def least(adata, colors):
    """Get the smallest difference between domains that touch, over all kinds of sight."""
    codes = adata.obs[keys.DOMAIN].cat.codes.to_numpy()
    pairs = cKDTree(adata.obsm["spatial"]).query_pairs(1.1, output_type="ndarray")
    touching, n = np.unique(np.sort(codes[pairs], axis=1), axis=0, return_counts=True)
    real = (touching[:, 0] != touching[:, 1]) & (n > 3)
    return seen_distances(tuple(colors))[tuple(touching[real].T)].min()


TISSUES = [(2, "layers"), (5, "layers"), (7, "layers"), (10, "layers"), (20, "layers"), (7, "patches"), (20, "patches")]
TISSUES += [(15, "patches"), (30, "layers")]


@pytest.mark.parametrize("n_domains", range(2, 31))
def test_all_domains_are_told_apart(n_domains):
    colors = PALETTE[: max(n_domains, 7)]
    pairs = np.triu_indices(len(colors), 1)
    assert seen_distances(colors)[pairs].min() >= (10 if n_domains <= 20 else 7)
    lab = rgb2lab(to_rgba_array(colors)[:, :3])
    assert deltaE_ciede2000(lab[:, None], lab[None])[pairs].min() >= (17 if n_domains <= 20 else 11)
    # none is taken for a missing value
    assert seen_distances((*colors, MISSING))[-1, :-1].min() >= 5


@pytest.mark.parametrize(("n_domains", "kind"), TISSUES)
def test_domains_that_touch_are_told_apart_by_any_sight(n_domains, kind):
    adata = tissue(n_domains, kind)
    set_colors(adata, keys.DOMAIN)
    assert len(set(adata.uns[COLORS])) == n_domains and set(adata.uns[COLORS]) <= set(PALETTE[: max(n_domains, 7)])
    assert least(adata, adata.uns[COLORS]) >= max(15, least(adata, PALETTE[:n_domains]))


def test_borders_are_those_of_the_tissue():
    borders = borders_of(tissue(4, "layers"), keys.DOMAIN)
    np.testing.assert_array_equal(borders > 0, np.abs(np.subtract.outer(range(4), range(4))) == 1)
    assert assigned_colors(np.zeros((3, 3))) == list(PALETTE[:3])
    assert assigned_colors(np.zeros((1, 1))) == [PALETTE[0]]


def test_without_coordinates_and_with_too_many_domains():
    adata = tissue(5, "layers")
    del adata.obsm["spatial"]
    set_colors(adata, keys.DOMAIN)
    assert adata.uns[COLORS] == list(PALETTE[:5])
    adata.obs["many"] = pd.Categorical([str(i % 70) for i in range(adata.n_obs)])
    set_colors(adata, "many")
    assert "many_colors" not in adata.uns


@pytest.fixture(scope="module")
def found():
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=4, n_genes=60)
    stmmr.run(adata, histology=False, n_domains=4, progress=False)
    return adata


@pytest.mark.filterwarnings("ignore:The set_bad function")  # scanpy calls it
def test_a_run_sets_colours_that_others_keep(found, tmp_path):
    import scanpy as sc

    assert len(set(found.uns[COLORS])) == 4 and set(found.uns[COLORS]) <= set(PALETTE[:7])
    assert found.uns[keys.DOMAIN_REFINED_COLORS] == found.uns[COLORS]
    adata = found[::-1].copy()
    sc.pl.embedding(adata, "spatial", color=keys.DOMAIN, show=False)
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata = stmmr.read(tmp_path / "a.h5ad")
    assert list(adata.uns[COLORS]) == found.uns[COLORS]
    names = adata.obs[keys.DOMAIN].cat.categories
    assert [color.upper() for color in hex_colors(adata, keys.DOMAIN, names)] == found.uns[COLORS]


def test_colours_do_not_depend_on_the_order_of_rows(found):
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=4, n_genes=60)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    stmmr.run(adata, histology=False, n_domains=4, progress=False)
    assert adata.uns[COLORS] == found.uns[COLORS]


def test_own_colours_stay_for_the_same_domains_only(found):
    adata = found.copy()
    own = ["#111111", "#222222", "#333333", "#444444"]
    adata.uns[COLORS] = list(own)
    stmmr.tl.consensus(adata, 4)
    assert adata.uns[COLORS] == own
    adata.uns[COLORS] = {str(i): "red" for i in range(9)}
    stmmr.tl.domains(adata, 3, method="kmeans")
    assert adata.uns[COLORS]["1"] == "red"
    adata.uns[COLORS] = list(own)
    stmmr.tl.domains(adata, 2, method="kmeans")
    assert len(adata.uns[COLORS]) == 2 and set(adata.uns[COLORS]) <= set(PALETTE[:7])


def test_the_same_domain_has_the_same_colour_elsewhere(found):
    adata = found.copy()
    colors = dict(zip("1234", adata.uns[COLORS], strict=True))
    stmmr.tl.domain_tree(adata)
    stmmr.tl.cut_tree(adata, 3, key_added="three")
    assert adata.uns["three_colors"] == [colors[name] for name in adata.obs["three"].cat.categories]
    other = found.copy()
    del other.uns[COLORS]
    stmmr.tl.transfer_domains(other, adata)
    assert other.uns[COLORS] == adata.uns[COLORS]
    adata.obs["new"] = adata.obs[keys.DOMAIN].cat.rename_categories(["a", "b", "c", "d"])
    stmmr.tl.match_domains(adata, keys.DOMAIN, domain_key="new")
    assert adata.uns["new_colors"] == adata.uns[COLORS]
