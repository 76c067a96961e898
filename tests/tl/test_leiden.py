"""Communities against known groups and scanpy, the search for a number of them, and what is refused."""

import sys
from importlib.metadata import version

import numpy as np
import pytest
from anndata import AnnData
from packaging.version import Version
from sklearn.metrics import adjusted_rand_score

from stmmr import InputError
from stmmr.tl import _readouts
from stmmr.tl._leiden import leiden


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 4)) + 2 * np.eye(4)[rng.integers(0, 4, 400)]


def test_finds_separate_groups_in_any_order_and_orientation(blobs):
    points, group = blobs
    rng = np.random.default_rng(1)
    order, rotation = rng.permutation(len(points)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for turned, truth in [(points, group), (points[order], group[order]), (points @ rotation, group)]:
        assert adjusted_rand_score(truth, leiden(turned, 4)[0]) == 1


@pytest.mark.parametrize("resolution", [0.3, 1.0, 3.0])
@pytest.mark.skipif(Version(version("umap-learn")) < Version("0.5.12"), reason="its graph had wrong weights before")
def test_at_a_resolution_it_is_scanpys(cloud, resolution):
    import scanpy as sc

    labels, used = leiden(cloud, resolution=resolution, random_state=3)
    other = AnnData(cloud)
    sc.pp.neighbors(other, 15, use_rep="X")
    sc.tl.leiden(other, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=3)
    assert used == resolution
    assert adjusted_rand_score(other.obs["leiden"], labels) == 1


@pytest.mark.parametrize("n_domains", [1, 2, 4, 7])
def test_finds_a_resolution_for_a_number_of_communities(cloud, n_domains):
    labels, resolution = leiden(cloud, n_domains)
    assert set(labels) == set(range(n_domains))
    if n_domains > 1:
        np.testing.assert_array_equal(leiden(cloud, resolution=resolution)[0], labels)


def test_a_graph_in_more_pieces_than_wanted_gives_the_closest_number():
    repeated = np.repeat(np.eye(5) * 9, 40, axis=0)
    assert adjusted_rand_score(np.repeat(range(5), 40), leiden(repeated, 3)[0]) == 1
    assert set(leiden(repeated, 1)[0]) == {0}


def test_large_data_go_with_their_nearest_in_the_sample(blobs, cloud, monkeypatch):
    points, group = blobs
    drawn = np.random.default_rng(0).choice(400, 300, replace=False)
    of_the_sample = leiden(cloud[drawn], 4)[0]
    monkeypatch.setattr(_readouts, "_CHUNK", 70)
    assert adjusted_rand_score(group, leiden(points, 4, fitted_at_most=300)[0]) == 1
    labels = leiden(cloud, 4, fitted_at_most=300)[0]
    assert adjusted_rand_score(of_the_sample, labels[drawn]) == 1
    assert set(labels) == set(range(4))


def test_the_seed_is_its_own(cloud):
    import random

    random.seed(0)
    before = random.getstate()
    first = leiden(cloud, resolution=2)[0]
    assert random.getstate() == before
    np.testing.assert_array_equal(leiden(cloud, resolution=2)[0], first)


@pytest.mark.parametrize("n", [1, 3, 4, 16])
def test_few_spots(n):
    points = np.random.default_rng(0).normal(size=(n, 3))
    assert sorted(leiden(points, n)[0]) == list(range(n))
    assert leiden(points, resolution=1)[0].shape == (n,)


def test_equal_spots_and_columns_and_a_lone_spot(blobs):
    assert set(leiden(np.ones((50, 2)), resolution=0.5)[0]) == {0}
    points, group = blobs
    spoilt = np.column_stack([points, points, np.ones(600)])
    spoilt[0] = 1e6
    assert adjusted_rand_score(group[1:], leiden(spoilt, 4)[0][1:]) > 0.99


def test_bad_input(cloud, monkeypatch):
    for options in ({}, {"n_domains": 3, "resolution": 1.0}):
        with pytest.raises(InputError, match="either n_domains or resolution"):
            leiden(cloud, **options)
    with pytest.raises(InputError, match="resolution to be a positive number"):
        leiden(cloud, resolution=0)
    with pytest.raises(InputError, match=r"at most 400 domains, the number of different spots, found 401"):
        leiden(cloud, 401)
    with pytest.raises(InputError, match="at least 3 spots"):
        leiden(cloud[:2], 2)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ImportError, match=r"pip install 'stmmr-kit\[leiden\]'"):
        leiden(cloud, 3)
