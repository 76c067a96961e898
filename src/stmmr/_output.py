"""What `stmmr run` writes."""

from __future__ import annotations

import json
import logging
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
import psutil

from stmmr import _keys
from stmmr._parallel import is_first
from stmmr._record import record, recorded
from stmmr._run import peak_memory_mb, run
from stmmr._validate import InputError, listed, require_choice
from stmmr.report._tables import versions
from stmmr.settings import Mode, named_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

logger = logging.getLogger("stmmr")
IN_MEMORY_AT_MOST: Final = 2 * 2**30
"""Bytes that a run in memory may take, where at least twice as many are free; larger data stay on disk."""
ENTRY_BYTES, PLACE_BYTES = 28, 2_000
"""What a run in memory holds for each entry of the counts (with a normalised copy, and what writing takes) and each
place; measured, see docs/performance.md."""
PACKAGES = ("anndata", "numpy", "scanpy", "scikit-image", "scikit-learn", "scipy", "torch")


def run_to_folder(
    source: Path | None,
    output: Path,
    *,
    overwrite: bool,
    options: dict[str, Any],
    bin_size: int | None = None,
    mode: Mode = "auto",
    spatialdata: bool = False,
    report: bool = True,
) -> None:
    """Read, run and write; the output folder appears whole at the end, or not at all.

    What is done of it is kept beside the output until then, and an interrupted run goes on there.

    Parameters
    ----------
    source
        What `stmmr.read` takes; ``None`` for the simulated tissue.
    output
        Folder to make.
    overwrite
        Whether an earlier result may be replaced.
    options
        Keyword arguments of `stmmr.run`.
    bin_size
        Side of Visium HD bins in µm.
    mode
        Where the counts are: "memory", "disk" (of an .h5ad or .zarr, read a chunk at a time) or "auto", by their size
        and the free memory.
    spatialdata
        Write a SpatialData store as well.
    report
        Write report.html, where bokeh is installed.
    """
    from stmmr import datasets
    from stmmr.io._elements import import_spatialdata
    from stmmr.io._tables import counts_at
    from stmmr.io._write import publish_folder

    if spatialdata:
        try:
            import_spatialdata()
        except ImportError as error:
            raise InputError(f"Expected the extra for --spatialdata: {error}") from error

    start, asked = time.perf_counter(), options
    if not is_first():  # of processes that were started together: it only trains
        adata, options = (
            (datasets.simulated_tissue(), options) if source is None else opened(source, options, bin_size=bin_size)
        )
        run(adata, **options)
        return
    with publish_folder(output, overwrite=overwrite) as folder, kept_beside(output) as checkpoint:
        if source is None:
            adata, backed = datasets.simulated_tissue(), False
        else:
            backed = stays_on_disk(source, mode, table=options.get("table"))
            if backed and spatialdata:
                raise InputError("Expected counts in memory for --spatialdata, found that they stay on disk (--mode).")
            adata, options = opened(source, options, bin_size=bin_size, backed=backed)
        run(adata, **(options | {"checkpoint": options.get("checkpoint") or checkpoint}))
        record(adata, mode="disk" if backed else "memory")
        write_results(adata, folder, source=counts_at(source, asked.get("table")) if source and backed else None)
        if spatialdata:
            write_spatialdata(adata, folder / "spatialdata.zarr")
        facts = {
            "input": "simulated tissue" if source is None else str(source),
            "options": {name: _plain(value) for name, value in asked.items()},
            "places": adata.n_obs,
            "genes": adata.n_vars,
            "stmmr": _plain(recorded(adata)),
            "versions": versions(PACKAGES),
            "seconds_in_all": round(time.perf_counter() - start, 3),
            "peak_memory_mb": peak_memory_mb(),
        }
        if report:
            write_report(adata, folder / "report.html", facts)
        (folder / "run.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoint, ignore_errors=True)  # not before the results are in their place
    for name, meaning in CONTENTS.items():
        if (output / name).exists():
            logger.info("%s: %s", output / name, meaning)


CONTENTS = {
    "report.html": "all of it on one page, to open in a browser and to send to others",
    "result.h5ad": "the data with embedding, domains and everything that was set",
    "result.zarr": "the data with embedding, domains and everything that was set",
    "spatialdata.zarr": "the same, with the picture, for squidpy, spatialdata-plot and napari-spatialdata",
    "domains.csv": "one row per place: its domain, how sure it is, and the domain after the vote of its neighbours",
    "run.json": "settings, versions, times, peak memory",
    "domains.png": "the domains over the picture",
    "confidence.png": "how sure the domain of each place is",
    "domains_refined.png": "the same after the vote",
    "embedding.png": "the embedding as a UMAP",
    "training.png": "the training curve",
    "number_of_domains.png": "the curve that the number of domains was chosen on",
    "bandwidth.png": "the curve that the bandwidth of the graph was chosen on",
}


@contextmanager
def kept_beside(output: Path) -> Iterator[Path]:
    """Name the folder where an unfinished run is kept, and remove it after an error; it stays after an interruption."""
    output = output.resolve()
    folder = output.with_name(f".{output.name}.unfinished")
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def opened(
    source: Path, options: dict[str, Any], *, bin_size: int | None = None, backed: bool = False
) -> tuple[AnnData, dict[str, Any]]:
    """Read the data, with what the options say of a SpatialData store; get the options that remain.

    The picture of such a store is read in full, and what a MuData measures besides expression becomes blocks.
    """
    from stmmr.io import from_mudata
    from stmmr.io._mudata import read_h5mu
    from stmmr.io._read import read_recognised, recognise
    from stmmr.io._tables import TABLES, read_store

    found = recognise(source, bin_size=bin_size)
    chosen = {name: options[name] for name in ("table", "coordinate_system") if options.get(name) is not None}
    has_tables = (source / TABLES).is_dir() or source.resolve().parent.name == TABLES
    is_spatialdata = found.platform == "zarr" and has_tables
    image = options.get("image")
    if is_spatialdata and image is not None and not image.exists():
        chosen["image"] = str(image)
    if is_spatialdata:
        logger.info("Reading %s as a SpatialData store.", source)
        adata, picture = read_store(source, backed=backed, **chosen)
        options = options | dict.fromkeys(chosen)
        if picture is None or options.get("image") is not None or not options.get("histology", True):
            return adata, options
        return adata, options | picture.options()
    if chosen:
        raise InputError(f"Expected a SpatialData store (.zarr) for {listed(chosen)}, found {source}. Leave it out.")
    if found.platform == "h5mu":
        adata, blocks = from_mudata(read_h5mu(source))
        return adata, options | {"blocks": blocks | named_blocks(options.get("blocks"))}
    return read_recognised(found, bin_size=bin_size, backed=backed), options


def write_spatialdata(adata: AnnData, target: Path) -> None:
    """Write the data as a SpatialData store."""
    from stmmr.io import to_spatialdata
    from stmmr.io._elements import quietly

    with quietly():
        to_spatialdata(adata).write(target)


def stays_on_disk(source: Path, mode: Mode, *, table: str | None = None) -> bool:
    """Decide whether the counts stay in their file, and say so."""
    from stmmr.io._read import recognise
    from stmmr.io._tables import counts_in_file

    require_choice(mode, get_args(Mode), name="mode")
    found = recognise(source)
    if mode == "memory" or (mode == "auto" and found.platform not in ("h5ad", "zarr")):
        return False
    if mode == "disk":
        return True
    n_places, n_entries = counts_in_file(found.path, table=table)
    needed, free = memory_needed(n_entries, n_places), psutil.virtual_memory().available
    on_disk = would_stay_on_disk(needed, free)
    logger.info(
        "%s: about %.1f GB in memory would be needed, %.1f GB are free.",
        "The counts stay on disk and are read in chunks" if on_disk else "The counts are read into memory",
        needed / 1e9,
        free / 1e9,
    )
    return on_disk


def memory_needed(n_entries: int, n_places: int) -> int:
    """Estimate the bytes that a run in memory takes, by the values of the counts that are stored."""
    return n_entries * ENTRY_BYTES + n_places * PLACE_BYTES


def would_stay_on_disk(needed: int, free: int) -> bool:
    """Tell whether counts are left in their file, by the bytes needed and free."""
    return needed > min(IN_MEMORY_AT_MOST, free / 2)


def write_results(adata: AnnData, folder: Path, *, source: Path | None = None) -> None:
    """Write the table, the figures and the data, whose counts are in `source` where they stayed there."""
    from matplotlib import pyplot as plt

    from stmmr import pl, tl
    from stmmr.io._tables import write_beside_counts, write_h5ad

    tl.umap(adata)
    table = adata.obs[[_keys.DOMAIN, _keys.CONFIDENCE, _keys.DOMAIN_REFINED]].rename_axis(index="place")
    table.columns = ["domain", "confidence", "domain_refined"]
    table.to_csv(folder / "domains.csv")
    figures: dict[str, Callable[[], Axes]] = {
        "domains.png": lambda: pl.domains(adata),
        "confidence.png": lambda: pl.values(adata, _keys.CONFIDENCE, vmin=0, vmax=1),
        "domains_refined.png": lambda: pl.domains(adata, domain_key=_keys.DOMAIN_REFINED),
        "embedding.png": lambda: pl.embedding(adata),
        "training.png": lambda: pl.history(adata),
    }
    if "bandwidths_tried" in recorded(adata)["spatial_graph"]:
        figures["bandwidth.png"] = lambda: pl.bandwidth(adata)
    if "number_of_domains" in recorded(adata):
        figures["number_of_domains.png"] = lambda: pl.number_of_domains(adata)
    for name, draw in figures.items():
        figure = draw().get_figure(root=True)
        assert figure is not None  # noqa: S101 - axes just drawn
        figure.savefig(folder / name, dpi=200, bbox_inches="tight")
        plt.close(figure)
    if source is None:
        write_h5ad(adata, folder / "result.h5ad")
    else:
        write_beside_counts(adata, source, folder / ("result.zarr" if source.is_dir() else "result.h5ad"))


def write_report(adata: AnnData, target: Path, facts: dict[str, Any]) -> None:
    """Write the report; say so where what it needs is not installed."""
    from stmmr import report

    try:
        report.write(adata, target, run_facts=facts)
    except ImportError as error:
        logger.info("No report was written: %s", error)


def _plain(value: Any) -> Any:
    """Turn into what JSON holds; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
