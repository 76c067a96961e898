"""Sections as a run leaves them, made by hand, and what is read from a page."""

import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

READY = "document.documentElement.dataset.ready === 'all'"
VOID = {"meta", "link", "input", "br", "img", "hr"}


def made_section(n=400, *, n_domains=3, genes=("GENE1", "GENE2"), seed=0):
    """Spots on a square array in stripes of domains; the first gene is high in domain "1"."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n**0.5))
    row, column = np.divmod(np.arange(n), side)
    codes = np.minimum(column * n_domains // side, n_domains - 1)
    counts = rng.poisson(3.0, (n, len(genes)))
    if len(genes):
        counts[codes == 0, 0] += 20
    adata = AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame({"stmmr_highly_variable": np.ones(len(genes), bool)}, index=list(genes)),
    )
    adata.obsm["spatial"] = np.column_stack([column, row]) * 50.0
    adata.obsm["X_stmmr_umap"] = rng.normal(size=(n, 2)).astype(np.float32)
    adata.obs["stmmr_domain"] = pd.Categorical((codes + 1).astype(str), [str(k + 1) for k in range(n_domains)])
    adata.obs["stmmr_confidence"] = rng.uniform(0.6, 1, n)
    adata.obs["stmmr_library_size"] = counts.sum(axis=1).astype(float) if len(genes) else 0.0
    adata.layers["stmmr_lognorm"] = sparse.csr_matrix(np.log1p(counts), dtype=np.float32)
    adata.uns["stmmr"] = {"expression": {**EXPRESSION, "n_genes_read": len(genes)}} if len(genes) else {}
    return adata


def add_findings(adata):
    """What the analyses after the domains leave, made by hand: of two genes and three domains."""
    n = adata.n_obs
    adata.obs["stmmr_pseudotime"] = np.linspace(0, 1, n)
    adata.obs["stmmr_branch"] = pd.Categorical(np.where(np.arange(n) < n // 2, "1 to 2", "3"))
    adata.var["stmmr_moran_i"], adata.var["stmmr_moran_pval_adj"] = [0.25, 0.75], [0.01, 0.0]
    adata.uns["stmmr_domain_genes"] = pd.DataFrame(
        {
            "domain": pd.Categorical(["1", "1", "1", "1", "2"]),
            "against": pd.Categorical(["neighbors", "neighbors", "rest", "rest", "rest"], ["neighbors", "rest"]),
            "gene": pd.Categorical(["GENE1", "GENE2", "GENE2", "GENE1", "GENE2"]),
            "specific": [True, True, True, False, False],
            "mean": [1.0, 2.0, 2.0, 1.0, 1.0],
            "z": [4.0, 5.0, 5.0, 4.0, 3.0],
            "pval_adj": [0.0, 0.0, 0.0, 0.0, 0.5],
        }
    )
    sets = {"gene_set": ["A_SET", "B_SET"], "n_shared": [2, 1], "n_set": [2, 9], "fold_enrichment": [3.25, 1.1]}
    adata.uns["stmmr_enrichment"] = pd.DataFrame({"domain": ["1", "1"], **sets, "pval_adj": [1e-9, 0.5]})
    table = pd.DataFrame(
        {"log2_range": [2.0, 1.0], "pval_adj": [0.001, 0.2], "peak": [0.1, 0.9]}, index=["GENE2", "GENE1"]
    )
    curve = np.array([np.linspace(1, 2, 9), np.linspace(2, 1, 9)], dtype=np.float32)
    trends = {"table": table, "pseudotime": np.linspace(0, 1, 9), "curve": curve, "low": curve - 0.1}
    adata.uns["stmmr"] |= {
        "trajectory": {"root": "tree", "root_domain": "3"},
        "enrichment": {"stmmr_enrichment": {"gmt": "sets.gmt"}},
        "gene_trends": trends | {"high": curve + 0.1, "confidence": 0.95},
    }


EXPRESSION = {
    "counts": "X",
    "layer": "",
    "size_key": "",
    "section_key": "",
    "n_top_genes": 3000,
    "min_spots": 3,
    "n_empty_spots": 0,
}


@pytest.fixture
def section():
    return made_section()


class Page(HTMLParser):
    """Tags of a page with their attributes, texts by the tag they stand in, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.texts, self.open = text, [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def said(self):
        """Everything that a reader sees but the texts of drawings."""
        return " ".join(" ".join(text for tag, text in self.texts if tag not in {"script", "style", "text"}).split())

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page_of(tmp_path):
    import stmmr

    def make(adata, **options):
        target = tmp_path / "report.html"
        stmmr.report.write(adata, target, **options)
        return Page(target.read_text(encoding="utf-8"))

    return make


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    found = os.environ.get("STMMR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium here; name one in STMMR_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, report):
    """Open the page; at the end nothing may have gone wrong, and nothing been asked of a network."""
    contexts, wrong = [], []

    def open_(path=report, script="", **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 1000}} | options))
        contexts.append(context)
        context.add_init_script(script)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(path.as_uri())
        page.wait_for_function(READY)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []
