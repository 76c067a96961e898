"""The page as a workbench: selections with their genes, names of domains, files that are saved."""

import csv
import io
import json
import re
from xml.dom import minidom

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import stmmr

from .conftest import add_findings, made_section
from .test_browser import POSITION

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAMES = [f"GENE{k}" for k in range(1, 41)]


def made():
    adata = made_section(900, genes=NAMES)
    add = made_section(900)
    add_findings(add)
    adata.uns["stmmr"] |= {key: add.uns["stmmr"][key] for key in ("trajectory", "gene_trends", "enrichment")}
    adata.uns["stmmr_domain_genes"], adata.uns["stmmr_enrichment"] = (
        add.uns[key] for key in ("stmmr_domain_genes", "stmmr_enrichment")
    )
    codes = adata.obs["stmmr_domain"].cat.codes.to_numpy()
    adata.obs["cell_type"] = pd.Categorical(np.where(np.arange(900) % 3 > 0, "neuron", "glia"))
    adata.obs.loc[codes == 2, "cell_type"] = "glia"
    return adata


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    stmmr.report.write(made(), target)
    return target


def rows_of(page, table):
    return page.locator(f"{table} tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    )


def saved(page, click):
    with page.expect_download() as download:
        click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_selected_spots_are_counted_by_domain_and_cell_type(opened):
    page = opened()
    for code in (0, 2):
        page.locator(f".answer [data-domain='{code}']").click()
    page.wait_for_function("document.querySelectorAll('#parts tbody tr').length === 4")
    adata = made()
    inside = adata.obs["stmmr_domain"].isin(["1", "3"])
    glia = (adata.obs["cell_type"] == "glia") & inside
    rows = rows_of(page, "#parts")
    assert rows[:2] == [["Domain", name, "300", "50 %", "100 %"] for name in "13"]
    share, of_all = glia.sum() / inside.sum(), glia.sum() / (adata.obs["cell_type"] == "glia").sum()
    assert rows[2] == ["cell_type", "glia", str(glia.sum()), f"{100 * share:.0f} %", f"{100 * of_all:.0f} %"]
    page.locator("#clear").click()
    assert page.locator("#chosen").is_hidden()


def test_genes_of_a_selection_are_those_of_domain_genes(opened):
    page, adata = opened(), made()
    page.locator(".answer [data-domain='0']").click()
    page.locator("#find-markers").click()
    page.locator("#markers").wait_for()
    stmmr.tl.domain_genes(adata)
    table = stmmr.tl.domain_genes_table(adata, domain="1", against="rest")
    table = table[(table["z"] > 0) & (table["log2_fold_change"] > 0)]
    rows = rows_of(page, "#markers")
    assert [row[0] for row in rows] == table["gene"].astype(str).tolist()[:15]
    for row, (_, truth) in zip(rows, table.iterrows(), strict=False):
        assert float(row[1]) == pytest.approx(truth["log2_fold_change"], abs=0.0051)
        assert float(row[4]) == pytest.approx(truth["auc"], abs=0.00051)
        assert float(row[2][:-2]) == pytest.approx(100 * truth["share"], abs=0.51)
        assert float(row[3][:-2]) == pytest.approx(100 * truth["share_other"], abs=0.51)
    page.locator("#markers [data-gene]").first.click()
    page.wait_for_function("document.querySelector('#legend em')?.textContent === 'GENE1'")


def name_domain(page, domain, name, note=None):
    page.locator(f".answer [data-edit='{domain}']").click()
    page.locator(".edit-form [name=name]").fill(name)
    if note is not None:
        page.locator(".edit-form [name=note]").fill(note)
    page.locator(".edit-form [type=submit]").click()


def test_domains_are_named_merged_noted_and_exported(opened):
    page = opened()
    name_domain(page, "2", "White matter", 'has "MOBP", MBP')
    assert page.locator("#legend button").all_inner_texts() == ["1", "White matter", "3"]
    for code in (0, 1):
        page.locator(f".answer [data-domain='{code}']").click()
    page.locator("#merge-name").fill("White matter")
    page.locator("#merge [type=submit]").click()
    assert page.locator("#legend button").all_inner_texts() == ["White matter", "3"]
    colors = page.evaluate("Bokeh.documents[0].get_model_by_name('colors').palette.slice(0, 3)")
    assert colors[0] == colors[1] != colors[2]
    assert "600 cells selected; domains: White matter (100 %)" in page.locator("#status").inner_text()
    assert page.locator("#sections, .findings ~ .scroll").locator("text=White matter").count() > 0  # gene sets of 1
    assert "merged with 1 · was 2 · has" in page.locator("[data-note-of='2']").inner_text()
    name, text = saved(page, page.locator("[data-export=json]").click)
    assert name == "stmmr-domains.json"
    expected = [("1", "White matter", ""), ("2", "White matter", 'has "MOBP", MBP'), ("3", "3", "")]
    domains = [{"domain": domain, "name": name, "note": note, "n_obs": 300} for domain, name, note in expected]
    assert json.loads(text) == {
        "format": "stmmr-domains", "version": 1, "domain_key": "stmmr_domain", "domains": domains
    }  # fmt: skip
    name, text = saved(page, page.locator("[data-export=csv]").click)
    assert list(csv.DictReader(io.StringIO(text.decode()))) == [row | {"n_obs": "300"} for row in domains]
    page.reload()
    page.wait_for_function("document.documentElement.dataset.ready === 'all'")
    assert page.locator("#legend button").all_inner_texts() == ["White matter", "3"]
    page.locator("#names-undo").click()
    assert page.locator("#legend button").all_inner_texts() == ["1", "2", "3"]
    assert page.locator("#names-saved").is_hidden()


@pytest.mark.nightly
def test_names_from_the_page_reach_the_result_and_its_report(opened, tmp_path):
    from stmmr.cli import app

    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=4, n_genes=60)
    adata.write_h5ad(tmp_path / "in.h5ad")
    folder = tmp_path / "out"
    options = ["--n-domains", "4", "--no-progress", "--trajectory"]
    app(["run", str(tmp_path / "in.h5ad"), "-o", str(folder), *options], result_action="return_value")
    page = opened(folder / "report.html")
    colors = page.evaluate("Bokeh.documents[0].get_model_by_name('colors').palette.slice(0, 4)")
    name_domain(page, "2", "Layer, outer", "seen first")
    name_domain(page, "4", "3")
    _, text = saved(page, page.locator("[data-export=json]").click)
    (tmp_path / "names.json").write_bytes(text)
    app(["annotate", str(folder), str(tmp_path / "names.json"), "--no-progress"], result_action="return_value")
    page = opened(folder / "report.html")
    assert set(page.locator("#legend button").all_inner_texts()) == {"1", "Layer, outer", "3"}
    kept = page.evaluate("Bokeh.documents[0].get_model_by_name('colors').palette.slice(0, 3)")
    names = page.locator("#legend button").all_inner_texts()
    assert kept[names.index("1")] == colors[0]
    assert kept[names.index("Layer, outer")] == colors[1]
    assert "seen first" in page.locator("[data-note-of='Layer, outer']").inner_text()
    assert "omains 3 and 4 were merged into “3” by hand; 3 domains remain" in page.locator("#methods-text").inner_text()
    for line in page.locator(".answer .words").all_inner_texts():
        assert re.match(r"\S+", line)
    assert page.locator(".answer .gene").count() >= 3
    # and the names of this page are about the new domains
    name_domain(page, "Layer, outer", "Layer 1")
    _, text = saved(page, page.locator("[data-export=json]").click)
    renamed = {row["domain"]: (row["name"], row["note"]) for row in json.loads(text)["domains"]}
    assert renamed["Layer, outer"] == ("Layer 1", "seen first")


HOSTILE = ['<b>bold</b> & "q"', "<img src=x onerror='window.bad=1'>", "=1+1"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page in which names, notes, labels and spots look like HTML and formulas."""
    adata = made()
    notes = {"1": "<script>window.bad=1</script> & x"}
    stmmr.tl.rename_domains(adata, dict(zip("123", HOSTILE, strict=True)), notes=notes)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"glia": "<i>g</i> & glia"})
    adata.obs_names = [f"<img src=x onerror='window.bad=1'>{i}" for i in range(adata.n_obs)]
    target = tmp_path_factory.mktemp("page") / "hostile.html"
    stmmr.report.write(adata, target)
    return target


def test_names_are_texts_everywhere(opened, hostile):
    page = opened(hostile)
    assert page.locator("#legend button").all_inner_texts() == HOSTILE
    assert page.locator(".answer .domain").all_inner_texts() == HOSTILE
    assert "<script>window.bad=1</script> & x" in page.locator("[data-note-of]").first.inner_text()
    x, y = page.evaluate(POSITION, [700, 700])
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    page.locator(".tip").first.wait_for()
    assert page.locator(".tip").first.inner_text().startswith("<img src=x onerror='window.bad=1'>")
    name_domain(page, HOSTILE[0], "<u>new</u> & 'x'", "<i>note</i>")
    new = ["<u>new</u> & 'x'", *HOSTILE[1:]]
    for code in range(3):
        page.locator(f".answer [data-domain='{code}']").click()
    assert {row[1] for row in rows_of(page, "#parts")} >= {*new, "<i>g</i> & glia"}
    _, text = saved(page, page.locator("[data-export=json]").click)
    assert [row["name"] for row in json.loads(text)["domains"]] == new
    _, text = saved(page, page.locator("[data-export=csv]").click)
    names = [row["name"] for row in csv.DictReader(io.StringIO(text.decode()))]
    assert names == [*new[:2], "'=1+1"]
    for figure in page.locator("[aria-label$='as SVG']").all():
        _, text = saved(page, figure.click)
        drawn = minidom.parseString(text).getElementsByTagName("*")  # noqa: S318 - made by the page
        assert not {part.tagName for part in drawn} & {"b", "i", "u", "img", "script"}
    assert page.evaluate("window.bad") is None
    assert page.locator("main b, main u, img[src='x']").count() == 0


def test_the_column_of_other_domains_is_exported(opened, tmp_path):
    adata = made_section(400)
    adata.obs["leiden"] = pd.Categorical((np.arange(400) // 200).astype(str))
    stmmr.report.write(adata, tmp_path / "leiden.html", domain_key="leiden")
    page = opened(tmp_path / "leiden.html")
    name_domain(page, "0", "cortex")
    _, text = saved(page, page.locator("[data-export=json]").click)
    found = json.loads(text)
    assert (found["domain_key"], found["domains"][0]["name"]) == ("leiden", "cortex")


def test_a_merged_domain_is_selected_whole(opened):
    page = opened()
    name_domain(page, "3", "1")
    page.locator("#legend button").first.click()
    assert "600 cells selected; domains: 1 (100 %)" in page.locator("#status").inner_text()
    page.locator("#legend button").first.click()
    assert page.locator("#status").inner_text() == ""


PANELS = """async () => {
  const source = Bokeh.documents[0].get_model_by_name("small maps").data_source;
  while (source.data.image.length < 3) await new Promise((done) => setTimeout(done, 20));
  const { image, x, dw } = source.data;
  const seen = image.map((pixels) => new Set(pixels).size - 1);
  return { seen, x: Array.from(x), dw: Array.from(dw) };
}"""


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A report of six domains with an embedding in which they are pairs."""
    target = tmp_path_factory.mktemp("page") / "six.html"
    adata = made_section(900, n_domains=6)
    codes = adata.obs["stmmr_domain"].cat.codes.to_numpy()
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [1, 0], [20, 0], [22, 0], [0, 50], [9, 50]])
    adata.obsm["X_stmmr"] = (centres[codes] + rng.normal(0, 0.1, (900, 2))).astype(np.float32)
    adata.obs["cell_type"] = pd.Categorical(np.where(codes < 3, "one", "two"))
    stmmr.report.write(adata, target)
    return target


def test_numbers_of_domains_and_annotations_are_side_by_side(opened, six):
    page = opened(six)
    assert page.locator("[data-layer]").all_inner_texts() == ["cell_type", *(f"{k} domains" for k in range(3, 7))]
    page.locator("#panels").scroll_into_view_if_needed()
    drawn = page.evaluate(PANELS)
    assert drawn["seen"] == [2, 3, 4, 5, 6]
    assert drawn["x"][0] < drawn["x"][1] < drawn["x"][2]
    assert drawn["x"][0] == drawn["x"][3]
    page.locator("[data-layer='level:3']").click()
    page.wait_for_function("document.querySelectorAll('#legend .entry').length === 3")
    assert page.locator("#layer").input_value() == "level:3"
    # pairs are joined: each has the code of its larger member
    shown = np.array(page.evaluate("Array.from(Bokeh.documents[0].get_model_by_name('spots of map').data.value)"))
    assert {frozenset(np.unique(shown[np.arange(900) % 30 // 5 // 2 == pair])) for pair in range(3)} == {
        frozenset({code}) for code in set(shown)
    }


def test_each_domain_is_described(opened, report):
    page = opened(report)
    first = page.locator(".each details").first
    first.locator("summary").click()
    text = first.inner_text()
    assert "Domain 1 has 300 cells" in text
    assert "By cell_type it is" in text


def test_names_that_cannot_be_kept_still_work(opened):
    page = opened(script="Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });")
    name_domain(page, "1", "Layer 1")
    assert page.locator("#legend button").first.inner_text() == "Layer 1"


def test_tables_and_figures_are_saved(opened):
    page = opened()
    names = set()
    for button in page.locator(".saves button").all():
        if not button.is_visible():
            continue
        name, content = saved(page, button.click)
        names.add(name)
        if name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content.decode())))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1, name
        elif name.endswith(".svg"):
            assert minidom.parseString(content).documentElement.tagName == "svg"  # noqa: S318 - made by the page
            assert "currentColor" not in content.decode() and "var(" not in content.decode()
        else:
            assert Image.open(io.BytesIO(content)).convert("L").getextrema()[0] < 100, name
    assert {"domains.csv", "gene-sets.csv", "confidence.svg", "genes-over-pseudotime.png"} <= names
    for kind in ("PNG", "SVG"):
        name, content = saved(page, page.locator(f"#map .save >> text={kind}").click)
        assert name == f"map-stmmr_domain.{kind.lower()}"
        assert len(content) > 10_000
