"""The curves behind the choices: what stands on the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from stmmr import InputError
from stmmr._core.categories import PALETTE
from stmmr.pl import bandwidth, history, number_of_domains

TRIED = 20 * np.geomspace(0.5, 4, 10)  # 20 px between spots


@pytest.fixture
def bandwidth_chosen(section):
    section.uns["stmmr"] = {
        "spatial_graph": {
            "bandwidths_tried": TRIED,
            "error": np.array([2.0, 1.8, 1.5, 1.2, 1.1, 1.05, 1.0, 1.1, 1.2, 1.3]),
            "bandwidth_best": TRIED[6],
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
    curve, best, mark = ax.get_lines()
    np.testing.assert_allclose(best.get_xdata(), curve.get_xdata()[6])
    assert to_rgba(mark.get_color()) == to_rgba(PALETTE[0])
    return curve.get_xydata(), mark.get_xydata()


def test_bandwidths_are_in_distances_where_the_scale_is_unknown(bandwidth_chosen):
    ax = bandwidth(bandwidth_chosen)
    curve, mark = curve_and_mark(ax)
    np.testing.assert_allclose(curve[:, 0], TRIED / 20)
    np.testing.assert_array_equal(curve[:, 1], bandwidth_chosen.uns["stmmr"]["spatial_graph"]["error"])
    np.testing.assert_allclose(mark, curve[[4]])
    assert [text.get_text().strip() for text in ax.texts] == ["chosen: 1.26"]
    assert (ax.get_xscale(), ticks(ax)) == ("log", ["0.5", "1", "2", "4"])
    assert ax.get_xlabel() == "Bandwidth (distances between cells)"
    assert ax.get_ylabel() == "Prediction error\n(share of the variance)"


def test_bandwidths_are_in_um_where_the_scale_is_known(bandwidth_chosen):
    bandwidth_chosen.uns["stmmr"]["spatial_graph"]["um_per_unit"] = 5.0
    ax = bandwidth(bandwidth_chosen)
    curve, mark = curve_and_mark(ax)
    np.testing.assert_allclose(curve[:, 0], TRIED * 5)
    np.testing.assert_allclose(mark, curve[[4]])
    assert [text.get_text().strip() for text in ax.texts] == ["chosen: 126 µm"]
    assert (ax.get_xlabel(), ticks(ax)) == ("Bandwidth (µm)", ["50", "100", "200"])


def test_bandwidth_draws_on_the_given_axes(bandwidth_chosen):
    _, given = plt.subplots()
    assert bandwidth(bandwidth_chosen, ax=given) is given


def test_refuses_a_bandwidth_that_was_given(bandwidth_chosen):
    graph = bandwidth_chosen.uns["stmmr"]["spatial_graph"]
    del graph["bandwidths_tried"], graph["error"]
    with pytest.raises(InputError, match=r"found one set by the user \(25\.2 px\)\. Choose it by"):
        bandwidth(bandwidth_chosen)
    del bandwidth_chosen.uns["stmmr"]
    with pytest.raises(InputError, match="found no spatial graph"):
        bandwidth(bandwidth_chosen)


@pytest.fixture
def number_chosen(section):
    section.uns["stmmr"] = {
        "number_of_domains": {
            "tried": np.arange(1, 8),
            "criterion": np.array([0.0, 20, 40, 55, 60, 52, 30]),
            "chosen": 5,
            "lowest": 4,
            "highest": 6,
        }
    }
    return section


def test_number_has_curve_choice_and_range(number_chosen):
    ax = number_of_domains(number_chosen)
    curve, mark = ax.get_lines()
    np.testing.assert_array_equal(curve.get_xydata(), np.c_[np.arange(1, 8), [0, -20, -40, -55, -60, -52, -30]])
    np.testing.assert_array_equal(mark.get_xydata(), [[5, -60]])  # the lower, the better
    (span,) = ax.patches
    assert (span.get_x(), span.get_width()) == (3.5, 3)
    assert [text.get_text().strip() for text in ax.texts] == ["5 domains\n4–6 fit almost equally well"]


def test_no_range_where_one_number_stands_out(number_chosen):
    number_chosen.uns["stmmr"]["number_of_domains"] |= {"lowest": 5, "highest": 5}
    assert [text.get_text() for text in number_of_domains(number_chosen).texts] == ["5 domains"]


def test_number_draws_on_the_given_axes(number_chosen):
    _, given = plt.subplots()
    assert number_of_domains(number_chosen, ax=given) is given


def test_refuses_a_number_that_was_given(section):
    with pytest.raises(InputError, match=r"Run stmmr\.tl\.number_of_domains"):
        number_of_domains(section)


@pytest.mark.parametrize("peak", [1, 4, 7])
def test_label_of_the_number_is_inside_the_axes_and_below_the_curve(number_chosen, peak):
    tried = np.arange(1, 8)
    choice = {"criterion": -20.0 * abs(tried - peak), "chosen": peak, "lowest": peak - 1, "highest": peak + 1}
    number_chosen.uns["stmmr"]["number_of_domains"] |= choice
    figure, given = plt.subplots(figsize=(2.7, 2.6), layout="constrained")
    number_of_domains(number_chosen, ax=given)
    figure.draw_without_rendering()
    (label,) = given.texts
    box, frame = label.get_window_extent(), given.get_window_extent()
    assert frame.x0 < box.x0 < box.x1 < frame.x1
    assert frame.y0 < box.y0
    assert box.y1 < given.transData.transform((peak, 0))[1]


def terms(ax):
    """Get the curves by the first word of their legend entry."""
    return {line.get_label().split()[0]: line for line in ax.get_lines()}


def test_each_term_over_its_own_range_and_its_values_in_the_legend(section):
    section.uns["stmmr"] = {
        "history": {"graph": np.array([-1.0, -3.0, -2.0]), "loss": [10.0, 6.0, 5.0], "flat": [2, 2, 2]}
    }
    ax = history(section)
    curves = terms(ax)
    assert list(curves) == ["loss", "graph", "flat"]
    np.testing.assert_allclose(curves["loss"].get_ydata(), [1, 0.2, 0])
    np.testing.assert_allclose(curves["graph"].get_ydata(), [1, 0, 0.5])
    np.testing.assert_allclose(curves["flat"].get_ydata(), [0, 0, 0])
    np.testing.assert_array_equal(curves["loss"].get_xdata(), [1, 2, 3])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["loss  10 → 5", "graph  -1 → -2", "flat  2 → 2"]
    assert len({line.get_color() for line in curves.values()}) == 3
    ax.figure.canvas.draw()


def test_an_only_term_is_the_loss_itself(section):
    section.uns["stmmr"] = {"history": {"likelihood": [2.0, 1.0], "loss": [2.0, 1.0]}}
    ax = history(section)
    assert list(terms(ax)) == ["loss"]
    np.testing.assert_array_equal(terms(ax)["loss"].get_ydata(), [2.0, 1.0])
    assert ax.get_legend() is None


def test_one_epoch_is_a_point_and_other_values_than_finite_are_gaps(section):
    section.uns["stmmr"] = {"history": {"loss": [3.0]}}
    assert terms(history(section))["loss"].get_marker() == "o"
    section.uns["stmmr"] = {"history": {"loss": [3.0, np.nan, np.inf, 1.0]}}
    np.testing.assert_allclose(terms(history(section))["loss"].get_ydata(), [3, np.nan, np.nan, 1])
    section.uns["stmmr"]["history"] |= {"graph": [np.inf, 1.0, 3.0, 2.0], "contrast": [1, 2, 3, 4]}
    np.testing.assert_allclose(terms(history(section))["graph"].get_ydata(), [np.nan, 0, 1, 0.5])


def test_history_draws_on_the_given_axes(section):
    section.uns["stmmr"] = {"history": {"loss": [3.0, 2.0]}}
    _, given = plt.subplots()
    assert history(section, ax=given) is given


@pytest.mark.parametrize("uns", [{}, {"stmmr": {}}, {"stmmr": {"history": {"loss": []}}}])
def test_refuses_an_untrained_section(section, uns):
    section.uns.update(uns)
    with pytest.raises(InputError, match=r"\['history'\], found none\. The default preset trains nothing\. Run"):
        history(section)
