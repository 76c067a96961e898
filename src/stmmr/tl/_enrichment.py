"""Gene sets in which the genes of a domain are found more often than by chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_positive
from stmmr._core.genes import close_names
from stmmr._core.record import record, recorded
from stmmr._core.stats import fdr_bh
from stmmr.tl._genes import Against, domain_genes_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

_COLUMNS: Final = ["gene_set", "n_shared", "n_set", "n_genes", "fold_enrichment", "pval", "pval_adj", "genes"]


def enrichment(
    adata: AnnData,
    gmt: str | Path,
    *,
    against: Against = "rest",
    n_genes: int = 200,
    max_pval_adj: float = 0.05,
    min_set: int = 5,
    max_set: int = 500,
    key: str = keys.DOMAIN_GENES,
    key_added: str = keys.ENRICHMENT,
) -> None:
    """Find the gene sets of a local file in which the genes of each domain are over-represented.

    The genes of a domain are those higher in it (``z`` > 0) at `max_pval_adj`, the `n_genes` best at most; what they
    are drawn from is every gene of the data. Nothing is downloaded. Run :func:`stmmr.tl.domain_genes` first.

    Parameters
    ----------
    adata
        Annotated data with the table of domain genes.
    gmt
        File with a set in each line, parted by tabs: name, description, genes; as MSigDB and Enrichr give them.
    against
        Which comparison: "rest" or "neighbors".
    n_genes
        Genes of a domain, at most.
    max_pval_adj
        Their largest adjusted p-value.
    min_set
        Fewest measured genes of a set that is tested.
    max_set
        Most measured genes of a set that is tested.
    key
        Key of ``uns`` with the table.
    key_added
        Key of ``uns`` to write.

    Returns
    -------
    Nothing; writes

    ``uns[key_added]``
        Data frame with the columns of :func:`stmmr.tl.gene_set_enrichment`, after ``domain``; domains without genes
        have no rows.
    ``uns["stmmr"]["enrichment"][key_added]``
        The parameters, and how many names of the file were measured.

    Raises
    ------
    InputError
        If there is no table, the file is no .gmt, hardly any of its names were measured (another species), or a number
        is out of range.
    """
    require_positive(n_genes, name="n_genes")
    table = domain_genes_table(adata, against=against, key=key)
    table = table[(table["z"] > 0) & (table["pval_adj"] <= max_pval_adj)]
    background = adata.var_names.astype(str).tolist()
    sets = measured_sets(read_gmt(gmt), background, name=Path(gmt).name)
    tested = _of_size(sets.of, min_set, max_set)
    parts = []
    for domain, rows in table.groupby("domain", observed=True, sort=False):
        found = _over_represented(set(rows["gene"].astype(str)[:n_genes]), tested, n_background=len(set(background)))
        found.insert(0, "domain", str(domain))
        parts.append(found)
    if not parts:
        logger.warning("No domain has genes at an adjusted p-value of %g; there is nothing to enrich.", max_pval_adj)
    result = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["domain", *_COLUMNS])
    result.index = result.index.astype(str)
    adata.uns[key_added] = result
    step = {
        "gmt": Path(gmt).name,
        "against": against,
        "n_genes": n_genes,
        "max_pval_adj": max_pval_adj,
        "min_set": min_set,
        "max_set": max_set,
        "n_names": sets.n_names,
        "n_shared": sets.n_shared,
        "n_sets": len(tested),
    }
    record(adata, enrichment={**recorded(adata).get("enrichment", {}), key_added: step})


def gene_set_enrichment(
    genes: Sequence[str], gmt: str | Path, *, background: Sequence[str], min_set: int = 5, max_set: int = 500
) -> pd.DataFrame:
    """Find the gene sets of a local file in which given genes are over-represented.

    By the hypergeometric distribution (Fisher's exact test, one-sided): of M measured genes K are in the set; that as
    many of the n genes are, or more, has the p-value.

    Parameters
    ----------
    genes
        Names of genes.
    gmt
        File of gene sets, as in :func:`stmmr.tl.enrichment`.
    background
        Names of all genes that could have been among them: those that were measured.
    min_set
        Fewest measured genes of a set that is tested.
    max_set
        Most measured genes of a set that is tested.

    Returns
    -------
    A row for each set, the smallest p-value first: ``gene_set``; ``n_shared``, genes in it; ``n_set``, its measured
    genes; ``n_genes``, genes that were given; ``fold_enrichment``, `n_shared` over what chance gives; ``pval``;
    ``pval_adj`` (Benjamini and Hochberg, over the sets); ``genes``, those in it, joined by ";".

    Raises
    ------
    InputError
        If a gene is not in the background, the file is no .gmt, or hardly any of its names are in the background.
    """
    measured = set(map(str, background))
    missing = [str(gene) for gene in genes if str(gene) not in measured]
    if missing:
        close = close_names(missing[0], sorted(measured))
        hint = f" Did you mean {listed(close)}?" if close else ""
        raise InputError(f"Expected genes of the background, found {listed(missing)} not among them.{hint}")
    if not len(genes):
        raise InputError("Expected genes to look for in gene sets, found none.")
    sets = measured_sets(read_gmt(gmt), measured, name=Path(gmt).name)
    return _over_represented(set(map(str, genes)), _of_size(sets.of, min_set, max_set), n_background=len(measured))


def _of_size(sets: dict[str, set[str]], fewest: int, most: int) -> dict[str, set[str]]:
    """Keep sets of a size, counted in measured genes."""
    if not 1 <= fewest <= most:
        raise InputError(f"Expected 1 ≤ min_set ≤ max_set, found {fewest} and {most}.")
    kept = {name: of for name, of in sets.items() if fewest <= len(of) <= most}
    if not kept:
        largest = max(map(len, sets.values()))
        raise InputError(
            f"Expected gene sets with {fewest} to {most} measured genes, found none of {len(sets)} "
            f"(largest: {largest}). Change min_set or max_set."
        )
    return kept


def _over_represented(genes: set[str], sets: dict[str, set[str]], *, n_background: int) -> pd.DataFrame:
    from scipy import stats

    shared = [genes & of for of in sets.values()]
    n_shared, n_set = np.array([len(some) for some in shared]), np.array([len(of) for of in sets.values()])
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
            "genes": [";".join(sorted(some)) for some in shared],
        }
    )
    return table.sort_values(["pval", "fold_enrichment"], ascending=[True, False], ignore_index=True)


FEW: Final = 0.1
"""Share of shared names below which a file is taken for one of another species."""
SOME: Final = 0.3
"""Share below which there is a warning."""


class GeneSets(NamedTuple):
    """The sets of a file, of the genes that were measured."""

    of: dict[str, set[str]]
    n_names: int
    """Names of genes in the file."""
    n_shared: int
    """How many of them were measured."""


def read_gmt(path: str | Path) -> dict[str, set[str]]:
    """Read a .gmt: in each line, parted by tabs, the name of a set, a description, and its genes.

    Raises
    ------
    InputError
        If there is no such file, or a line is no set.
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
                f"Expected a name, a description and genes in each line of {path.name}, parted by tabs, found line "
                f"{number} without genes: {line[:60]!r}."
            )
        sets[name.strip()] = sets.get(name.strip(), set()) | genes
    if not sets:
        raise InputError(f"Expected gene sets in {path.name}, found an empty file.")
    return sets


def measured_sets(sets: dict[str, set[str]], measured: Iterable[str], *, name: str) -> GeneSets:
    """Keep the genes of sets that were measured, and check that enough are.

    Shares are of the shorter list: of the names in the file, or of the genes that were measured.

    Raises
    ------
    InputError
        If fewer than a tenth are shared: says which share is if the case of the letters is ignored.
    """
    genes = set(measured)
    names = set().union(*sets.values())
    shared = names & genes
    share = len(shared) / min(len(names), len(genes))
    found = f"{len(shared)} of its {len(names)} names ({share:.1%} of the shorter list) among the {len(genes)} genes"
    if share < FEW:
        folded = {gene.casefold() for gene in genes}
        by_case = sum(gene.casefold() in folded for gene in names) / min(len(names), len(genes))
        hint = (
            f"{by_case:.1%} are if upper and lower case are ignored, as between human (MOBP) and mouse (Mobp). "
            if by_case > 2 * share and by_case > FEW
            else ""
        )
        raise InputError(
            f"Expected gene sets of the species and kind of names of the data (such as {listed(sorted(genes)[:3])}), "
            f"found {found} of the data in {name} (such as {listed(sorted(names)[:3])}). {hint}"
            "Take the file of this species."
        )
    level = logger.warning if share < SOME else logger.info
    level("Gene sets of %s: %s of the data.", name, found)
    return GeneSets({of: some & genes for of, some in sets.items()}, len(names), len(shared))
