"""Mixtures of one covariance: against scikit-learn from the same start."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

import stmmr
from stmmr.tl._consensus import assigned_by_all
from stmmr.tl._mixture import TiedMixture, fit_tied
from stmmr.tl._readouts import fit_from_kmeans


def blobs(n, d, groups, seed=0):
    rng = np.random.default_rng(seed)
    return (
        100
        + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
        + 2 * rng.normal(size=(groups, d))[rng.integers(groups, size=n)]
    )


@pytest.mark.parametrize("k", range(1, 13))
@pytest.mark.parametrize(("n", "d"), [(300, 1), (500, 6), (400, 30)])
def test_as_scikit_learn(k, n, d):
    points = blobs(n, d, 5, seed=k)
    theirs = GaussianMixture(k, covariance_type="tied", reg_covar=0.01, max_iter=300, random_state=3).fit(points)
    ours = fit_from_kmeans(points, k, random_state=np.random.RandomState(3))
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-8)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-8)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, atol=1e-8)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, abs=1e-9)
    assert ours.converged_ == theirs.converged_
    np.testing.assert_array_equal(ours.predict(points), theirs.predict(points))
    np.testing.assert_allclose(ours.predict_proba(points), theirs.predict_proba(points), atol=1e-7)
    np.testing.assert_allclose(ours.score_samples(points), theirs.score_samples(points), atol=1e-7)


def test_goes_on_from_a_mixture_as_scikit_learn():
    points = blobs(400, 4, 3)
    first = fit_from_kmeans(points, 3, random_state=np.random.RandomState(0))
    moved = TiedMixture(weights_=first.weights_, means_=first.means_ + 0.5, covariances_=first.covariances_)
    theirs = GaussianMixture(
        3,
        covariance_type="tied",
        reg_covar=0.01,
        max_iter=300,
        weights_init=moved.weights_,
        means_init=moved.means_,
        precisions_init=np.linalg.inv(moved.covariances_),
    ).fit(points)
    ours = fit_tied(points, moved, regularisation=0.01)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-7)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, abs=1e-8)


def test_a_few_iterations_and_then_the_rest_are_one_fit():
    points = blobs(400, 4, 3)
    whole = fit_from_kmeans(points, 3, random_state=np.random.RandomState(0))
    short = fit_from_kmeans(points, 3, iterations=2, random_state=np.random.RandomState(0))
    assert not short.converged_
    again = fit_tied(points, short, regularisation=0.01)
    np.testing.assert_allclose(again.means_, whole.means_, rtol=1e-3)
    assert again.lower_bound_ == pytest.approx(whole.lower_bound_, abs=1e-3)


def test_singular_covariance_is_said():
    points = np.repeat(np.eye(3), 20, axis=0) * 1e12
    with pytest.raises(stmmr.InputError, match="singular"):
        fit_tied(points, np.eye(3)[np.repeat(range(3), 20)], regularisation=0.0)


def test_all_mixtures_assign_as_each_does(monkeypatch):
    monkeypatch.setattr("stmmr.tl._consensus.CHUNK", 64)
    points = blobs(500, 5, 4).astype(np.float32)
    mixtures = [fit_from_kmeans(points.astype(float), 4, random_state=np.random.RandomState(s)) for s in range(6)]
    groups = np.empty((6, 500), dtype=int)
    for rows, some in assigned_by_all(mixtures, points):
        groups[:, rows] = some
    for mixture, group in zip(mixtures, groups, strict=True):
        np.testing.assert_array_equal(group, mixture.predict(points.astype(float)))
