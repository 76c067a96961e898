"""Domains in the tissue, of one section and of several: what stands on the axes."""

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgb
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from stmmr import InputError
from stmmr._core.categories import MISSING, PALETTE
from stmmr.pl import domains
from stmmr.pl.layout import in_rows


def circles(ax):
    """Get the one collection of spots."""
    (collection,) = (c for c in ax.collections if isinstance(c, EllipseCollection))
    return collection


def entries(ax):
    """Get the legend: name → colour."""
    legend = ax.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    return dict(zip(names, (to_rgb(h.get_color()) for h in legend.legend_handles), strict=True))


def scale_bars(ax):
    return [artist for artist in ax.artists if isinstance(artist, AnchoredSizeBar)]


def test_every_spot_has_the_colour_of_its_domain(section):
    ax = domains(section)
    np.testing.assert_array_equal(circles(ax).get_offsets(), section.obsm["spatial"])
    expected = [to_rgb(PALETTE[int(name) - 1]) for name in section.obs["stmmr_domain"]]
    np.testing.assert_allclose(circles(ax).get_facecolors()[:, :3], expected)
    assert entries(ax) == {name: to_rgb(PALETTE[int(name) - 1]) for name in "123"}
    assert ax.get_legend().get_title().get_text() == "Domain"
    assert not ax.images
    assert not scale_bars(ax)
    ax.figure.canvas.draw()


def test_axes_are_those_of_a_picture_cropped_to_the_tissue(section):
    ax = domains(section)
    assert ax.yaxis_inverted()
    assert not ax.xaxis_inverted()
    assert ax.get_aspect() == 1
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert 80 < left <= 90
    assert 290 <= right < 300
    assert 80 < top <= 90
    assert 250 <= bottom < 260
    assert not ax.axison
    width, height = ax.figure.get_size_inches()
    assert height < width


def test_spots_on_an_array_touch_and_are_smaller_over_a_picture(section, library):
    assert np.unique(circles(domains(section)).get_widths()) == pytest.approx([20])
    section.uns["spatial"] = {"a": library}
    assert np.unique(circles(domains(section)).get_widths()) < 20


def test_cells_that_all_but_touch_do_not_shrink_the_circles(section):
    pairs = anndata.concat([section, section], index_unique="-")
    pairs.obsm["spatial"][80:] += 1
    assert circles(domains(pairs)).get_widths().min() > 15


def test_the_sharpest_picture_lies_in_the_coordinates_of_the_spots(section, library):
    section.uns["spatial"] = {"a": library}
    (picture,) = domains(section).images
    assert picture.get_size() == (150, 200)
    assert tuple(picture.get_extent()) == (0, 400, 300, 0)
    library["images"]["hires"][:] = 255  # a placeholder
    (picture,) = domains(section).images
    assert picture.get_size() == (30, 40)
    assert tuple(picture.get_extent()) == pytest.approx((0, 400, 300, 0))
    assert not domains(section, image=False).images
    library["scalefactors"] = {}
    assert not domains(section).images


def test_of_several_pictures_one_has_to_be_named(section, library):
    section.uns["spatial"] = {"a": library, "b": {"images": {}, "scalefactors": {}}}
    with pytest.raises(InputError, match=r"library_id.*a, b"):
        domains(section)
    assert len(domains(section, library_id="a").images) == 1
    with pytest.raises(InputError, match=r"'c' in uns\['spatial'\]"):
        domains(section, library_id="c")


@pytest.mark.parametrize(
    ("microns_per_pixel", "length", "label"), [(0.5, 40, "20 µm"), (5, 40, "200 µm"), (30, 100 / 3, "1 mm")]
)
def test_scale_bar_where_the_scale_is_known(section, library, microns_per_pixel, length, label):
    library["scalefactors"]["microns_per_pixel"] = microns_per_pixel
    section.uns["spatial"] = {"a": library}
    for image in (True, False):
        (bar,) = scale_bars(domains(section, image=image))
        assert bar.size_bar.get_children()[0].get_width() == pytest.approx(length)
        assert bar.txt_label.get_text() == label


def test_scale_bar_by_the_array_where_nothing_else_tells(section):
    section.obs["array_col"], section.obs["array_row"] = array = (section.obsm["spatial"].T - 100) / 20
    section.obs_names = [f"{x:g}x{y:g}" for x, y in array.T]  # of ST
    (bar,) = scale_bars(domains(section))
    assert bar.txt_label.get_text() == "500 µm"
    assert bar.size_bar.get_children()[0].get_width() == pytest.approx(50)  # 200 µm are 20 px


def test_background_masked_in_black_is_shown_as_glass(section, library):
    hires = library["images"]["hires"]
    hires[:] = np.maximum(hires, 20)
    hires[:40] = 0
    section.uns["spatial"] = {"a": library}
    (picture,) = domains(section).images
    shown = picture.get_array()
    assert shown[:40].min() > 200
    np.testing.assert_array_equal(shown[40:], hires[40:])
    assert not hires[:40].any()
    library["images"]["hires"] = hires[..., 0]  # greyscale: to be seen, though not to be read
    (picture,) = domains(section).images
    np.testing.assert_array_equal(picture.get_array(), hires[..., 0])


def test_a_figure_keeps_its_scale_whatever_its_legend_says(section):
    section.obs["stmmr_domain_refined"] = section.obs["stmmr_domain"]
    axes = [domains(section), domains(section, domain_key="stmmr_domain_refined")]
    for ax in axes:
        ax.figure.canvas.draw()
    first, second = (ax.get_window_extent().width for ax in axes)
    assert first == pytest.approx(second, rel=0.02)


def test_any_column_can_be_drawn_and_missing_is_grey(section):
    section.obs["layer"] = ["grey matter", None, "", "nan"] * 20
    ax = domains(section, domain_key="layer")
    assert entries(ax) == {"grey matter": to_rgb(PALETTE[0]), "missing": to_rgb(MISSING)}
    np.testing.assert_allclose(circles(ax).get_facecolors()[:4, :3], [to_rgb(PALETTE[0]), *[to_rgb(MISSING)] * 3])
    assert ax.get_legend().get_title().get_text() == "layer"
    section.obs["number"] = np.arange(80) % 3
    assert list(entries(domains(section, domain_key="number"))) == ["0", "1", "2"]


def test_a_vanished_category_leaves_the_legend_and_the_others_keep_their_colours(section):
    before = entries(domains(section))
    section.obs.loc["spot44", "stmmr_domain"] = "1"
    after = entries(domains(section))
    assert list(after) == ["1", "3"]
    assert after.items() <= before.items()


def test_draws_on_the_given_axes_only(section):
    figure, (left, right) = plt.subplots(1, 2)
    assert domains(section, ax=right, alpha=0.5) is right
    assert plt.get_fignums() == [figure.number]
    assert not left.collections
    assert circles(right).get_alpha() == 0.5


def test_changes_nothing_in_the_data(section, library):
    section.uns["spatial"] = {"a": library}
    before = section.copy()
    domains(section)
    assert list(section.uns) == ["spatial"]
    pd.testing.assert_frame_equal(section.obs, before.obs)
    np.testing.assert_array_equal(section.obsm["spatial"], before.obsm["spatial"])


def test_many_spots_are_a_picture_in_vector_files(section):
    many = anndata.concat([section] * 250, index_unique="-")
    many.obsm["spatial"] = np.random.default_rng(0).uniform(size=(20_000, 2))
    assert circles(domains(many)).get_rasterized()
    assert not circles(domains(section)).get_rasterized()


@pytest.mark.parametrize("n_spots", [1, 2])
def test_one_spot_and_two(section, n_spots):
    ax = domains(section[:n_spots])
    assert len(circles(ax).get_offsets()) == n_spots
    ax.figure.canvas.draw()


def test_errors_name_what_is_there(section):
    with pytest.raises(InputError, match=r"'domain' in obs.*stmmr_domain"):
        domains(section, domain_key="domain")
    section.obs["many"] = np.arange(80)
    with pytest.raises(InputError, match=r"at most 60 categories in obs\['many'\].*found 80"):
        domains(section, domain_key="many")


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


@pytest.mark.realdata
def test_annotation_over_the_picture_of_a_visium_section(shared_data):
    adata = anndata.read_h5ad(shared_data / "visium_dlpfc_151673.h5ad")
    ax = domains(adata, domain_key="ground_truth")
    assert list(entries(ax)) == [*(f"Layer{i}" for i in range(1, 7)), "WM", "missing"]
    (picture,) = ax.images
    left, right, bottom, top = picture.get_extent()
    assert (left, top) == (0, 0)
    assert (adata.obsm["spatial"] < [right, bottom]).all()
