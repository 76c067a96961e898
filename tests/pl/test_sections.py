"""Several sections: side by side, each with its name."""

import numpy as np
import pandas as pd

from stmmr.pl import domains
from stmmr.pl._tissue import in_rows


def test_sections_lie_side_by_side_and_are_named(section, library):
    section.uns["spatial"] = {"one": library}
    section.obs["donor"] = np.repeat(["a", "b", "c", "d"], 20)
    section.uns["stmmr"] = {"spatial_graph": {"section_key": "donor"}}
    ax = domains(section)
    assert not ax.get_images()
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "d"]
    above = np.array([text.xy for text in ax.texts])
    assert above[0, 1] == above[1, 1] < above[2, 1] == above[3, 1]
    assert above[0, 0] == above[2, 0] < above[1, 0] == above[3, 0]


def test_sections_of_any_size_do_not_touch():
    rng = np.random.default_rng(0)
    names = pd.Categorical(rng.choice(list("abcde"), 200))
    size = np.array([1.0, 5, 0.2, 3, 4])[names.codes]
    xy = in_rows(
        rng.uniform(0, 1, size=(200, 2)) * size[:, None] + rng.uniform(0, 1e4, size=(5, 2))[names.codes], names
    )
    boxes = [(xy[names == name].min(axis=0), xy[names == name].max(axis=0)) for name in names.categories]
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert ((low > other_high) | (high < other_low)).any()


def test_a_picture_asked_for_by_name_is_shown(section, library):
    section.uns["spatial"] = {"one": library}
    section.obs["donor"] = "a"
    section.uns["stmmr"] = {"spatial_graph": {"section_key": "donor"}}
    assert len(domains(section, library_id="one").get_images()) == 1


def test_a_long_legend_beside_a_low_tissue_leaves_room_for_it(section):
    section.obsm["spatial"] = section.obsm["spatial"] * [4, 1]
    section.obs["many"] = pd.Categorical([str(i % 20 + 1) for i in range(80)])
    ax = domains(section, domain_key="many")
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.height < 1.3 * ax.figure.bbox.height
    assert ax.get_window_extent().width > 0.4 * ax.figure.bbox.width


def test_sections_have_a_bar_of_the_scale_they_share(section, library):
    factors = library["scalefactors"] | {"microns_per_pixel": 0.5}
    section.uns["spatial"] = {name: library | {"scalefactors": factors} for name in "ab"}
    section.obs["donor"] = np.repeat(["a", "b"], 40)
    section.uns["stmmr"] = {"spatial_graph": {"section_key": "donor"}}
    bars = [bar.txt_label.get_text() for bar in domains(section).artists]
    assert len(bars) == 1
    assert bars[0].endswith("µm")
