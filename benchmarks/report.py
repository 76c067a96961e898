"""Size and opening time of the report, and its screenshots: `python -m benchmarks.report` writes into docs/report.md.

It needs playwright and Chromium (of the system, or the path in STMMR_CHROMIUM).
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
from benchmarks._table import DATA, ROOT, no_options, write_tables

OPENED = 5
MANY = (100_000, 400_000)
SHOWN = ("simulated tissue", "xenium_mouse_brain")
"""Data sets whose report may be shown in the docs, as they have no H&E image of others; the last one is shown."""
IMAGES = ROOT / "docs" / "images"
SCREENSHOT_BYTES = 250_000
READY = "document.documentElement.dataset.ready"
FRAMES = """() => {
  const took = [];
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    took.push(now - last);
    last = now;
    window.frames_ = { took, next: requestAnimationFrame(tick) };
  };
  requestAnimationFrame(tick);
}"""
STOP = "() => { cancelAnimationFrame(window.frames_.next); return window.frames_.took; }"


def main() -> None:
    no_options(__doc__)
    from playwright.sync_api import sync_playwright

    rows = [["section", "spots or cells", "written in", "size", "opens in", "dragging", "zooming"]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = os.environ.get("STMMR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        options = {"executable_path": chromium, "args": ["--no-sandbox", "--enable-unsafe-swiftshader"]}
        browser = playwright.chromium.launch(**options)
        for name, adata in sections():
            target = Path(folder) / "report.html"
            start = time.perf_counter()
            stmmr.report.write(adata, target, title=f"Spatial domains of {name}")
            written = time.perf_counter() - start
            opens, drags, zooms = zip(*(opened(browser, target) for _ in range(OPENED)), strict=True)
            size = target.stat().st_size / 1e6
            rows.append(
                [name, f"{adata.n_obs:,}", f"{written:.1f} s", f"{size:.1f} MB", f"{statistics.median(opens):.1f} s"]
                + [
                    " / ".join(f"{np.percentile(np.concatenate(times), q):.0f}" for q in (50, 95, 100)) + " ms"
                    for times in (drags, zooms)
                ]
            )
            if name in SHOWN:
                take_screenshots(browser, target)
        version = browser.version
        browser.close()
    write_tables("report", rows, notes=(f"Each report was opened {OPENED} times in headless Chromium {version}.",))


def sections():
    """Yield sections after a run, then large ones whose domains and genes are drawn without a run."""
    for name, source, n in (
        ("simulated tissue", None, 5),
        ("visium_dlpfc_151673", "visium_dlpfc_151673.h5ad", 7),
        ("xenium_mouse_brain", "xenium_mouse_brain.h5ad", 7),
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
        stmmr.tl.domain_genes(adata)
        stmmr.tl.spatially_variable_genes(adata)
        stmmr.tl.trajectory(adata)
        stmmr.tl.gene_trends(adata)
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
        "expression": {"layer": "", "size_key": "", "n_genes_read": 12, "n_top_genes": 3000, "min_spots": 3}
    }
    return adata


def opened(browser, target: Path) -> tuple[float, list[float], list[float]]:
    """Open the page; seconds until it can be used, and milliseconds from frame to frame while the map moves."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(target.as_uri())
    page.wait_for_function(READY)
    seconds = time.perf_counter() - start
    page.wait_for_function(f"{READY} === 'all'")
    box = page.locator("#map .canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.evaluate(FRAMES)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(x + 2 * step, y + step)
        page.wait_for_timeout(16)
    page.mouse.up()
    drag = page.evaluate(STOP)
    page.evaluate(FRAMES)
    for _ in range(15):
        page.mouse.wheel(0, -60)
        page.wait_for_timeout(60)
    zoom = page.evaluate(STOP)
    context.close()
    return seconds, drag, zoom


def take_screenshots(browser, target: Path) -> None:
    """Take the screenshots of the docs: the first screen with one on a phone, a selection, and maps side by side."""
    first = [
        taken(browser, target, (1280, 720)),
        taken(browser, target, (390, 720), do="showGene"),
    ]
    selected = [taken(browser, target, (1280, 820), scheme="dark", do="select")]
    beside = [taken(browser, target, (1280, 820), do="beside")]
    for name, screenshots in (("report", first), ("report_selection", selected), ("report_side_by_side", beside)):
        save_screenshots(screenshots, IMAGES / f"{name}.png")


DO = {
    "": "() => null",
    "showGene": """async () => {
      const gene = document.querySelector("#gene");
      gene.value = document.querySelector(".answer [data-gene]").dataset.gene;
      gene.dispatchEvent(new Event("change"));
      scrollTo(0, 90);
    }""",
    "select": """async () => {
      for (const code of [3, 4]) document.querySelector(`.answer [data-domain="${code}"]`)?.click();
      document.querySelector("#find-markers").click();
      while (document.querySelector("#markers").hidden) await new Promise((done) => setTimeout(done, 50));
      document.querySelector("#umap").scrollIntoView({ behavior: "instant" });
    }""",
    "beside": """async () => {
      document.querySelector("#alternatives").scrollIntoView({ behavior: "instant" });
      await new Promise((done) => setTimeout(done, 1500));
      const levels = [...document.querySelectorAll("[data-layer^=level]")];
      levels[Math.floor(levels.length / 2)].click();
    }""",
}


def taken(browser, target: Path, size: tuple[int, int], *, scheme: str = "light", do: str = ""):
    """Take a screenshot of the page after something was done on it."""
    from PIL import Image

    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
    page = context.new_page()
    page.goto(target.as_uri())
    page.wait_for_function(f"{READY} === 'all'")
    page.evaluate(DO[do])
    page.wait_for_timeout(1000)
    file = target.with_suffix(".png")
    page.screenshot(path=file)
    context.close()
    return Image.open(file).convert("RGB").copy()


def save_screenshots(screenshots, file: Path) -> None:
    """Save screenshots side by side, smaller until they are small enough."""
    from PIL import Image

    gap = 24
    width = sum(i.width for i in screenshots) + gap * (len(screenshots) - 1)
    whole = Image.new("RGB", (width, screenshots[0].height), "white")
    left = 0
    for image in screenshots:
        whole.paste(image, (left, 0))
        left += image.width + gap
    for share in (0.8, 0.7, 0.6, 0.5, 0.4):
        size = (round(whole.width * share), round(whole.height * share))
        small = whole.resize(size, Image.Resampling.LANCZOS)
        # the default, median cut, would drop the colours of small domains
        small = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        small.save(file, optimize=True)
        if file.stat().st_size < SCREENSHOT_BYTES:
            break


if __name__ == "__main__":
    main()
