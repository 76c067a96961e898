"""Analyses that are added to a folder of results, which is rewritten as a whole or not at all."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from stmmr._core.checks import InputError, listed
from stmmr._core.version import VERSION
from stmmr.pipeline.analyses import carry_out, facts_of, raise_first, require_something
from stmmr.pipeline.asked import Analyses, Before, check
from stmmr.pipeline.folder import (
    MODEL,
    OF_ANALYSES,
    noted,
    plain,
    say_contents,
    write_data,
    write_facts,
    write_figures,
    write_report,
    write_spatialdata,
    write_tables,
)
from stmmr.pipeline.output import kept_model, opened

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

WRITTEN_ANEW = {"result.h5ad", "result.zarr", "spatialdata.zarr", "report.html", "run.json", "domains.csv"}


def analyse_folder(result: Path, asked: Analyses, *, report: bool = True, progress: bool = True) -> None:
    """Add analyses to what `stmmr run` wrote; after any error the folder is as it was.

    Parameters
    ----------
    result
        The folder.
    asked
        What is asked of its domains.
    report
        Write report.html anew, where bokeh is installed.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If it is no such folder, nothing is asked for, or something that was cannot be had of these data.
    """
    from stmmr._core.files import publish_folder

    start, facts = time.perf_counter(), facts_in(result)
    with publish_folder(result, overwrite=True) as folder:
        adata, counts = data_in(result, facts)
        check(adata, asked, Before.of_result(adata))
        require_something(adata, asked)
        if asked.enhanced:
            _require_model(result)
        ended = carry_out(adata, asked, model=lambda: kept_model(result / MODEL, adata), progress=progress)
        raise_first(ended)
        _copy_others(result, folder)
        write_tables(adata, folder)
        raise_first(write_figures(adata, folder, only=OF_ANALYSES))
        write_data(adata, folder, source=counts)
        if (result / "spatialdata.zarr").exists():
            write_spatialdata(adata, folder / "spatialdata.zarr")
        added = {name: fact | {"stmmr": VERSION} for name, fact in plain(facts_of(adata, asked, ended)).items()}
        facts |= {"analyses": facts.get("analyses", {}) | added, "stmmr": noted(adata)}
        facts["seconds_of_last_analyse"] = round(time.perf_counter() - start, 3)
        if report:
            write_report(adata, folder / "report.html", facts)
        write_facts(facts, folder)
    say_contents(result)


def facts_in(result: Path) -> dict[str, Any]:
    """Read the run.json of a folder of results.

    Raises
    ------
    InputError
        If it is no such folder.
    """
    path = result / "run.json"
    if not path.is_file():
        found = listed(sorted(p.name for p in result.iterdir())) if result.is_dir() else "no such folder"
        raise InputError(f"Expected a folder that stmmr run wrote (with run.json) at {result}, found {found}.")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"Expected what stmmr run wrote in {path}, found something else. Run it again.") from error


def data_in(result: Path, facts: dict[str, Any]) -> tuple[AnnData, Path | None]:
    """Read the data of a folder of results; get where their counts are if they stay there, as they did in the run."""
    there = [path for name in ("result.h5ad", "result.zarr") if (path := result / name).exists()]
    if not there:
        raise InputError(f"Expected result.h5ad or result.zarr in {result}, found neither. Run stmmr run again.")
    backed = facts.get("stmmr", {}).get("mode") == "disk"
    return opened(there[0], {}, backed=backed)[0], there[0] if backed else None


def _require_model(result: Path) -> None:
    if not (result / MODEL).is_dir():
        raise InputError(
            f"Expected the trained model in {result / MODEL} for denoised expression, found none. Results of "
            "stmmr map, of preset 'paper' and of earlier versions have none: run stmmr run on the section itself."
        )


def _copy_others(result: Path, folder: Path) -> None:
    """Copy what stays as it is: other figures, the model, and whatever the user put there."""
    for path in result.iterdir():
        if path.name in WRITTEN_ANEW | OF_ANALYSES:
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy2(path, folder / path.name)
