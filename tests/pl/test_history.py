"""The training curve: what stands on the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from stmmr import InputError
from stmmr.pl import history


def lines(ax):
    """Get the curves by the first word of their legend entry."""
    return {line.get_label().split()[0]: line for line in ax.get_lines()}


def test_each_term_over_its_own_range_and_its_values_in_the_legend(section):
    section.uns["stmmr"] = {
        "history": {"graph": np.array([-1.0, -3.0, -2.0]), "loss": [10.0, 6.0, 5.0], "flat": [2, 2, 2]}
    }
    ax = history(section)
    curves = lines(ax)
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
    assert list(lines(ax)) == ["loss"]
    np.testing.assert_array_equal(lines(ax)["loss"].get_ydata(), [2.0, 1.0])
    assert ax.get_legend() is None


def test_one_epoch_is_a_point_and_other_values_than_finite_are_gaps(section):
    section.uns["stmmr"] = {"history": {"loss": [3.0]}}
    assert lines(history(section))["loss"].get_marker() == "o"
    section.uns["stmmr"] = {"history": {"loss": [3.0, np.nan, np.inf, 1.0]}}
    np.testing.assert_allclose(lines(history(section))["loss"].get_ydata(), [3, np.nan, np.nan, 1])
    section.uns["stmmr"]["history"] |= {"graph": [np.inf, 1.0, 3.0, 2.0], "contrast": [1, 2, 3, 4]}
    np.testing.assert_allclose(lines(history(section))["graph"].get_ydata(), [np.nan, 0, 1, 0.5])


def test_draws_on_the_given_axes(section):
    section.uns["stmmr"] = {"history": {"loss": [3.0, 2.0]}}
    _, given = plt.subplots()
    assert history(section, ax=given) is given


@pytest.mark.parametrize("uns", [{}, {"stmmr": {}}, {"stmmr": {"history": {"loss": []}}}])
def test_refuses_an_untrained_section(section, uns):
    section.uns.update(uns)
    with pytest.raises(InputError, match=r"\['history'\], found none\. Train first"):
        history(section)
