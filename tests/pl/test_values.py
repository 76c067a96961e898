"""Numbers in the tissue: what stands on the axes."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgb

from stmmr import InputError
from stmmr._core.categories import MISSING
from stmmr.pl import values


@pytest.fixture
def section(section):
    section.obs["confidence"] = np.linspace(0.2, 1, 80)
    return section


def colors(ax):
    (circles,) = (c for c in ax.collections if isinstance(c, EllipseCollection))
    return circles.get_facecolors()[:, :3]


def test_colours_run_from_the_lowest_to_the_highest_number(section):
    ax = values(section, "confidence")
    np.testing.assert_allclose(colors(ax), mpl.colormaps["viridis"](np.linspace(0, 1, 80))[:, :3], atol=0.01)
    (bar,) = ax.child_axes
    assert bar.get_title(loc="left") == "confidence"
    assert bar.get_ylim() == pytest.approx((0.2, 1))
    assert ax.get_legend() is None
    ax.figure.canvas.draw()


def test_a_given_range_and_map(section):
    ax = values(section, "confidence", vmin=0.6, vmax=2, cmap="magma")
    drawn, lowest = colors(ax), mpl.colormaps["magma"](0.0)[:3]
    np.testing.assert_allclose(drawn[:40], [lowest] * 40)
    assert not np.allclose(drawn[-1], lowest)
    assert ax.child_axes[0].get_ylim() == (0.6, 2)


def test_missing_numbers_are_grey_and_explained(section):
    section.obs.loc[["spot0", "spot1"], "confidence"] = [np.nan, np.inf]
    ax = values(section, "confidence")
    np.testing.assert_allclose(colors(ax)[:2], [to_rgb(MISSING)] * 2)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["missing"]
    section.obs["whole"] = pd.array([1, None] * 40, dtype="Int64")
    np.testing.assert_allclose(colors(values(section, "whole"))[1], to_rgb(MISSING))
    plt.gcf().canvas.draw()


def test_drawn_as_domains_are(section, library):
    section.uns["spatial"] = {"a": library, "b": {}}
    _, given = plt.subplots()
    ax = values(section, "confidence", library_id="a", alpha=0.5, ax=given)
    assert ax is given
    assert len(ax.images) == 1
    assert ax.collections[0].get_alpha() == 0.5
    assert not values(section, "confidence", library_id="a", image=False).images
    assert list(section.uns) == ["spatial"]


def test_errors_say_what_to_do(section):
    with pytest.raises(InputError, match=r"'confidense' in obs.*Did you mean 'confidence'"):
        values(section, "confidense")
    with pytest.raises(InputError, match=r"found category.*domain_key='stmmr_domain'"):
        values(section, "stmmr_domain")
    section.obs["empty"] = np.nan
    with pytest.raises(InputError, match=r"finite numbers in obs\['empty'\], found none"):
        values(section, "empty")
