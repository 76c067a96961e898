"""The table of platforms: how each kind of input is recognised, and which function reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from stmmr._core.checks import InputError, listed
from stmmr._core.untrusted import open_hdf5
from stmmr.io._cosmx import find_cosmx, read_cosmx
from stmmr.io._merscope import find_merscope, read_merscope
from stmmr.io._mudata import read_h5mu
from stmmr.io._plain import find_table, read_table
from stmmr.io._segmented import find_segmented, read_visium_hd_cells
from stmmr.io._seqfish import find_seqfish, read_seqfish
from stmmr.io._slideseq import find_slideseq, read_slideseq
from stmmr.io._st import find_st, read_st
from stmmr.io._stereoseq import find_gef, read_stereoseq
from stmmr.io._tables import read_h5ad, read_zarr
from stmmr.io._tenx import read_10x_h5
from stmmr.io._transcripts import find_long, read_transcripts
from stmmr.io._visium import find_bins, find_matrix, has_positions, read_visium, read_visium_hd
from stmmr.io._xenium import find_xenium, read_xenium

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData

    Match = tuple[Path, str] | None
    """What is read, and why it was recognised."""
    Find = Callable[[Path, int | None], Match]
    """Takes the path and the size of the bins."""

Platform = Literal[
    "h5ad",
    "zarr",
    "h5mu",
    "visium_hd",
    "visium_hd_cells",
    "xenium",
    "visium",
    "10x_h5",
    "cosmx",
    "merscope",
    "stereoseq",
    "transcripts",
    "seqfish",
    "slideseq",
    "st",
    "table",
    "archive",
    "sections",
]
HDF5: Final = (".h5ad", ".h5", ".hdf5", ".h5mu")
HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
NO_HDF5: Final = frozenset({".gef", ".gz", ".csv", ".tsv", ".txt", ".parquet", ".png", ".jpg", ".tif", ".zip", ".json"})
"""Files that are not opened to see whether they are AnnData."""
ANNDATA, MUDATA = {"obs", "var"}, {"obs", "mod"}
"""Groups that tell what an HDF5 file is, whatever its name."""
ZARR_FILES: Final = (".zgroup", "zarr.json")


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    find: Find
    read: Callable[..., AnnData | MuData]
    """Takes the path that `find` returns."""
    options: dict[str, str]
    """Options of `stmmr.read` for it, with their names in its reader."""


def _by_content(ending: str, keys: set[str]) -> Find:
    """Recognise an HDF5 file by what it holds, or by its ending if it cannot be opened."""

    def find(path: Path, _: int | None) -> Match:
        if not path.is_file() or (path.suffix.lower() not in HDF5 and not _is_other_hdf5(path)):
            return None
        content = hdf5_keys(path)
        if content is None or not any(keys <= content for keys in (ANNDATA, MUDATA)):
            return (path, f"its name ends with {ending}") if path.suffix.lower() == ending else None
        kind = MUDATA if content >= MUDATA else ANNDATA
        if keys != kind:
            return None
        is_named = path.suffix.lower() == ending
        return path, f"its name ends with {path.suffix}" if is_named else f"it holds {listed(sorted(keys))}"

    return find


def _is_other_hdf5(path: Path) -> bool:
    """Tell by its first bytes whether a file is HDF5 that no other software has a name for."""
    if path.suffix.lower() in NO_HDF5:
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError:
        return False


def hdf5_keys(path: Path) -> set[str] | None:
    """List what an HDF5 file holds; None if it cannot be opened."""
    try:
        with open_hdf5(path, parts=()) as file:
            return set(file)
    except (InputError, OSError):
        return None


def _by_name(locate: Callable[[Path], Sequence[Path | str] | None], platform: str) -> Find:
    """Recognise by the name of the count table, the first that `locate` returns."""

    def find(path: Path, _: int | None) -> Match:
        files = locate(path)
        return _by_file(path, Path(files[0]), f"{platform} counts") if files else None

    return find


def _by_file(path: Path, file: Path, content: str) -> Match:
    """Get a file, or the folder that holds it, with the reason."""
    return (file, f"its name is that of {content}") if file == path else (file.parent, f"it holds {file.name}")


def _by_path(locate: Callable[[Path], Path | None], reason: str) -> Find:
    """Recognise a file by a reason, in which {} stands for its name."""

    def find(path: Path, _: int | None) -> Match:
        file = locate(path)
        return None if file is None else (file, reason.format(file.name))

    return find


def _zarr(path: Path, _: int | None) -> Match:
    is_store = path.is_dir() and (path.suffix == ".zarr" or any((path / name).exists() for name in ZARR_FILES))
    return (path, "it is a zarr store") if is_store else None


def _visium_hd(path: Path, bin_size: int | None) -> Match:
    bins = find_bins(path, bin_size)
    if bins is None:
        return None
    cells = find_segmented(path) if path.is_dir() else None
    hint = "" if cells is None else f"; give {cells[0].parent} for the cells in it"
    return bins[0], f"it holds bins of {bins[1]} µm{hint}"


def _visium(path: Path, _: int | None) -> Match:
    matrix = find_matrix(path)
    return _by_file(path, matrix, "a count matrix") if matrix is not None and has_positions(matrix) else None


def _table(path: Path, _: int | None) -> Match:
    tables = find_table(path)
    if tables is None:
        return None
    counts, coordinates = tables
    return counts, f"{counts.name} is a table" + (f", with coordinates in {coordinates.name}" if coordinates else "")


LIBRARY: Final = {"library_id": "library_id"}
CELLS: Final = LIBRARY | {"boundaries": "boundaries"}
BINS: Final = LIBRARY | {"bin_size": "bin_size"}
OFF_TISSUE: Final = {"keep_off_tissue": "keep_off_tissue"}
BACKED: Final = OFF_TISSUE | {"backed": "backed"}
KINDS: Final[dict[Platform, Kind]] = {
    "h5ad": Kind(_by_content(".h5ad", ANNDATA), read_h5ad, BACKED),
    "zarr": Kind(_zarr, read_zarr, BACKED),
    "h5mu": Kind(_by_content(".h5mu", MUDATA), read_h5mu, OFF_TISSUE),
    "visium_hd": Kind(_visium_hd, read_visium_hd, BINS | OFF_TISSUE),
    "visium_hd_cells": Kind(_by_name(find_segmented, "Visium HD"), read_visium_hd_cells, CELLS),
    "xenium": Kind(_by_name(find_xenium, "Xenium"), read_xenium, CELLS),
    "visium": Kind(_visium, read_visium, LIBRARY | OFF_TISSUE),
    "cosmx": Kind(_by_name(find_cosmx, "CosMx"), read_cosmx, CELLS),
    "merscope": Kind(_by_name(find_merscope, "MERSCOPE"), read_merscope, CELLS),
    "stereoseq": Kind(_by_path(find_gef, "{} ends with .gef"), read_stereoseq, BINS),
    "transcripts": Kind(_by_path(find_long, "{} has a gene in each row"), read_transcripts, BINS),
    "seqfish": Kind(_by_name(find_seqfish, "seqFISH"), read_seqfish, LIBRARY),
    "slideseq": Kind(
        _by_name(find_slideseq, "Slide-seq"),
        read_slideseq,
        LIBRARY,
    ),
    "10x_h5": Kind(
        _by_path(find_matrix, "{} is a 10x matrix without positions beside it"),
        read_10x_h5,
        OFF_TISSUE | {"coordinates": "coordinates"},
    ),
    "st": Kind(
        _by_path(find_st, "the spots in {} are named XxY"),
        read_st,
        {"coordinates": "spots"},
    ),
    "table": Kind(_table, read_table, LIBRARY | OFF_TISSUE | {"coordinates": "coordinates"}),
}
"""In the order in which they are tried: specific file names before general ones."""
