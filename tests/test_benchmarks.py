"""The simulated section of the benchmarks, and what they make of what they measured."""

import anndata as ad
import numpy as np
import pytest
from benchmarks import _simulate
from scipy import sparse, stats
from scipy.spatial import cKDTree

N = 5000  # more than one chunk


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "section.h5ad"
    _simulate.simulate(path, n_places=N, n_genes=500)
    return ad.read_h5ad(path)


def test_section_reads_as_any_other(section):
    assert section.shape == (N, 500)
    assert isinstance(section.X, sparse.csr_matrix)
    assert section.X.dtype == np.float32
    assert section.X.has_canonical_format
    assert (section.X.data == np.round(section.X.data)).all()
    assert section.X.data.min() == 1
    assert section.X.nnz / np.prod(section.shape) == pytest.approx(0.15, abs=0.02)


def test_cells_are_as_dense_whatever_their_number(section):
    few = _simulate.cells(1000, np.random.default_rng(0))
    for xy in (section.obsm["spatial"], few[["x", "y"]].to_numpy()):
        assert np.median(cKDTree(xy).query(xy, 2)[0][:, 1]) == pytest.approx(8, abs=1)
    assert section.obsm["spatial"].max() == pytest.approx(10 * np.ceil(N**0.5), rel=0.02)


def test_twelve_domains_of_their_own_mixtures(section):
    table = np.array(
        [
            np.bincount(section.obs["cell_type"].cat.codes[section.obs["ground_truth"] == name], minlength=16)
            for name in section.obs["ground_truth"].cat.categories
        ]
    )
    assert len(table) == 12
    assert table.sum(axis=1).min() > 0.01 * N
    assert stats.contingency.association(table) > 0.3


def test_cells_lie_by_field_of_view():
    found = _simulate.cells(50_000, np.random.default_rng(0))
    assert found["field"].nunique() > 4
    assert found["field"].is_monotonic_increasing


def test_counts_are_negative_binomial():
    mean = np.full((200_000, 1), 3.0, dtype=np.float32)
    drawn = _simulate.counts(mean, np.random.default_rng(0)).toarray().ravel()
    r = float(_simulate.DISPERSION)
    expected = stats.nbinom(r, r / (r + 3)).pmf(np.arange(20))
    found = np.bincount(drawn.astype(int), minlength=20)[:20] / len(drawn)
    assert np.abs(found - expected).max() < 0.005
    assert drawn.mean() == pytest.approx(3, rel=0.02)


def test_same_seed_same_file(tmp_path):
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for path in paths:
        _simulate.simulate(path, n_places=1000, n_genes=50, seed=3)
    first, second = map(ad.read_h5ad, paths)
    assert (first.X != second.X).nnz == 0
    assert first.obs.equals(second.obs)
