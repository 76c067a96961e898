"""The page without a browser: whole, on its own, safe, and right about the data."""

import base64
import io
import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import stmmr
from stmmr._core.categories import PALETTE
from stmmr.pl import raster
from stmmr.report import _scene

from .conftest import Page, add_findings, made_section

ODD = """<b>&"x'</script><script>alert(1)//"""


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.text, re.DOTALL)
    return json.loads(found[1])


def unpacked(text):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def test_page_is_whole_and_loads_nothing(page_of, section):
    page = page_of(section)
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "data", "action"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), (tag, attributes)
        if tag != "a":
            assert not re.match(r"(https?:)?//", attributes.get("href") or ""), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert len(page.text) < 3_000_000
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {attributes["href"][1:] for attributes in page.of("a") if attributes["href"].startswith("#")}
    assert inside <= set(ids)


def test_controls_have_names(page_of, section):
    page = page_of(section)
    labelled = {attributes.get("for") for attributes in page.of("label")}
    for attributes in page.of("select"):
        assert attributes["id"] in labelled
    texts = re.findall(r"<button[^>]*>(.*?)</button>", page.text, re.DOTALL)
    assert texts
    assert all(re.sub(r"<[^>]*>", "", text).strip() for text in texts)
    assert [tag for tag, attributes in page.tags if attributes.get("class") == "skip"] == ["a"]
    assert page.of("html") == [{"lang": "en"}]


def test_odd_names_are_text(page_of):
    adata = made_section(genes=(f"GENE{ODD}", "GENE2"))
    adata.obs["stmmr_domain"] = adata.obs["stmmr_domain"].cat.rename_categories({"1": f"domain{ODD}"})
    adata.obs_names = [f"{ODD}{i}" for i in range(adata.n_obs)]
    adata.var["stmmr_moran_i"], adata.var["stmmr_moran_pval_adj"] = [0.25, 0.75], [0.01, 0.0]
    adata.obs["slide"] = pd.Categorical(np.where(np.arange(400) < 200, f"one{ODD}", "two"))
    adata.uns["stmmr"]["spatial_graph"] = GRAPH | {"section_key": "slide"}
    page = page_of(adata, title=f"title{ODD}", run_facts={"input": f"in{ODD}", "options": {f"o{ODD}": ODD}})
    texts = page.said()
    for name in ("title", "domain", "GENE"):
        assert name + ODD in texts
    assert not page.of("b")
    assert "alert(1)" not in "".join(text for tag, text in page.texts if tag == "script" and text.startswith("alert"))
    assert [a.get("id") for a in page.of("script")] == ["data", "genes-0", None, None, None]
    assert data_of(page)["layers"]["stmmr_domain"]["names"][0] == "domain" + ODD


GRAPH = {
    "use": "spatial",
    "coordinates": "spatial",
    "bandwidth": 40.0,
    "nearest_neighbour_distance": 50.0,
    "unit": "µm",
    "section_key": "",
    "um_per_unit": 1.0,
    "scale_from": "microns_per_pixel",
    "tolerance": 4e-5,
    "mean_neighbours": 20.0,
}


def test_values_come_back_from_their_bytes(page_of, section):
    section.obs.loc["spot3", "stmmr_confidence"] = np.nan
    found = data_of(page_of(section))["layers"]
    codes = section.obs["stmmr_domain"].cat.codes.to_numpy()
    np.testing.assert_array_equal(unpacked(found["stmmr_domain"]["points"]), codes)
    assert found["stmmr_domain"]["colors"] == [color.lower() for color in PALETTE[:3]]
    sure, byte = section.obs["stmmr_confidence"].to_numpy(), unpacked(found["stmmr_confidence"]["points"])
    assert byte[3] == 254
    known = np.isfinite(sure)
    np.testing.assert_allclose(byte[known] / 253, sure[known], atol=0.5 / 253)


def test_positions_come_back_from_their_steps(page_of, section):
    section.obsm["X_stmmr_umap"][5] = np.nan
    found = data_of(page_of(section))
    for name, true in (("map", section.obsm["spatial"]), ("umap", section.obsm["X_stmmr_umap"])):
        own = found[name]
        for axis, low, high, values in zip("xy", own["low"], own["high"], true.T, strict=True):
            steps = np.frombuffer(zlib.decompress(base64.b64decode(own[axis])), "<u2")
            restored = np.where(steps == 65535, np.nan, low + steps / 65534 * (high - low))
            np.testing.assert_allclose(restored, values, atol=(high - low) / 65534)


def test_table_counts_spots(page_of, section):
    rows = re.findall(r'<tr>\s*<th scope="row"><button.*?</tr>', page_of(section).text, re.DOTALL)
    said = [re.sub(r"<[^>]*>", " ", row).split() for row in rows]
    expected = section.obs["stmmr_domain"].value_counts(sort=False)
    assert [row[:2] for row in said] == [[name, str(n)] for name, n in expected.items()]
    assert [float(row[2]) for row in said] == [round(100 * n / 400, 1) for n in expected]


def test_top_genes_are_those_of_the_table(page_of, section):
    from stmmr.report._genes import top_genes

    add_findings(section)
    assert top_genes(section) == {"1": ["GENE2", "GENE1"], "2": []}  # significant ones, specific ones first
    page = page_of(section)
    rows = re.findall(r'<td class="genes">(.*?)</td>', page.text, re.DOTALL)
    assert [re.findall('data-gene="(.*?)"', row) for row in rows] == [["GENE2", "GENE1"], [], []]


def test_report_of_domains_that_no_gene_marks(tmp_path):
    """Without a gene at an adjusted p-value below .05 there is no dot plot, and the report is written all the same."""
    adata = made_section(400)
    stmmr.tl.domain_genes(adata, layer=None)
    adata.uns["stmmr_domain_genes"]["pval_adj"] = 1.0
    stmmr.report.write(adata, tmp_path / "report.html")
    assert "Leading genes" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_table_of_domain_genes_is_the_one_that_is_read():
    from stmmr.report._genes import top_genes

    adata = made_section(400)
    stmmr.tl.domain_genes(adata, domain_key="stmmr_domain", layer=None, min_share=0.1)
    table = stmmr.tl.domain_genes_table(adata, domain="1", against="rest", only_specific=True)
    assert top_genes(adata)["1"][0] == table["gene"].iloc[0] == "GENE1"


FINDINGS = {
    "Pseudotime": ("obs", "stmmr_pseudotime"),
    "Branch": ("obs", "stmmr_branch"),
    "Spatially variable genes": ("var", "stmmr_moran_i"),
    "Gene sets": ("uns", "stmmr_enrichment"),
    "Genes over pseudotime": ("steps", "gene_trends"),
    "Top genes": ("uns", "stmmr_domain_genes"),
}


def test_findings_are_shown_where_they_are(page_of, section):
    without = page_of(section).said()
    assert not [title for title in FINDINGS if title in without]
    add_findings(section)
    section.obs["slide"] = pd.Categorical(np.where(np.arange(400) < 100, "one", "two"))
    section.uns["stmmr"]["spatial_graph"] = GRAPH | {"section_key": "slide"}
    page = page_of(section)
    said = page.said()
    assert not [title for title in FINDINGS if title not in said]
    assert "2 of 2 genes vary over the tissue" in said
    assert "GENE2 0.75 < 1e-300 GENE1 0.25 0.010" in said
    assert "1 A SET 2 of 2 3.2 1.0e-09" in said
    assert "B SET" not in said
    assert "1 of 2 genes change (false discovery rate below 0.05)" in said
    assert "the direction is arbitrary, as no root was given" in said
    assert "with the root in domain 3, one end of the longest path." in said
    found = data_of(page)["layers"]
    assert found["stmmr_branch"]["names"] == ["1 to 2", "3"]
    np.testing.assert_allclose(
        unpacked(found["stmmr_pseudotime"]["points"]) / 253, section.obs["stmmr_pseudotime"], atol=0.5 / 253
    )
    shares = pd.crosstab(section.obs["slide"], section.obs["stmmr_domain"], normalize="index")
    for name, row in shares.iterrows():
        counted = f"{name} {(section.obs['slide'] == name).sum()} "
        assert counted + " ".join(f"{100 * share:.1f} %" for share in row) in said


@pytest.mark.parametrize("title", FINDINGS)
def test_each_finding_is_left_out_alone(page_of, section, title):
    add_findings(section)
    where, key = FINDINGS[title]
    {"steps": section.uns["stmmr"], "uns": section.uns, "obs": section.obs, "var": section.var}[where].pop(key)
    said = page_of(section).said()
    assert [other for other in FINDINGS if other not in said] == [title]


def test_curves_are_those_of_pl(page_of, section):
    """Each is one SVG: texts are texts, the bytes are the same each time, ids are unique, no style leaks out."""
    section.uns["stmmr"] |= {
        "spatial_graph": GRAPH
        | {"bandwidths_tried": np.array([20.0, 40, 80]), "error": np.ones(3), "bandwidth_best": 40.0},
        "number_of_domains": {
            "tried": np.arange(1, 4),
            "criterion": np.arange(3.0),
            "chosen": 3,
            "lowest": 2,
            "highest": 3,
        },
        "history": {"loss": np.array([2.0, 1.0])},
    }
    add_findings(section)
    page = page_of(section)
    drawn = re.findall(r"<svg viewBox.*?</svg>", page.text, re.DOTALL)
    assert len(drawn) == 6
    axes = ["Pseudotime", "Bandwidth (µm)", "BIC, relative to one domain", "Step", "Confidence", "Counts per cell"]
    for svg, label in zip(drawn, axes, strict=True):
        assert f">{label}</text>" in svg
        assert "<style" not in svg
        assert "#000000" not in svg
        assert "currentColor" in svg
    ids = re.findall(r'\bid="(.*?)"', "".join(drawn))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:xlink:href="|url\()#(.*?)[")]', "".join(drawn))) <= set(ids)
    assert re.findall(r"<svg viewBox.*?</svg>", page_of(section).text, re.DOTALL) == drawn
    assert "Best number of domains: 3 (2–3, shaded, fit almost equally well; choose with biology)" in page.said()


def test_graph_genes_and_composition_are_drawn(page_of, section):
    stmmr.tl.domain_genes(section)
    section.obsm["X_stmmr"] = np.eye(3, dtype=np.float32)[section.obs["stmmr_domain"].cat.codes] * 3
    section.obsm["X_stmmr"] += np.random.default_rng(0).normal(0, 1, (400, 3)).astype(np.float32)
    stmmr.tl.trajectory(section)
    page = page_of(section)
    for title in ("Leading genes", "Graph of the domains"):
        assert title in page.said()
    section.obs["slide"] = pd.Categorical(np.where(np.arange(400) < 200, "first", "second"))
    section.uns["stmmr"]["spatial_graph"] = GRAPH | {"section_key": "slide"}
    del section.uns["stmmr_domain_genes"]
    page = page_of(section)
    assert "Composition of the sections" in page.said()
    assert "Leading genes" not in page.said()


def test_the_tree_that_is_there_is_used(section):
    from stmmr.report._alternatives import alternatives_of

    rng = np.random.default_rng(0)
    leaves = np.arange(400) % 13
    section.obsm["X_stmmr"] = (np.eye(13)[leaves] * 5 + rng.normal(0, 0.1, (400, 13))).astype(np.float32)
    section.obs["leaves"] = pd.Categorical([f"leaf {k:02d}" for k in leaves])
    stmmr.tl.domain_tree(section, domain_key="leaves")
    found = alternatives_of(section)
    assert found.leaves.key == "leaves"
    assert list(found.merged) == list(range(3, 13))
    for k, merged in found.merged.items():
        stmmr.tl.cut_tree(section, k, key_added="cut")
        cut = section.obs["cut"].map({f"leaf {code:02d}": code for code in range(13)}).astype(int)
        np.testing.assert_array_equal(np.array(merged)[leaves], cut)
    section.obs["leaves"] = "other"  # the tree is of other domains then, and three domains are few
    assert alternatives_of(section) is None


def test_genes_that_are_not_there(page_of, section):
    with pytest.raises(stmmr.InputError, match=r"Expected the gene 'GENE3' among the 2 genes.*Did you mean 'GENE2'"):
        page_of(section, genes=["GENE3"])
    with pytest.raises(stmmr.InputError, match=r"Expected a list of gene names, found 'GENE2'. Write \['GENE2'\]"):
        page_of(section, genes="GENE2")


def test_no_domains(section, tmp_path):
    del section.obs["stmmr_domain"]
    with pytest.raises(stmmr.InputError, match=r"Run stmmr.run\(adata\) first"):
        stmmr.report.write(section, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_without_counts(page_of):
    page = page_of(made_section(genes=()))
    assert "gene" not in {a.get("id") for a in page.of("input")}
    assert "Genes" not in page.said()


@pytest.mark.parametrize("n_domains", [1, 60])
def test_few_and_many_domains(page_of, n_domains):
    adata = made_section(3600, n_domains=n_domains)
    page = page_of(adata)
    assert len({a["data-domain"] for a in page.of("button") if "data-domain" in a}) == n_domains
    assert ("all cells are in one" in page.said()) == (n_domains == 1)


def test_no_confidence_known(page_of, section):
    section.obs["stmmr_confidence"] = np.nan
    page = page_of(section)
    assert "stmmr_confidence" not in data_of(page)["layers"]
    assert "confidence missing for 100.0 %" in page.said().replace("\N{NO-BREAK SPACE}", " ")


def test_without_umap_and_with_missing_domains(page_of, section):
    del section.obsm["X_stmmr_umap"]
    section.obs.loc[["spot0", "spot1"], "stmmr_domain"] = np.nan
    page = page_of(section)
    assert (unpacked(data_of(page)["layers"]["stmmr_domain"]["points"])[:2] == 254).all()
    assert "UMAP of the embedding" not in page.said()


def test_sections_are_named_and_counted(page_of, section):
    section.obs["slide"] = np.where(np.arange(400) < 200, "first", "second")
    section.uns["stmmr"]["spatial_graph"] = GRAPH | {"section_key": "slide"}
    page = page_of(section)
    assert "2 sections" in page.said()
    assert "Spatial domains of 2 sections" in page.said()
    assert '"second"' in page.text


def test_sections_are_in_um_where_all_tell_their_unit(section):
    section.obs["slide"] = np.where(np.arange(400) < 200, "first", "second")
    section.uns["stmmr"]["spatial_graph"] = GRAPH | {"section_key": "slide"}
    section.uns["spatial"] = {name: {"scalefactors": {"microns_per_pixel": 0.5}} for name in ("first", "second")}
    assert _scene.scene_of(section).in_um


def test_many_spots_are_pixels(page_of, section, monkeypatch):
    monkeypatch.setattr(_scene, "PIXELS_FROM", 300)
    monkeypatch.setattr(_scene, "SAMPLED", 50)
    monkeypatch.setattr(raster, "_LONG_SIDE", 40)
    found = data_of(page_of(section))
    height, width = found["map"]["fixed"]["height"], found["map"]["fixed"]["width"]
    pixels = unpacked(found["layers"]["stmmr_domain"]["pixels"]).reshape(height, width)
    row = pixels[height // 2]
    seen = row[row < 254]
    assert (np.diff(seen.astype(int)) >= 0).all()
    assert set(seen) == {0, 1, 2}
    assert len(unpacked(found["layers"]["stmmr_domain"]["points"])) == 50


def test_image_is_cropped_to_the_spots(page_of, section):
    rng = np.random.default_rng(0)
    images = {"hires": rng.integers(0, 256, (600, 600, 3), dtype=np.uint8)}
    factors = {"tissue_hires_scalef": 0.5, "microns_per_pixel": 2.0}
    section.uns["spatial"] = {"s": {"images": images, "scalefactors": factors}}
    scene = _scene.scene_of(section)
    assert scene.in_um
    np.testing.assert_allclose(scene.xy, section.obsm["spatial"] * 2)
    (image,) = scene.images.values()
    assert (image["x"], image["y"]) == (0, 0)
    assert scene.frame.high[0] <= image["x"] + image["w"] + 4
    assert image["url"].startswith("data:image/jpeg;base64,")
    assert "Image" in page_of(section).said()


def stained(*, seed, side=700):
    """An image whose red tells the column and green the row, with some noise."""
    column, row = np.meshgrid(np.arange(side), np.arange(side))
    blue = np.random.default_rng(seed).integers(130, 200, (side, side))
    return np.stack([100 + column * 150 // side, 100 + row * 150 // side, blue], axis=2).astype(np.uint8)


def test_each_section_has_its_own_image_below_its_spots(page_of, monkeypatch):
    parts = {"a <1>": made_section(100), "b": made_section(64), "c": made_section(100)}
    for seed, (name, part) in enumerate(parts.items()):
        part.obsm["spatial"] = part.obsm["spatial"] * 2 + 150 + 50 * seed
        factors = {"tissue_hires_scalef": 0.5, "microns_per_pixel": 0.5}
        images = {} if name == "c" else {"hires": stained(seed=seed)}
        part.uns["spatial"] = {name: {"images": images, "scalefactors": factors}}
    both = stmmr.pp.concat_sections(parts)
    both.obs["stmmr_domain"] = pd.Categorical([*"12"] * 132)
    graph = {"section_key": "section", "um_per_unit": 0.5, "bandwidth": 100.0}
    both.uns["stmmr"] = {"spatial_graph": graph}
    monkeypatch.setattr(_scene, "IMAGE_BYTES", 90_000)
    scene = _scene.scene_of(both)
    assert list(scene.images) == ["a <1>", "b"]
    sizes = []
    for name, image in scene.images.items():
        encoded = base64.b64decode(image["url"].partition(",")[2])
        sizes.append(len(encoded))
        pixels = np.asarray(Image.open(io.BytesIO(encoded))).astype(int)
        spots = (both.obs["section"] == name).to_numpy()
        share = (scene.xy[spots] - [image["x"], image["y"]]) / [image["w"], image["h"]]
        column, row = np.floor(share * pixels.shape[1::-1]).astype(int).T
        shown, hires = pixels[row, column], both.obsm["spatial"][spots] * 0.5
        assert np.abs(shown[:, :2] - (100 + hires * 150 / 700)).mean() < 3  # 10 from spot to spot
    assert sum(sizes) <= 90_000
    page = page_of(both)
    assert [tag["id"] for tag in page.of("input") if tag.get("type") == "checkbox"] == ["image"]
    assert page.text.count("data:image/jpeg;base64,") == 2
    del both.uns["spatial"]
    assert not any(tag.get("id") == "image" for tag in page_of(both).of("input"))


def test_data_stay_as_they_are(page_of, section):
    before = section.copy()
    page_of(section)
    pd.testing.assert_frame_equal(section.obs, before.obs)
    assert section.uns["stmmr"] == before.uns["stmmr"]
    assert list(section.uns) == list(before.uns)


def test_command_writes_it(tmp_path):
    from stmmr.cli import app

    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    adata.write_h5ad(tmp_path / "in.h5ad")
    arguments = ["run", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "out"), "--n-domains", "3", "--no-progress"]
    app([*arguments, "--label-key", "ground_truth"], result_action="return_value")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    said = page.said()
    assert "Spatial domains of in" in said
    assert str(tmp_path) not in said
    assert "Adjusted Rand index" in said
    facts = json.loads((tmp_path / "out" / "run.json").read_text())["stmmr"]
    assert f"{facts['consensus']['agreement']:.2f}" in said
    assert f"{facts['evaluation']['stmmr_domain']['ari']:.3f}" in said


def test_command_leaves_it_out(tmp_path, monkeypatch):
    from stmmr.cli import app
    from stmmr.pipeline import commands

    written = []
    monkeypatch.setattr(commands, "run_to_folder", lambda *_, **options: written.append(options["report"] is not None))
    for more in ([], ["--no-report"]):
        app(["run", "in.h5ad", "-o", str(tmp_path / "out"), *more], result_action="return_value")
    assert written == [True, False]
