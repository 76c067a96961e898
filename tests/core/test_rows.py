"""Counts in memory, in files and in dask arrays give the same results, chunk by chunk."""

import os

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

import stmmr
from stmmr._core import keys, rows
from stmmr._core.counts import count_statistics, highly_variable
from stmmr._core.parallel import in_parallel
from stmmr._core.rows import OnDisk, by_rows, take


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 60)


@pytest.fixture(scope="module")
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=24, n_cols=24, n_domains=4, n_genes=300)


def in_memory(adata, folder):
    return adata


def in_h5ad(adata, folder):
    adata.write_h5ad(folder / "in.h5ad")
    return stmmr.read(folder / "in.h5ad", backed=True)


@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def in_zarr(adata, folder):
    adata.write_zarr(folder / "in.zarr")
    return stmmr.read(folder / "in.zarr", backed=True)


def dense_in_h5ad(adata, folder):
    adata.X = adata.X.toarray()
    return in_h5ad(adata, folder)


def in_dask(adata, folder):
    dask_array = pytest.importorskip("dask.array")
    adata.X = dask_array.from_array(adata.X.toarray(), chunks=(100, 90)).map_blocks(sparse.csr_matrix)
    return adata


HOMES = [in_memory, in_h5ad, in_zarr, dense_in_h5ad, in_dask]
pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")


@pytest.mark.parametrize("home", HOMES)
def test_expression_is_the_same_wherever_the_counts_are(tissue, tmp_path, home):
    reference = tissue.copy()
    stmmr.pp.expression(reference, n_top_genes=120)
    adata = home(tissue.copy(), tmp_path)
    before = type(adata.X)
    stmmr.pp.expression(adata, n_top_genes=120)
    assert type(adata.X) is before
    assert (keys.LOGNORM in adata.layers) == (home is in_memory)
    np.testing.assert_array_equal(adata.var[keys.HIGHLY_VARIABLE], reference.var[keys.HIGHLY_VARIABLE])
    np.testing.assert_array_equal(adata.obs[keys.LIBRARY_SIZE], reference.obs[keys.LIBRARY_SIZE])
    # other chunks are summed in another order, which rotates components of nearly the same variance
    np.testing.assert_allclose(adata.obsm[keys.COMPONENTS], reference.obsm[keys.COMPONENTS], atol=1e-3)


@pytest.mark.parametrize("home", HOMES)
def test_rows_are_taken_in_one_pass(tissue, tmp_path, home):
    counts = by_rows(home(tissue.copy(), tmp_path).X)
    index = np.array([0, 3, 59, 60, 61, 200, tissue.n_obs - 1])
    np.testing.assert_array_equal(take(counts, index).toarray(), tissue.X[index].toarray())
    assert take(counts, index[:0]).shape == (0, tissue.n_vars)


def test_a_file_is_opened_again_in_another_process(tissue, tmp_path):
    import pickle

    counts = by_rows(in_h5ad(tissue.copy(), tmp_path).X)
    again = pickle.loads(pickle.dumps(counts))  # noqa: S301 - as joblib and dask send it
    assert isinstance(again, OnDisk)
    np.testing.assert_array_equal(again[3:9].toarray(), tissue.X[3:9].toarray())


def test_counts_by_columns_in_a_file_are_refused(tissue, tmp_path):
    columns = tissue.copy()
    columns.X = columns.X.tocsc()
    with pytest.raises(stmmr.InputError, match=r"stored by rows \(CSR\) in the file, found CSC"):
        stmmr.pp.expression(in_h5ad(columns, tmp_path))


@pytest.mark.parametrize("n_top_genes", [10, 100, 250])
def test_variable_genes_are_those_of_scanpy(tissue, n_top_genes):
    import scanpy as sc

    counts = by_rows(tissue.X)
    selected = highly_variable(counts, count_statistics(counts), n_top_genes=n_top_genes, min_spots=0)
    expected = sc.pp.highly_variable_genes(tissue, flavor="seurat_v3", n_top_genes=n_top_genes, inplace=False)
    np.testing.assert_array_equal(selected, expected["highly_variable"])


def test_components_are_those_of_scikit_learn(tissue):
    adata = tissue.copy()
    stmmr.pp.expression(adata, n_components=20)
    values = adata.layers[keys.LOGNORM][:, adata.var[keys.HIGHLY_VARIABLE].to_numpy()].toarray().astype(float)
    scores = PCA(20, svd_solver="full").fit_transform(values)
    np.testing.assert_allclose(adata.obsm[keys.COMPONENTS], scores, atol=1e-4)


def test_components_of_sections_are_those_of_values_less_their_means(tissue):
    adata = tissue.copy()
    adata.obs["section"] = np.where(np.arange(adata.n_obs) % 3 == 0, "b", "a")
    stmmr.pp.expression(adata, n_components=10, section_key="section")
    values = adata.layers[keys.LOGNORM][:, adata.var[keys.HIGHLY_VARIABLE].to_numpy()].toarray().astype(float)
    for name in "ab":
        values[adata.obs["section"] == name] -= values[adata.obs["section"] == name].mean(axis=0)
    scores = PCA(10, svd_solver="full").fit_transform(values)
    np.testing.assert_allclose(adata.obsm[keys.COMPONENTS], scores, atol=1e-4)


@pytest.mark.parametrize("home", [in_memory, in_h5ad])
def test_bad_values_are_found_in_any_chunk(tissue, tmp_path, home):
    for value, message in ((np.nan, "2 NaN"), (-1.0, "negative"), (0.5, "fractions")):
        adata = tissue.copy()
        adata.X.data[[5, -1]] = value
        with pytest.raises(stmmr.InputError, match=message):
            stmmr.pp.expression(home(adata, tmp_path))


def test_backed_is_for_files(tmp_path, tissue):
    (tmp_path / "filtered_feature_bc_matrix.h5").write_bytes(b"")
    with pytest.raises(stmmr.InputError, match=r"can stay in the file, for backed, found 10x_h5"):
        stmmr.read(tmp_path, backed=True)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_workers_of_a_dask_client_do_the_preparation(tissue, tmp_path):
    distributed = pytest.importorskip("distributed")
    from joblib import parallel_config

    reference = tissue.copy()
    stmmr.pp.expression(reference)
    adata = in_h5ad(tissue.copy(), tmp_path)
    client = distributed.Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with client, parallel_config(backend="dask"):
        stmmr.pp.expression(adata)
        assert os.getpid() not in set(in_parallel(os.getpid, [()] * 4))
    np.testing.assert_allclose(adata.obsm[keys.COMPONENTS], reference.obsm[keys.COMPONENTS], atol=1e-4)
