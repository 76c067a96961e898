"""Genes that tell a domain from its neighbours and from the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed, logger, require_choice, require_key, unique_names
from stmmr._core.genes import gene_columns
from stmmr._core.record import record, recorded
from stmmr._core.sections import graph_sections, laid_apart, sections_of, tissue_coordinates
from stmmr._core.space import coordinates
from stmmr._core.stats import fdr_bh
from stmmr.tl._borders import contacts, neighboring_domains
from stmmr.tl._rank_sums import RankSums, rank_sums

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Against = Literal["neighbors", "rest"]
COMPARISONS: Final = ("neighbors", "rest")
FEWEST: Final = 3
"""Places of a domain that is tested."""
_COLUMNS: Final = (
    "share", "share_other", "mean", "mean_other", "log2_fold_change", "auc", "z", "pval", "pval_adj"
)  # fmt: skip


class Filters(NamedTuple):
    """What a gene has to reach to be called specific."""

    max_pval_adj: float
    min_share: float
    min_share_ratio: float
    min_fold_change: float

    def passed(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows reach it."""
        low = np.asarray(table["pval_adj"] < self.max_pval_adj)
        common = np.asarray(table["share"] > self.min_share)
        ratio = np.asarray(table["share"] > self.min_share_ratio * table["share_other"])
        fold = np.asarray(table["mean"] - table["mean_other"] > np.log(self.min_fold_change))
        return np.asarray(low & common & ratio & fold)


def domain_genes(
    adata: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    section_key: str | None = None,
    layer: str | None = None,
    n_neighbors: int = 12,
    min_contact: float = 0.5,
    max_pval_adj: float = 0.05,
    min_share: float = 0.8,
    min_share_ratio: float = 1.0,
    min_fold_change: float = 1.5,
    key_added: str = keys.DOMAIN_GENES,
    progress: bool = False,
) -> None:
    """Compare every gene in every domain with the neighbouring domains, and with the rest of the tissue.

    By Wilcoxon's rank-sum test on counts normalised to the median library size and log1p, two-sided, by its normal
    approximation with correction for ties. Neighbours are found and genes called specific as SpaGCN does, with its
    published numbers as defaults. ``X`` is left as it is; counts may lie in a file, of which as many genes are read at
    once as fit (one pass over the file for every 17 million values other than zero).

    The domains were found from the same genes, and neighbouring places are alike: p-values are too small. They rank
    genes; of how large a difference is, ``auc`` and ``log2_fold_change`` tell. Where there are replicates, see
    :func:`stmmr.tl.domain_genes_pseudobulk`.

    Parameters
    ----------
    adata
        Annotated data with domains, raw counts and coordinates. Places without a domain are left out.
    domain_key
        Column of ``obs`` with the domains.
    section_key
        Column of ``obs`` that names the section of each place: domains border each other within a section only. None:
        that of the spatial graph. Ranks are over all sections.
    layer
        Layer with the raw counts; None: that which `stmmr.pp.expression` read, otherwise ``layers["counts"]`` where it
        is, otherwise ``X``.
    n_neighbors
        Nearest places of a place that touch it; twelve are the two rings around it on a hexagonal array.
    min_contact
        Contacts per place of another domain above which it is a neighbour. The three with most contacts are taken,
        with all their places; where none has enough, the one with most.
    max_pval_adj
        Largest adjusted p-value of a specific gene.
    min_share
        Share of the places of the domain in which it must be seen.
    min_share_ratio
        Least ratio of this share to that in the other places.
    min_fold_change
        Least exp(``mean`` − ``mean_other``), the fold change as SpaGCN computes it of log-normalised values.
    key_added
        Key of ``uns`` to write.
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    Nothing; writes

    ``uns[key_added]``
        Data frame with a row for each domain, comparison and gene, best (highest ``z``) first; see
        :func:`stmmr.tl.domain_genes_table`. Columns ``domain``, ``against`` ("neighbors" or "rest"), ``gene``
        (categories); ``share`` and ``share_other``, the shares of places in which it is seen, in the domain and
        outside; ``mean`` and ``mean_other`` of the log-normalised values; ``log2_fold_change`` of the mean normalised
        counts, with one count spread over all places compared added to both; ``auc``, the chance that a place of the
        domain has more than one outside; ``z``; ``pval``; ``pval_adj`` (Benjamini and Hochberg, over the genes of one
        domain and comparison); ``specific``, whether it passes all filters.
    ``uns["stmmr"]["domain_genes"][key_added]``
        The parameters; ``"domains"``, their names, and ``"neighbors"``, bool, shape (K, K): whether domain j (column)
        is among the neighbours of domain k (row).

    Raises
    ------
    InputError
        If there are fewer than two domains of three places, no raw counts or coordinates, or a place without section.

    References
    ----------
    Hu et al. (2021), SpaGCN, Nature Methods 18, 1342, doi:10.1038/s41592-021-01255-8; the defaults are those of its
    tutorial.
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    filters = Filters(max_pval_adj, min_share, min_share_ratio, min_fold_change)
    if min_fold_change <= 0:
        raise InputError(f"Expected min_fold_change to be positive, found {min_fold_change!r}.")
    unique_names(adata)
    domains = tested_domains(adata, domain_key)
    neighbours = _neighbours(adata, domains, section_key, n_neighbors=n_neighbors, min_contact=min_contact)
    rest = ~np.eye(len(neighbours), dtype=bool)
    columns = gene_columns(adata, layer, progress=progress)
    placed = domains.codes >= 0
    parts = [
        _compared(values if placed.all() else values[placed], domains.codes[placed].astype(np.intp), [neighbours, rest])
        for _, values in columns.lognormalised(progress=progress, task="genes of domains")
    ]
    names = pd.Index(domains.categories.astype(str))
    # NaN where a domain is too small to be tested, or has no neighbour
    table = _table([np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)], names, adata.var_names)
    table["specific"] = filters.passed(table)
    adata.uns[key_added] = table
    step = {
        "domain_key": domain_key,
        "section_key": section_key or "",
        "n_neighbors": n_neighbors,
        "min_contact": min_contact,
        **filters._asdict(),
        # no dict by name: a file has no place for names with a slash
        "domains": names.to_numpy(dtype=object),
        "neighbors": neighbours,
    }
    record(adata, domain_genes={**recorded(adata).get("domain_genes", {}), key_added: step})


def domain_genes_table(
    adata: AnnData,
    *,
    domain: str | None = None,
    against: Against | None = None,
    only_specific: bool = False,
    n_genes: int | None = None,
    key: str = keys.DOMAIN_GENES,
) -> pd.DataFrame:
    """Get the genes of domains as a table, best first; save by ``.to_csv("genes.csv", index=False)``.

    Parameters
    ----------
    adata
        Annotated data after :func:`stmmr.tl.domain_genes` or :func:`stmmr.tl.domain_genes_pseudobulk`.
    domain
        Which domain; all if None.
    against
        "neighbors" or "rest"; both if None.
    only_specific
        Whether to leave out genes that do not pass the filters.
    n_genes
        At most as many rows for each domain and comparison.
    key
        Key of ``uns``.

    Returns
    -------
    A copy, with rows numbered from 0; the columns are those that wrote it say.

    Raises
    ------
    InputError
        If there is no such table or domain.
    """
    require_key(adata.uns, key, where="uns", hint="Run stmmr.tl.domain_genes(adata) first.")
    table = adata.uns[key]
    if domain is not None:
        names = list(dict.fromkeys(table["domain"].astype(str)))
        require_choice(str(domain), names, name="domain")
        table = table[table["domain"].astype(str) == str(domain)]
    if against is not None:
        require_choice(against, COMPARISONS, name="against")
        table = table[table["against"] == against]
    if only_specific:
        table = table[table["specific"].astype(bool)]
    if n_genes is not None:
        table = table.groupby(["domain", "against"], observed=True, sort=False).head(n_genes)
    return pd.DataFrame(table.reset_index(drop=True))


def tested_domains(adata: AnnData, domain_key: str) -> pd.Categorical:
    """Get the domain of each place, checked: two domains at least that have the places to be tested.

    Raises
    ------
    InputError
        If there are not.
    """
    domains = categories(adata, domain_key, hint="Run stmmr.tl.domains(adata) first.").remove_unused_categories()
    n_of = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    if len(n_of) < 2 or (n_of >= FEWEST).sum() < 1:
        found = listed(f"{name} ({n} places)" for name, n in zip(domains.categories, n_of, strict=True))
        raise InputError(
            f"Expected at least two domains in obs[{domain_key!r}] to compare, one of them of {FEWEST} places or more, "
            f"found {found}."
        )
    small = [str(name) for name, n in zip(domains.categories, n_of, strict=True) if n < FEWEST]
    if small:
        logger.warning(
            "Domains of fewer than %d places are not tested; others are compared with them: %s.", FEWEST, listed(small)
        )
    return domains


def _neighbours(
    adata: AnnData, domains: pd.Categorical, section_key: str | None, *, n_neighbors: int, min_contact: float
) -> NDArray[np.bool_]:
    """Find the neighbouring domains of each, shape (K, K)."""
    if section_key is None:
        sections, xy = graph_sections(adata), tissue_coordinates(adata)
    else:
        sections = sections_of(adata, section_key)
        xy = laid_apart(coordinates(adata), sections)
    section = np.zeros(adata.n_obs, dtype=np.intp) if sections is None else sections.codes.astype(np.intp)
    codes, n_domains = domains.codes.astype(np.intp), len(domains.categories)
    contact = contacts(xy, codes, section, n_domains=n_domains, n_neighbors=n_neighbors)
    n_of = np.bincount(codes[codes >= 0], minlength=n_domains)
    return neighboring_domains(contact, n_of, min_contact=min_contact)


def _compared(
    values: sparse.csc_matrix[Any], codes: NDArray[np.intp], others: list[NDArray[np.bool_]]
) -> list[NDArray[np.float64]]:
    """Describe genes in domains and in what these are compared with; for each of `_COLUMNS` but the last, (C, K, G)."""
    n_domains = len(others[0])
    members = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(n_domains, len(codes)))
    n_of = np.bincount(codes, minlength=n_domains).astype(np.float64)
    # the same entries three times: whether there is one, the value, and the normalised count
    kinds = (np.ones_like(values.data), values.data, np.expm1(values.data))
    sums = [
        np.asarray((members @ sparse.csc_matrix((data, values.indices, values.indptr), values.shape)).toarray())
        for data in kinds
    ]
    found = [
        _against(sums, n_of, other, ranks)
        for other, ranks in zip(others, rank_sums(values, codes, others), strict=True)
    ]
    return [np.stack(arrays) for arrays in zip(*found, strict=True)]


def _against(
    sums: list[NDArray[np.float64]], n_of: NDArray[np.float64], others: NDArray[np.bool_], ranks: RankSums
) -> list[NDArray[np.float64]]:
    """Put together what is known of one comparison; each of shape (K, G)."""
    from scipy import stats

    inside, outside = n_of[:, None], (others @ n_of)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        (share, mean, count), (share_other, mean_other, count_other) = (
            [some / n for some in of] for of, n in ((sums, inside), ([others @ some for some in sums], outside))
        )
        one = 1 / (inside + outside)
        fold = np.log2((count + one) / (count_other + one))
    pval = 2 * stats.norm.sf(np.abs(ranks.z))
    found = [share, share_other, mean, mean_other, fold, ranks.auc, ranks.z, pval]
    untested = (inside < FEWEST) | (outside == 0)
    return [*found[:5], *(np.where(untested, np.nan, some) for some in found[5:])]


def _table(arrays: list[NDArray[np.float64]], domains: pd.Index, genes: pd.Index) -> pd.DataFrame:
    """Write arrays, (C, K, G), as rows: domains in their order, each against its neighbours first, best genes first."""
    arrays = [np.swapaxes(some, 0, 1) for some in [*arrays, fdr_bh(arrays[-1])]]  # (K, C, G)
    order = np.argsort(-np.nan_to_num(arrays[_COLUMNS.index("z")], nan=-np.inf), axis=-1, kind="stable")
    domain, comparison, _ = np.ogrid[tuple(slice(n) for n in order.shape)]
    flat = {
        "domain": (np.broadcast_to(domain, order.shape), domains),
        "against": (np.broadcast_to(comparison, order.shape), pd.Index(COMPARISONS)),
        "gene": (order, pd.Index(genes.astype(str))),
    }
    table = pd.DataFrame(
        {name: pd.Categorical.from_codes(codes.ravel(), categories=of) for name, (codes, of) in flat.items()},
        # names, as AnnData writes no numbers for them
        index=np.arange(order.size).astype(str),
    )
    for name, some in zip(_COLUMNS, arrays, strict=True):
        table[name] = np.take_along_axis(some, order, axis=-1).ravel()
    return table
