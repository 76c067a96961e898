"""The result folder: written by a run or a mapping, read again by later analyses."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.exits import reason_of
from stmmr._core.files import FIGURE_FORMATS, TILE_FILES, atomic_write, write_csv
from stmmr._core.folders import Kind, restore
from stmmr._core.options import plain
from stmmr._core.record import record, recorded
from stmmr._core.sections import section_key_of
from stmmr._core.space import rows_called
from stmmr._core.validated import from_json, read_json
from stmmr.pipeline.analyses import ANALYSES, analysis_files
from stmmr.pipeline.options import NOT_RESULTS
from stmmr.pipeline.steps import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr.model import StMMR

logger = logging.getLogger("stmmr")
MODEL: Final = "model"
TILES: Final = "report_tiles"
OF_ANALYSES: Final = frozenset(analysis_files())
"""Files of analyses."""
CONTENTS: Final = {
    "report.html": "the results on one page, to open in a browser and to share",
    TILES: "the image at its full resolution, for the report beside it",
    "result.h5ad": "the data with embedding, domains and all other results",
    "result.zarr": "the data with embedding, domains and all other results",
    "spatialdata.zarr": "the same with the image, for squidpy, spatialdata-plot and napari-spatialdata",
    "domains.csv": "one row per spot, cell or bin: its section where there are several, its domain, the confidence, "
    "the domain of a second answer where there is one, and the domain smoothed by its neighbours",
    "run.json": "options, versions, times, peak memory",
    MODEL: "the fitted model, for stmmr map and denoised expression",
    "domains.png": "the domains in the tissue",
    "confidence.png": "the confidence of the domains",
    "domains_refined.png": "the domains smoothed by their neighbours",
    "embedding.png": "the UMAP of the embedding",
    "training.png": "the training curve",
    "number_of_domains.png": "the curve behind the number of domains",
    "bandwidth.png": "the curve behind the bandwidth of the graph",
} | analysis_files()
"""Every file that a result folder can hold, and what it is."""
FIGURES: Final = OF_ANALYSES | {name for name in CONTENTS if name.endswith(".png")}
"""Files of analyses, and all figures."""


def with_formats(names: Iterable[str]) -> list[str]:
    """List files, figures in each format that they may have."""
    return [
        f"{name.removesuffix('png')}{kind}" if name.endswith(".png") else name
        for name in names
        for kind in (FIGURE_FORMATS if name.endswith(".png") else [""])
    ]


RESULT: Final = Kind(
    "results",
    "run.json",
    frozenset({"stmmr", "versions"}),
    "|".join(map(re.escape, with_formats(CONTENTS)))
    + rf"|{TILES}/({TILE_FILES})"
    + r"|model/(model\.json|weights\.safetensors)|(result|spatialdata)\.zarr/.*",
)
"""A result folder."""
UNFINISHED: Final = "unfinished"
"""Entry of run.json as long as the command writes; of one that was killed, it stays."""
LONG: Final = 1_000
"""Entries of an array that run.json holds; longer ones are in the data only."""
_COLUMNS: Final = {
    keys.DOMAIN: "domain",
    keys.CONFIDENCE: "confidence",
    keys.ALTERNATIVE: "alternative",
    keys.DOMAIN_REFINED: "domain_refined",
    keys.PSEUDOTIME: "pseudotime",
    keys.BRANCH: "branch",
}
"""Columns of domains.csv."""


def write_domains(adata: AnnData, folder: Path, *, domain_key: str = keys.DOMAIN) -> None:
    """Write domains.csv, with another column of domains where there is one."""
    table = adata.obs[[key for key in _COLUMNS if key in adata.obs]].rename(columns=_COLUMNS)
    if domain_key != keys.DOMAIN:
        table[domain_key] = adata.obs[domain_key]
    if (key := section_key_of(adata)) is not None:
        table.insert(0, "section", adata.obs[key].to_numpy())
    with atomic_write(folder / "domains.csv") as new:
        write_csv(table.rename_axis(index=rows_called(adata)[:-1]), new)


def write_tables(adata: AnnData, folder: Path) -> dict[str, Exception]:
    """Write the tables of the analyses that ran; get the errors of those that could not be written."""
    failed: dict[str, Exception] = {}
    for analysis in ANALYSES:
        for name, file in analysis.tables.items():
            with attempt(name, failed):
                if (table := file.of(adata)) is not None:
                    write_csv(table, folder / name, index=False, float_format="%.6g")
    return failed


def write_figures(
    adata: AnnData, folder: Path, *, options: Mapping[str, Any] | None = None, only: Collection[str] = CONTENTS.keys()
) -> dict[str, Exception]:
    """Draw the figures whose names are among `only`; get the errors of those that could not be drawn.

    The options are those of run.json: ``figure_format`` and ``figure_width``, where they are not the defaults.
    """
    from stmmr.pl.canvas import FigureOptions, off_screen, saved_figure

    failed, options = dict[str, Exception](), options or {}
    look = FigureOptions(width=options.get("figure_width"))
    kinds = [kind for kind in FIGURE_FORMATS if kind in options.get("figure_format", FIGURE_FORMATS[:1])]
    with off_screen():
        for name, draw in _figures(adata).items():
            paths = [folder / name.replace(".png", f".{kind}") for kind in kinds]
            if name in only:
                with attempt(paths[0].name, failed):
                    saved_figure(draw, paths, look)
    return failed


def _figures(adata: AnnData) -> dict[str, Callable[[], Axes]]:
    """Get the functions that draw what there is, by file name."""
    from stmmr import pl

    steps = recorded(adata)
    figures: dict[str, tuple[bool, Callable[[], Axes]]] = {
        "domains.png": (True, lambda: pl.domains(adata)),
        "confidence.png": (
            keys.CONFIDENCE in adata.obs,
            lambda: pl.values(adata, keys.CONFIDENCE, vmin=0, vmax=1),
        ),
        "domains_refined.png": (
            keys.DOMAIN_REFINED in adata.obs,
            lambda: pl.domains(adata, domain_key=keys.DOMAIN_REFINED),
        ),
        "embedding.png": (True, lambda: pl.embedding(adata)),
        "training.png": (_was_trained(adata), lambda: pl.history(adata)),
        "bandwidth.png": ("bandwidths_tried" in steps["spatial_graph"], lambda: pl.bandwidth(adata)),
        "number_of_domains.png": ("number_of_domains" in steps, lambda: pl.number_of_domains(adata)),
    }
    drawn = {name: draw for name, (drawable, draw) in figures.items() if drawable}
    for analysis in ANALYSES:
        drawn |= {
            name: (lambda draw=figure.draw: draw(adata))  # type: ignore[misc]  # bound at once
            for name, figure in analysis.figures.items()
            if analysis.ran(adata) and figure.drawn(adata)
        }
    return drawn


def _was_trained(adata: AnnData) -> bool:
    return len(recorded(adata).get("history", {}).get("loss", ())) > 0


def write_data(adata: AnnData, folder: Path, *, source: Path | None = None) -> None:
    """Write the data, whose counts are in `source` where they stayed on disk."""
    from stmmr.io._tables import write_beside_counts, write_h5ad

    if source is None:
        write_h5ad(adata, folder / "result.h5ad")
    else:
        write_beside_counts(adata, source, folder / ("result.zarr" if source.is_dir() else "result.h5ad"))


def write_spatialdata(adata: AnnData, target: Path) -> None:
    """Write the data as a SpatialData store."""
    from stmmr.io import to_spatialdata
    from stmmr.io._elements import quietly

    with quietly():
        to_spatialdata(adata).write(target)


def write_facts(facts: dict[str, Any], folder: Path) -> None:
    """Write run.json."""
    with atomic_write(folder / "run.json") as new:
        new.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def failures(failed: Mapping[str, Exception | None]) -> list[dict[str, str]]:
    """List the parts that failed, with their reasons, for run.json."""
    return [{"part": part, "reason": reason_of(error)} for part, error in failed.items() if error is not None]


def log_contents(folder: Path) -> None:
    """Log the files of a folder."""
    for name, meaning in CONTENTS.items():
        for file in with_formats([name]):
            if (folder / file).exists():
                logger.info("%s: %s", folder / file, meaning)


def notes_of(adata: AnnData) -> dict[str, Any]:
    """Get the records of the steps as JSON holds them, without tables and long arrays, which are in the data."""
    steps = {name: _short(step) if name != "history" else step for name, step in recorded(adata).items()}
    return {name: plain(step) for name, step in steps.items()}


def _short(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    kept = {name: _short(value) for name, value in step.items() if not isinstance(value, pd.DataFrame)}
    return {name: value for name, value in kept.items() if np.size(value) <= LONG}


# reading


def continues(result: Path, facts: Mapping[str, Any]) -> bool:
    """Tell whether a folder holds the first results of a command that was killed, and these facts are of the same."""
    try:
        earlier = read_facts(result)
    except (InputError, OSError):
        return False
    same = (_decisive(earlier.get(name)) == _decisive(fact) for name, fact in facts.items())
    return UNFINISHED in earlier and all(same)


def _decisive(fact: Any) -> Any:
    """Leave out options that results do not depend on, such as the address of a scheduler."""
    return {name: part for name, part in fact.items() if name not in NOT_RESULTS} if isinstance(fact, dict) else fact


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is read of run.json."""

    input: str | dict[str, str] = ""
    options: dict[str, Any] = field(default_factory=dict)
    analyses: dict[str, dict[str, Any]] = field(default_factory=dict)
    stmmr: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)


def read_facts(result: Path) -> dict[str, Any]:
    """Read the run.json of a result folder.

    Raises
    ------
    InputError
        If it is no result folder.
    """
    restore(result)
    path = result / "run.json"
    if not path.is_file():
        missing = "a file" if result.exists() else "no such folder"
        present = listed(sorted(p.name for p in result.iterdir())) if result.is_dir() else missing
        raise InputError(f"Expected a folder that stmmr run wrote (with run.json) at {result}, found {present}.")
    content = read_json(path, expected="the run.json of a result")
    from_json(Facts, content, where=f"the run.json of a result at {path}")
    return content


def read_data(result: Path, facts: dict[str, Any]) -> tuple[AnnData, Path | None]:
    """Read the data of a result folder; get the file of the counts if they stay on disk, as in the run."""
    from stmmr.io import read

    files = [path for name in ("result.h5ad", "result.zarr") if (path := result / name).exists()]
    if not files:
        raise InputError(f"Expected result.h5ad or result.zarr in {result}, found neither. Run stmmr run again.")
    backed = facts.get("stmmr", {}).get("mode") == "disk"
    return read(files[0], backed=backed), files[0] if backed else None


def read_model(folder: Path | None, adata: AnnData) -> StMMR:
    """Load the model of a result folder for its data, and leave the results there as they are."""
    from stmmr.model import StMMR

    if folder is None or not folder.is_dir():
        raise InputError("Expected the model among the results (model/), found none. Run stmmr run again.")
    embedding, before = adata.obsm[keys.EMBEDDING], recorded(adata)
    model = StMMR.load(folder, adata)
    adata.obsm[keys.EMBEDDING] = embedding  # computed again, it would differ by round-off
    record(adata, **before)
    return model


def require_model(result: Path) -> None:
    """Check that a result folder has a model.

    Raises
    ------
    InputError
        If it has none.
    """
    if not (result / MODEL).is_dir():
        raise InputError(
            f"Expected the model in {result / MODEL} for denoised expression, found none. Results of stmmr map, of "
            "preset 'paper' and of earlier versions have none: run stmmr run on the section itself."
        )
