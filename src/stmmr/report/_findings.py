"""What was found after the domains: genes that vary over the tissue, gene sets, what sections are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories, hex_colors
from stmmr._core.record import recorded
from stmmr._core.sections import section_key_of
from stmmr.tl import composition

if TYPE_CHECKING:
    from anndata import AnnData

VARIABLE: Final = 10
"""Spatially variable genes that are listed."""
SETS: Final = 3
"""Gene sets that are listed for each domain."""
FDR: Final = 0.05
"""Largest adjusted p-value of what is listed."""


class Findings(NamedTuple):
    """Tables of the page, None where a step did not run."""

    variable: tuple[list[dict[str, Any]], int] | None
    """Spatially variable genes, and how many there are."""
    sets: tuple[list[dict[str, Any]], str] | None
    """Gene sets of each domain, and the file that they are from."""
    sections: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None
    """Domains, and the sections with the share of each."""


def findings_of(adata: AnnData) -> Findings:
    """Collect what there is."""
    return Findings(_variable(adata), _sets(adata), _sections(adata))


def variable_genes(adata: AnnData) -> list[str]:
    """Get the genes that vary most over the tissue; empty where it was not measured."""
    if keys.MORAN_I not in adata.var or keys.MORAN_P_ADJUSTED not in adata.var:
        return []
    measured = adata.var[keys.MORAN_I].astype(float)[adata.var[keys.MORAN_P_ADJUSTED].astype(float) < FDR]
    return [str(gene) for gene in measured.nlargest(VARIABLE).index]


def _variable(adata: AnnData) -> tuple[list[dict[str, Any]], int] | None:
    if keys.MORAN_I not in adata.var or keys.MORAN_P_ADJUSTED not in adata.var:
        return None
    index, adjusted = (adata.var[key].astype(float) for key in (keys.MORAN_I, keys.MORAN_P_ADJUSTED))
    rows = [
        {"gene": gene, "index": f"{index[gene]:.2f}", "p": p_value(adjusted[gene])} for gene in variable_genes(adata)
    ]
    return rows, int((adjusted < FDR).sum())


def _sets(adata: AnnData) -> tuple[list[dict[str, Any]], str] | None:
    table = adata.uns.get(keys.ENRICHMENT)
    if not isinstance(table, pd.DataFrame):
        return None
    colors = _colors(adata)
    likely = table[table["pval_adj"] < FDR].groupby("domain", observed=True, sort=False).head(SETS)
    rows = [
        {
            "domain": str(row["domain"]),
            "color": colors.get(str(row["domain"]), "transparent"),
            "name": str(row["gene_set"]).replace("_", " "),
            "shared": f"{int(row['n_shared'])} of {int(row['n_set'])}",
            "fold": f"{row['fold_enrichment']:.1f}",
            "p": p_value(float(row["pval_adj"])),
        }
        for row in likely.to_dict("records")
    ]
    step = recorded(adata).get("enrichment", {}).get(keys.ENRICHMENT, {})
    return rows, str(step.get("gmt", ""))


def _sections(adata: AnnData) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    key = section_key_of(adata)
    if key is None or adata.obs[key].nunique() < 2:
        return None
    table = composition(adata, key)
    shares = table.pivot_table(index="section", columns="domain", values="share", observed=False, sort=False)
    colors = _colors(adata)
    present = [name for name in shares.columns if shares[name].gt(0).any()]
    domains = [{"name": str(name), "color": colors[str(name)]} for name in present]
    spots = table.groupby("section", observed=False, sort=False)["spots"].sum()
    rows = [
        {
            "name": str(section),
            "spots": int(spots[section]),
            "shares": [float(shares.loc[section, d]) for d in present],
        }
        for section in shares.index
    ]
    return domains, rows


def _colors(adata: AnnData) -> dict[str, str]:
    """Get the colour of each domain."""
    names = categories(adata, keys.DOMAIN).categories
    return dict(zip(map(str, names), hex_colors(adata, keys.DOMAIN, names), strict=True))


def p_value(p: float) -> str:
    """Write a p-value; below what a float can tell from 0, so."""
    if np.isnan(p):
        return "–"
    if p < 1e-300:
        return "< 1e-300"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
