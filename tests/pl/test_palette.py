"""The colours: far enough apart to any sight, and the user's own where there are any."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from stmmr._core.categories import MISSING, PALETTE, category_colors
from stmmr.pl import domains, embedding

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}  # fmt: skip


@pytest.mark.parametrize("sight", SIGHT)
def test_twenty_colours_and_the_background_can_be_told_apart(sight):
    from skimage.color import deltaE_ciede2000, rgb2lab

    colors = np.array([to_rgb(color) for color in (*PALETTE[:20], MISSING, "white")])
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SIGHT[sight]), 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    distance = deltaE_ciede2000(lab[:, None], lab[None])
    assert distance[~np.eye(len(lab), dtype=bool)].min() > 5  # twice what the eye just notices


def test_no_colour_occurs_twice():
    assert len(set(PALETTE)) == len(PALETTE) >= 52  # the mouse brain of the paper has 52 domains


def test_own_colours_win_where_there_is_one_for_each_and_are_never_written(section):
    names = section.obs["stmmr_domain"].cat.categories
    own = ["red", "#00ff00", "blue"]
    section.uns["stmmr_domain_colors"] = own
    np.testing.assert_array_equal(category_colors(section, "stmmr_domain", names)[:, :3], np.eye(3))
    section.uns["stmmr_domain_colors"] = own[:2]
    expected = [to_rgb(color) for color in PALETTE[:3]]
    np.testing.assert_allclose(category_colors(section, "stmmr_domain", names)[:, :3], expected)
    del section.uns["stmmr_domain_colors"]
    domains(section)
    assert not section.uns


def test_the_same_domain_has_the_same_colour_in_every_figure(section):
    section.obs["stmmr_domain_refined"] = section.obs["stmmr_domain"]
    section.obs.loc["spot44", "stmmr_domain_refined"] = "1"
    axes = [domains(section), embedding(section), domains(section, domain_key="stmmr_domain_refined")]
    legends = [
        {t.get_text(): h.get_color() for t, h in zip(legend.get_texts(), legend.legend_handles, strict=True)}
        for legend in (ax.get_legend() for ax in axes)
    ]
    for name in ("1", "3"):
        assert len({tuple(legend[name]) for legend in legends}) == 1
