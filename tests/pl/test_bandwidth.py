"""The choice of the bandwidth: what stands on the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from stmmr import InputError
from stmmr.pl import bandwidth
from stmmr.pl._palette import PALETTE

TRIED = 20 * np.geomspace(0.5, 4, 10)  # 20 px between places


@pytest.fixture
def chosen(section):
    section.uns["stmmr"] = {
        "spatial_graph": {
            "bandwidths_tried": TRIED,
            "error": np.array([2.0, 1.8, 1.5, 1.2, 1.1, 1.05, 1.0, 1.1, 1.2, 1.3]),
            "standard_error": np.full(10, 0.1),
            "bandwidth": TRIED[4],
            "nearest_neighbour_distance": 20.0,
            "unit": "px",
            "um_per_unit": np.nan,
        }
    }
    return section


def ticks(ax):
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    shown = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    return [label.get_text() for at, label in shown if low <= at <= high]


def curve_and_mark(ax):
    curve, threshold, mark = ax.get_lines()
    np.testing.assert_allclose(threshold.get_ydata(), 1.1)
    assert to_rgba(mark.get_color()) == to_rgba(PALETTE[0])
    return curve.get_xydata(), mark.get_xydata()


def test_in_distances_between_places_where_the_scale_is_unknown(chosen):
    ax = bandwidth(chosen)
    curve, mark = curve_and_mark(ax)
    np.testing.assert_allclose(curve[:, 0], TRIED / 20)
    np.testing.assert_array_equal(curve[:, 1], chosen.uns["stmmr"]["spatial_graph"]["error"])
    np.testing.assert_allclose(mark, curve[[4]])
    assert [text.get_text() for text in ax.texts] == ["chosen: 1.26"]
    assert (ax.get_xscale(), ticks(ax)) == ("log", ["0.5", "1", "2", "4"])
    assert ax.get_xlabel() == "Bandwidth (distances between places)"
    assert ax.get_ylabel() == "Error of the prediction\n(variances of the noise)"


def test_in_um_where_the_scale_is_known(chosen):
    chosen.uns["stmmr"]["spatial_graph"]["um_per_unit"] = 5.0
    ax = bandwidth(chosen)
    curve, mark = curve_and_mark(ax)
    np.testing.assert_allclose(curve[:, 0], TRIED * 5)
    np.testing.assert_allclose(mark, curve[[4]])
    assert [text.get_text() for text in ax.texts] == ["chosen: 126 µm"]
    assert (ax.get_xlabel(), ticks(ax)) == ("Bandwidth (µm)", ["50", "100", "200"])


def test_draws_on_the_given_axes(chosen):
    _, given = plt.subplots()
    assert bandwidth(chosen, ax=given) is given


def test_refuses_a_bandwidth_that_was_given(chosen):
    graph = chosen.uns["stmmr"]["spatial_graph"]
    del graph["bandwidths_tried"], graph["error"], graph["standard_error"]
    with pytest.raises(InputError, match=r"found one that was given \(25\.2 px\)\. Let the data choose it"):
        bandwidth(chosen)
    del chosen.uns["stmmr"]
    with pytest.raises(InputError, match="found no spatial graph"):
        bandwidth(chosen)
