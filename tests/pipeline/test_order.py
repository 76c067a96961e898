"""The same tissue in any order of its rows gives the same results, to the last bit."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stmmr
from stmmr._core import keys
from stmmr.io import read_h5ad
from stmmr.pipeline.analyses import ANALYSES


def results(adata, rows):
    """Get everything that stmmr wrote about spots, in the order in which the rows were before."""
    back = np.argsort(rows)
    found = {}
    written = [*keys.KEYS, *(key for analysis in ANALYSES for key in analysis.keys)]
    for container in ("obs", "obsm", "layers", "obsp"):
        for name in [key.name for key in written if key.container == container]:
            if name not in getattr(adata, container):
                continue
            values = getattr(adata, container)[name]
            if container == "obsp":
                values = sparse.csr_matrix(values)[back][:, back].toarray()
            elif isinstance(values, pd.Series | pd.DataFrame):
                values = values.iloc[back]
                values = values.astype(str).to_numpy() if values.ndim == 1 else values.to_numpy()
            else:
                values = values[back]
            found[container, name] = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return found


def assert_same(first, other):
    assert first.keys() == other.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, other[name], err_msg=str(name))


def orders(n, number):
    yield np.arange(n)
    for seed in range(1, number):
        yield np.random.default_rng(seed).permutation(n)


def in_all_orders(adata, compute, *, number=2):
    first = None
    for rows in orders(adata.n_obs, number):
        arranged = adata[rows].copy()
        compute(arranged)
        found = results(arranged, rows)
        first = found if first is None else first
        assert_same(first, found)
    return first


@pytest.fixture(scope="module")
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=4, n_genes=80)


def test_run_with_an_image(tissue):
    def compute(adata):
        stmmr.run(adata, n_domains=4, progress=False)
        stmmr.tl.trajectory(adata, root_gene=tissue.var_names[0])
        stmmr.tl.umap(adata)

    found = in_all_orders(tissue, compute)
    assert {("obsm", keys.HISTOLOGY), ("obsp", keys.GRAPH), ("obs", keys.PSEUDOTIME), ("obsm", keys.UMAP)} <= set(found)


def test_samples_of_a_large_tissue(tissue, monkeypatch):
    from stmmr.linear import bandwidth
    from stmmr.tl import _consensus, _number, _points, _trajectory, _umap, _vote

    for module, name in (
        (_consensus, "FITTED_AT_MOST"), (_vote, "COMPARED_AT_MOST"),
        (_number, "FITTED_AT_MOST"), (_points, "FITTED_AT_MOST"), (_trajectory, "FITTED_AT_MOST"),
        (_umap, "LAID_OUT_AT_MOST"), (bandwidth, "SPOTS_AT_MOST"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 128)

    def compute(adata):
        stmmr.run(adata, histology=False, progress=False)
        stmmr.tl.consensus(adata, 3, n_partitions=12)
        stmmr.tl.trajectory(adata)
        stmmr.tl.umap(adata)

    in_all_orders(tissue, compute)


def test_sections(tissue):
    both = stmmr.pp.concat_sections({"a": tissue[:128].copy(), "b": tissue[128:].copy()})
    in_all_orders(both, lambda adata: stmmr.run(adata, n_domains=3, section_key="section", progress=False))


@pytest.mark.parametrize("method", ["gaussian_mixture", "kmeans", "agglomerative"])
def test_readouts(tissue, method):
    def compute(adata):
        adata.obsm["X_other"] = adata.obsm[keys.SPATIAL] @ np.array([[1.0, 0.3, 0.2], [0.1, 1.0, 0.5]])
        stmmr.tl.domains(adata, 3, method=method, use_rep="X_other")

    in_all_orders(tissue, compute)


def test_denoised_expression(tissue):
    pytest.importorskip("torch")
    for rows in (np.arange(tissue.n_obs), np.random.default_rng(1).permutation(tissue.n_obs)):
        adata = tissue[rows].copy()
        stmmr.pp.expression(adata)
        stmmr.pp.spatial_graph(adata)
        model = stmmr.StMMR(adata, steps=3).fit(progress=False)
        stmmr.tl.enhance(model, genes=list(tissue.var_names[:5]), progress=False)
        found = results(adata, rows)
        if rows[0] == 0:
            first = found
    assert_same(first, found)


def test_mapped_section(tissue):
    half = tissue.n_obs // 2
    reference = tissue[:half].copy()
    stmmr.run(reference, n_domains=3, histology=False, progress=False)
    in_all_orders(tissue[half:].copy(), lambda adata: _mapped(adata, reference))


def _mapped(adata, reference):
    stmmr.StMMR(reference, use_histology=False).fit().transform(adata, progress=False)
    stmmr.tl.transfer_domains(adata, reference)


def test_counts_on_disk(tissue, tmp_path):
    in_memory = tissue.copy()
    stmmr.run(in_memory, n_domains=4, histology=False, progress=False)
    first = results(in_memory, np.arange(tissue.n_obs))
    first = {name: values for name, values in first.items() if name[0] != "layers"}
    for number, rows in enumerate(orders(tissue.n_obs, 2)):
        tissue[rows].copy().write_h5ad(tmp_path / f"{number}.h5ad")
        adata = stmmr.read(tmp_path / f"{number}.h5ad", backed=True)
        stmmr.run(adata, n_domains=4, histology=False, progress=False)
        assert_same(first, results(adata, rows))


ORDERS = pytest.mark.parametrize("number", [2, pytest.param(5, marks=pytest.mark.nightly)])


@ORDERS
def test_automatic_number(tissue, number):
    in_all_orders(tissue, lambda adata: stmmr.run(adata, histology=False, progress=False), number=number)


@pytest.mark.slow
@pytest.mark.realdata
@ORDERS
def test_starmap_with_automatic_number(shared_data, number):
    """Its rows in another order gave 3, 4 or 5 domains."""
    adata = read_h5ad(shared_data / "starmap_mpfc_BZ5.h5ad")
    in_all_orders(adata, lambda adata: stmmr.run(adata, progress=False), number=number)
