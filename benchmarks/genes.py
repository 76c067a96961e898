"""Known genes in known tissue: `python -m benchmarks.genes` writes two tables and a figure of docs/genes.md.

It takes two minutes. Domains are those of the default, with the annotated number of domains. The expert labels only say
which domain corresponds to which region.
"""

import time

import numpy as np
import pandas as pd
from anndata import AnnData

import stmmr
from benchmarks._table import ROOT, no_options, write_tables
from benchmarks.accuracy import HEART, LABEL, default, prepared, quiet
from stmmr._core import keys

KNOWN = {
    "visium_dlpfc_151673": [("WM", "MOBP"), ("Layer5", "PCP4")],
    "st_pdac_A": [("Cancer", "KRT19"), ("Pancreatic", "PRSS1")],
    HEART: [("right atria", "MYH6"), ("left ventricle", "MYH7")],
}
KEYS = {"domains": keys.DOMAIN, "expert": LABEL}


def named(adata: AnnData) -> dict[str, tuple[str, float]]:
    """Find for each expert region the domain that overlaps it most (Jaccard index)."""
    both = pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN]).astype(float)
    union = both.sum(axis=1).to_numpy()[:, None] + both.sum(axis=0).to_numpy() - both
    jaccard = both / union
    return {region: (str(row.idxmax()), float(row.max())) for region, row in jaccard.iterrows()}


def row_of(adata: AnnData, domain: str, gene: str, key: str, against: str) -> tuple[str, pd.Series]:
    """Find a gene in the table of a domain: its rank from 1, its rank among specific genes, and its row."""
    table = stmmr.tl.domain_genes_table(adata, domain=domain, against=against, key=key)
    position = int(np.flatnonzero(table["gene"] == gene)[0])
    row = table.iloc[position]
    among_specific = table["specific"][: position + 1].sum() if row["specific"] else "–"
    return f"{position + 1} ({among_specific})", row


def gene_rows(adata: AnnData, name: str) -> list[list[str]]:
    """Write two rows for each known gene of a data set: one for the domain, one for the expert's region."""
    rows = []
    for region, gene in KNOWN[name]:
        domain, overlap = named(adata)[region]
        for kind, name_there in (("domains", domain), ("expert", region)):
            beside, near = row_of(adata, name_there, gene, kind, "neighbors")
            rank, row = row_of(adata, name_there, gene, kind, "rest")
            label = f"{domain}, for {region} (overlap {overlap:.2f})" if kind == "domains" else f"expert's {region}"
            rows.append(
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
    return rows


def summary(adata: AnnData, name: str, seconds: dict[str, float]) -> list[str]:
    """Write the row of a data set: how many genes are specific, and how long it took."""
    n_specific = {
        against: stmmr.tl.domain_genes_table(adata, against=against, only_specific=True, key="domains")
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
    return gene_rows(adata, name), summary(adata, name, seconds), adata


def draw(adata: AnnData) -> None:
    """Draw the genes of the domains of the cortex."""
    import matplotlib as mpl

    mpl.use("Agg")
    ax = stmmr.pl.domain_genes(adata, key="domains")
    ax.figure.savefig(ROOT / "docs" / "images" / "domain_genes.png", dpi=250, bbox_inches="tight")


def main() -> None:
    no_options(__doc__)
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
        rows, counts, adata = measure(name)
        known += rows
        counted.append(counts)
        if name.startswith("visium"):
            draw(adata)
    write_tables("genes", known, counted)


if __name__ == "__main__":
    main()
