"""What is asked of the domains once they are found, each a call of one function."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stmmr._core import keys
from stmmr._core.checks import InputError, logger
from stmmr._core.record import record, recorded
from stmmr.pipeline.asked import (
    COMPOSITION,
    ENHANCE,
    GENE_SETS,
    GENES,
    NEEDS,
    OPTIONS,
    PSEUDOBULK,
    SPATIALLY_VARIABLE,
    TRAJECTORY,
    TRENDS,
    Analyses,
    Before,
    check,
    section_key_of,
)
from stmmr.pipeline.run import take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from stmmr.model import StMMR

UNASKED_AT_MOST: Final = 100_000
"""Places up to which a run finds the genes of domains unasked; of a million that takes longer than the run."""


def analyse(
    adata: AnnData,
    *,
    genes: bool | None = None,
    pseudobulk: bool = False,
    gene_sets: str | Path | None = None,
    group_key: str | None = None,
    trajectory: bool = False,
    root_domain: str | None = None,
    root_gene: str | None = None,
    root_place: str | None = None,
    root_expression: Literal["highest", "lowest"] = "highest",
    enhance: bool = False,
    enhance_genes: Sequence[str] | None = None,
    model: StMMR | None = None,
    progress: bool = True,
) -> None:
    """Ask more of domains that were found: their genes, gene sets, sections, a trajectory, denoised expression.

    Each is a call of one function of `stmmr.tl` with its defaults. What is asked for is checked before the first of
    them. If one fails, the others are carried out before the error is raised.

    Parameters
    ----------
    adata
        After `stmmr.run`.
    genes
        Find the genes of each domain and the spatially variable ones (Moran's I).
    pseudobulk
        Find the genes of each domain with sections as replicates (extra ``deseq``).
    gene_sets
        A local .gmt file: find the gene sets in which the genes of each domain are.
    group_key
        Column of obs with the group of each section, such as a condition: test whether groups differ in their domains.
    trajectory
        Order the places by pseudotime, and find the genes that change along it; it starts at the larger end of the
        longest path through the domains where no root is given.
    root_domain
        Domain that the trajectory starts in.
    root_gene
        Gene whose highest expression the trajectory starts at.
    root_place
        Place that the trajectory starts at.
    root_expression
        "lowest" starts where the root gene is lowest instead.
    enhance
        Write denoised expression, four bytes for each place and gene, as a layer.
    enhance_genes
        Genes to write denoised, instead of all.
    model
        The fitted model of `adata`, for denoised expression.
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    None. Sets what `stmmr.tl.domain_genes`, `stmmr.tl.spatially_variable_genes`, `stmmr.tl.domain_genes_pseudobulk`,
    `stmmr.tl.enrichment`, `stmmr.tl.trajectory`, `stmmr.tl.gene_trends` and `stmmr.tl.enhance` set, as far as they were
    asked for; of several sections the tables of `stmmr.tl.composition` and, with `group_key`, of
    `stmmr.tl.compare_composition` as ``uns["stmmr_composition"]`` and ``uns["stmmr_composition_tests"]``, and their
    columns in ``uns["stmmr"]["composition"]``.

    Raises
    ------
    InputError
        If nothing is asked for, or something that was cannot be had of these data.
    """
    given = dict(locals())
    asked = Analyses(**{name: given[name] for name in Analyses.names()})
    check(adata, asked, Before.of_result(adata))
    require_something(adata, asked)
    if asked.enhanced and (model is None or model.adata is not adata):
        raise InputError("Expected the fitted model of these data for denoised expression. Give it as model=….")
    raise_first(carry_out(adata, asked, model=None if model is None else lambda: model, progress=progress))


def require_something(adata: AnnData, asked: Analyses) -> None:
    """Check that anything is asked for, or was given to be counted."""
    if not asked.wanted(adata):
        raise InputError("Expected an analysis to carry out, found none asked for, such as genes (--genes).")


def carry_out(
    adata: AnnData, asked: Analyses, *, model: Callable[[], StMMR] | None, progress: bool
) -> dict[str, Exception | None]:
    """Carry out what is asked for; get how each ended, by its name.

    Parameters
    ----------
    adata
        With domains.
    asked
        Checked before.
    model
        Gets the fitted model, for denoised expression.
    progress
        Whether to show progress bars.

    Returns
    -------
    The error of each analysis that failed, None of the others. What reads the results of one that failed is left out.
    """
    steps = _steps(adata, asked, model, progress=progress)
    wanted = asked.wanted(adata)
    ended: dict[str, Exception | None] = {}
    if asked.ordered and TRENDS not in wanted:
        logger.info("No genes along pseudotime: that needs counts that stmmr.pp.expression read.")
    for at, name in enumerate(wanted, start=1):
        if ended.get(NEEDS.get(name, "")) is not None:
            logger.warning("%s: left out, as they need the %s.", name.capitalize(), NEEDS[name])
            continue
        ended[name] = None
        try:
            take(name, steps[name], adata, done=None, at=f"analysis {at}/{len(wanted)}")
        except Exception as error:  # noqa: BLE001 - whatever it is, hours of training before it are not thrown away
            logger.warning("%s failed: %s", name.capitalize(), error)
            ended[name] = error
    return ended


def _steps(
    adata: AnnData, asked: Analyses, model: Callable[[], StMMR] | None, *, progress: bool
) -> dict[str, Callable[[], Any]]:
    from stmmr import tl

    section_key = section_key_of(adata)

    def compose() -> None:
        adata.uns[keys.COMPOSITION] = named_rows(tl.composition(adata, str(section_key)))
        if asked.group_key is not None:
            tests = tl.compare_composition(adata, str(section_key), group_key=asked.group_key)
            adata.uns[keys.COMPOSITION_TESTS] = named_rows(tests)
        record(adata, composition={"section_key": section_key or "", "group_key": asked.group_key or ""})

    def trajectory() -> None:
        roots = {f"root_{kind}": name for kind, name in asked.roots.items()}
        tl.trajectory(adata, expression=asked.root_expression, **roots)  # type: ignore[arg-type] # names
        # curves along an earlier pseudotime
        adata.uns[keys.UNS] = {name: step for name, step in recorded(adata).items() if name != "gene_trends"}

    def enhance() -> None:
        if model is None:
            raise InputError("Expected the trained model for denoised expression, found none.")
        tl.enhance(model(), genes=asked.enhance_genes or None)

    return {
        GENES: lambda: tl.domain_genes(adata, progress=progress),
        SPATIALLY_VARIABLE: lambda: tl.spatially_variable_genes(adata, progress=progress),
        PSEUDOBULK: lambda: tl.domain_genes_pseudobulk(adata, section_key=str(section_key), progress=progress),
        GENE_SETS: lambda: tl.enrichment(adata, str(asked.gene_sets)),
        COMPOSITION: compose,
        TRAJECTORY: trajectory,
        TRENDS: lambda: tl.gene_trends(adata, progress=progress),
        ENHANCE: enhance,
    }


def named_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Name rows by texts, as files have it."""
    return table.set_axis(table.index.astype(str))


def with_genes(adata: AnnData, asked: Analyses) -> Analyses:
    """Ask for the genes of domains where nobody said whether to, and there are counts and domains to compare."""
    from stmmr.tl._genes import FEWEST

    if asked.genes is not None or recorded(adata).get("model", {}).get("use_rep"):
        return asked
    sizes = adata.obs[keys.DOMAIN].value_counts()
    if (sizes > 0).sum() < 2 or sizes.max() < FEWEST:
        logger.info("No genes of domains, as there are no two domains to compare.")
        return asked
    if adata.n_obs > UNASKED_AT_MOST:
        logger.info(
            "No genes of domains, which takes minutes for %s places: ask for them (genes, --genes), or later by stmmr "
            "analyse.",
            f"{adata.n_obs:,}",
        )
        return asked
    return replace(asked, genes=True)


def facts_of(adata: AnnData, asked: Analyses, ended: Mapping[str, Exception | None]) -> dict[str, Any]:
    """Say of each analysis that was carried out what was asked for, and how long it took or why it failed."""
    seconds = recorded(adata).get("seconds", {})
    facts = {}
    for name in (name for name in ended if name in OPTIONS):  # the others are figures
        found = {"seconds": seconds.get(name)} if ended[name] is None else {"error": str(ended[name])}
        facts[name] = {"options": asked.options_of(name)} | found
    return facts


def raise_first(ended: Mapping[str, Exception | None], *notes: str) -> None:
    """Raise the first error, if any, with the others and what to know as notes."""
    failed = {name: error for name, error in ended.items() if error is not None}
    for at, (name, error) in enumerate(failed.items()):
        if at == 0:
            first = error
        else:
            first.add_note(f"{name.capitalize()}: {error}")
    if failed:
        for note in notes:
            first.add_note(note)
        raise first
