"""Genes that the map offers, and their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.genes import lognormalised_rows, require_genes
from stmmr._core.record import recorded
from stmmr.pl._trajectory import leading_trends
from stmmr.report._findings import variable_genes
from stmmr.tl import leading_genes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from stmmr._core.types import Csc, Float64

SHOWN_AT_MOST: Final = 48
"""Number of genes that the map offers if none are named and no table has genes."""
TOP: Final = 5
"""Number of genes in the table of domains."""


def top_genes(adata: AnnData) -> dict[str, list[str]]:
    """Get the leading genes of each domain; empty without `stmmr.tl.domain_genes`."""
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not isinstance(table, pd.DataFrame) or not {"domain", "against", "gene", "mean", "z"} <= set(table.columns):
        return {}
    return leading_genes(adata, n_genes=TOP)


def genes_to_show(adata: AnnData, genes: Iterable[str] | None) -> tuple[list[str], str]:
    """Choose genes, and get a description of the choice; none without counts."""
    if genes is not None:
        return require_genes(adata, genes, may_be_empty=True), "as named"
    if "expression" not in recorded(adata) or keys.HIGHLY_VARIABLE not in adata.var:
        return [], ""
    trends = recorded(adata).get("gene_trends")
    in_tables = {gene for names in top_genes(adata).values() for gene in names} | set(variable_genes(adata))
    in_tables |= set(leading_trends(trends["table"]) if trends is not None else [])
    if known := sorted(in_tables & set(adata.var_names)):
        return known, "those of the tables and curves"
    share = share_between_domains(adata)
    chosen = np.argsort(-share, kind="stable")[:SHOWN_AT_MOST]
    how = "highly variable ones with the largest share of their variance between domains"
    return sorted(adata.var_names[chosen[share[chosen] > 0]]), how


def values_of(adata: AnnData, genes: list[str]) -> Csc:
    """Get log-normalised values, shape (n_obs, n_genes); counts on disk are read in chunks."""
    columns = adata.var_names.get_indexer(pd.Index(genes))
    return sparse.csc_matrix(sparse.vstack([rows[:, columns] for rows in lognormalised_rows(adata)]))


def share_between_domains(adata: AnnData) -> Float64:
    """Compute the share of the variance of each highly variable gene that is between domains; 0 for other genes."""
    domains = categories(adata, keys.DOMAIN)
    known = domains.codes >= 0
    n = known.sum()
    if n == 0:
        return np.zeros(adata.n_vars)
    member = sparse.csr_matrix((known.astype(np.float64), (domains.codes * known, np.arange(adata.n_obs))))
    sums, squares, start = np.zeros((member.shape[0], adata.n_vars)), np.zeros(adata.n_vars), 0
    for rows in lognormalised_rows(adata):
        chunk = member[:, start : start + rows.shape[0]]
        sums += (chunk @ rows).toarray()
        squares += np.asarray(chunk.sum(axis=0)).ravel() @ rows.power(2)
        start += rows.shape[0]
    sizes = np.asarray(member.sum(axis=1))
    mean = sums.sum(axis=0) / n
    between = (np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0) * sums).sum(axis=0) - n * mean**2
    total = squares - n * mean**2
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 1e-9 * n)
    return np.where(adata.var[keys.HIGHLY_VARIABLE].to_numpy(bool), share, 0.0)
