"""Tiles of the spatial graph: against the whole graph, and against distances between all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from stmmr._core import kernel as _weights
from stmmr._core.kernel import Kernel, gaussian_weights, propagate, tiles, white_noise


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(_weights, "TILE", 150)


def clumps(seed=0):
    """Spots of uneven density in two pieces, some of them at one point."""
    rng = np.random.default_rng(seed)
    xy = np.concatenate([rng.normal(size=(500, 2)) * [5, 1], rng.uniform(30, 50, size=(900, 2)), np.full((40, 2), 7.0)])
    return rng.permutation(xy)


def gathered(kernel, features):
    out = np.full((len(kernel.xy), features.shape[1]), np.nan, dtype=np.float32)
    for spots, rows in kernel.propagate(lambda spots: features[spots]):
        assert np.isnan(out[spots]).all()
        out[spots] = rows
    return out


def dense(kernel):
    weights = np.exp(-(cdist(kernel.xy, kernel.xy) ** 2) / (2 * kernel.bandwidth**2))
    weights[weights < kernel.tolerance] = 0
    weights += np.eye(len(weights))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("bandwidth", [0.01, 0.4, 2.0, 50.0])
def test_tiles_propagate_as_the_whole_graph_does(small_tiles, bandwidth):
    kernel = Kernel(clumps(), bandwidth, 4e-5)
    features = np.random.default_rng(1).normal(size=(len(kernel.xy), 7)).astype(np.float32)
    twice = dense(kernel) @ (dense(kernel) @ features)
    np.testing.assert_allclose(gathered(kernel, features), twice, atol=2e-6)
    whole = gaussian_weights(kernel.xy, bandwidth=bandwidth, tolerance=4e-5)
    np.testing.assert_allclose(gathered(kernel, features), propagate(whole, features), atol=2e-6)
    np.testing.assert_allclose(kernel.weights().toarray(), dense(kernel), atol=1e-6)


def test_neighbours_are_counted(small_tiles):
    kernel = Kernel(clumps(), 0.4, 4e-5)
    assert kernel.mean_neighbours() == pytest.approx((dense(kernel) > 0).sum() / len(kernel.xy) - 1)


def test_same_bits_whatever_the_number_of_threads(small_tiles):
    from joblib import parallel_config

    kernel = Kernel(clumps(), 0.4, 4e-5)
    features = np.random.default_rng(1).normal(size=(len(kernel.xy), 3)).astype(np.float32)
    several = gathered(kernel, features)
    with parallel_config(backend="sequential"):
        assert np.array_equal(gathered(kernel, features), several)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 300), at_most=st.integers(1, 100), seed=st.integers(0, 5))
def test_tiles_hold_each_spot_once(n, at_most, seed):
    xy = np.random.default_rng(seed).integers(0, 4, size=(n, 2)).astype(float)
    parts = list(tiles(xy, at_most))
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert max(map(len, parts)) <= at_most
    assert all((np.diff(tile) > 0).all() for tile in parts)


def test_noise_of_a_spot_is_the_same_in_any_tile():
    noise = white_noise(np.arange(5000), 130)
    assert set(np.unique(noise)) == {-1, 1}
    sample = np.array([4, 17, 4999])
    assert np.array_equal(white_noise(sample, 130), noise[sample])
    products = noise.T @ noise / len(noise)
    np.testing.assert_allclose(products, np.eye(130), atol=6 / np.sqrt(len(noise)))
    assert abs(noise.mean(axis=1)).max() < 6 / np.sqrt(130)
