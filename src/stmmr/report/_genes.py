"""Genes that the tables of the page name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr.pl._trajectory import leading_trends
from stmmr.report._findings import variable_genes

if TYPE_CHECKING:
    from anndata import AnnData


TOP: Final = 5
"""Number of genes in the table of domains."""


def top_genes(adata: AnnData) -> dict[str, list[str]]:
    """Get the best specific genes of each domain; empty without `stmmr.tl.domain_genes`.

    Genes specific against the rest of the tissue come first, then those specific against neighbouring domains only.
    """
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not isinstance(table, pd.DataFrame) or not {"domain", "against", "gene", "specific"} <= set(table.columns):
        return {}
    table = table[table["specific"].astype(bool)]
    ordered = pd.concat([table[table["against"] == "rest"], table[table["against"] == "neighbors"]])
    grouped = ordered.groupby(ordered["domain"].astype(str), sort=False)["gene"]
    return {str(domain): [str(gene) for gene in genes.unique()[:TOP]] for domain, genes in grouped}


def genes_in_tables(adata: AnnData) -> list[str]:
    """Get the genes that tables and curves of the page name."""
    trends = recorded(adata).get("gene_trends")
    named = [gene for names in top_genes(adata).values() for gene in names] + variable_genes(adata)
    return [*named, *(leading_trends(trends["table"]) if trends is not None else [])]
