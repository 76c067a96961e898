"""The choice of the bandwidth: against prediction written out, and what must not matter."""

import numpy as np
import pytest

import stmmr
from stmmr._core import keys
from stmmr._core.kernel import Kernel, gaussian_weights
from stmmr.linear.bandwidth import Curve, bandwidth_curve, predicted_by_others, windows

N, F = 900, 8
XY = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)


def noise(seed=0):
    return np.random.default_rng(seed).normal(size=(N, F))


def waves(length):
    return np.cos(XY / length) @ np.random.default_rng(4).normal(size=(2, F))


def test_prediction_is_the_mean_over_others_by_the_weights_of_two_steps():
    xy = np.random.default_rng(0).uniform(0, 10, size=(60, 2))
    xy[-1] += 1000  # alone
    features = np.random.default_rng(1).normal(size=(60, 3))
    weights = gaussian_weights(xy, bandwidth=1.0, tolerance=4e-5)
    twice = weights.toarray().astype(float) @ weights.toarray()
    np.fill_diagonal(twice, 0)
    expected = twice[:-1] @ features / twice[:-1].sum(axis=1, keepdims=True)
    predicted = predicted_by_others(features, Kernel(xy, 1.0, 4e-5))
    np.testing.assert_allclose(predicted[:-1], expected, atol=1e-4)
    np.testing.assert_allclose(predicted[-1], features.mean(axis=0))


def test_bandwidth_grows_with_the_scale_of_the_signal():
    chosen = [bandwidth_curve(noise() + 0.4 * waves(length), XY, tolerance=4e-5).choose() for length in (1, 1.5, 2, 4)]
    assert chosen == sorted(chosen)
    assert chosen[-1] > 1.5 * chosen[0]


@pytest.mark.parametrize("signal", [0, 0.4])
def test_bandwidth_does_not_run_away_without_a_signal_or_with_one_over_the_whole_tissue(signal):
    assert bandwidth_curve(noise() + signal * waves(16), XY, tolerance=4e-5).bandwidths.max() < 8


def test_error_is_the_share_of_the_variance_that_is_not_predicted():
    signal = waves(4)
    features = signal + noise() * signal.std(axis=0)
    assert bandwidth_curve(features, XY, tolerance=4e-5).error.min() == pytest.approx(0.5, abs=0.1)
    assert bandwidth_curve(noise(), XY, tolerance=4e-5).error.min() == pytest.approx(1, abs=0.05)


def test_components_without_signal_hardly_matter():
    few = noise() + 0.6 * waves(3)
    many = np.hstack([few, *(noise(seed) for seed in range(1, 5))])
    one, other = (bandwidth_curve(features, XY, tolerance=4e-5).best() for features in (few, many))
    assert other == pytest.approx(one, rel=0.1)


def test_unit_and_order_of_the_spots_do_not_matter():
    features = noise() + 0.4 * waves(3)
    one = bandwidth_curve(features, XY, tolerance=4e-5)
    order = np.random.default_rng(0).permutation(N)
    other = bandwidth_curve(features[order], 37 * XY[order], tolerance=4e-5)
    np.testing.assert_allclose(other.bandwidths, 37 * one.bandwidths)
    np.testing.assert_allclose(other.error, one.error, rtol=1e-5)
    assert other.choose() == pytest.approx(37 * one.choose(), rel=1e-4)


def test_bandwidth_at_the_lowest_point_of_the_curve():
    tried = 2 ** (np.arange(5) / 4)
    lowest = 2**0.55
    assert Curve(tried, (np.log(tried) - np.log(lowest)) ** 2, 1.0).best() == pytest.approx(lowest)
    assert Curve(tried, np.arange(5.0), 1.0).best() == 1
    assert Curve(tried, -np.arange(5.0), 1.0).best() == pytest.approx(2)


def test_bandwidth_is_sharper_below_the_distance_between_spots_and_wider_above():
    tried = 2 ** (np.arange(-8, 9) / 4)
    for best in (0.5, 1.0, 2.0):
        for unit in (1.0, 37.0):
            curve = Curve(unit * tried, (np.log(tried) - np.log(best)) ** 2, unit)
            assert curve.choose() == pytest.approx(unit * best**1.25)


def test_windows_are_compact_and_bounded(monkeypatch):
    monkeypatch.setattr("stmmr.linear.bandwidth.SPOTS_AT_MOST", 200)
    chosen = windows(XY)
    assert len(chosen) <= 200
    near = np.sqrt(((XY[chosen, None] - XY[None, chosen]) ** 2).sum(axis=-1))
    np.fill_diagonal(near, np.inf)
    assert near.min(axis=1).max() == 1


def test_bandwidth_needs_something_to_choose_by():
    tissue = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=20)
    with pytest.raises(stmmr.InputError, match=r"X_stmmr_pca.*expression.*use_rep.*bandwidth"):
        stmmr.pp.spatial_graph(tissue)
    tissue.obsm["X_own"] = np.random.default_rng(0).normal(size=(tissue.n_obs, 3))
    stmmr.pp.spatial_graph(tissue, use_rep="X_own")
    step = tissue.uns["stmmr"]["spatial_graph"]
    assert step["bandwidths_tried"].min() <= step["bandwidth"] <= step["bandwidths_tried"].max()
    assert keys.GRAPH in tissue.obsp


def test_noise_does_not_widen_the_bandwidth_beyond_one_distance_of_spots_100_um_apart():
    adata = stmmr.datasets.simulated_tissue(n_rows=24, n_cols=24, random_state=0)
    counts = adata.X.toarray().astype(int)
    adata.X = np.random.default_rng(0).binomial(counts, 0.3).astype(np.float32)
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    graph = adata.uns[keys.UNS]["spatial_graph"]
    assert graph["bandwidth_best"] > 1.05 * graph["nearest_neighbour_distance"]
    assert graph["bandwidth"] * graph["um_per_unit"] == pytest.approx(100)

    adata.obsm[keys.SPATIAL_3D] = np.column_stack([adata.obsm[keys.SPATIAL], np.zeros(adata.n_obs)])
    stmmr.pp.spatial_graph(adata, use="spatial_3d")  # spots, in units of unknown length
    spots = adata.uns[keys.UNS]["spatial_graph"]
    assert np.isnan(spots["um_per_unit"])
    assert spots["bandwidth"] == spots["nearest_neighbour_distance"]

    adata.obsm[keys.SPATIAL] *= 0.1  # cells, in units of unknown length
    del adata.uns[keys.SPATIAL], adata.obs[keys.ARRAY_ROW], adata.obs[keys.ARRAY_COL]
    stmmr.pp.spatial_graph(adata)
    cells = adata.uns[keys.UNS]["spatial_graph"]
    assert 1.05 < cells["bandwidth"] / cells["nearest_neighbour_distance"] <= 10
