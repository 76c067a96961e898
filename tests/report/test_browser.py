"""The page in a browser: no errors, controls that do what they say, by keyboard, on a phone, in the dark.

Needs playwright and Chromium: the one of the system, or that in the variable STMMR_CHROMIUM.
"""

import os
import re

import numpy as np
import pytest

import stmmr

from .conftest import READY, add_findings, made_section

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LUMINANCE = """
element => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04095 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  let below = element, back = "rgba(0, 0, 0, 0)";
  while (below && (parts(back)[3] ?? 1) === 0) {
    back = getComputedStyle(below).backgroundColor;
    below = below.parentElement;
  }
  const style = getComputedStyle(element);
  return [light(element.namespaceURI.endsWith("svg") ? style.fill : style.color), light(back)];
}"""

POSITION = """([left, down]) => {
  const {x_range: x, y_range: y, inner_width, inner_height} = Bokeh.documents[0].get_model_by_name("map");
  const box = document.querySelector("#map .canvas").getBoundingClientRect();
  const share = [(left - x.start) / (x.end - x.start), (down - y.end) / (y.start - y.end)];
  return [box.x + share[0] * inner_width, box.y + share[1] * inner_height];
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    adata = made_section(900, n_domains=3)
    rng = np.random.default_rng(0)
    images = {"hires": rng.integers(180, 256, (800, 800, 3), dtype=np.uint8)}
    factors = {"tissue_hires_scalef": 0.5, "microns_per_pixel": 1.0}
    adata.uns["spatial"] = {"s": {"images": images, "scalefactors": factors}}
    adata.uns["stmmr"]["history"] = {"loss": np.array([3.0, 2.0, 1.5])}
    add_findings(adata)
    target = tmp_path_factory.mktemp("page") / "report.html"
    stmmr.report.write(adata, target)
    return target


def shown(page):
    return page.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('spots of map').data.value)")


def canvas(page, name):
    page.wait_for_timeout(100)
    return page.locator(f"#{name} .canvas").screenshot()


def test_layers_change_what_is_seen(opened):
    page = opened()
    before = canvas(page, "map"), canvas(page, "umap"), shown(page)
    page.select_option("#layer", "stmmr_confidence")
    page.wait_for_function("document.querySelector('#legend .ramp')")
    assert canvas(page, "map") != before[0]
    assert canvas(page, "umap") != before[1]
    assert max(shown(page)) > 3
    page.fill("#gene", "gene1")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#legend').textContent.includes('GENE1')")
    assert page.locator("#layer").input_value() == ""
    page.select_option("#layer", "stmmr_domain")
    page.wait_for_function("document.querySelectorAll('#legend button').length === 3")
    assert shown(page) == before[2]
    assert page.locator("#gene").input_value() == ""


def test_pseudotime_branch_and_genes_of_tables_are_shown(opened):
    page = opened()
    codes = {}
    for title, entry in (("Pseudotime", "0.00"), ("Branch", "1 to 2")):
        page.select_option("#layer", label=title)
        page.wait_for_function("entry => document.querySelector('#legend').textContent.includes(entry)", arg=entry)
        codes[title] = shown(page)
    assert (codes["Pseudotime"][0], codes["Pseudotime"][-1]) == (0, 253)
    assert codes["Branch"] == [0] * 450 + [1] * 450
    for part in (".answer", "#domains ~ .scroll", ".findings"):
        page.select_option("#layer", "stmmr_domain")
        page.locator(f"{part} [data-gene=GENE2]").first.click()
        page.wait_for_function("document.querySelector('#legend').textContent.includes('GENE2')")
        assert page.locator("#gene").input_value() == "GENE2"


def test_image_and_opacity(opened):
    page = opened()
    before, umap = canvas(page, "map"), canvas(page, "umap")
    page.locator("#image").uncheck()
    without = canvas(page, "map")
    assert without != before
    page.locator("#opacity").fill("0.3")
    assert canvas(page, "map") != without
    assert canvas(page, "umap") == umap  # there is no image below it


def test_a_domain_is_brought_out_in_both(opened):
    page = opened()
    before = canvas(page, "map"), canvas(page, "umap")
    page.locator("#legend button").first.click()
    assert "300 spots selected; domains: 1 (100 %)" in page.locator("#status").inner_text()
    assert canvas(page, "map") != before[0]
    assert canvas(page, "umap") != before[1]
    assert page.locator("[data-domain='0'][aria-pressed=true]").count() == 3  # in the legend, the answer and the table
    page.locator(".answer [data-domain='2']").click()
    assert "600 spots selected; domains: 1 (50 %), 3 (50 %)" in page.locator("#status").inner_text()
    page.locator("#clear").click()
    assert page.locator("#status").inner_text() == ""
    assert page.locator("[data-domain][aria-pressed=true]").count() == 0


def test_drawing_around_spots_selects_them(opened):
    page = opened()
    page.locator("#umap [data-do=lasso]").click()
    box = page.locator("#umap .canvas").bounding_box()
    x, y, side = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] / 5
    page.mouse.move(x - side, y - side)
    page.mouse.down()
    for dx, dy in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + dx * side, y + dy * side, steps=3)
    page.mouse.up()
    page.wait_for_function("document.querySelector('#status').textContent.includes('selected')")
    assert 0 < int(re.match(r"\d+", page.locator("#status").inner_text())[0]) < 900


def test_a_box_selects_and_shift_adds(opened):
    page = opened()
    page.locator("#map [data-do=box]").click()
    wait = "n => document.querySelector('#status').textContent.startsWith(n)"
    for left, right, key, n in ((-20, 320, "Alt", 21), (580, 720, "Shift", 30)):
        start, end = (page.evaluate(POSITION, corner) for corner in ([left, 180], [right, 320]))
        page.keyboard.down(key)
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end, steps=4)
        page.mouse.up()
        page.keyboard.up(key)
        page.wait_for_function(wait, arg=f"{n} ")


def test_first_screen_holds_facts_map_legend_and_answer(opened):
    page = opened(viewport={"width": 1280, "height": 720})
    assert page.locator(".facts").inner_text().startswith("900 spots · 2 genes · 3 domains ·")
    assert page.locator(".facts").bounding_box()["height"] < 40
    for part in (".facts", "#map", "#legend", ".answer", ".answer li:last-child"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["y"] >= 0, part
        assert box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 720, part
    first = page.locator(".answer li").first.inner_text()
    assert re.sub(r"\s+", " ", first).startswith("1 GENE2 GENE1, 33 % of spots, confidence 0.8")
    # the tissue fills the map, and the scale bar is below it
    spots = np.array([page.evaluate(POSITION, corner) for corner in ([0, 0], [1450, 1450])])
    box = page.locator("#map .canvas").bounding_box()
    assert np.ptp(spots, axis=0).max() > 0.75 * min(box["width"], box["height"])
    below = page.evaluate("Bokeh.documents[0].get_model_by_name('map').below.map((part) => part.type)")
    assert "ScaleBar" in below


MEAN = """async (name) => {
  // mean value of the spots of each domain, of what the map shows
  const layer = () => document.querySelector("#legend em")?.textContent === name;
  while (!layer()) await new Promise((done) => setTimeout(done, 20));
  const { value, index } = Bokeh.documents[0].get_model_by_name("spots of map").data;
  return Array.from(value);
}"""


def test_every_gene_is_found_and_has_its_values(opened, tmp_path):
    names = [f"GENE{k}" for k in range(300)] + ["MT-CO1", "Mt-co1"]  # of two species
    adata = made_section(2500, genes=names)
    stmmr.report.write(adata, tmp_path / "genes.html")
    page = opened(tmp_path / "genes.html")
    assert "all 302 genes with counts" in page.locator("#genes-told").inner_text()
    page.locator("#gene").press_sequentially("mt-")
    assert page.locator("#gene-names option").evaluate_all("o => o.map((one) => one.value)") == ["MT-CO1", "Mt-co1"]
    counts = adata.X.toarray()
    size = counts.sum(axis=1, keepdims=True)
    values = np.log1p(counts / size * np.median(size))
    for text, name in (("mt-", "MT-CO1"), ("Mt-co1", "Mt-co1"), ("gene299", "GENE299"), ("GENE0", "GENE0")):
        page.fill("#gene", text)
        page.keyboard.press("Enter")
        own = values[:, names.index(name)]
        high = np.percentile(own[own > 0], 99.5)
        np.testing.assert_allclose(page.evaluate(MEAN, name), np.minimum(own / high, 1) * 253, atol=0.51)
    page.fill("#gene", "NONE")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#gene').validationMessage === 'No gene is called NONE.'")


def test_a_gene_far_down_is_shown_where_the_map_is_seen(opened):
    for viewport in ({"width": 1280, "height": 720}, {"width": 390, "height": 844}):
        page = opened(viewport=viewport)
        page.locator(".findings [data-gene=GENE2]").first.click()
        page.wait_for_function(
            """() => {
              const { top, bottom } = document.querySelector("#map").getBoundingClientRect();
              const legend = document.querySelector("#legend").textContent;
              return top >= 0 && bottom <= innerHeight && legend.includes("GENE2");
            }"""
        )


def test_one_domain(opened, tmp_path):
    stmmr.report.write(made_section(400, n_domains=1), tmp_path / "one.html")
    page = opened(tmp_path / "one.html", viewport={"width": 1280, "height": 720})
    assert page.locator("#answer").inner_text() == "1 domain"
    assert page.locator(".answer li").inner_text().split()[:4] == ["1", "100", "%", "of"]
    assert page.locator("#legend button").count() == 1


def test_pointing_says_what_is_there_and_marks_it_in_both(opened):
    page = opened()
    row, column = divmod(435, 30)
    x, y = page.evaluate(POSITION, [column * 50.0, row * 50.0])
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    tip = page.locator(".tip").first
    tip.wait_for()
    assert tip.inner_text().split("\n")[:2] == ["spot435", "Domain: 2"]
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('pointer').data.u.length") == 1


def test_keys_move_and_zoom(opened):
    page = opened()
    page.locator("#map .canvas").focus()
    window = "(() => { const r = Bokeh.documents[0].get_model_by_name('map').x_range; return [r.start, r.end]; })()"
    first = page.evaluate(window)
    page.keyboard.press("ArrowRight")
    moved = page.evaluate(window)
    assert moved[0] > first[0]
    assert moved[1] - moved[0] == pytest.approx(first[1] - first[0])
    page.keyboard.press("+")
    closer = page.evaluate(window)
    assert closer[1] - closer[0] < moved[1] - moved[0]
    page.keyboard.press("0")
    assert page.evaluate(window) == first


def test_the_wheel_scrolls_until_the_map_is_clicked(opened):
    page = opened()
    window = "Bokeh.documents[0].get_model_by_name('map').x_range.end"
    first = page.evaluate(window)
    page.locator("#map .canvas").hover()
    page.mouse.wheel(0, 100)
    page.wait_for_function("scrollY > 0")
    assert page.evaluate(window) == first
    page.locator("#map .canvas").click()
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"{window} !== {first}")


def test_keyboard_reaches_every_control(opened):
    page = opened()
    name = "element => element.id || element.dataset.do || element.textContent.trim() || element.value"
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
          .filter((one) => one.checkVisibility() && !one.closest(".bk-Figure") && one.getRootNode() === document)
          .length"""
    )
    seen = set()
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        handle = page.evaluate_handle("document.activeElement")
        if handle.evaluate("element => element === document.body"):
            break
        seen.add(handle.evaluate("element => [...document.querySelectorAll('*')].indexOf(element)"))
        style = handle.evaluate("e => getComputedStyle(e).outlineStyle")
        assert style != "none", handle.evaluate(name)
    assert len(seen) >= wanted
    page.locator("#layer").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('#legend .ramp')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_legible(opened, scheme):
    page = opened(color_scheme=scheme)
    texts = page.locator(
        "p, dt, dd, th, td, a, button, figcaption, summary, label, legend, strong, em, li, span, svg text"
    )
    found = texts.evaluate_all(
        f"""elements => elements
          .filter((one) => one.checkVisibility() && !one.children.length && one.textContent.trim())
          .map((one) => [one.textContent, ({LUMINANCE})(one)])"""
    )
    assert len(found) > 100
    for text, lights in found:
        one, other = sorted(lights)
        assert (other + 0.05) / (one + 0.05) >= 4.5, text


def test_the_first_printed_page_has_the_answer(opened):
    page = opened(viewport={"width": 720, "height": 1020}, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.wait_for_timeout(300)
    for part in ("h1", "#map", ".answer"):
        box = page.locator(part).bounding_box()
        assert box["height"] > 0 and box["y"] + box["height"] < 1020, part
    assert page.locator(".controls").is_hidden()
    # what is printed is the map as a whole, at most 110 mm high
    assert page.locator("#map .canvas > canvas").bounding_box()["height"] < 420
    assert page.locator("#map .canvas > div").is_hidden()
    assert page.locator(".each details:not([open])").count() == 0
    ink = "Bokeh.documents[0].get_model_by_name('map').below.find((one) => one.type === 'ScaleBar').label_text_color"
    assert page.evaluate(ink) == "rgb(27, 29, 32)"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".each details[open]").count() == 0
    assert page.locator(".canvas > canvas").count() == 0


UNNAMED = """() => {
  const label = (one) => one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent;
  const named = (one) => label(one).trim() || one.getAttribute("aria-labelledby");
  const outer = (one) => one.outerHTML.slice(0, 120);
  const own = (wanted) => [...document.querySelectorAll(wanted)].filter((one) => one.checkVisibility());
  const levels = own("h1, h2, h3").map((one) => Number(one.tagName[1]));
  const wanted = "button, select, input, a[href], [role=region], [role=group], [role=img], nav";
  const scrolls = (one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === "auto";
  return {
    unnamed: own(wanted).filter((one) => !named(one)).map(outer),
    empty: own("th").filter((one) => !one.textContent.trim()).map(outer),
    skipped: levels.filter((level, i) => i && level > levels[i - 1] + 1),
    titles: own("h1").length,
    main: own("main").length,
    unreached: own("*").filter((one) => scrolls(one) && one.tabIndex < 0 && !one.querySelector("a, button, input"))
      .map(outer),
  };
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_screen_reader_finds_names_and_order(opened, width):
    page = opened(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.locator(".answer [data-domain]").first.click()
    page.locator(".edit").first.click()
    found = page.evaluate(UNNAMED)
    assert found == {"unnamed": [], "empty": [], "skipped": [], "titles": 1, "main": 1, "unreached": []}
    if axe := os.environ.get("STMMR_AXE"):  # axe.min.js of the npm package axe-core
        page.add_script_tag(path=axe)
        assert [rule["id"] for rule in page.evaluate("axe.run(document)")["violations"]] == []


def test_theme_is_turned(opened):
    page = opened(color_scheme="light")
    back = "getComputedStyle(document.body).backgroundColor"
    inks = """[...document.querySelectorAll(".drawn svg text, .drawn svg [style*='stroke: currentColor']")]
      .map((one) => getComputedStyle(one)[one.tagName === "text" ? "fill" : "stroke"])"""
    bar = "Bokeh.documents[0].get_model_by_name('map').below.find((one) => one.type === 'ScaleBar').label_text_color"
    light, drawn, drawn_bar = page.evaluate(back), page.evaluate(inks), page.evaluate(bar)
    assert page.locator("#theme").input_value() == ""  # that of the system
    page.locator("#theme").select_option("dark")
    assert page.evaluate(back) != light
    assert len(set(drawn)) == len(set(page.evaluate(inks))) == 1
    assert page.evaluate(inks)[0] != drawn[0]
    assert page.evaluate(bar) != drawn_bar
    page.reload()
    page.wait_for_function(READY)
    assert page.evaluate(back) != light
    assert page.locator("#theme").input_value() == "dark"
    page.locator("#theme").select_option(label="Theme: system")
    assert page.evaluate(back) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(back) != light


def test_phone_width(opened):
    page = opened(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#map .canvas").bounding_box()["width"] > 280
    # a finger on the map scrolls the page until dragging is asked for
    assert page.locator("#map [data-do][aria-pressed=true]").count() == 0
    page.locator("#map [data-do=move]").tap()
    assert page.locator("#map [data-do=move]").get_attribute("aria-pressed") == "true"


NAMES = """() => {
  const plot = Bokeh.documents[0].get_model_by_name("map");
  const { x_range: h, y_range: v, inner_width, inner_height } = plot;
  const { glyph, data_source: { data } } = plot.select_one("numbers");
  const size = parseInt(glyph.text_font_size.value), context = document.createElement("canvas").getContext("2d");
  context.font = `bold ${size}px helvetica`;
  return Array.from(data.text, (text, i) => {
    const x = (data.x[i] - h.start) / (h.end - h.start) * inner_width + data.dx[i];
    const y = (data.y[i] - v.end) / (v.start - v.end) * inner_height + data.dy[i];
    const lines = text.split("\\n"), half = Math.max(...lines.map((line) => context.measureText(line).width)) / 2;
    const height = 1.2 * size * lines.length;
    return [text, x - half, y - height / 2, x + half, y + height / 2, inner_width, inner_height];
  });
}"""


@pytest.mark.parametrize("width", [360, 1280])
def test_long_names_and_the_menu_fit(opened, tmp_path, width):
    adata = made_section(900, n_domains=6)
    whole = [f"Region {code}: fibrous stroma, rich in extraordinarilylongwordswithoutspaces" for code in "123456"]
    adata.obs["stmmr_domain"] = adata.obs["stmmr_domain"].cat.rename_categories(whole)
    stmmr.report.write(adata, tmp_path / "long.html")
    page = opened(tmp_path / "long.html", viewport={"width": width, "height": 740}, is_mobile=width < 400)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for link in page.locator("nav a, #theme").all():
        box = link.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert link.evaluate("(one) => one.closest('nav')?.scrollWidth ?? 0") <= width
    assert page.locator("#legend button").all_inner_texts() == whole
    cut = "buttons => buttons.filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.locator("#legend button, .domain").evaluate_all(cut) == 0
    for clicks in (0, 3):
        for _ in range(clicks):
            page.locator("#map [data-do=in]").click()
        page.wait_for_timeout(200)
        names = page.evaluate(NAMES)
        assert (names or clicks) and all(name.count("\n") <= 1 for name, *_ in names)
        for i, (_, left, top, right, bottom, *size) in enumerate(names):
            assert left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]
            for _, *other in names[:i]:
                assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


def test_methods_are_copied(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.locator("[data-copy='methods-text,references']").click()
    page.wait_for_function("document.querySelector('#copied').textContent === 'Copied.'")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("Spatial domains were identified with stmmr")
    assert "\n1. Zhang, D." in text
    assert "doi:10.1093/gigascience/giae089" in text


def test_pixels_of_many_spots(opened, tmp_path, monkeypatch):
    from stmmr.report import _scene

    monkeypatch.setattr(_scene, "PIXELS_FROM", 500)
    monkeypatch.setattr(_scene, "SAMPLED", 200)
    stmmr.report.write(made_section(900), tmp_path / "many.html")
    page = opened(tmp_path / "many.html")
    before = canvas(page, "map")
    page.select_option("#layer", "stmmr_confidence")
    page.wait_for_function("document.querySelector('#legend .ramp')")
    assert canvas(page, "map") != before
    page.locator(".answer .domain").first.click()
    assert "cells selected; domains: 1 (100 %)" in page.locator("#status").inner_text()
    page.locator("#clear").click()
    page.fill("#gene", "GENE1")  # high in the left third
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#legend').textContent.includes('GENE1')")
    left, right = page.evaluate(
        """() => {
          const { image } = Bokeh.documents[0].get_model_by_name("map").select_one("pixels").data_source.data;
          const pixels = image[0], [height, width] = pixels.shape, row = (height >> 1) * width;
          const green = (at) => (pixels[row + at] >>> 8) & 255;
          return [green(width >> 3), green(width - (width >> 3))];
        }"""
    )
    assert left > right  # viridis grows lighter


DRAWN = """name => {
  const plot = Bokeh.documents[0].get_model_by_name(name);
  return [plot.select_one("circles").data_source.data.x.length, plot.select_one("pixels").visible];
}"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "many.html"
    adata = made_section(8100)
    stmmr.report.write(adata, target)
    return target, adata


def test_few_in_view_are_circles_and_more_are_pixels(opened, many):
    target, adata = many
    page = opened(target)
    for name in ("map", "umap"):
        assert page.evaluate(DRAWN, name) == [0, True]
    # pixels know which spot they show
    x, y = page.evaluate(POSITION, adata.obsm["spatial"][4095].tolist())
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    page.locator(".tip").first.wait_for()
    assert page.locator(".tip").first.inner_text().startswith("spot4095\nDomain: ")
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('pointer').data.u.length") == 1
    before = canvas(page, "map")
    page.locator("#map [data-do=in]").click(click_count=5)
    page.wait_for_function(f"({DRAWN})('map')[0] > 0")
    drawn, pixels = page.evaluate(DRAWN, "map")
    assert 0 < drawn <= 5000
    assert not pixels
    assert page.evaluate(DRAWN, "umap") == [0, True]
    assert canvas(page, "map") != before
    x, y = page.evaluate(POSITION, adata.obsm["spatial"][4095].tolist())
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    assert page.locator(".tip").first.inner_text().startswith("spot4095\n")
    page.locator("#map [data-do=reset]").click()
    page.wait_for_function(f"({DRAWN})('map')[1]")


def test_pixels_bring_out_a_domain(opened, many):
    page = opened(many[0])
    before = canvas(page, "map"), canvas(page, "umap")
    page.locator("#legend button").nth(1).click()
    assert "2,700 cells selected; domains: 2 (100 %)" in page.locator("#status").inner_text()
    assert canvas(page, "map") != before[0]
    assert canvas(page, "umap") != before[1]
    page.locator("#clear").click()
    assert canvas(page, "map") == before[0]
