"""Gene set enrichment of domain genes, by local files of gene sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, did_you_mean, listed, logger
from stmmr._core.depends import depends
from stmmr._core.genes import close_names
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.record import record, recorded
from stmmr._core.stats import fdr_bh
from stmmr.tl._genes import Against, domain_genes_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

_COLUMNS: Final = ["gene_set", "n_shared", "n_set", "n_genes", "fold_enrichment", "pval", "pval_adj", "genes"]
FEW: Final = 0.1
"""Share of shared names below which a file seems to be of another species."""
SOME: Final = 0.3
"""Share of shared names below which there is a warning."""


@dataclass(frozen=True, kw_only=True)
class EnrichmentOptions(Checked):
    """Thresholds of genes and sets.

    Attributes
    ----------
    n_genes
        Largest number of genes of a domain.
    max_pval_adj
        Their largest adjusted p-value.
    min_set
        Smallest number of measured genes of a set.
    max_set
        Largest number of measured genes of a set.
    """

    n_genes: int = 200
    max_pval_adj: float = 0.05
    min_set: int = 5
    max_set: int = 500


@checked
@shows_options(EnrichmentOptions)
def enrichment(
    adata: AnnData,
    gmt: str | Path,
    *,
    against: Against = "rest",
    key: str = keys.DOMAIN_GENES,
    key_added: str = keys.ENRICHMENT,
    **options: Any,
) -> None:
    """Find gene sets of a local file that are over-represented among the genes of each domain.

    The genes of a domain are those higher in it (``z`` > 0) at `max_pval_adj`, at most the `n_genes` best. The
    background is every gene of the data. Nothing is downloaded. Run :func:`stmmr.tl.domain_genes` first.

    Parameters
    ----------
    adata
        Annotated data with the table of domain genes.
    gmt
        Tab-separated file with a set in each line: name, description, genes; as from MSigDB and Enrichr.
    against
        Comparison from which genes are taken: "rest" or "neighbors".
    key_added
        Key of ``uns`` to write.

    Returns
    -------
    None. Sets:

    ``uns[key_added]``
        DataFrame with ``domain`` and the columns of :func:`stmmr.tl.gene_set_enrichment`; domains without genes have no
        rows.
    ``uns["stmmr"]["enrichment"][key_added]``
        Parameters, and how many names of the file were measured.

    Raises
    ------
    InputError
        If there is no table, the file is not a .gmt, hardly any of its names were measured (another species), or a
        number is out of range.
    """
    chosen = EnrichmentOptions(**options)
    table = domain_genes_table(adata, against=against, key=key)
    table = table[(table["z"] > 0) & (table["pval_adj"] <= chosen.max_pval_adj)]
    background = adata.var_names.astype(str).tolist()
    gene_sets = measured_sets(read_gmt(gmt), background, name=Path(gmt).name)
    tested = _of_size(gene_sets.sets, chosen.min_set, chosen.max_set)
    parts = []
    for domain, rows in table.groupby("domain", observed=True, sort=False):
        genes = set(rows["gene"].astype(str)[: chosen.n_genes])
        part = _over_represented(genes, tested, n_background=len(set(background)))
        part.insert(0, "domain", str(domain))
        parts.append(part)
    if not parts:
        logger.warning("No gene set enrichment: no domain has genes at an adjusted p-value of %g.", chosen.max_pval_adj)
    result = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["domain", *_COLUMNS])
    result.index = result.index.astype(str)
    adata.uns[key_added] = result
    step = {
        "gmt": Path(gmt).name,
        "against": against,
        **asdict(chosen),
        "n_names": gene_sets.n_names,
        "n_shared": gene_sets.n_shared,
        "n_sets": len(tested),
    }
    record(adata, enrichment={**recorded(adata).get("enrichment", {}), key_added: step})
    writes = [f"uns:{key_added}", f"notes:enrichment:{key_added}"]
    depends(adata, f"enrichment:{key_added}", on=[f"uns:{key}"], writes=writes)


@checked
def gene_set_enrichment(
    genes: Sequence[str], gmt: str | Path, *, background: Sequence[str], min_set: int = 5, max_set: int = 500
) -> pd.DataFrame:
    """Find gene sets of a local file that are over-represented among given genes.

    One-sided hypergeometric test (Fisher's exact test): the probability that as many of n genes, drawn from M measured
    ones, are in a set with K measured genes.

    Parameters
    ----------
    genes
        Names of genes.
    gmt
        File of gene sets, as in :func:`stmmr.tl.enrichment`.
    background
        Names of all measured genes.
    min_set
        Smallest number of measured genes of a set.
    max_set
        Largest number of measured genes of a set.

    Returns
    -------
    A row for each set, smallest p-value first: ``gene_set``; ``n_shared``, number of `genes` in it; ``n_set``, number
    of its measured genes; ``n_genes``, number of `genes`; ``fold_enrichment``, `n_shared` over that expected at random;
    ``pval``; ``pval_adj`` (Benjamini and Hochberg, over the sets); ``genes``, those in it, joined by ";".

    Raises
    ------
    InputError
        If a gene is not in the background, the file is not a .gmt, or hardly any of its names are in the background.
    """
    measured = set(map(str, background))
    missing = [str(gene) for gene in genes if str(gene) not in measured]
    if missing:
        hint = did_you_mean(close_names(missing[0], sorted(measured)))
        raise InputError(f"Expected genes of the background, found others: {listed(missing)}.{hint}")
    if not len(genes):
        raise InputError("Expected a list of gene names, found none.")
    gene_sets = measured_sets(read_gmt(gmt), measured, name=Path(gmt).name)
    return _over_represented(
        set(map(str, genes)), _of_size(gene_sets.sets, min_set, max_set), n_background=len(measured)
    )


def _of_size(sets: dict[str, set[str]], fewest: int, most: int) -> dict[str, set[str]]:
    """Keep sets with a suitable number of measured genes."""
    if not 1 <= fewest <= most:
        raise InputError(f"Expected 1 ≤ min_set ≤ max_set, found {fewest} and {most}.")
    kept = {name: genes for name, genes in sets.items() if fewest <= len(genes) <= most}
    if not kept:
        largest = max(map(len, sets.values()))
        raise InputError(
            f"Expected gene sets with {fewest} to {most} measured genes, found none among {len(sets)} "
            f"(largest: {largest}). Change min_set or max_set."
        )
    return kept


def _over_represented(genes: set[str], sets: dict[str, set[str]], *, n_background: int) -> pd.DataFrame:
    from scipy import stats

    shared = [genes & members for members in sets.values()]
    n_shared, n_set = (np.array([len(names) for names in groups]) for groups in (shared, sets.values()))
    pval = np.asarray(stats.hypergeom.sf(n_shared - 1, n_background, n_set, len(genes)))
    table = pd.DataFrame(
        {
            "gene_set": list(sets),
            "n_shared": n_shared,
            "n_set": n_set,
            "n_genes": len(genes),
            "fold_enrichment": n_shared * n_background / (n_set * len(genes)),
            "pval": pval,
            "pval_adj": fdr_bh(pval),
            "genes": [";".join(sorted(names)) for names in shared],
        }
    )
    return table.sort_values(["pval", "fold_enrichment"], ascending=[True, False], ignore_index=True)


class GeneSets(NamedTuple):
    """Gene sets of a file, limited to measured genes."""

    sets: dict[str, set[str]]
    n_names: int
    """Number of gene names in the file."""
    n_shared: int
    """Number of them that were measured."""


def read_gmt(path: str | Path) -> dict[str, set[str]]:
    """Read a .gmt: each line has the name of a set, a description and genes, separated by tabs.

    Raises InputError if there is no such file, or a line has no genes.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected a file of gene sets (.gmt), found none at {path}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"Expected text in {path.name}, found other bytes. Is it a .gmt?") from error
    sets: dict[str, set[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = {gene.strip() for gene in rest[1:]} - {""}
        if not genes:
            raise InputError(
                f"Expected a name, a description and genes in each line of {path.name}, separated by tabs, found line "
                f"{number} without genes: {line[:60]!r}."
            )
        sets[name.strip()] = sets.get(name.strip(), set()) | genes
    if not sets:
        raise InputError(f"Expected gene sets in {path.name}, found an empty file.")
    return sets


def measured_sets(sets: dict[str, set[str]], measured: Iterable[str], *, name: str) -> GeneSets:
    """Keep the measured genes of sets, and check that there are enough.

    Shares are relative to the shorter list: the names in the file, or the measured genes.

    Raises InputError if fewer than a tenth are shared; the message gives the share if the case of letters is ignored.
    """
    genes = set(measured)
    names = set().union(*sets.values())
    shared = names & genes
    share = len(shared) / min(len(names), len(genes))
    overlap = f"{len(shared)} of its {len(names)} names ({share:.1%} of the shorter list) among the {len(genes)} genes"
    if share < FEW:
        folded = {gene.casefold() for gene in genes}
        by_case = sum(gene.casefold() in folded for gene in names) / min(len(names), len(genes))
        hint = (
            f"It is {by_case:.1%} if upper and lower case are ignored, as between human (MOBP) and mouse (Mobp). "
            if by_case > 2 * share and by_case > FEW
            else ""
        )
        raise InputError(
            f"Expected gene sets with the species and kind of names of the data (such as {listed(sorted(genes)[:3])}), "
            f"found {overlap} of the data in {name} (such as {listed(sorted(names)[:3])}). {hint}"
            "Use a file for this species."
        )
    level = logger.warning if share < SOME else logger.info
    level("Gene sets of %s: %s of the data.", name, overlap)
    return GeneSets({name: members & genes for name, members in sets.items()}, len(names), len(shared))
