"""Domain genes: differential expression against neighbouring domains and against the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.borders import contacts, neighboring_domains
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed, logger, require_choice, require_key, unique_names
from stmmr._core.depends import depends, warn_outdated
from stmmr._core.genes import gene_columns
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.parallel import in_threads
from stmmr._core.record import record, recorded
from stmmr._core.rows import slices
from stmmr._core.sections import graph_sections, laid_apart, section_codes, sections_of, tissue_coordinates
from stmmr._core.space import coordinates, rows_called
from stmmr._core.stats import fdr_bh
from stmmr.tl._rank_sums import RankSums, rank_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from stmmr._core.types import Bools, Csc, Float64, Ints

Against = Literal["neighbors", "rest"]
COMPARISONS: Final = ("neighbors", "rest")
MIN_SHARES: Final = {"spots": 0.8, "cells": 0.25, "bins": 0.25}
"""Share of the spots, cells or bins of a domain in which a specific gene is seen."""
LEADING_BELOW: Final = 0.05
"""Adjusted p-value below which a gene can lead a domain."""
GENES_AT_ONCE: Final = 256
"""Genes that a thread compares at a time."""
FEWEST: Final = 3
"""Fewest spots of a domain that is tested."""
FEWEST_LEADING: Final = 5
"""Fewest spots of a domain with leading genes."""
_COLUMNS: Final = (
    "share", "share_other", "mean", "mean_other", "log2_fold_change", "auc", "z", "pval", "pval_adj"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DomainGenesOptions(Checked):
    """Thresholds of neighbouring domains and of specific genes.

    Attributes
    ----------
    n_neighbors
        Number of nearest neighbours that are contacts of a spot; twelve are two rings on a hexagonal array.
    min_contact
        Contacts per spot of another domain above which it is a neighbour. The three domains with most contacts are
        taken, with all their spots; if none has enough contacts, the one with most.
    max_pval_adj
        Largest adjusted p-value of a specific gene.
    min_share
        Smallest share of the spots of the domain in which it is seen. None: 0.8 for spots, as in SpaGCN; 0.25 for cells
        and bins, which show few counts of a gene, as in `scanpy.tl.filter_rank_genes_groups`.
    min_share_ratio
        Smallest ratio of this share to that in the other spots.
    min_fold_change
        Smallest exp(``mean`` − ``mean_other``), the fold change that SpaGCN computes from log-normalised values.
    """

    n_neighbors: int = 12
    min_contact: float = 0.5
    max_pval_adj: float = 0.05
    min_share: float | None = None
    min_share_ratio: float = 1.0
    min_fold_change: float = 1.5

    def passed(self, table: pd.DataFrame) -> Bools:
        """Mark the rows of a table that pass all thresholds."""
        low = np.asarray(table["pval_adj"] < self.max_pval_adj)
        common = np.asarray(table["share"] > (self.min_share or 0))
        ratio = np.asarray(table["share"] > self.min_share_ratio * table["share_other"])
        fold = np.asarray(table["mean"] - table["mean_other"] > np.log(self.min_fold_change))
        return np.asarray(low & common & ratio & fold)


@checked
@shows_options(DomainGenesOptions)
def domain_genes(
    adata: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    section_key: str | None = None,
    layer: str | None = None,
    key_added: str = keys.DOMAIN_GENES,
    progress: bool = False,
    **options: Any,
) -> None:
    """Test every gene in every domain against the neighbouring domains and against the rest of the tissue.

    Wilcoxon rank-sum test on counts normalised to the median library size and log1p, two-sided, by its normal
    approximation with tie correction. Neighbouring domains and specific genes are defined as in SpaGCN, with its
    published thresholds as defaults. ``X`` stays unchanged. Counts may be in a file, of which as many genes are read at
    once as fit into memory (one pass over the file for every 17 million nonzero values).

    Domains were found from the same genes, and neighbouring spots are alike: p-values are too small. Use them to rank
    genes, and ``auc`` and ``log2_fold_change`` to judge the size of a difference. With replicates, see
    :func:`stmmr.tl.domain_genes_pseudobulk`.

    Parameters
    ----------
    adata
        Annotated data with domains, raw counts and coordinates. Spots without a domain are left out.
    section_key
        Column of ``obs`` with the section of each spot; None: that of the spatial graph. Domains are neighbours within
        a section only, but ranks are over all sections.
    layer
        Layer with the raw counts; None: that of `stmmr.pp.expression`, otherwise ``layers["counts"]`` if it exists,
        otherwise ``X``.
    key_added
        Key of ``uns`` to write.

    Returns
    -------
    None. Sets:

    ``uns[key_added]``
        DataFrame with a row for each domain, comparison and gene, highest ``z`` first, to be read by
        :func:`stmmr.tl.domain_genes_table`. Columns: ``domain``, ``against`` ("neighbors" or "rest") and ``gene``
        (categories); ``share`` and ``share_other``, shares of spots with the gene inside and outside of the domain;
        ``mean`` and ``mean_other`` of the log-normalised values; ``log2_fold_change`` of the mean normalised counts,
        with one pseudo-count spread over all spots compared; ``auc``, the probability that a spot inside has a larger
        value than one outside; ``z``; ``pval``; ``pval_adj`` (Benjamini and Hochberg, over the genes of one domain and
        comparison); ``specific``, whether it passes all thresholds.
    ``uns["stmmr"]["domain_genes"][key_added]``
        Parameters; ``"domains"``, their names; and ``"neighbors"``, bool, shape (K, K): whether domain j (column) is a
        neighbour of domain k (row).

    Raises
    ------
    InputError
        If there are fewer than two domains of three spots, no raw counts or coordinates, or a spot without section.

    References
    ----------
    Hu et al. (2021), SpaGCN, Nature Methods 18, 1342, doi:10.1038/s41592-021-01255-8; the defaults are those of its
    tutorial.
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    chosen = DomainGenesOptions(**options)
    if chosen.min_share is None:
        chosen = replace(chosen, min_share=MIN_SHARES[rows_called(adata)])
    unique_names(adata)
    domains = tested_domains(adata, domain_key)
    neighbours = _neighbours(adata, domains, section_key, chosen)
    rest = ~np.eye(len(neighbours), dtype=bool)
    columns = gene_columns(adata, layer, progress=progress)
    assigned = domains.codes >= 0
    codes = domains.codes[assigned].astype(np.intp)
    blocks = (
        values if assigned.all() else values[assigned]
        for _, values in columns.lognormalised(progress=progress, task="genes of domains")
    )
    compare = partial(_compared, codes=codes, others=[neighbours, rest])
    # in each block, several genes in parallel
    parts = [part for block in blocks for part in in_threads(compare, ((some,) for some in _parted(block)))]
    names = pd.Index(domains.categories.astype(str))
    # NaN if a domain is too small for a test, or has no neighbour
    table = _table([np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)], names, adata.var_names)
    table["specific"] = chosen.passed(table)
    adata.uns[key_added] = table
    step = {
        "domain_key": domain_key,
        "section_key": section_key or "",
        "layer": layer or "",
        **asdict(chosen),
        # no dict by name, as a file cannot hold names with a slash
        "domains": names.to_numpy(dtype=object),
        "neighbors": neighbours,
    }
    record(adata, domain_genes={**recorded(adata).get("domain_genes", {}), key_added: step})
    writes = [f"uns:{key_added}", f"notes:domain_genes:{key_added}"]
    depends(adata, f"domain_genes:{key_added}", on=[f"obs:{domain_key}"], writes=writes)


@checked
def domain_genes_table(
    adata: AnnData,
    *,
    domain: str | None = None,
    against: Against | None = None,
    only_specific: bool = False,
    n_genes: int | None = None,
    key: str = keys.DOMAIN_GENES,
) -> pd.DataFrame:
    """Get the genes of domains as a table, best first; save it with ``.to_csv("genes.csv", index=False)``.

    Parameters
    ----------
    adata
        Annotated data after :func:`stmmr.tl.domain_genes` or :func:`stmmr.tl.domain_genes_pseudobulk`.
    domain
        Name of a domain; None: all.
    against
        "neighbors" or "rest"; None: both.
    only_specific
        Leave out genes that are not specific.
    n_genes
        Largest number of rows for each domain and comparison.
    key
        Key of ``uns``.

    Returns
    -------
    A copy with rows numbered from 0; columns as described in the function that wrote it.

    Raises
    ------
    InputError
        If there is no such table or domain.
    """
    require_key(adata.uns, key, where="uns", hint="Run stmmr.tl.domain_genes(adata) first.")
    warn_outdated(adata, f"domain_genes:{key}", f"domain_genes_pseudobulk:{key}")
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


@checked
def leading_genes(
    adata: AnnData, *, n_genes: int = 5, against: Against = "rest", key: str = keys.DOMAIN_GENES
) -> dict[str, list[str]]:
    """Get the best genes of each domain, as figures and the report show them.

    They are higher in the domain at an adjusted p-value below 0.05, and the domain has at least five spots: in fewer,
    some genes are high by chance. First come those with their highest mean there, then others; among each of these,
    specific ones first, then those with the highest ``z``.

    Parameters
    ----------
    adata
        Annotated data after :func:`stmmr.tl.domain_genes`.
    n_genes
        Largest number of genes of each domain.
    against
        "rest" or "neighbors".

    Returns
    -------
    The genes of each domain, best first; none for a domain in which no gene is higher.

    Raises
    ------
    InputError
        If there is no such table.
    """
    table = domain_genes_table(adata, against=against, key=key)
    for column in ("mean", "z", "specific"):
        hint = "Run stmmr.tl.domain_genes first."
        require_key(table.columns, column, where=f"the columns of uns[{key!r}]", hint=hint)
    highest = table["mean"] == table.groupby("gene", observed=True)["mean"].transform("max")
    # without a test there is no z, and no leading gene
    candidates = (table["z"] > 0) & (table["pval_adj"] < LEADING_BELOW)
    ordered = (
        table.assign(highest=highest)[candidates]
        .sort_values(["highest", "specific", "z"], ascending=False, kind="stable")
        .groupby(table["domain"].astype(str), sort=False)["gene"]
    )
    large = _large_domains(adata, key)
    best = {
        str(domain): [str(gene) for gene in genes[:n_genes]]
        for domain, genes in ordered
        if large is None or domain in large
    }
    return {name: best.get(name, []) for name in dict.fromkeys(table["domain"].astype(str))}


def _large_domains(adata: AnnData, key: str) -> set[str] | None:
    """Name the domains with enough spots to have leading genes; None if they are no longer in ``obs``."""
    domain_key = recorded(adata).get("domain_genes", {}).get(key, {}).get("domain_key", keys.DOMAIN)
    if domain_key not in adata.obs:
        return None
    sizes = adata.obs[domain_key].astype(str).value_counts()
    return set(sizes.index[sizes >= FEWEST_LEADING])


def tested_domains(adata: AnnData, domain_key: str) -> pd.Categorical:
    """Get the domain of each spot, checked: at least two domains, one of them large enough for a test.

    Raises InputError if there are fewer.
    """
    domains = categories(adata, domain_key, hint="Run stmmr.tl.domains(adata) first.").remove_unused_categories()
    sizes = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    if len(sizes) < 2 or (sizes >= FEWEST).sum() < 1:
        spots = rows_called(adata)
        in_data = listed(f"{name} ({n} {spots})" for name, n in zip(domains.categories, sizes, strict=True))
        raise InputError(
            f"Expected at least two domains in obs[{domain_key!r}], one of them with {FEWEST} {spots} or more, found "
            f"{in_data}."
        )
    small = [str(name) for name, n in zip(domains.categories, sizes, strict=True) if n < FEWEST]
    if small:
        logger.warning(
            "Not tested, as they have fewer than %d %s: domains %s.", FEWEST, rows_called(adata), listed(small)
        )
    return domains


def _neighbours(adata: AnnData, domains: pd.Categorical, section_key: str | None, options: DomainGenesOptions) -> Bools:
    """Find the neighbouring domains of each, shape (K, K)."""
    if section_key is None:
        sections, xy = graph_sections(adata), tissue_coordinates(adata)
    else:
        sections = sections_of(adata, section_key)
        xy = laid_apart(coordinates(adata), sections)
    section = section_codes(sections, adata.n_obs)
    codes, n_domains = domains.codes.astype(np.intp), len(domains.categories)
    contact = contacts(xy, codes, section, n_domains=n_domains, n_neighbors=options.n_neighbors)
    sizes = np.bincount(codes[codes >= 0], minlength=n_domains)
    return neighboring_domains(contact, sizes, min_contact=options.min_contact)


def _parted(values: Csc) -> Iterator[Csc]:
    """Divide genes, shape (N, G), into parts."""
    return (values[:, genes] for genes in slices(values.shape[1], GENES_AT_ONCE))


def _compared(values: Csc, codes: Ints, others: list[Bools]) -> list[Float64]:
    """Compute the statistics of genes in each domain and in the others; `_COLUMNS` without the last, each (C, K, G)."""
    from stmmr._core.compiled import sums_by_group

    sizes = np.bincount(codes, minlength=len(others[0])).astype(np.float64)
    sums = list(sums_by_group(values.indptr, values.indices, values.data, codes, len(sizes)))
    statistics = [
        _against(sums, sizes, other, ranks)
        for other, ranks in zip(others, rank_sums(values, codes, others), strict=True)
    ]
    return [np.stack(arrays) for arrays in zip(*statistics, strict=True)]


def _against(sums: list[Float64], sizes: Float64, others: Bools, ranks: RankSums) -> list[Float64]:
    """Compute the statistics of one comparison, each of shape (K, G)."""
    from scipy import stats

    inside, outside = sizes[:, None], (others @ sizes)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        (share, mean, count), (share_other, mean_other, count_other) = (
            [total / n for total in totals]
            for totals, n in ((sums, inside), ([others @ total for total in sums], outside))
        )
        pseudo = 1 / (inside + outside)
        fold = np.log2((count + pseudo) / (count_other + pseudo))
    pval = 2 * stats.norm.sf(np.abs(ranks.z))
    untested = (inside < FEWEST) | (outside == 0)
    tests = [np.where(untested, np.nan, values) for values in (ranks.auc, ranks.z, pval)]
    return [share, share_other, mean, mean_other, fold, *tests]


def _table(arrays: list[Float64], domains: pd.Index, genes: pd.Index) -> pd.DataFrame:
    """Arrange arrays, (C, K, G), in rows: domains in order, each against its neighbours first, best genes first."""
    arrays = [np.swapaxes(array, 0, 1) for array in [*arrays, fdr_bh(arrays[-1])]]  # (K, C, G)
    order = np.argsort(-np.nan_to_num(arrays[_COLUMNS.index("z")], nan=-np.inf), axis=-1, kind="stable")
    domain, comparison, _ = np.ogrid[tuple(slice(n) for n in order.shape)]
    flat = {
        "domain": (np.broadcast_to(domain, order.shape), domains),
        "against": (np.broadcast_to(comparison, order.shape), pd.Index(COMPARISONS)),
        "gene": (order, pd.Index(genes.astype(str))),
    }
    table = pd.DataFrame(
        {name: pd.Categorical.from_codes(codes.ravel(), categories=index) for name, (codes, index) in flat.items()},
        # texts, as AnnData writes no numbers for names
        index=np.arange(order.size).astype(str),
    )
    for name, array in zip(_COLUMNS, arrays, strict=True):
        table[name] = np.take_along_axis(array, order, axis=-1).ravel()
    return table
