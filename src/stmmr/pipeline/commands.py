"""The commands run, map and analyse: read files, carry out the steps, publish a result folder as a whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.files import Unchanged
from stmmr._core.folders import Draft, drafted, remove, require_outside, restore
from stmmr._core.genes import genes_read_once
from stmmr._core.locks import locked
from stmmr._core.options import as_json, plain
from stmmr._core.parallel import is_first
from stmmr._core.version import VERSION
from stmmr._core.workers import on_workers
from stmmr.pipeline import folder as results
from stmmr.pipeline.analyse import (
    carry_out,
    check,
    facts_of,
    prepared_by,
    prepared_of,
    raise_first,
    require_request,
    with_genes,
    with_genes_of,
)
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.cohort import Joined, kept_sections, read_cohort, remove_sections
from stmmr.pipeline.composition import compose_mapped
from stmmr.pipeline.configuring import config_of
from stmmr.pipeline.folder import MODEL, RESULT
from stmmr.pipeline.hardware import require_hardware
from stmmr.pipeline.mapping import map_section
from stmmr.pipeline.options import (
    FolderOptions,
    InputOptions,
    MapOptions,
    RewriteOptions,
    RunFolderOptions,
    RunOptions,
)
from stmmr.pipeline.resume import KEPT
from stmmr.pipeline.run import run, run_steps
from stmmr.pipeline.sheet import inputs_named
from stmmr.pipeline.sources import (
    IN_MEMORY,
    check_several,
    read_inputs,
)
from stmmr.pipeline.steps import attempt
from stmmr.pipeline.writing import Writing, note_report_image, wants_tiles, write_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from functools import _lru_cache_wrapper
    from pathlib import Path

    from stmmr.model import StMMR
    from stmmr.pipeline.sheet import NamedInputs
    from stmmr.pipeline.writing import Report

WRITTEN_AGAIN: Final = {"result.h5ad", "result.zarr", "spatialdata.zarr", "report.html", "run.json", "domains.csv"}
"""Files that stmmr analyse writes again, besides those of analyses."""


def run_to_folder(
    sources: Sequence[Path],
    folder: RunFolderOptions,
    options: RunOptions,
    analyses: AnalysisOptions,
    *,
    report: Report | None = None,
    command: str = "",
) -> dict[str, Exception]:
    """Read, run and write.

    The folder appears with the domains, and again with the data, before figures and report; an earlier result stays
    until the data are complete. Finished steps are kept beside the folder until the end: after a kill or an error, the
    same command continues from there.

    Parameters
    ----------
    sources
        Inputs as `stmmr.read` takes them; several are the sections of one run; none for the simulated tissue.
    folder
        Options about the inputs and the output folder.
    options
        Options of the run.
    analyses
        Options of the analyses.
    report
        Writes the report.
    command
        The command as it was typed, for run.json.

    Returns
    -------
    The errors of what is optional (comparison with labels, analyses, tables, figures, report, SpatialData), by name.
    All else is in the folder, whose run.json lists them.
    """
    from stmmr.io._unstorable import leave_out_unstorable

    start, named = time.perf_counter(), inputs_named(sources)
    if folder.spatialdata:
        _require_spatialdata()
    require_hardware(options)
    if named.several:
        check_several(options)
    if not is_first():  # of processes that run this command together: it only trains
        joined = _read(named, options, replace(folder, mode="memory"))
        run(joined.adata, joined.options)
        return {}
    facts = {"input": _input_facts(named), "options": as_json(options) | _folder_facts(folder)}
    inputs = [*named.paths, options.image, options.registration, analyses.gene_sets]
    with _folder(folder, facts, inputs) as draft, _kept_beside(draft.target) as (beside, store):
        read = Unchanged(inputs)
        checkpoint = options.checkpoint or beside
        model = checkpoint / MODEL if options.preset != "paper" else None
        with on_workers(options.scheduler, draft.target):
            joined = _read(named, options, folder, store=store)
            adata, left, counts = joined.adata, joined.options, joined.counts
            read.check()
            read = Unchanged([*([] if counts is None or named.several else named.paths), options.image])
            leave_out_unstorable(adata)
            check(adata, analyses, prepared_by(left))
            failed = run_steps(adata, replace(left, checkpoint=checkpoint, save_model=model))
        joined.note()
        if model is not None:
            shutil.copytree(model, draft.folder / MODEL)
        how = {"command": command, "config": config_of(sources, folder, options, analyses)}
        writing = Writing(draft, adata, facts | how, failed, read, start, image=_full_image(folder, left))
        writing.domains()
        fitted = cache(lambda: results.read_model(model, adata))
        with genes_read_once():
            writing.analyses(with_genes(adata, analyses), model=fitted, progress=options.progress)
            _save_decoder(fitted, draft.folder / MODEL)
            writing.rest(source=counts, report=report, spatialdata=folder.spatialdata)
    remove(beside, KEPT)  # not before the results are in their place
    remove_sections(store)
    results.log_contents(folder.output)
    return failed


def map_to_folder(
    sources: Sequence[Path],
    folder: FolderOptions,
    options: MapOptions,
    analyses: AnalysisOptions,
    *,
    model: Path,
    report: Report | None = None,
) -> dict[str, Exception]:
    """Read sections, map them and write.

    The folder appears with the domains; after an error before that, there is none.

    Parameters
    ----------
    sources
        Inputs as `stmmr.read` takes them, or a sample sheet.
    folder
        Options about the inputs and the output folder.
    options
        Options of the mapping.
    analyses
        Options of the analyses.
    model
        Result folder of ``stmmr run`` for another section.
    report
        Writes the report.

    Returns
    -------
    The errors of what is optional, as of `run_to_folder`.
    """
    from stmmr.io._unstorable import leave_out_unstorable

    start, trained_facts, named = time.perf_counter(), results.read_facts(model), inputs_named(sources)
    if named.several:
        check_several(options)
    facts = {"input": _input_facts(named), "model": str(model), "options": as_json(options) | _folder_facts(folder)}
    inputs = [*named.paths, model, options.image, options.registration, analyses.gene_sets]
    with _folder(folder, facts, inputs) as draft, kept_sections(draft.target) as store:
        read = Unchanged(inputs)
        with on_workers(options.scheduler, draft.target):
            joined = _read(named, options, folder, store=store)
            adata, left, counts = joined.adata, joined.options, joined.counts
            leave_out_unstorable(adata)
            trained, _ = results.read_data(model, trained_facts)
            read.check()
            read = Unchanged([*([] if counts is None or named.several else named.paths), options.image])
            prepared = prepared_of(trained)._replace(section_key=left.section_key, layer=left.layer)
            check(adata, analyses, prepared)
            map_section(adata, results.read_model(model / MODEL, trained), left)
        joined.note()
        failed: dict[str, Exception] = {}
        writing = Writing(draft, adata, facts, failed, read, start, image=_full_image(folder, left))
        writing.domains()
        writing.analyses(with_genes(adata, analyses), model=None, progress=options.progress)
        names = ("" if len(named.entries) > 1 else sources[0].stem, _input_name(trained_facts))
        with attempt("composition", failed):
            compose_mapped(adata, trained, names=names)
        writing.rest(source=counts, report=report)
    remove_sections(store)
    results.log_contents(folder.output)
    return failed


def analyse_folder(
    result: Path, analyses: AnalysisOptions, options: RewriteOptions, *, report: Report | None = None
) -> dict[str, Exception]:
    """Add analyses to a result folder. If none of them can be carried out, the folder stays as it was.

    Parameters
    ----------
    result
        The folder.
    analyses
        Options of the analyses.
    options
        Options about the report and the progress bars.
    report
        Writes the report again.

    Returns
    -------
    The errors of what is optional, as of `run_to_folder`.

    Raises
    ------
    InputError
        If it is no result folder, no analysis is requested, or one cannot be carried out for these data.
    """
    start = time.perf_counter()
    with locked(result):
        facts = results.read_facts(result)
        require_outside(result, [analyses.gene_sets])
        with drafted(result, RESULT, overwrite=True) as draft:
            adata, counts = results.read_data(result, facts)
            key = analyses.domain_key
            check(adata, analyses, prepared_of(adata, key))
            analyses = with_genes_of(adata, analyses)
            same_domains = key == facts.get("domain_key", keys.DOMAIN)
            if same_domains:
                require_request(adata, analyses)
            if analyses.enhanced:
                results.require_model(result)
            fitted = cache(lambda: results.read_model(result / MODEL, adata))
            outcomes = carry_out(adata, analyses, model=fitted, progress=options.progress)
            if outcomes and all(outcomes.values()):
                raise_first(outcomes)
            failed = {name: error for name, error in outcomes.items() if error is not None}
            again = results.OF_ANALYSES if same_domains else results.FIGURES
            facts = {name: fact for name, fact in facts.items() if name != "domain_key"}
            facts |= {} if key == keys.DOMAIN else {"domain_key": key}
            note_report_image(facts, options)
            rewritten = WRITTEN_AGAIN.union(results.with_formats(again))
            rewritten |= set() if wants_tiles(facts) else {results.TILES}
            draft.take_over(lambda name: name.partition("/")[0] not in rewritten)
            _save_decoder(fitted, draft.folder / MODEL)
            added = {name: fact | {"stmmr": VERSION} for name, fact in facts_of(adata, analyses, outcomes).items()}
            facts |= {"analyses": facts.get("analyses", {}) | added}
            facts["seconds_of_last_analyse"] = round(time.perf_counter() - start, 3)
            write_again(
                draft, adata, facts, failed,
                counts=counts, report=report, only=again, finished=outcomes.keys(),
            )  # fmt: skip
    results.log_contents(result)
    return failed


@contextmanager
def _folder(folder: FolderOptions, facts: dict[str, Any], inputs: list[Any]) -> Iterator[Draft]:
    """Write a new result folder, which replaces an earlier one if it may, or if it is of this command, killed."""
    target = folder.output.resolve()
    with locked(target):
        restore(target)
        require_outside(target, inputs)
        unfinished = results.continues(target, plain(facts))
        with drafted(target, RESULT, overwrite=folder.overwrite or unfinished) as draft:
            yield draft


@contextmanager
def _kept_beside(output: Path) -> Iterator[tuple[Path, Path]]:
    """Name the folders for finished steps and for the counts of several sections.

    After an error or a kill they stay, unless they are of no more use.
    """
    folder = output.with_name(f".{output.name}.unfinished")
    try:
        with kept_sections(output) as store:
            yield folder, store
    except Exception as error:
        useless = isinstance(error, InputError) or not any(folder.glob("*.h5"))
        if useless and KEPT.marks(folder):
            remove(folder, KEPT)
        elif not useless:
            error.add_note(f"Finished steps are kept in {folder}: the same command continues there.")
        raise


def _save_decoder(fitted: _lru_cache_wrapper[StMMR], folder: Path) -> None:
    """Save a model whose decoder was fitted, so that it is not fitted again for more denoised expression."""
    if fitted.cache_info().currsize:
        fitted().save(folder, overwrite=True)


def _require_spatialdata() -> None:
    from stmmr.io._elements import import_spatialdata

    try:
        import_spatialdata()
    except ImportError as error:
        raise InputError(f"Expected the extra for --spatialdata: {error}") from error


def _read(named: NamedInputs, options: Any, folder: FolderOptions, *, store: Path | None = None) -> Joined:
    """Read one input, or join several."""
    in_memory = isinstance(folder, RunFolderOptions) and folder.spatialdata
    if not named.several:
        paths = {name: entry.path for name, entry in named.entries.items()}
        return Joined(*read_inputs(paths, options, folder, in_memory=in_memory))
    joined = read_cohort(named, options, folder, store=store)
    if in_memory and joined.counts is not None:
        raise InputError(IN_MEMORY)
    return joined


def _input_facts(named: NamedInputs) -> str | dict[str, str]:
    """Get the inputs for run.json; several by their names."""
    paths = {name: str(entry.path) for name, entry in named.entries.items()}
    return paths if len(paths) > 1 else next(iter(paths.values()), "simulated tissue")


def _full_image(folder: FolderOptions, options: InputOptions) -> dict[str, Any] | None:
    """Get the image that the report shows at full resolution, with its registration; None for none."""
    if folder.report_image != "full":
        return None
    image = "full" if options.image is None else options.image
    return {"image": image, "registration": options.registration, "um_per_pixel": options.um_per_pixel}


def _folder_facts(folder: FolderOptions) -> dict[str, Any]:
    """Get the options of a folder that shape the results."""
    shaping = {"align", "bin_size", "boundaries", "figure_format", "figure_width", "keep_off_tissue", "report_image"}
    return {name: value for name, value in as_json(folder).items() if name in shaping}


def _input_name(facts: dict[str, Any]) -> str:
    """Name the input of an earlier run, or its inputs."""
    from pathlib import Path

    source = facts.get("input", "trained")
    return " + ".join(source) if isinstance(source, dict) else Path(str(source)).stem
