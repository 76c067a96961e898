"""`stmmr.analyse`: the requested analyses of the table, checked first and carried out one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.checks import InputError, logger
from stmmr._core.depends import drop_outdated
from stmmr._core.exits import reason_of
from stmmr._core.genes import counts_layer, genes_read_once
from stmmr._core.log import RESULT
from stmmr._core.options import checked, option_names, plain, shows_options, with_changes
from stmmr._core.record import recorded
from stmmr._core.rows import is_on_disk, scratch_folder
from stmmr._core.sections import section_key_of
from stmmr._core.space import rows_called
from stmmr.pipeline.analyses import ANALYSES, AnalysisOptions
from stmmr.pipeline.analysis import Prepared, Work
from stmmr.pipeline.steps import attempt, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData

    from stmmr.model import StMMR
    from stmmr.pipeline.analysis import Analysis
    from stmmr.pipeline.options import RunOptions

BY_DEFAULT_AT_MOST: Final = 1_000_000
"""Spots up to which a run finds the genes of domains by default: a fifth of its time."""


@checked
@shows_options(AnalysisOptions)
def analyse(
    adata: AnnData,
    options: AnalysisOptions | None = None,
    *,
    model: StMMR | None = None,
    progress: bool = True,
    **changes: Any,
) -> None:
    """Add analyses to domains: their genes, gene sets, composition, a trajectory, denoised expression.

    Each analysis is a call of one function of `stmmr.tl` with its defaults. All options are checked before the first
    analysis. If one analysis fails, the others still finish; then its error is raised.

    Parameters
    ----------
    adata
        After `stmmr.run`.
    options
        Options of the analyses.
    model
        The fitted model of `adata`, for denoised expression.
    progress
        Whether to show progress bars for what takes longer than two seconds.
    **changes
        Single options by name, such as ``genes=True``: any attribute of `stmmr.AnalysisOptions`.

    Returns
    -------
    None. Sets what `stmmr.tl.domain_genes`, `stmmr.tl.spatially_variable_genes`, `stmmr.tl.domain_genes_pseudobulk`,
    `stmmr.tl.enrichment`, `stmmr.tl.trajectory`, `stmmr.tl.gene_trends` and `stmmr.tl.enhance` set, as far as they are
    requested. For several sections it also sets the tables of `stmmr.tl.composition` and, with `group_key`, of
    `stmmr.tl.compare_composition` as ``uns["stmmr_composition"]`` and ``uns["stmmr_composition_tests"]``, and the names
    of the columns that they are of in ``uns["stmmr"]["composition"]``.

    Raises
    ------
    InputError
        If no analysis is requested, or one cannot be carried out for these data.
    TypeError
        If there is no option of a name.
    """
    options = with_changes(AnalysisOptions, options, changes, function="analyse")
    check(adata, options, prepared_of(adata, options.domain_key))
    options = with_genes_of(adata, options)
    require_request(adata, options)
    if options.enhanced and (model is None or model.adata is not adata):
        raise InputError("Expected the fitted model of these data for denoised expression. Give it as model=….")
    outcomes = carry_out(adata, options, model=None if model is None else lambda: model, progress=progress)
    raise_first(outcomes)
    logger.log(RESULT, "Finished: %s.", ", ".join(outcomes))


def prepared_of(adata: AnnData, domain_key: str = keys.DOMAIN) -> Prepared:
    """Get what is known about data with domains.

    Raises
    ------
    InputError
        If there are no domains.
    """
    from stmmr._core.categories import categories

    model = recorded(adata).get("model", {})
    domains = categories(adata, domain_key, hint="Run stmmr.run(adata) first.").remove_unused_categories()
    return Prepared(
        [str(name) for name in domains.categories],
        section_key_of(adata),
        str(model.get("use_rep") or "") or None,
        counts_layer(adata),
        str(model.get("preset", "default")),
    )


def prepared_by(options: RunOptions) -> Prepared:
    """Get what is known about data before a run with these options."""
    n_domains = options.n_domains
    # domains are named by numbers; whether there will be fewer is known only later
    domains = None if isinstance(n_domains, str) else [str(i + 1) for i in range(n_domains)]
    return Prepared(domains, options.section_key, options.use_rep, options.layer, options.preset)


def check(adata: AnnData, options: AnalysisOptions, prepared: Prepared) -> None:
    """Check the options of all analyses against the data.

    Raises
    ------
    InputError
        If an option does not fit.
    ImportError
        If a package for a requested analysis is not installed.
    """
    if options.domain_key != keys.DOMAIN:
        prepared = prepared._replace(domains=prepared_of(adata, options.domain_key).domains)
    if prepared.domains is not None and len(prepared.domains) < 2:
        for analysis in ANALYSES:
            if analysis.compares and analysis.requested(adata, options):
                raise InputError(
                    f"Expected at least 2 domains for the analysis {analysis.name!r}, found {len(prepared.domains)}."
                )
    for analysis in ANALYSES:
        analysis.check(adata, options, prepared)


def requested(adata: AnnData, options: AnalysisOptions) -> list[Analysis]:
    """Get the analyses that the options request, in their order."""
    return [analysis for analysis in ANALYSES if analysis.requested(adata, options)]


def require_request(adata: AnnData, options: AnalysisOptions) -> None:
    """Check that at least one analysis is requested."""
    if not requested(adata, options):
        raise InputError("Expected at least one analysis, found none. Request one, such as genes=True (--genes).")


def carry_out(
    adata: AnnData, options: AnalysisOptions, *, model: Callable[[], StMMR] | None, progress: bool
) -> dict[str, Exception | None]:
    """Carry out the requested analyses.

    Parameters
    ----------
    adata
        With domains.
    options
        Checked before.
    model
        Gets the fitted model, for denoised expression.
    progress
        Whether to show progress bars.

    Returns
    -------
    By the name of each analysis its error, or None. An analysis that needs the results of a failed one is left out.
    """
    drop_outdated(adata)
    work = Work(adata, options, model, progress)
    analyses = requested(adata, options)
    outcomes: dict[str, Exception | None] = {}
    if options.ordered and "gene trends" not in [analysis.name for analysis in analyses]:
        logger.info("Genes along pseudotime are left out: they need counts that stmmr.pp.expression normalised.")
    with genes_read_once(), scratch_folder(None, beside_disk=is_on_disk(adata.X)):
        for number, analysis in enumerate(analyses, start=1):
            if outcomes.get(analysis.needs) is not None:
                logger.warning("%s: left out, because %s failed.", analysis.name.capitalize(), analysis.needs)
                outcomes[analysis.name] = RuntimeError(f"left out, because {analysis.needs} failed")
                continue
            failed: dict[str, Exception] = {}
            with attempt(analysis.name, failed):
                take(analysis.name, lambda: analysis.step(work), adata, number=f"analysis {number}/{len(analyses)}")  # noqa: B023 - called at once
            outcomes[analysis.name] = failed.get(analysis.name)
    return outcomes


def with_genes_of(adata: AnnData, options: AnalysisOptions) -> AnalysisOptions:
    """Request the genes of domains that stmmr did not find, unless there are some or other analyses are requested."""
    from stmmr._core.shown import domain_key_of

    known = keys.DOMAIN_GENES in adata.uns and domain_key_of(adata, keys.DOMAIN_GENES) == options.domain_key
    if options.domain_key == keys.DOMAIN or known or requested(adata, options):
        return options
    return with_genes(adata, options)


def with_genes(adata: AnnData, options: AnalysisOptions) -> AnalysisOptions:
    """Request the genes of domains where the options leave it open, and there are counts and domains to compare."""
    from stmmr.tl._genes import FEWEST

    if options.genes is not None or recorded(adata).get("model", {}).get("use_rep"):
        return options
    sizes = adata.obs[options.domain_key].value_counts()
    if (sizes > 0).sum() < 2 or sizes.max() < FEWEST:
        logger.info("Domain genes are left out: there are no two domains to compare.")
        return options
    if adata.n_obs > BY_DEFAULT_AT_MOST:
        logger.info(
            "Domain genes are left out: %s %s take minutes. Request them by --genes, or later by stmmr analyse.",
            f"{adata.n_obs:,}",
            rows_called(adata),
        )
        return options
    return replace(options, genes=True)


def facts_of(
    adata: AnnData, options: AnalysisOptions, outcomes: Mapping[str, Exception | None]
) -> dict[str, dict[str, Any]]:
    """Describe each analysis for run.json: its options, and its time or its error."""
    seconds = recorded(adata).get("seconds", {})
    facts = {}
    for analysis in ANALYSES:
        if analysis.name in outcomes:
            error = outcomes[analysis.name]
            outcome = {"seconds": seconds.get(analysis.name)} if error is None else {"error": reason_of(error)}
            facts[analysis.name] = {"options": _changed(options, analysis.options)} | outcome
    return facts


def _changed(options: AnalysisOptions, names: tuple[str, ...]) -> dict[str, Any]:
    """Get the options that differ from their defaults."""
    values = {name: getattr(options, name) for name in option_names(AnalysisOptions) if name in names}
    return {name: plain(value) for name, value in values.items() if value != getattr(AnalysisOptions, name)}


def raise_first(outcomes: Mapping[str, Exception | None], *notes: str) -> None:
    """Raise the first error, if any, with the other errors and further notes attached."""
    failed = {name: error for name, error in outcomes.items() if error is not None}
    if not failed:
        return
    first, *others = failed
    error = failed[first]
    for name in others:
        error.add_note(f"{name.capitalize()}: {failed[name]}")
    for note in notes:
        error.add_note(note)
    raise error
