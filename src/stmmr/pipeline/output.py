"""What `stmmr run` writes."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, get_args

import psutil

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_choice
from stmmr._core.parallel import is_first
from stmmr._core.record import record, recorded
from stmmr.pipeline.analyses import carry_out, raise_first, with_genes
from stmmr.pipeline.asked import Analyses, Before, check
from stmmr.pipeline.folder import MODEL, plain, say_contents, write_account, write_results, write_spatialdata
from stmmr.pipeline.run import run
from stmmr.pipeline.several import align, check_several, named_inputs, together
from stmmr.settings import Mode, named_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

    from stmmr.model import StMMR

logger = logging.getLogger("stmmr")
IN_MEMORY_AT_MOST: Final = 2 * 2**30
"""Bytes that a run in memory may take, where at least twice as many are free; larger data stay on disk."""
ENTRY_BYTES, PLACE_BYTES = 28, 2_000
"""What a run in memory holds for each entry of the counts (with a normalised copy, and what writing takes) and each
place; measured, see docs/performance.md."""


def run_to_folder(
    source: Path | Sequence[Path] | None,
    output: Path,
    *,
    overwrite: bool,
    options: dict[str, Any],
    bin_size: int | None = None,
    mode: Mode = "auto",
    spatialdata: bool = False,
    report: bool = True,
    analyses: Analyses | None = None,
    align_um: float | None = None,
) -> None:
    """Read, run and write; the output folder appears whole at the end, or not at all.

    What is done of it is kept beside the output until then, and an interrupted run goes on there.

    Parameters
    ----------
    source
        What `stmmr.read` takes; several are the sections of one run. ``None`` for the simulated tissue.
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
    analyses
        What is asked of the domains; their genes where None. If one of them fails, all other results are written
        before its error is raised.
    align_um
        Distance of neighbouring sections in µm, to align and stack them for a graph in three dimensions.
    """
    from stmmr._core.files import publish_folder
    from stmmr.io._elements import import_spatialdata

    if spatialdata:
        try:
            import_spatialdata()
        except ImportError as error:
            raise InputError(f"Expected the extra for --spatialdata: {error}") from error

    start, given, asked = time.perf_counter(), options, analyses or Analyses()
    named = _named(source)
    if len(named) > 1:
        check_several(options, mode=mode)
    where: dict[str, Any] = {"bin_size": bin_size, "align_um": align_um}
    if not is_first():  # of processes that were started together: it only trains
        adata, options, _ = _data(named, options, mode="memory", in_memory=True, **where)
        run(adata, **options)
        return
    with publish_folder(output, overwrite=overwrite) as folder, kept_beside(output) as beside:
        adata, options, counts = _data(named, options, mode=mode, in_memory=spatialdata, **where)
        check(adata, asked, Before.of_run(options))
        checkpoint = options.get("checkpoint") or beside
        model = checkpoint / MODEL if options.get("preset", "default") != "paper" else None
        run(adata, **(options | {"checkpoint": checkpoint, "save_model": model}))
        record(adata, mode="memory" if counts is None else "disk")
        asked, progress = with_genes(adata, asked), options.get("progress", True)
        ended = carry_out(adata, asked, model=lambda: kept_model(model, adata), progress=progress)
        ended |= write_results(adata, folder, source=counts)
        if model is not None:
            shutil.copytree(model, folder / MODEL)
        if spatialdata:
            write_spatialdata(adata, folder / "spatialdata.zarr")
        aligned = {} if align_um is None else {"align": align_um}
        said = {"input": _said(named), "options": plain(given | aligned)}
        write_account(adata, folder, said, asked=asked, ended=ended, start=start, report=report)
    shutil.rmtree(beside, ignore_errors=True)  # not before the results are in their place
    say_contents(output)
    raise_first(ended, f"All other results are in {output}; add this one by: stmmr analyse {output} …")


def _named(source: Path | Sequence[Path] | None) -> dict[str, Path]:
    """Name what is to be read; nothing for the simulated tissue."""
    if source is None:
        return {}
    return named_inputs(list(source) if isinstance(source, Sequence) else [source])


def _said(named: dict[str, Path]) -> str | dict[str, str]:
    """Say what was read, as run.json holds it: several inputs by their names."""
    paths = {name: str(path) for name, path in named.items()}
    return paths if len(paths) > 1 else next(iter(paths.values()), "simulated tissue")


def _data(
    named: dict[str, Path],
    options: dict[str, Any],
    *,
    bin_size: int | None,
    mode: Mode,
    in_memory: bool,
    align_um: float | None,
) -> tuple[AnnData, dict[str, Any], Path | None]:
    """Read the data; get the options that remain, and where the counts are if they stay there."""
    from stmmr import datasets
    from stmmr.io._tables import counts_at

    counts = None
    if not named:
        adata = datasets.simulated_tissue()
    elif len(named) > 1:
        parts = {name: opened(path, options, bin_size=bin_size) for name, path in named.items()}
        adata, options = together(parts, options)
    else:
        (source,), table = named.values(), options.get("table")
        backed = stays_on_disk(source, mode, table=table)
        if backed and in_memory:
            raise InputError("Expected counts in memory for --spatialdata, found that they stay on disk (--mode).")
        adata, options = opened(source, options, bin_size=bin_size, backed=backed)
        counts = counts_at(source, table) if backed else None
    return adata, options if align_um is None else align(adata, align_um, options), counts


def kept_model(folder: Path | None, adata: AnnData) -> StMMR:
    """Load the model that was kept of a run, and leave what the run wrote as it is."""
    from stmmr.model import StMMR

    if folder is None or not folder.is_dir():
        raise InputError("Expected the trained model among the results (model/), found none. Run stmmr run again.")
    embedding, before = adata.obsm[keys.EMBEDDING], recorded(adata)
    model = StMMR.load(folder, adata)
    adata.obsm[keys.EMBEDDING] = embedding  # computed anew, it would differ by round-off
    record(adata, **before)
    return model


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
