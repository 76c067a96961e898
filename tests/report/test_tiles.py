"""The image at full resolution beside the page: the pixels of the slide, at the positions of the spots."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import stmmr
from helpers import run_main
from stmmr.report.tiles import write_tiles

from .conftest import READY, made_section

SIDE = 1800


@pytest.fixture(scope="module")
def slide():
    """An image whose red and green tell the column and the row, in shades of tissue."""
    column, row = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    return np.stack([150 + column * 100 // SIDE, 80 + row * 100 // SIDE, np.full_like(row, 170)], axis=2).astype(
        np.uint8
    )


def of_slide(scale=1.0):
    adata = made_section(400, n_domains=3)  # 20 x 20, from 0 to 950
    adata.obsm["spatial"] = adata.obsm["spatial"] / 950 * 1500 / scale + 150 / scale
    adata.uns["spatial"] = {"s": {"images": {}, "scalefactors": {"microns_per_pixel": scale}}}
    return adata


def read(folder):
    described = json.loads((folder / "tiles.json").read_text())
    levels = []
    for level, (width, height) in enumerate(described["sizes"]):
        whole = Image.new("RGB", (width, height))
        for path in (folder / str(level)).iterdir():
            column, row = map(int, path.stem.split("_"))
            whole.paste(Image.open(path), (column * described["tile"], row * described["tile"]))
        levels.append(np.asarray(whole).astype(int))
    return described, levels


def test_tiles_hold_the_slide_at_every_level(slide, tmp_path):
    adata = of_slide()
    write_tiles(adata, tmp_path / "report.html", slide)
    described, levels = read(tmp_path / "report_tiles")
    left, top, step = described["x"], described["y"], described["step"]
    assert (left, top, step) == (0, 0, 1)
    assert levels[-1].shape == slide.shape
    assert max(levels[0].shape) <= described["tile"]
    for level, pixels in enumerate(reversed(levels)):
        expected = Image.fromarray(slide).resize(pixels.shape[1::-1], Image.Resampling.BOX)
        assert np.abs(pixels - np.asarray(expected).astype(int)).mean() < 1.5, level
    (tmp_path / "report_tiles" / "mine.txt").write_text("mine")
    write_tiles(adata, tmp_path / "report.html", slide)  # again
    assert (tmp_path / "report_tiles" / "mine.txt").exists()


def test_a_turned_image_is_shown_in_the_axes_of_the_coordinates(slide, tmp_path):
    adata = of_slide(scale=0.5)
    turned = np.array([[0, -0.5, SIDE], [0.5, 0, 0], [0, 0, 1.0]])  # by a right angle
    write_tiles(adata, tmp_path / "page.html", slide, registration=turned)
    described, levels = read(tmp_path / "page_tiles")
    xy = adata.obsm["spatial"]
    assert described["step"] == pytest.approx(2 * 0.5)  # µm
    at = np.floor((xy * 0.5 - [described["x"], described["y"]]) / described["step"]).astype(int)
    on_slide = np.floor(xy @ turned[:2, :2].T + turned[:2, 2]).astype(int)
    expected = slide[on_slide[:, 1], on_slide[:, 0]].astype(int)
    assert np.abs(levels[-1][at[:, 1], at[:, 0]] - expected).max() <= 4


def test_small_images_and_several_sections_have_none(slide, tmp_path, caplog):
    adata = of_slide()
    adata.uns["spatial"]["s"] = {
        "images": {"hires": slide[::2, ::2]},
        "scalefactors": {"tissue_hires_scalef": 0.5, "microns_per_pixel": 1.0},
    }
    with caplog.at_level("INFO", logger="stmmr"):
        write_tiles(adata, tmp_path / "report.html", "full")
    assert "The page holds the image at its full resolution, 900 × 900 pixels." in caplog.text
    adata.obs["section"] = np.repeat(["a", "b"], 200)
    adata.uns["stmmr"]["spatial_graph"] = {"section_key": "section"}
    write_tiles(adata, tmp_path / "report.html", slide)
    assert "No image is written at full resolution" in caplog.text
    assert not list(tmp_path.glob("*tiles*"))
    with pytest.raises(stmmr.InputError, match=r"found none|none\.tif"):
        stmmr.report.write(of_slide(), tmp_path / "report.html", image="none.tif")
    assert not (tmp_path / "report.html").exists()


def again_named(folder, old, new):
    path = folder / "again.csv"
    path.write_text(f"domain,name\n{old},{new}\n")
    return path


@pytest.mark.slow
def test_the_result_folder_keeps_its_tiles(slide, tmp_path):
    tissue = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=40)
    xy = tissue.obsm["spatial"]
    tissue.obsm["spatial"] = 100 + (xy - xy.min(axis=0)) / np.ptp(xy) * 1600
    del tissue.uns["spatial"]
    tissue.write_h5ad(tmp_path / "in.h5ad")
    Image.fromarray(slide).save(tmp_path / "slide.png")
    out, quiet = tmp_path / "out", ("--no-progress", "-q")
    options = ("--image", tmp_path / "slide.png", "--no-histology", "--report-image", "full", "--no-genes")
    assert run_main("run", tmp_path / "in.h5ad", "-o", out, "--n-domains", 3, *options, *quiet) == 0
    names = sorted(path.relative_to(out) for path in (out / "report_tiles").rglob("*"))
    assert len(names) > 16
    assert json.loads((out / "run.json").read_text())["options"]["report_image"] == "full"
    assert '"folder": "report_tiles"' in (out / "report.html").read_text()
    (tmp_path / "names.csv").write_text("domain,name\n1,tumour\n")
    for command in (("annotate", out, tmp_path / "names.csv"), ("analyse", out, "--genes")):
        assert run_main(*command, *quiet) == 0
        assert sorted(path.relative_to(out) for path in (out / "report_tiles").rglob("*")) == names
        assert '"folder": "report_tiles"' in (out / "report.html").read_text()
    # they can be removed and written later on
    assert run_main("annotate", out, again_named(tmp_path, "tumour", "x"), "--report-image", "page", *quiet) == 0
    assert not (out / "report_tiles").exists()
    assert "report_image" not in json.loads((out / "run.json").read_text())["options"]
    assert '"tiles": null' in (out / "report.html").read_text()
    assert run_main("annotate", out, again_named(tmp_path, "x", "y"), "--report-image", "full", *quiet) == 0
    assert sorted(path.relative_to(out) for path in (out / "report_tiles").rglob("*")) == names
    assert '"folder": "report_tiles"' in (out / "report.html").read_text()
    # a page alone is written again without them
    again = ("run", tmp_path / "in.h5ad", "-o", out, "--n-domains", 3, "--no-histology", "--no-genes", "--overwrite")
    assert run_main(*again, *quiet) == 0
    assert not (out / "report_tiles").exists()


@pytest.fixture(scope="module")
def report(slide, tmp_path_factory):
    adata, target = of_slide(), tmp_path_factory.mktemp("page") / "report.html"
    adata.uns["spatial"]["s"] = {
        "images": {"hires": slide[::4, ::4]},
        "scalefactors": {"tissue_hires_scalef": 0.25, "microns_per_pixel": 1.0},
    }
    stmmr.report.write(adata, target, image=slide)
    return target


SPOT = """(index) => {
  const { x_range: x, y_range: y, inner_width, inner_height } = Bokeh.documents[0].get_model_by_name("map");
  const box = document.querySelector("#map .canvas").getBoundingClientRect();
  const { width, height } = document.querySelector(".tiles img").getBoundingClientRect();
  const image = document.querySelector(".tiles img").getBoundingClientRect();
  const at = (left, down) => [box.x + (left - x.start) / (x.end - x.start) * inner_width,
    box.y + (down - y.end) / (y.start - y.end) * inner_height];
  return [at(0, 0), at(1800, 1800), [image.x, image.y], [image.x + width, image.y + height]];
}"""


@pytest.mark.browser
@pytest.mark.slow
def test_the_browser_loads_what_is_in_view(opened):
    page = opened()
    page.wait_for_function("document.documentElement.dataset.tiles")
    low, high, image_low, image_high = np.array(page.evaluate(SPOT))
    np.testing.assert_allclose([low, high], [image_low, image_high], atol=0.5)
    assert not page.evaluate("Bokeh.documents[0].get_model_by_name('map').select_one('image').visible")
    for _ in range(30):
        page.locator("#map [data-do=in]").click()
    page.wait_for_function("document.documentElement.dataset.tiles === '2'")
    ranges = page.evaluate(
        "(() => { const { x_range, inner_width } = Bokeh.documents[0].get_model_by_name('map');"
        " return [x_range.end - x_range.start, inner_width]; })()"
    )
    assert ranges[0] == pytest.approx(ranges[1] / 2)  # two pixels of the screen for one of the image
    assert page.locator(".tiles img").count() <= 5
    page.locator("#image").uncheck()
    assert not page.locator(".tiles").is_visible()


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_without_its_folder_shows_its_own_image(browser, report, tmp_path):
    alone = shutil.copy(report, tmp_path / "alone.html")
    page = browser.new_page()
    page.goto(alone.as_uri())
    page.wait_for_function(READY)
    assert page.locator(".tiles").count() == 0
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('map').select_one('image').visible")
    page.close()
