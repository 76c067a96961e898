"""Known genes in known tissue: `python -m benchmarks.genes` fills the tables of docs/genes.md and draws its figure.

In two minutes. Domains are found with the default, their number given; the experts' labels only say which domain is
which.
"""

import re
import time

import numpy as np
import pandas as pd
from anndata import AnnData

import stmmr
from benchmarks._table import ROOT, markdown, stamp
from benchmarks.accuracy import HEART, LABEL, default, prepared, quiet
from stmmr._core import keys

PAGE = ROOT / "docs" / "genes.md"
KNOWN = {
    "visium_dlpfc_151673": [("WM", "MOBP"), ("Layer5", "PCP4")],
    "st_pdac_A": [("Cancer", "KRT19"), ("Pancreatic", "PRSS1")],
    HEART: [("right atria", "MYH6"), ("left ventricle", "MYH7")],
}
KEYS = {"found": keys.DOMAIN, "expert": LABEL}
BEGIN, END = "<!-- tables by benchmarks.genes -->", "<!-- end of tables -->"


def named(adata: AnnData) -> dict[str, tuple[str, float]]:
    """Name for each expert region the domain that shares most places with it (Jaccard index)."""
    both = pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN]).astype(float)
    union = both.sum(axis=1).to_numpy()[:, None] + both.sum(axis=0).to_numpy() - both
    jaccard = both / union
    return {region: (str(row.idxmax()), float(row.max())) for region, row in jaccard.iterrows()}


def row_of(adata: AnnData, domain: str, gene: str, key: str, against: str) -> tuple[str, pd.Series]:
    """Find a gene in the table of a domain: its rank from 1, that among specific genes, and its row."""
    table = stmmr.tl.domain_genes_table(adata, domain=domain, against=against, key=key)
    at = int(np.flatnonzero(table["gene"] == gene)[0])
    row = table.iloc[at]
    return f"{at + 1} ({table['specific'][: at + 1].sum() if row['specific'] else '–'})", row


def lines(adata: AnnData, name: str) -> list[list[str]]:
    """Write a line for each known gene of a data set: in the domain found, and in the expert's region."""
    written = []
    for region, gene in KNOWN[name]:
        domain, overlap = named(adata)[region]
        for kind, place in (("found", domain), ("expert", region)):
            beside, near = row_of(adata, place, gene, kind, "neighbors")
            rank, row = row_of(adata, place, gene, kind, "rest")
            label = f"{domain}, for {region} (overlap {overlap:.2f})" if kind == "found" else f"expert's {region}"
            written.append(
                [
                    name,
                    gene,
                    label,
                    rank,
                    beside if np.isfinite(near["z"]) else "–",
                    f"{row['share']:.2f} / {row['share_other']:.2f}",
                    f"{row['log2_fold_change']:.1f}",
                    f"{row['auc']:.2f}",
                ]
            )
    return written


def summary(adata: AnnData, name: str, seconds: dict[str, float]) -> list[str]:
    """Write a line for a data set: how many genes are specific, and how long it took."""
    n_specific = {
        against: stmmr.tl.domain_genes_table(adata, against=against, only_specific=True, key="found")
        .groupby("domain", observed=False)
        .size()
        .tolist()
        for against in ("neighbors", "rest")
    }
    varying = int((adata.var[keys.MORAN_P_ADJUSTED] < 0.05).sum())
    best = adata.var[keys.MORAN_I].nlargest(5).index.tolist()
    return [
        f"{name} ({adata.n_obs} × {adata.n_vars})",
        ", ".join(map(str, n_specific["neighbors"])),
        ", ".join(map(str, n_specific["rest"])),
        f"{varying}",
        ", ".join(best),
        f"{seconds['genes']:.1f}",
        f"{seconds['moran']:.1f}",
    ]


def measure(name: str) -> tuple[list[list[str]], list[str], AnnData]:
    """Find domains and their genes."""
    adata = prepared(name)
    default(adata, adata.obs[LABEL].nunique(), 0)
    seconds = {}
    for kind, key in KEYS.items():
        start = time.perf_counter()
        stmmr.tl.domain_genes(adata, domain_key=key, key_added=kind)
        seconds.setdefault("genes", time.perf_counter() - start)
    start = time.perf_counter()
    stmmr.tl.spatially_variable_genes(adata)
    seconds["moran"] = time.perf_counter() - start
    return lines(adata, name), summary(adata, name, seconds), adata


def draw(adata: AnnData) -> None:
    """Draw the genes of the domains of the cortex."""
    import matplotlib as mpl

    mpl.use("Agg")
    ax = stmmr.pl.domain_genes(adata, key="found")
    ax.figure.savefig(ROOT / "docs" / "images" / "domain_genes.png", dpi=110, bbox_inches="tight")


def main() -> None:
    quiet()
    known = [
        [
            "data",
            "gene",
            "domain",
            "rank, rest (among specific)",
            "rank, neighbours (among specific)",
            "share in / out",
            "log₂ fold",
            "AUC",
        ]
    ]
    counted = [
        [
            "data",
            "specific against neighbours, per domain",
            "against the rest",
            "spatially variable",
            "highest Moran's I",
            "domain genes, s",
            "Moran's I, s",
        ]
    ]
    for name in KNOWN:
        written, line, adata = measure(name)
        known += written
        counted.append(line)
        if name.startswith("visium"):
            draw(adata)
    tables = "\n\n".join([BEGIN, markdown(known), markdown(counted), stamp(), END])
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: tables, page, flags=re.DOTALL), encoding="utf-8")
    print(markdown(known), markdown(counted), sep="\n\n")


if __name__ == "__main__":
    main()
