"""What stands out from the noise: against pure noise, a known signal, and what must not matter."""

import numpy as np
import pytest

from stmmr._core.kernel import Kernel, gaussian_weights, propagate
from stmmr.linear.noise import local_noise, principal_components, propagated_with_level, spatial_components

N, F = 900, 8
XY = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)
KERNEL = Kernel(XY, 1.5, 4e-5)
WEIGHTS = gaussian_weights(XY, bandwidth=1.5, tolerance=4e-5)


def noise(seed=0):
    return np.random.default_rng(seed).normal(size=(N, F))


def waves(features):
    """Add two slow waves, each in a direction of its own."""
    slow = np.stack([np.sin(XY[:, 0] / 5), np.cos(XY[:, 1] / 7)], axis=1)  # (N, 2)
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(F, 2)))[0].T
    return features + 2 * slow @ directions, slow


def found(features, **options):
    smooth, level = propagated_with_level(features, KERNEL)
    return spatial_components(smooth, local_noise(features, XY), level, **options)


def test_local_noise_is_the_covariance_of_noise_and_blind_to_slow_waves():
    mixing = np.random.default_rng(2).normal(size=(F, F))
    many = np.concatenate([noise(seed) for seed in range(3)], axis=0) @ mixing
    apart = np.concatenate([XY, XY + 1000, XY + 2000])
    scale = np.abs(mixing.T @ mixing).max()
    np.testing.assert_allclose(local_noise(many, apart), mixing.T @ mixing, atol=0.15 * scale)
    with_waves, _ = waves(noise())
    np.testing.assert_allclose(local_noise(with_waves, XY), local_noise(noise(), XY), atol=0.3)


def test_noise_of_a_grid_does_not_depend_on_how_it_lies():
    features, _ = waves(noise())
    hexagonal = XY * [1, np.sqrt(0.75)] + [0.5, 0] * (XY[:, 1:] % 2)
    for xy in (XY, hexagonal):
        for angle in (0.3, 1.0, np.pi / 2):
            turned = xy @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
            np.testing.assert_allclose(local_noise(features, turned), local_noise(features, xy), atol=1e-12)


def test_pure_noise_has_hardly_any_signal():
    assert max(found(noise(seed)).signal.sum() for seed in range(5)) < 0.3


def test_as_many_directions_as_waves():
    features, slow = waves(noise())
    components = found(features)
    assert (components.signal > 0.5).sum() == 2
    z = (propagate(WEIGHTS, features) - components.centre) @ components.axes
    explained = np.linalg.lstsq(np.c_[z[:, :2], np.ones(N)], slow, rcond=None)[1]
    assert (explained / ((slow - slow.mean(axis=0)) ** 2).sum(axis=0) < 0.1).all()


def test_columns_have_the_variance_of_their_signal():
    features, _ = waves(noise())
    components = found(features)
    z = (propagate(WEIGHTS, features) - components.centre) @ components.axes
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.diag(components.signal), atol=1e-6)


def test_scaling_the_features_changes_nothing_and_rotating_them_hardly_anything():
    features, _ = waves(noise())
    rng = np.random.default_rng(3)
    expected = found(features).signal
    np.testing.assert_allclose(found(features * rng.uniform(0.1, 10, F)).signal, expected, rtol=1e-3)
    turned = features @ np.linalg.qr(rng.normal(size=(F, F)))[0]
    np.testing.assert_allclose(found(turned).signal[:2], expected[:2], rtol=0.01)


def test_correlations_of_noise_are_shrunk_where_spots_are_few():
    few = noise()[:20]
    covariance = local_noise(few, XY[:20])
    np.testing.assert_array_equal(covariance, np.diag(np.diag(covariance)))
    mixed = noise() @ np.random.default_rng(3).normal(size=(F, F))
    off = ~np.eye(F, dtype=bool)
    assert (local_noise(mixed, XY)[off] != 0).all()


def test_at_least_so_many_directions():
    components = found(noise(), at_least=3)
    assert components.axes.shape == (F, 3)
    assert (components.signal > 0).all()


def test_noise_level_of_a_tissue_without_neighbours():
    apart = Kernel(np.arange(40_000.0).reshape(-1, 2), 1e-3, 4e-5)
    _, level = propagated_with_level(np.zeros((20_000, 5), dtype=np.float32), apart)
    assert level == pytest.approx((1 + np.sqrt(5 / 20_000)) ** 2, rel=0.02)  # Marchenko-Pastur


@pytest.mark.parametrize("shape", [(900, 1), (5, 30), (900, 20)])
def test_principal_components_of_any_shape(shape):
    values = np.random.default_rng(0).normal(size=shape)
    scores = principal_components(values, 50)
    assert scores.shape[0] == shape[0]
    assert 1 <= scores.shape[1] <= max(1, min(50, shape[1], shape[0] // 4))
    assert np.isfinite(scores).all()
    assert principal_components(np.zeros((40, 3)), 2).shape == (40, 1)
