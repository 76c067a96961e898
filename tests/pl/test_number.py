"""The choice of the number of domains: what stands on the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from stmmr import InputError
from stmmr.pl import number_of_domains


@pytest.fixture
def chosen(section):
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


def test_curve_choice_and_range(chosen):
    ax = number_of_domains(chosen)
    curve, mark = ax.get_lines()
    np.testing.assert_array_equal(curve.get_xydata(), np.c_[np.arange(1, 8), [0, 20, 40, 55, 60, 52, 30]])
    np.testing.assert_array_equal(mark.get_xydata(), [[5, 60]])
    (span,) = ax.patches
    assert (span.get_x(), span.get_width()) == (3.5, 3)
    assert [text.get_text() for text in ax.texts] == ["5 domains\n4 to 6 would do as well"]


def test_no_range_where_one_number_stands_out(chosen):
    chosen.uns["stmmr"]["number_of_domains"] |= {"lowest": 5, "highest": 5}
    assert [text.get_text() for text in number_of_domains(chosen).texts] == ["5 domains"]


def test_draws_on_the_given_axes(chosen):
    _, given = plt.subplots()
    assert number_of_domains(chosen, ax=given) is given


def test_refuses_a_number_that_was_given(section):
    with pytest.raises(InputError, match=r"Run stmmr\.tl\.number_of_domains"):
        number_of_domains(section)


@pytest.mark.parametrize("peak", [1, 4, 7])
def test_label_is_inside_the_axes_and_above_the_curve(chosen, peak):
    tried = np.arange(1, 8)
    choice = {"criterion": -20.0 * abs(tried - peak), "chosen": peak, "lowest": peak - 1, "highest": peak + 1}
    chosen.uns["stmmr"]["number_of_domains"] |= choice
    figure, given = plt.subplots(figsize=(2.7, 2.6), layout="constrained")
    number_of_domains(chosen, ax=given)
    figure.draw_without_rendering()
    (label,) = given.texts
    box, frame = label.get_window_extent(), given.get_window_extent()
    assert frame.x0 < box.x0 < box.x1 < frame.x1
    assert box.y1 < frame.y1
    assert box.y0 > given.transData.transform((peak, 0))[1]
