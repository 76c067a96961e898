"""Sizes and opening times of the report, and its picture: `python -m benchmarks.report` writes into docs/report.md.

Needs bokeh, playwright and Chromium (the one of the system, or that in STMMR_CHROMIUM).
"""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import stmmr
from benchmarks._table import DATA, ROOT, stamp, write_section

TITLE = "Size and time"
OPENED = 5
MANY = (100_000, 400_000)
READY = "document.documentElement.dataset.ready"
MOVED = """async () => {
  const range = Bokeh.documents[0].get_model_by_name("map").x_range;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const took = [];
  for (let step = 0; step < 10; step++) {
    const start = performance.now();
    range.setv({ start: range.start + 1, end: range.end + 1 });
    await frame();
    await frame();
    took.push(performance.now() - start);
  }
  return took.sort((a, b) => a - b)[5];
}"""


def main() -> None:
    from playwright.sync_api import sync_playwright

    rows = [["section", "places", "map", "written in", "size", "opens in", "one move"]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        found = os.environ.get("STMMR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        options = {"executable_path": found, "args": ["--no-sandbox", "--enable-unsafe-swiftshader"]}
        browser = playwright.chromium.launch(**options)
        for name, adata in sections():
            target = Path(folder) / "report.html"
            start = time.perf_counter()
            stmmr.report.write(adata, target, title=f"Spatial domains of {name}")
            written = time.perf_counter() - start
            opens, moves = zip(*(opened(browser, target) for _ in range(OPENED)), strict=True)
            kind = "circles" if adata.n_obs <= 100_000 else "pixels"
            size, seconds = target.stat().st_size / 1e6, statistics.median(opens)
            move = f"{statistics.median(moves):.0f} ms"
            rows.append(
                [name, f"{adata.n_obs:,}", kind, f"{written:.1f} s", f"{size:.1f} MB", f"{seconds:.1f} s", move]
            )
            if name == "simulated tissue":
                picture(browser, target)
        version = browser.version
        browser.close()
    text = f"""Median of {OPENED} times each in headless Chromium {version}, no graphics card at hand:
WebGL is drawn by the processor (SwiftShader) in its stead. *Opens in* is until map and UMAP are drawn and can be used,
*one move* what it takes to draw the map anew after it was moved. The machine was shared with other work."""
    write_section(TITLE, text, rows, stamp(), page=ROOT / "docs" / "report.md")


def sections():
    """Get sections after a run, then large ones with domains and genes that are drawn by hand."""
    for name, source, n in (
        ("simulated tissue", None, 5),
        ("visium_dlpfc_151673", "visium_dlpfc_151673.h5ad", 7),
        ("xenium_mouse_brain", "xenium_mouse_brain.h5ad", 12),
    ):
        if source is None:
            adata = stmmr.datasets.simulated_tissue()
        elif not (DATA / source).exists():
            continue
        else:
            adata = ad.read_h5ad(DATA / source)
        label = "ground_truth" if source is None else None
        stmmr.run(adata, n_domains=n, label_key=label, progress=False)
        stmmr.tl.umap(adata)
        yield name, adata
    for n in MANY:
        yield "stripes", stripes(n)


def stripes(n: int) -> ad.AnnData:
    """Make cells on a jittered grid in twelve stripes, with twelve genes."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(n**0.5))
    row, column = np.divmod(np.arange(n), side)
    codes = column * 12 // side
    values = np.log1p(rng.poisson(0.3 + 3 * (codes[:, None] == np.arange(12)))).astype(np.float32)
    adata = ad.AnnData(
        sparse.csr_matrix(values),
        obs=pd.DataFrame({"stmmr_confidence": rng.uniform(0.5, 1, n)}, index=[f"cell{i}-1" for i in range(n)]),
        var=pd.DataFrame({"stmmr_highly_variable": True}, index=[f"GENE{k}" for k in range(12)]),
    )
    adata.obs["stmmr_domain"] = pd.Categorical((codes + 1).astype(str))
    adata.obsm["spatial"] = (np.column_stack([column, row]) + rng.uniform(-0.3, 0.3, (n, 2))) * 10
    layout = np.full((n, 2), np.nan, dtype=np.float32)
    some = rng.choice(n, 20_000, replace=False)
    layout[some] = rng.normal(size=(20_000, 2)) + 4 * np.column_stack([np.cos(codes[some]), np.sin(codes[some])])
    adata.obsm["X_stmmr_umap"] = layout
    adata.layers["stmmr_lognorm"] = adata.X
    adata.uns["stmmr"] = {
        "expression": {"layer": "", "size_key": "", "n_genes_read": 12, "n_top_genes": 3000, "min_places": 3}
    }
    return adata


def opened(browser, target: Path) -> tuple[float, float]:
    """Open the page anew; seconds until it can be used, and milliseconds that moving the map takes."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(target.as_uri())
    page.wait_for_function(READY)
    seconds = time.perf_counter() - start
    page.wait_for_function(f"{READY} === 'all'")
    move = page.evaluate(MOVED)
    context.close()
    return seconds, move


def picture(browser, target: Path) -> None:
    """Take the picture of the docs: by day and in the dark, and on a phone."""
    from PIL import Image

    taken = []
    for scheme, (width, height) in (("light", (1280, 1130)), ("dark", (1280, 1130)), ("light", (360, 1130))):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(target.as_uri())
        page.wait_for_function(f"{READY} === 'all'")
        if scheme == "dark":
            page.locator("#legend button").nth(2).click()
        page.wait_for_timeout(500)
        file = target.with_suffix(".png")
        page.screenshot(path=file)
        taken.append(Image.open(file).convert("RGB").copy())
        context.close()
    gap = 24
    whole = Image.new("RGB", (sum(i.width for i in taken) + gap * 2, taken[0].height), "white")
    left = 0
    for image in taken:
        whole.paste(image, (left, 0))
        left += image.width + gap
    whole.resize((whole.width * 6 // 10, whole.height * 6 // 10), Image.Resampling.LANCZOS).quantize(256).save(
        ROOT / "docs" / "images" / "report.png", optimize=True
    )


if __name__ == "__main__":
    main()
