"""Moran's I: against squidpy, against every weight written out, and against permutations."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import stmmr
from stmmr import InputError
from stmmr._core import genes
from stmmr.tl import _moran, spatially_variable_genes
from stmmr.tl._moran import Graph, _moments, morans_i, neighbor_weights


@pytest.fixture(scope="module")
def simulated():
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_genes=60)
    stmmr.pp.expression(adata)
    return adata


def dense(values, weights):
    """Write Moran's I out, and its variance over permutations (Cliff and Ord)."""
    n, z = len(values), values - values.mean()
    s0 = weights.sum()
    i = n / s0 * np.sum(weights * np.outer(z, z)) / np.sum(z**2)
    s1 = ((weights + weights.T) ** 2).sum() / 2
    s2 = ((weights.sum(axis=0) + weights.sum(axis=1)) ** 2).sum()
    b2 = np.mean(z**4) / np.mean(z**2) ** 2
    a = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2) - b2 * ((n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2)
    variance = a / ((n - 1) * (n - 2) * (n - 3) * s0**2) - 1 / (n - 1) ** 2
    return i, (i + 1 / (n - 1)) / np.sqrt(variance)


@pytest.mark.filterwarnings("ignore")  # squidpy and what it imports
def test_agrees_with_squidpy_on_a_shared_graph(simulated):
    sq = pytest.importorskip("squidpy")
    adata = simulated.copy()
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=6)
    theirs = sq.gr.spatial_autocorr(adata, mode="moran", layer="stmmr_lognorm", n_perms=None, n_jobs=1, copy=True)
    spatially_variable_genes(adata, graph_key="spatial_connectivities", null="normality")
    mine = adata.var.loc[theirs.index]
    np.testing.assert_allclose(mine["stmmr_moran_i"], theirs["I"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        mine["stmmr_moran_z"] ** 2 * theirs["var_norm"],
        (theirs["I"] + 1 / (adata.n_obs - 1)) ** 2,
        rtol=1e-3,
        atol=1e-9,
    )
    alike = theirs["I"] > 0.01  # below its mean theirs is the other tail
    np.testing.assert_allclose(mine["stmmr_moran_pval"][alike], theirs["pval_norm"][alike], rtol=1e-2, atol=1e-12)


def test_agrees_with_every_weight_written_out(simulated):
    adata = simulated.copy()
    spatially_variable_genes(adata)
    weights = neighbor_weights(adata.obsm["spatial"], 6).toarray()
    weights /= weights.sum(axis=1, keepdims=True)
    values = adata.layers["stmmr_lognorm"].toarray().astype(float)
    for gene in range(0, 60, 7):
        i, z = dense(values[:, gene], weights)
        assert adata.var["stmmr_moran_i"].iloc[gene] == pytest.approx(i, abs=1e-6)
        assert adata.var["stmmr_moran_z"].iloc[gene] == pytest.approx(z, abs=1e-4)


@pytest.mark.parametrize("n_sections", [1, 3])
def test_values_that_are_not_zero_suffice(n_sections):
    rng = np.random.default_rng(1)
    n = 40 * n_sections
    section = rng.permutation(np.arange(n) % n_sections)
    genes = {
        "seen in few": np.where(rng.random(n) < 0.1, rng.exponential(size=n), 0),
        "seen in one spot": np.eye(n)[0],
        "seen in half": np.where(rng.random(n) < 0.5, rng.exponential(size=n), 0),
        "seen in all, far from zero": 1000 + rng.normal(size=n),
        "seen in one section, the same value everywhere": np.where(section == 0, 0.1, 0.0),
        "never seen": np.zeros(n),
    }
    values = np.column_stack(list(genes.values())).astype(np.float32)
    tissue = AnnData(np.ones((n, len(genes))), obs={"section": pd.Categorical(section.astype(str))})
    tissue.obsm["spatial"] = rng.random((n, 2))
    graph = _moran._graph(tissue, None, "section", n_neighbors=4)
    found = morans_i(sparse.csc_matrix(values), graph, null="randomization").i
    z = values.astype(np.float64)
    for each in range(n_sections):
        z[section == each] -= z[section == each].mean(axis=0)
    z[np.abs(z) < 1e-7] = 0
    with np.errstate(invalid="ignore"):
        expected = n * (z * (graph.weights @ z)).sum(axis=0) / (graph.weights.sum() * (z**2).sum(axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_variance_of_sections_is_that_of_permutations_within_them():
    rng = np.random.default_rng(0)
    sizes = (30, 50)
    parts = [sparse.csr_matrix(neighbor_weights(rng.random((n, 2)), 4) / 4) for n in sizes]
    weights = sparse.csr_matrix(sparse.block_diag(parts))
    graph = Graph(weights, np.repeat([0, 1], sizes), [_moments(part) for part in parts])
    values = rng.exponential(size=80) ** 2
    values[30:] += 5  # a shift between sections is no pattern
    columns = np.column_stack([np.r_[rng.permutation(values[:30]), rng.permutation(values[30:])] for _ in range(4000)])
    z = morans_i(sparse.csc_matrix(columns), graph, null="randomization").z
    assert abs(z.mean()) < 0.06
    assert z.std() == pytest.approx(1, abs=0.04)


def test_what_follows_the_tissue_stands_out(simulated):
    adata = simulated.copy()
    spatially_variable_genes(adata)
    pattern = adata.var["marker_of"].notna() | adata.var["gradient"]
    assert adata.var.loc[pattern, "stmmr_moran_z"].median() > 3
    assert (adata.var.loc[~pattern, "stmmr_moran_pval_adj"] < 0.05).mean() < 0.1
    assert set(adata.uns["stmmr"]["spatially_variable_genes"]) == {
        "n_neighbors", "graph_key", "section_key", "null", "n_constant",
    }  # fmt: skip


def test_chunks_and_the_disk_change_nothing(simulated, tmp_path, monkeypatch):
    adata = simulated.copy()
    spatially_variable_genes(adata)
    simulated.copy().write_h5ad(tmp_path / "a.h5ad")
    backed = stmmr.read(tmp_path / "a.h5ad", backed=True)
    monkeypatch.setattr(genes, "VALUES_AT_ONCE", 2000)
    monkeypatch.setattr(_moran, "TASKS", 3)
    spatially_variable_genes(backed)
    pd.testing.assert_frame_equal(backed.var.filter(like="moran"), adata.var.filter(like="moran"), atol=1e-6)


def test_a_square_grid_has_all_that_are_as_near():
    xy = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    degree = np.asarray(neighbor_weights(xy, 6).sum(axis=1)).reshape(9, 9)
    assert (degree[1:-1, 1:-1] == 8).all()
    turned = np.asarray(neighbor_weights(xy @ [[0, -1], [1, 0]], 6).sum(axis=1)).reshape(9, 9)
    assert np.array_equal(turned, degree)


def test_constant_genes_have_none(simulated):
    adata = AnnData(sparse.csr_matrix(np.column_stack([np.ones(20), np.zeros(20), np.arange(20)]).astype("f4")))
    adata.obsm["spatial"] = np.column_stack([np.arange(20.0), np.zeros(20)])
    adata.obs["stmmr_library_size"] = 1.0
    spatially_variable_genes(adata)
    assert adata.var["stmmr_moran_i"].isna().tolist() == [True, True, False]
    assert adata.var["stmmr_moran_pval_adj"].isna().tolist() == [True, True, False]
    assert adata.uns["stmmr"]["spatially_variable_genes"]["n_constant"] == 2


def test_bad_input_says_what_to_do(simulated):
    adata = simulated.copy()
    with pytest.raises(InputError, match="null to be one of randomization, normality"):
        spatially_variable_genes(adata, null="normal")
    with pytest.raises(InputError, match="n_neighbors to be a positive whole number"):
        spatially_variable_genes(adata, n_neighbors=0)
    with pytest.raises(InputError, match="'weights' in obsp"):
        spatially_variable_genes(adata, graph_key="weights")
    adata.obsp["weights"] = -neighbor_weights(adata.obsm["spatial"], 6)
    with pytest.raises(InputError, match=r"weights ≥ 0 in obsp\['weights'\]"):
        spatially_variable_genes(adata, graph_key="weights")
    adata.obs["section"] = ["tiny"] * 3 + ["large"] * (adata.n_obs - 3)
    with pytest.raises(InputError, match="at least 4 spots with neighbours in section 'tiny', found 3"):
        spatially_variable_genes(adata, section_key="section")
    adata.obs.loc[adata.obs_names[0], "section"] = None
    with pytest.raises(InputError, match="a section for all spots"):
        spatially_variable_genes(adata, section_key="section")


@pytest.mark.realdata
def test_myelin_and_layers_vary_over_the_cortex(shared_data):
    adata = ad.read_h5ad(shared_data / "visium_dlpfc_151673.h5ad")
    spatially_variable_genes(adata)
    best = adata.var["stmmr_moran_i"].nlargest(20).index
    assert {"MOBP", "PLP1", "MBP"} <= set(best)
    assert adata.var.loc["PCP4", "stmmr_moran_pval_adj"] < 1e-10
