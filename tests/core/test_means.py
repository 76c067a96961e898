"""Compiled means of neighbours, against distances between all pairs."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from stmmr._core.means import mean_twice, mean_twice_with_share


def dense(xy, bandwidth, reach):
    distance = cdist(xy, xy)
    weights = np.where(distance <= reach, np.exp(-(distance**2) / (2 * bandwidth**2)), 0) + np.eye(len(xy))
    return weights / weights.sum(axis=1, keepdims=True)


PLACES = {
    "plane": lambda rng: rng.uniform(0, 10, (400, 2)),
    "stack": lambda rng: rng.uniform(0, 10, (400, 3)),
    "negative coordinates": lambda rng: rng.uniform(-1000, -990, (400, 2)),
    "on one line": lambda rng: np.column_stack([np.full(300, 3.0), rng.uniform(0, 40, 300)]),
    "some far away": lambda rng: np.concatenate([rng.uniform(0, 5, (200, 2)), [[1e12, 3], [1e12, 3.5], [4, -1e15]]]),
    "several at one position": lambda rng: np.repeat(rng.uniform(0, 10, (60, 2)), 5, axis=0),
    "one": lambda rng: np.array([[1.0, 2.0]]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reach", [0.3, 2.0, 50.0])
def test_rows_of_a_graph_applied_twice(place, reach):
    rng = np.random.default_rng(0)
    xy = PLACES[place](rng)
    features = rng.normal(size=(len(xy), 5))
    weights = dense(xy, reach / 2.5, reach)
    rows = rng.permutation(len(xy))[:50]
    means = mean_twice(xy, features, rows, bandwidth=reach / 2.5, reach=reach)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, (weights @ (weights @ features))[rows], atol=2e-6)
    every, share = mean_twice_with_share(xy, features, bandwidth=reach / 2.5, reach=reach)
    np.testing.assert_allclose(every[rows], means, atol=2e-6)
    np.testing.assert_allclose(share, (weights @ weights).diagonal(), atol=1e-6)


def test_a_spot_gets_the_same_bits_whatever_surrounds_it():
    rng = np.random.default_rng(0)
    xy, features = rng.uniform(0, 30, (3000, 2)), rng.normal(size=(3000, 4)).astype(np.float32)
    near = np.flatnonzero((xy < 12).all(axis=1))
    rows = np.flatnonzero((xy < 7).all(axis=1))
    whole = mean_twice(xy, features, rows, bandwidth=0.8, reach=2.0)
    part = mean_twice(xy[near], features[near], near.searchsorted(rows), bandwidth=0.8, reach=2.0)
    assert np.array_equal(whole, part)
