"""Genes that the tables of the page name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr.pl._trajectory import leading_trends
from stmmr.report._findings import variable_genes
from stmmr.tl import leading_genes

if TYPE_CHECKING:
    from anndata import AnnData


TOP: Final = 5
"""Number of genes in the table of domains."""


def top_genes(adata: AnnData, n_genes: int = TOP) -> dict[str, list[str]]:
    """Get the leading genes of each domain; empty without `stmmr.tl.domain_genes`."""
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not isinstance(table, pd.DataFrame) or not {"domain", "against", "gene", "mean", "z"} <= set(table.columns):
        return {}
    return leading_genes(adata, n_genes=n_genes)


def genes_in_tables(adata: AnnData) -> list[str]:
    """Get the genes that tables and curves of the page name."""
    trends = recorded(adata).get("gene_trends")
    named = [gene for names in top_genes(adata).values() for gene in names] + variable_genes(adata)
    return [*named, *(leading_trends(trends["table"]) if trends is not None else [])]
