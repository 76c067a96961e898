"""Very many spots as pixels: their colours, and that all else is as with circles."""

import io
from collections import Counter

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_rgb
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from stmmr._core.categories import MISSING, PALETTE
from stmmr.pl import _embedding, _tissue, domains, embedding, values
from stmmr.pl._axes import Colored
from stmmr.pl.raster import PIXELS_FROM, Grid


@pytest.fixture
def pixels(monkeypatch):
    """Draw any number of spots as pixels."""
    monkeypatch.setattr(_tissue, "PIXELS_FROM", 1)
    monkeypatch.setattr(_embedding, "PIXELS_FROM", 1)


def seen(ax, points, by=(0, 0)):
    """Get the colour at points of a figure as it is drawn, or some pixels beside them."""
    canvas = ax.figure.canvas
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())
    column, row = ax.transData.transform(points).astype(int).T + np.array(by)[:, None]
    return drawn[len(drawn) - 1 - row, column, :3] / 255


def of_domains(adata):
    return [to_rgb(PALETTE[int(name) - 1]) for name in adata.obs["stmmr_domain"]]


def one_pixel(n_spots, seed=0):
    """Make spots of four categories, the last of them missing, in a handful of pixels."""
    rng = np.random.default_rng(seed)
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(n_spots)]))
    adata.obs["kind"] = pd.Categorical.from_codes(rng.integers(-1, 3, n_spots), categories=["a", "b", "c"])
    adata.obs["number"] = np.where(rng.uniform(size=n_spots) < 0.5, np.nan, rng.normal(size=n_spots))
    return adata, rng.permutation(np.arange(n_spots) % 8)


def test_the_domain_of_a_spot_is_seen_where_the_spot_is(section, pixels):
    ax = domains(section, labels=False)
    assert not ax.collections
    np.testing.assert_allclose(seen(ax, section.obsm["spatial"]), of_domains(section), atol=0.01)


def test_and_in_the_embedding(section, pixels):
    section.obsm["X_stmmr_umap"] = np.random.default_rng(0).permutation(section.obsm["spatial"])
    ax = embedding(section)
    assert not ax.collections
    # matplotlib 3.10 may draw a dot a pixel beside its place, where the next is white
    ax.figure.set_dpi(400)
    around = [seen(ax, section.obsm["X_stmmr_umap"], by=(x, y)) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    darkest = np.argmin(np.sum(around, axis=2), axis=0)
    found = np.array(around)[darkest, np.arange(section.n_obs)]
    np.testing.assert_allclose(found, of_domains(section), atol=0.01)


def test_numbers_have_the_colours_they_have_as_circles(section, monkeypatch):
    section.obs["confidence"] = np.where(np.arange(80) % 7 == 0, np.nan, np.linspace(0.2, 1, 80))
    as_circles = values(section, "confidence")
    monkeypatch.setattr(_tissue, "PIXELS_FROM", 1)
    as_pixels = values(section, "confidence")
    expected = as_circles.collections[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(seen(as_pixels, section.obsm["spatial"]), expected, atol=0.01)
    assert as_pixels.child_axes[0].get_ylim() == as_circles.child_axes[0].get_ylim()


@pytest.mark.parametrize("seed", range(5))
def test_a_pixel_has_the_category_of_most_the_first_of_equals(seed):
    adata, pixel = one_pixel(60, seed)
    found = Colored(adata, "kind").of_pixels(pixel)[:, :3]
    palette = [*map(to_rgb, PALETTE[:3]), to_rgb(MISSING)]
    codes = np.where(adata.obs["kind"].cat.codes < 0, 3, adata.obs["kind"].cat.codes)
    for at in range(8):
        votes = Counter(codes[pixel == at])
        winner = min(votes, key=lambda code, votes=votes: (-votes[code], code))
        np.testing.assert_allclose(found[at], palette[winner])


def test_a_pixel_has_the_mean_of_the_numbers_known_in_it():
    from stmmr.pl._values import _Scaled

    adata, pixel = one_pixel(40)
    adata.obs.loc[pixel == 3, "number"] = np.nan
    found = _Scaled(adata, "number", cmap="viridis", vmin=-1, vmax=1).of_pixels(pixel)
    means = adata.obs["number"].groupby(pixel).mean()
    expected = plt.get_cmap("viridis")((means.to_numpy() + 1) / 2)[:, :3]
    expected[3] = to_rgb(MISSING)
    np.testing.assert_allclose(found[:, :3], expected)


def test_axes_legend_and_scale_bar_are_those_of_circles(section, library, monkeypatch):
    library["scalefactors"]["microns_per_pixel"] = 0.5
    section.uns["spatial"] = {"a": library}
    axes = []
    for threshold in (PIXELS_FROM, 1):
        monkeypatch.setattr(_tissue, "PIXELS_FROM", threshold)
        axes.append(domains(section))
    circles, pixels = axes
    assert len(circles.images) == 1
    picture, spots = pixels.images
    assert picture.get_extent() == circles.images[0].get_extent()
    assert spots.get_alpha() == circles.collections[0].get_alpha() == 0.9
    for of in ("get_xlim", "get_ylim", "get_aspect"):
        assert getattr(circles, of)() == getattr(pixels, of)()
    assert tuple(circles.figure.get_size_inches()) == tuple(pixels.figure.get_size_inches())
    bars = [next(a for a in ax.artists if isinstance(a, AnchoredSizeBar)) for ax in axes]
    assert len({bar.txt_label.get_text() for bar in bars}) == 1
    assert len({bar.size_bar.get_children()[0].get_width() for bar in bars}) == 1
    names = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in axes]
    assert names[0] == names[1]


def test_axes_of_the_embedding_are_those_of_dots(section, monkeypatch):
    dots = embedding(section)
    monkeypatch.setattr(_embedding, "PIXELS_FROM", 1)
    pixels = embedding(section)
    assert (dots.get_xlim(), dots.get_ylim()) == (pixels.get_xlim(), pixels.get_ylim())


def test_far_from_any_spot_nothing_is_drawn(section, pixels):
    apart = section[section.obs["stmmr_domain"].isin(["1", "3"])].copy()
    apart.obsm["spatial"][(apart.obs["stmmr_domain"] == "3").to_numpy()] += [200, 0]
    between = [[270.0, 170.0], [300, 120]]
    np.testing.assert_array_equal(seen(domains(apart, labels=False), between), np.ones((2, 3)))


def test_sections_lie_side_by_side_and_are_named(section, pixels):
    section.obs["donor"] = np.repeat(["a", "b", "c", "d"], 20)
    section.uns["stmmr"] = {"spatial_graph": {"section_key": "donor"}}
    ax = domains(section)
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "d"]
    laid = _tissue.in_rows(section.obsm["spatial"], pd.Categorical(section.obs["donor"]))
    np.testing.assert_allclose(seen(ax, laid), of_domains(section), atol=0.01)


def test_draws_on_the_given_axes(section, pixels):
    _, (left, right) = plt.subplots(1, 2)
    assert domains(section, ax=right, alpha=0.5) is right
    assert right.images[0].get_alpha() == 0.5
    assert not left.images


@pytest.mark.parametrize("vector", ["svg", "pdf"])
def test_a_hundred_thousand_spots_are_pixels_and_small_in_vector_files(section, vector):
    many = anndata.concat([section] * (PIXELS_FROM // len(section)), index_unique="-")
    many.obsm["spatial"] = np.random.default_rng(0).uniform(size=(PIXELS_FROM, 2))
    file = io.BytesIO()
    domains(many).figure.savefig(file, format=vector)
    assert len(file.getvalue()) < 1e6


@pytest.mark.parametrize("n_spots", [1, 2])
def test_one_spot_and_two(section, n_spots, pixels):
    few = section[:n_spots].copy()
    np.testing.assert_allclose(seen(domains(few, labels=False), few.obsm["spatial"]), of_domains(few), atol=0.01)
    assert embedding(few).images


def test_pixels_of_spots_in_chunks_are_those_of_all_at_once(monkeypatch):
    monkeypatch.setattr("stmmr.pl.raster.CHUNK", 7)
    xy = np.random.default_rng(0).uniform(0, [30, 9], (100, 2))
    low, high = np.array([-1.0, -1.0]), np.array([31.0, 10.0])
    grid = Grid(xy, (low, high))
    column, row = ((xy - low) / grid.side).astype(int).T
    taken, pixel = np.unique(row * grid.width + column, return_inverse=True)
    np.testing.assert_array_equal(grid.taken, taken)
    np.testing.assert_array_equal(grid.pixel, pixel)
