"""Genes to show on the map, and their values."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from stmmr._core.types import Csc, Float64

SHOWN_AT_MOST: Final = 48
"""Genes that the map offers where none are named."""
TOP: Final = 5
"""Genes that the table names for each domain."""


def top_genes(adata: AnnData) -> dict[str, list[str]]:
    """Get the first specific genes of each domain of `stmmr.tl.domain_genes`; empty where it did not run.

    Best first: those against the rest of the tissue, then those against the neighbours only.
    """
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not isinstance(table, pd.DataFrame) or not {"domain", "against", "gene", "specific"} <= set(table.columns):
        return {}
    table = table[table["specific"].astype(bool)]
    ordered = pd.concat([table[table["against"] == "rest"], table[table["against"] == "neighbors"]])
    grouped = ordered.groupby(ordered["domain"].astype(str), sort=False)["gene"]
    return {str(domain): [str(gene) for gene in genes.unique()[:TOP]] for domain, genes in grouped}


def trend_genes(adata: AnnData) -> list[str]:
    """Get the genes whose curves over pseudotime are drawn; empty where `stmmr.tl.gene_trends` did not run."""
    found = recorded(adata).get("gene_trends")
    return [] if found is None else leading_trends(found["table"])


def genes_to_show(adata: AnnData, genes: Iterable[str] | None) -> tuple[list[str], str]:
    """Choose genes, and say in words how they were chosen; none where there are no counts."""
    if genes is not None:
        return require_genes(adata, genes, may_be_empty=True), "as named"
    if not has_expression(adata):
        return [], ""
    listed = {gene for names in top_genes(adata).values() for gene in names}
    listed |= {*variable_genes(adata), *trend_genes(adata)}
    if there := sorted(listed & set(adata.var_names)):
        return there, "those of the tables and curves"
    share = share_between_domains(adata)
    chosen = np.argsort(-share, kind="stable")[:SHOWN_AT_MOST]
    said = "the highly variable ones with the largest share of their variance between domains"
    return sorted(adata.var_names[chosen[share[chosen] > 0]]), said


def has_expression(adata: AnnData) -> bool:
    """Tell whether there are normalised counts to be had."""
    return "expression" in recorded(adata) and keys.HIGHLY_VARIABLE in adata.var


def values_of(adata: AnnData, genes: list[str]) -> Csc:
    """Get log-normalised values, shape (N, len(genes)); counts on disk are read in chunks."""
    at = adata.var_names.get_indexer(pd.Index(genes))
    columns = [rows[:, at] for rows in lognormalised_rows(adata)]
    return sparse.csc_matrix(sparse.vstack(columns))


def share_between_domains(adata: AnnData) -> Float64:
    """Measure which share of its variance each highly variable gene has between domains; 0 for the other genes."""
    domains = categories(adata, keys.DOMAIN)
    known = domains.codes >= 0
    n = known.sum()
    if n == 0:
        return np.zeros(adata.n_vars)
    member = sparse.csr_matrix((known.astype(np.float64), (domains.codes * known, np.arange(adata.n_obs))))
    sums, squares, start = np.zeros((member.shape[0], adata.n_vars)), np.zeros(adata.n_vars), 0
    for rows in lognormalised_rows(adata):
        some = member[:, start : start + rows.shape[0]]
        sums += (some @ rows).toarray()
        squares += np.asarray(some.sum(axis=0)).ravel() @ rows.power(2)
        start += rows.shape[0]
    n_of = np.asarray(member.sum(axis=1))
    mean = sums.sum(axis=0) / n
    between = (np.divide(sums, n_of, out=np.zeros_like(sums), where=n_of > 0) * sums).sum(axis=0) - n * mean**2
    total = squares - n * mean**2
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 1e-9 * n)
    return np.where(adata.var[keys.HIGHLY_VARIABLE].to_numpy(bool), share, 0.0)
