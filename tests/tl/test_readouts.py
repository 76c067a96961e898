"""Each readout against known groups and scikit-learn, small and large, and what it refuses."""

from functools import partial

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from stmmr import InputError
from stmmr.tl import _readouts
from stmmr.tl._readouts import agglomerative, gaussian_mixture, kmeans, whitened

READOUTS = [
    pytest.param(gaussian_mixture, id="tied"),
    pytest.param(partial(gaussian_mixture, covariance="full"), id="full"),
    pytest.param(partial(gaussian_mixture, covariance="diag"), id="diag"),
    kmeans,
    agglomerative,
]
each_readout = pytest.mark.parametrize("readout", READOUTS)


@each_readout
def test_finds_separate_groups_in_any_order_and_orientation(readout, blobs):
    points, group = blobs
    rng = np.random.default_rng(1)
    order, rotation = rng.permutation(len(points)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for turned, truth in [(points, group), (points[order], group[order]), (points @ rotation, group)]:
        assert adjusted_rand_score(truth, readout(turned, 4)) == 1


@each_readout
def test_the_seed_fixes_the_labels(readout):
    points = np.random.default_rng(0).normal(size=(300, 4))
    np.testing.assert_array_equal(readout(points, 5), readout(points.copy(), 5))


@pytest.mark.parametrize("covariance", ["tied", "full", "diag"])
def test_mixture_is_scikit_learns(covariance):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 5)) + 2 * np.eye(5)[rng.integers(0, 3, 400)]
    mixture = GaussianMixture(3, covariance_type=covariance, n_init=20, max_iter=300, reg_covar=0.01, random_state=7)
    found = gaussian_mixture(points, 3, covariance=covariance, random_state=7)
    np.testing.assert_array_equal(found, mixture.fit_predict(points))


def test_kmeans_is_scikit_learns():
    points = np.random.default_rng(0).normal(size=(400, 5))
    found = KMeans(6, n_init=20, random_state=7).fit_predict(points)
    np.testing.assert_array_equal(kmeans(points, 6, random_state=7), found)


@pytest.mark.parametrize("readout", READOUTS[:4])
def test_large_data_are_fitted_on_a_sample_and_assigned_in_chunks(readout, blobs, monkeypatch):
    points, group = blobs
    seen = []
    monkeypatch.setattr(_readouts, "_CHUNK", 70)
    assigned = _readouts.assigned
    monkeypatch.setattr(
        _readouts, "assigned", lambda predict, x: assigned(lambda chunk: seen.append(len(chunk)) or predict(chunk), x)
    )
    assert adjusted_rand_score(group, readout(points, 4, fitted_at_most=100)) == 1
    assert seen == [70] * 8 + [40]
    with pytest.raises(InputError, match=r"most 100 domains, the number of different spots among 100 drawn, found 101"):
        readout(points, 101, fitted_at_most=100)


def test_mixture_that_empties_no_group_goes_before_a_likelier_one():
    clouds = [np.random.default_rng(seed).normal(size=(60, 2)) for seed in (5, 6, 13, 14, 19)]
    likeliest = GaussianMixture(6, covariance_type="tied", n_init=20, max_iter=300, reg_covar=0.1, random_state=0)
    assert min(len(np.unique(likeliest.fit_predict(cloud))) for cloud in clouds) < 6
    assert {len(np.unique(gaussian_mixture(cloud, 6, regularisation=0.1))) for cloud in clouds} == {6}


def test_no_group_stays_empty(blobs):
    labels = gaussian_mixture(blobs[0] * 1e-6, 4)
    assert labels.shape == (600,)
    assert set(labels) == set(range(4))


@each_readout
def test_one_group_and_one_point_each(readout):
    points = np.random.default_rng(0).normal(size=(7, 3)) * 10
    assert set(readout(points, 1)) == {0}
    assert sorted(readout(points, 7)) == list(range(7))
    assert list(readout(points[:1], 1)) == [0]


@each_readout
def test_constant_and_repeated_columns_and_spots(readout, blobs):
    points, group = blobs
    spoilt = np.column_stack([points, points, np.ones(600), np.zeros((600, 2))])
    assert adjusted_rand_score(group, readout(spoilt, 4)) == 1
    repeated = np.repeat(np.eye(4) * 9, 30, axis=0)
    assert adjusted_rand_score(np.repeat(range(4), 30), readout(repeated, 4)) == 1
    with pytest.raises(InputError, match=r"at most 4 domains, the number of different spots, found 5"):
        readout(repeated, 5)


@pytest.mark.parametrize("n_domains", [0, -1, 2.5, "auto", np.nan])
@each_readout
def test_refuses_what_is_no_number_of_groups(readout, n_domains, blobs):
    with pytest.raises(InputError, match="n_domains to be a positive whole number"):
        readout(blobs[0], n_domains)


def test_refuses_a_singular_covariance_and_unknown_ones(blobs):
    repeated = np.repeat(blobs[0] * 1e6, 2, axis=1)
    with pytest.raises(InputError, match="larger regularisation"):
        gaussian_mixture(repeated, 4, regularisation=1e-30)
    with pytest.raises(InputError, match="regularisation to be a positive"):
        gaussian_mixture(repeated, 4, regularisation=0)
    with pytest.raises(InputError, match="tied, full, diag, found 'spherical'"):
        gaussian_mixture(repeated, 4, covariance="spherical")


def test_agglomerative_ends_where_its_memory_would(monkeypatch, blobs):
    monkeypatch.setattr(_readouts, "_WARD_AT_MOST", 599)
    with pytest.raises(InputError, match=r"at most 599 spots.*found 600.*'gaussian_mixture' or 'kmeans'"):
        agglomerative(blobs[0], 4)


def test_whitened_keeps_the_components_that_vary(blobs):
    points = blobs[0]
    white = whitened(np.column_stack([points, points, np.ones(600)]), 15, random_state=0)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-10)
    assert whitened(points, 2, random_state=0).shape == (600, 2)
    np.testing.assert_array_equal(whitened(np.full((5, 3), 0.1), 2, random_state=0), np.zeros((5, 1)))
    np.testing.assert_array_equal(whitened(points[:1], 2, random_state=0), np.zeros((1, 1)))


def test_a_sample_is_balanced_over_unequal_sections():
    sections = np.repeat([0, 1, 2], [10_000, 30, 400])
    points = np.column_stack([sections, np.arange(len(sections))]).astype(np.float64)
    drawn = _readouts.sample(points, 2, at_most=600, random_state=0, sections=sections)
    assert np.bincount(drawn[:, 0].astype(int)).tolist() == [285, 30, 285]
    assert len(np.unique(drawn[:, 1])) == 600
    alike = np.repeat([0, 1], 5_215)
    same = _readouts.sample(points, 2, at_most=600, random_state=0, sections=alike)
    np.testing.assert_array_equal(same, _readouts.sample(points, 2, at_most=600, random_state=0))
