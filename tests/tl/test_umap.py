"""The view in two dimensions: its graph, its key, its seed, small and large data, and what it leaves alone."""

import logging
from importlib.metadata import version

import numpy as np
import pytest
from anndata import AnnData
from packaging.version import Version

from stmmr import InputError
from stmmr.tl import _umap
from stmmr.tl._graphs import fuzzy_graph
from stmmr.tl._umap import umap


@pytest.fixture
def two_groups():
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((60, 3), dtype=np.float32))
    adata.obsm["X_stmmr"] = (rng.normal(size=(60, 8)) + np.repeat([0, 30], 30)[:, None]).astype(np.float32)
    return adata


def test_groups_lie_apart_and_the_seed_fixes_the_layout(two_groups):
    umap(two_groups)
    layout = two_groups.obsm["X_stmmr_umap"]
    assert layout.shape == (60, 2)
    assert layout.dtype == np.float32
    first, second = layout[:30], layout[30:]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (first, second))
    umap(two_groups, key_added="again")
    np.testing.assert_array_equal(two_groups.obsm["again"], layout)
    from umap import layouts

    epoch = layouts._nb_optimize_layout_euclidean_single_epoch
    assert sum(epoch.stats.cache_hits.values()) + sum(epoch.stats.cache_misses.values()), "compiled code is not kept"


def test_touches_nothing_else(two_groups):
    two_groups.uns["neighbors"] = {"mine": 1}
    before = two_groups.obsm["X_stmmr"].copy()
    umap(two_groups)
    assert dict(two_groups.uns) == {"neighbors": {"mine": 1}}
    assert set(two_groups.obsm) == {"X_stmmr", "X_stmmr_umap"}
    assert not two_groups.obsp
    np.testing.assert_array_equal(two_groups.obsm["X_stmmr"], before)


@pytest.mark.parametrize("shape", [(5, 2), (12, 30), (40, 64), (30, 1)])
def test_few_spots_and_any_width(shape):
    adata = AnnData(np.zeros((shape[0], 1), dtype=np.float32))
    adata.obsm["X_stmmr"] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    umap(adata)
    assert np.isfinite(adata.obsm["X_stmmr_umap"]).all()


@pytest.mark.parametrize("n_groups", [3, 12])
def test_groups_far_from_each_other(n_groups):
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((30 * n_groups, 1), dtype=np.float32))
    centres = 1e3 * rng.normal(size=(n_groups, 4)).repeat(30, axis=0)
    adata.obsm["X_stmmr"] = (rng.normal(size=centres.shape) + centres).astype(np.float32)
    umap(adata)
    assert np.isfinite(adata.obsm["X_stmmr_umap"]).all()


@pytest.mark.skipif(Version(version("umap-learn")) < Version("0.5.12"), reason="compiled to wrong weights before")
@pytest.mark.filterwarnings("ignore:Tensorflow:ImportWarning")
@pytest.mark.parametrize("n_neighbors", [2, 5, 15])
@pytest.mark.parametrize("unit", [1e-6, 1, 1e6])
def test_the_graph_is_umaps(n_neighbors, unit):
    from sklearn.neighbors import NearestNeighbors
    from umap.umap_ import fuzzy_simplicial_set

    points = np.random.default_rng(0).normal(size=(200, 5)) ** 3 * unit
    distance, neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    knn = {"knn_indices": neighbors, "knn_dists": distance.astype(np.float32)}
    expected, _, _ = fuzzy_simplicial_set(points, n_neighbors, np.random.RandomState(0), "euclidean", **knn)
    found = fuzzy_graph(points, n_neighbors)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=2e-5)
    assert found.nnz == expected.nnz


def test_points_at_one_spot_are_neighbours_in_full():
    points = np.vstack([np.zeros((20, 2)), np.eye(2)])
    graph = fuzzy_graph(points, 6).toarray()
    assert (graph.diagonal() == 0).all()
    assert set(np.unique(graph[:20, :20])) == {0, 1}
    assert (graph[20:].max(axis=1) == 1).all()


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr(_umap, "LAID_OUT_AT_MOST", 40)


def test_of_many_spots_a_sample_is_laid_out_and_the_log_says_so(two_groups, small_sample, caplog):
    caplog.set_level(logging.INFO, logger="stmmr")
    umap(two_groups)
    layout = two_groups.obsm["X_stmmr_umap"]
    known = np.isfinite(layout).all(axis=1)
    assert known.sum() == 40
    assert np.isnan(layout[~known]).all()
    assert caplog.messages == ["UMAP lays out a random sample of 40 of 60 cells."]
    umap(two_groups, key_added="again")
    np.testing.assert_array_equal(two_groups.obsm["again"], layout)
    umap(two_groups, random_state=1, key_added="other")
    assert (np.isfinite(two_groups.obsm["other"][:, 0]) != known).any()
    alone = two_groups[known].copy()
    umap(alone)
    np.testing.assert_array_equal(alone.obsm["X_stmmr_umap"], layout[known])


def test_an_embedding_on_disk_gives_the_rows_of_the_sample_only(two_groups, small_sample, tmp_path, monkeypatch):
    umap(two_groups, key_added="in_memory")
    on_disk = np.memmap(tmp_path / "embedding", np.float32, "w+", shape=(60, 8))
    on_disk[:] = two_groups.obsm["X_stmmr"]
    two_groups.obsm["X_stmmr"] = on_disk
    seen = []
    checked = _umap.representation

    def noted(adata, key):
        seen.append(adata.shape[0])
        return checked(adata, key)

    monkeypatch.setattr(_umap, "representation", noted)
    umap(two_groups)
    assert seen == [40]
    np.testing.assert_array_equal(two_groups.obsm["X_stmmr_umap"], two_groups.obsm["in_memory"])


def test_equal_spots_still_get_a_finite_layout(two_groups):
    two_groups.obsm["X_stmmr"][:] = 1
    umap(two_groups)
    assert np.isfinite(two_groups.obsm["X_stmmr_umap"]).all()


def test_refuses_what_has_no_embedding_or_too_few_spots(two_groups):
    with pytest.raises(InputError, match="at least 5 cells for a UMAP, found 4"):
        umap(two_groups[:4].copy())
    two_groups.obsm["X_stmmr"][3, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        umap(two_groups)
    del two_groups.obsm["X_stmmr"]
    with pytest.raises(InputError, match=r"'X_stmmr' in obsm.*fit"):
        umap(two_groups)
