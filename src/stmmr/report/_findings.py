"""Results of analyses after the domains: spatially variable genes, gene sets, composition of sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories, hex_colors
from stmmr._core.record import recorded
from stmmr._core.sections import section_key_of
from stmmr.pipeline.analyses import ANALYSES
from stmmr.tl import composition

if TYPE_CHECKING:
    from anndata import AnnData

    Row = dict[str, object]

VARIABLE: Final = 10
"""Number of spatially variable genes in the table."""
SETS: Final = 3
"""Number of gene sets of each domain in the table."""
FDR: Final = 0.05
"""Largest adjusted p-value in the tables."""


class Findings(NamedTuple):
    """Tables of the page; None if a step did not run."""

    variable: tuple[list[Row], int] | None
    """Spatially variable genes, and their total number."""
    sets: tuple[list[Row], str] | None
    """Gene sets of each domain, and the file with the sets."""
    sections: tuple[list[Row], list[Row]] | None
    """Domains, and the sections with the share of each."""


def further_sections(adata: AnnData) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """Get title, text, headings and rows of the sections that analyses declare in the table of analyses."""
    sections = []
    for analysis in ANALYSES:
        if analysis.section is not None and (table := analysis.section.table(adata)) is not None:
            rows = [
                [_cell(heading, value) for heading, value in row.items()] for row in table.to_dict(orient="records")
            ]
            sections.append((analysis.section.title, analysis.section.text, list(map(str, table.columns)), rows))
    return sections


def _cell(heading: object, value: object) -> str:
    """Write a value of a table."""
    if isinstance(value, float | np.floating):
        return format_p(float(value)) if heading == "Adjusted p" else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def findings_of(adata: AnnData) -> Findings:
    """Collect the tables."""
    return Findings(_variable(adata), _sets(adata), _sections(adata))


def variable_genes(adata: AnnData) -> list[str]:
    """Get the genes with the highest Moran's I; empty without `stmmr.tl.spatially_variable_genes`."""
    if keys.MORAN_I not in adata.var or keys.MORAN_P_ADJUSTED not in adata.var:
        return []
    index = adata.var[keys.MORAN_I].astype(float)[adata.var[keys.MORAN_P_ADJUSTED].astype(float) < FDR]
    return [str(gene) for gene in index.nlargest(VARIABLE).index]


def _variable(adata: AnnData) -> tuple[list[Row], int] | None:
    if keys.MORAN_I not in adata.var or keys.MORAN_P_ADJUSTED not in adata.var:
        return None
    index, pval = (adata.var[key].astype(float) for key in (keys.MORAN_I, keys.MORAN_P_ADJUSTED))
    rows: list[Row] = [
        {"gene": gene, "index": f"{index[gene]:.2f}", "p": format_p(pval[gene])} for gene in variable_genes(adata)
    ]
    return rows, int((pval < FDR).sum())


def _sets(adata: AnnData) -> tuple[list[Row], str] | None:
    table = adata.uns.get(keys.ENRICHMENT)
    if not isinstance(table, pd.DataFrame):
        return None
    colors = _colors(adata)
    best = table[table["pval_adj"] < FDR].groupby("domain", observed=True, sort=False).head(SETS)
    rows: list[Row] = [
        {
            "domain": str(row["domain"]),
            "color": colors.get(str(row["domain"]), "transparent"),
            "name": str(row["gene_set"]).replace("_", " "),
            "shared": f"{int(row['n_shared'])} of {int(row['n_set'])}",
            "fold": f"{row['fold_enrichment']:.1f}",
            "p": format_p(float(row["pval_adj"])),
        }
        for row in best.to_dict("records")
    ]
    step = recorded(adata).get("enrichment", {}).get(keys.ENRICHMENT, {})
    return rows, str(step.get("gmt", ""))


def _sections(adata: AnnData) -> tuple[list[Row], list[Row]] | None:
    key = section_key_of(adata)
    if key is None or adata.obs[key].nunique() < 2:
        return None
    table = composition(adata, key)
    shares = table.pivot_table(index="section", columns="domain", values="share", observed=False, sort=False)
    colors = _colors(adata)
    present = [name for name in shares.columns if shares[name].gt(0).any()]
    domains: list[Row] = [{"name": str(name), "color": colors[str(name)]} for name in present]
    sizes = table.groupby("section", observed=False, sort=False)["n_obs"].sum()
    rows: list[Row] = [
        {"name": str(name), "n": int(sizes[name]), "shares": [float(shares.loc[name, domain]) for domain in present]}
        for name in shares.index
    ]
    return domains, rows


def _colors(adata: AnnData) -> dict[str, str]:
    """Get the colour of each domain."""
    names = categories(adata, keys.DOMAIN).categories
    return dict(zip(map(str, names), hex_colors(adata, keys.DOMAIN, names), strict=True))


def format_p(p: float) -> str:
    """Format a p-value, as "< 1e-300" if it is about the smallest float."""
    if np.isnan(p):
        return "–"
    if p < 1e-300:
        return "< 1e-300"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
