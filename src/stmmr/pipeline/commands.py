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
from stmmr._core.files import publish_folder
from stmmr._core.options import as_json, option_names
from stmmr._core.parallel import is_first
from stmmr._core.record import record
from stmmr._core.version import VERSION, versions
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
)
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.analysis import named_rows
from stmmr.pipeline.folder import MODEL
from stmmr.pipeline.mapping import count_domains, map_section
from stmmr.pipeline.options import FolderOptions, MapOptions, RunFolderOptions, RunOptions
from stmmr.pipeline.run import run
from stmmr.pipeline.sources import check_several, named_inputs, open_input, read_inputs, stays_on_disk
from stmmr.pipeline.steps import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from functools import _lru_cache_wrapper
    from pathlib import Path

    from anndata import AnnData

    from stmmr.model import StMMR

    Report = Callable[[AnnData, Path, dict[str, Any]], None]
    """Writes report.html from the data, its path and what run.json holds."""

WRITTEN_AGAIN: Final = {"result.h5ad", "result.zarr", "spatialdata.zarr", "report.html", "run.json", "domains.csv"}
"""Files that stmmr analyse writes again, besides those of analyses."""


def run_to_folder(
    sources: Sequence[Path],
    folder: RunFolderOptions,
    options: RunOptions,
    analyses: AnalysisOptions,
    *,
    report: Report | None = None,
) -> None:
    """Read, run and write. The output folder appears at the end as a whole, or not at all.

    Finished steps are kept beside the output folder until then. After a kill, the same command continues from there.

    Parameters
    ----------
    sources
        Inputs as `stmmr.read` takes them; several are the sections of one run; none for the simulated tissue.
    folder
        Options about the inputs and the output folder.
    options
        Options of the run.
    analyses
        Options of the analyses. If one fails, all other results are written before its error is raised.
    report
        Writes the report.
    """
    start, named = time.perf_counter(), named_inputs(sources)
    if folder.spatialdata:
        _require_spatialdata()
    if len(named) > 1:
        check_several(options, mode=folder.mode)
    if not is_first():  # of processes that run this command together: it only trains
        adata, options, _ = read_inputs(named, options, replace(folder, mode="memory"), in_memory=True)
        run(adata, options)
        return
    with publish_folder(folder.output, overwrite=folder.overwrite) as new, _kept_beside(folder.output) as beside:
        adata, left, counts = read_inputs(named, options, folder, in_memory=folder.spatialdata)
        check(adata, analyses, prepared_by(left))
        checkpoint = options.checkpoint or beside
        model = checkpoint / MODEL if options.preset != "paper" else None
        run(adata, left, checkpoint=checkpoint, save_model=model)
        record(adata, mode="memory" if counts is None else "disk")
        analyses = with_genes(adata, analyses)
        fitted = cache(lambda: results.read_model(model, adata))
        outcomes = carry_out(adata, analyses, model=fitted, progress=options.progress)
        outcomes |= results.write_results(adata, new, source=counts)
        if model is not None:
            shutil.copytree(model, new / MODEL)
            _save_decoder(fitted, new / MODEL)
        if folder.spatialdata:
            results.write_spatialdata(adata, new / "spatialdata.zarr")
        facts = {"input": _input_facts(named), "options": as_json(options) | _folder_facts(folder)}
        _write_account(adata, new, facts, facts_of(adata, analyses, outcomes), start=start, report=report)
    shutil.rmtree(beside, ignore_errors=True)  # not before the results are in their place
    results.log_contents(folder.output)
    raise_first(outcomes, _later(folder.output))


def map_to_folder(
    source: Path,
    folder: FolderOptions,
    options: MapOptions,
    analyses: AnalysisOptions,
    *,
    model: Path,
    report: Report | None = None,
) -> None:
    """Read a section, map it and write. The output folder appears at the end as a whole, or not at all.

    Parameters
    ----------
    source
        Input as `stmmr.read` takes it.
    folder
        Options about the input and the output folder.
    options
        Options of the mapping.
    analyses
        Options of the analyses.
    model
        Result folder of ``stmmr run`` for another section.
    report
        Writes the report.
    """
    from stmmr.io._tables import counts_at

    start, trained_facts = time.perf_counter(), results.read_facts(model)
    with publish_folder(folder.output, overwrite=folder.overwrite) as new:
        backed = stays_on_disk(source, folder.mode, table=options.table)
        adata, left = open_input(source, options, bin_size=folder.bin_size, backed=backed)
        trained, _ = results.read_data(model, trained_facts)
        prepared = prepared_of(trained)._replace(section_key=left.section_key, layer=left.layer)
        check(adata, analyses, prepared)
        map_section(adata, results.read_model(model / MODEL, trained), left)
        record(adata, mode="disk" if backed else "memory")
        analyses = with_genes(adata, analyses)
        outcomes = carry_out(adata, analyses, model=None, progress=options.progress)
        names = (source.stem, _input_name(trained_facts))
        adata.uns[keys.COMPOSITION] = named_rows(count_domains(adata, trained, names=names))
        counts = counts_at(source, options.table) if backed else None
        outcomes |= results.write_results(adata, new, source=counts)
        facts = {"input": str(source), "model": str(model), "options": as_json(options) | _folder_facts(folder)}
        _write_account(adata, new, facts, facts_of(adata, analyses, outcomes), start=start, report=report)
    results.log_contents(folder.output)
    raise_first(outcomes, _later(folder.output))


def analyse_folder(
    result: Path, analyses: AnalysisOptions, *, progress: bool = True, report: Report | None = None
) -> None:
    """Add analyses to a result folder. After an error the folder is as it was.

    Parameters
    ----------
    result
        The folder.
    analyses
        Options of the analyses.
    progress
        Whether to show progress bars.
    report
        Writes the report again.

    Raises
    ------
    InputError
        If it is no result folder, no analysis is requested, or one cannot be carried out for these data.
    """
    start, facts = time.perf_counter(), results.read_facts(result)
    with publish_folder(result, overwrite=True) as new:
        adata, counts = results.read_data(result, facts)
        check(adata, analyses, prepared_of(adata))
        require_request(adata, analyses)
        if analyses.enhanced:
            results.require_model(result)
        fitted = cache(lambda: results.read_model(result / MODEL, adata))
        outcomes = carry_out(adata, analyses, model=fitted, progress=progress)
        raise_first(outcomes)
        _copy_others(result, new)
        _save_decoder(fitted, new / MODEL)
        results.write_tables(adata, new)
        raise_first(results.write_figures(adata, new, only=results.OF_ANALYSES))
        results.write_data(adata, new, source=counts)
        if (result / "spatialdata.zarr").exists():
            results.write_spatialdata(adata, new / "spatialdata.zarr")
        added = {name: fact | {"stmmr": VERSION} for name, fact in facts_of(adata, analyses, outcomes).items()}
        facts |= {"analyses": facts.get("analyses", {}) | added, "stmmr": results.notes_of(adata)}
        facts["seconds_of_last_analyse"] = round(time.perf_counter() - start, 3)
        if report is not None:
            report(adata, new / "report.html", facts)
        results.write_facts(facts, new)
    results.log_contents(result)


def _write_account(
    adata: AnnData,
    folder: Path,
    facts: dict[str, Any],
    analyses: dict[str, dict[str, Any]],
    *,
    start: float,
    report: Report | None,
) -> None:
    """Write run.json, and the report where it is wanted; `start` is the time at which the command began."""
    facts = facts | {
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "analyses": analyses,
        "stmmr": results.notes_of(adata),
        "versions": versions(),
        "seconds_in_all": round(time.perf_counter() - start, 3),
        "peak_memory_mb": peak_memory_mb(),
    }
    if report is not None:
        report(adata, folder / "report.html", facts)
    results.write_facts(facts, folder)


@contextmanager
def _kept_beside(output: Path) -> Iterator[Path]:
    """Name the folder for finished steps; it is removed after an error and stays after a kill or an interruption."""
    output = output.resolve()
    folder = output.with_name(f".{output.name}.unfinished")
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
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


def _copy_others(result: Path, folder: Path) -> None:
    """Copy what stays as it is: other figures, the model, and files of the user."""
    for path in result.iterdir():
        if path.name in WRITTEN_AGAIN | results.OF_ANALYSES:
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy2(path, folder / path.name)


def _input_facts(named: dict[str, Path]) -> str | dict[str, str]:
    """Get the inputs for run.json; several by their names."""
    paths = {name: str(path) for name, path in named.items()}
    return paths if len(paths) > 1 else next(iter(paths.values()), "simulated tissue")


def _folder_facts(folder: FolderOptions) -> dict[str, Any]:
    """Get the options of a folder that shape the results."""
    shaping = {"align", "bin_size"} & set(option_names(type(folder)))
    return {name: value for name in sorted(shaping) if (value := getattr(folder, name)) is not None}


def _input_name(facts: dict[str, Any]) -> str:
    """Name the input of an earlier run, or its inputs."""
    from pathlib import Path

    source = facts.get("input", "trained")
    return " + ".join(source) if isinstance(source, dict) else Path(str(source)).stem


def _later(output: Path) -> str:
    return f"All other results are in {output}. Add this one by: stmmr analyse {output} …"
