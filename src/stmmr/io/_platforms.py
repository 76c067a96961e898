"""The kinds of input: by what each is recognised, and which function reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

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
from stmmr.io._visium import find_bins, find_matrix, has_positions, read_visium, read_visium_hd
from stmmr.io._xenium import find_xenium, read_xenium

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

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
    "seqfish",
    "slideseq",
    "st",
    "table",
]
ZARR_FILES: Final = (".zgroup", "zarr.json")


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    shown: str
    """What it is, for messages."""
    find: Callable[[Path, int | None], tuple[Path, str] | None]
    """Finds what is read, and by what it was recognised; takes the path and the size of the bins."""
    read: Callable[..., AnnData | MuData]
    """Reads what was found."""
    options: dict[str, str]
    """Options of `stmmr.read` that go with it, with the name they have in its reader."""


def _h5ad(path: Path, _: int | None) -> tuple[Path, str] | None:
    return (path, "its name ends with .h5ad") if path.is_file() and path.suffix == ".h5ad" else None


def _zarr(path: Path, _: int | None) -> tuple[Path, str] | None:
    is_store = path.is_dir() and (path.suffix == ".zarr" or any((path / name).exists() for name in ZARR_FILES))
    return (path, "it is a zarr store") if is_store else None


def _h5mu(path: Path, _: int | None) -> tuple[Path, str] | None:
    return (path, "its name ends with .h5mu") if path.is_file() and path.suffix == ".h5mu" else None


def _visium_hd(path: Path, bin_size: int | None) -> tuple[Path, str] | None:
    bins = find_bins(path, bin_size)
    if bins is None:
        return None
    folder, size = bins
    cells = find_segmented(path) if path.is_dir() else None
    more = "" if cells is None else f"; give {cells[0].parent} for the cells in it"
    return folder, f"it holds bins of {size} µm{more}"


def _visium(path: Path, _: int | None) -> tuple[Path, str] | None:
    matrix = find_matrix(path)
    return _because(path, matrix, "a count matrix") if matrix is not None and has_positions(matrix) else None


def _tenx_h5(path: Path, _: int | None) -> tuple[Path, str] | None:
    matrix = find_matrix(path)
    if matrix is None:
        return None
    return matrix, f"{matrix.name} is a count matrix of 10x, without positions beside it"


def _stereoseq(path: Path, _: int | None) -> tuple[Path, str] | None:
    file = find_gef(path)
    return None if file is None else (file, f"{file.name} ends with .gef")


def _seqfish(path: Path, _: int | None) -> tuple[Path, str] | None:
    files = find_seqfish(path)
    return _because(path, files[0], "a seqFISH count table") if files else None


def _st(path: Path, _: int | None) -> tuple[Path, str] | None:
    file = find_st(path)
    return None if file is None else (file, f"the spots in {file.name} are named XxY")


def _table(path: Path, _: int | None) -> tuple[Path, str] | None:
    found = find_table(path)
    if found is None:
        return None
    return found[0], f"{found[0].name} is a table" + (f", with coordinates in {found[1].name}" if found[1] else "")


def _by_name(
    find: Callable[[Path], tuple[Path, str] | None], what: str
) -> Callable[[Path, int | None], tuple[Path, str] | None]:
    """Recognise by the name of the count table."""

    def found(path: Path, _: int | None) -> tuple[Path, str] | None:
        file = find(path)
        return None if file is None else _because(path, file[0], what)

    return found


def _because(path: Path, file: Path, what: str) -> tuple[Path, str]:
    if file == path:
        return file, f"its name is that of {what}"
    return file.parent, f"it holds {file.name}"


LIBRARY: Final = {"library_id": "library_id"}
KINDS: Final[dict[Platform, Kind]] = {
    "h5ad": Kind("an AnnData file (.h5ad)", _h5ad, read_h5ad, {"backed": "backed"}),
    "zarr": Kind("an AnnData or SpatialData store (.zarr)", _zarr, read_zarr, {"backed": "backed"}),
    "h5mu": Kind("a MuData file (.h5mu)", _h5mu, read_h5mu, {}),
    "visium_hd": Kind(
        "a Visium HD folder (binned_outputs/)", _visium_hd, read_visium_hd, LIBRARY | {"bin_size": "bin_size"}
    ),
    "visium_hd_cells": Kind(
        "cells of Visium HD (segmented_outputs/)",
        _by_name(find_segmented, "cells of Visium HD"),
        read_visium_hd_cells,
        LIBRARY,
    ),
    "xenium": Kind(
        "Xenium (cell_feature_matrix.h5)", _by_name(find_xenium, "a Xenium count matrix"), read_xenium, LIBRARY
    ),
    "visium": Kind("a Visium folder (filtered_feature_bc_matrix.h5 and spatial/)", _visium, read_visium, LIBRARY),
    "10x_h5": Kind("a 10x .h5", _tenx_h5, read_10x_h5, {}),
    "cosmx": Kind("CosMx (…_exprMat_file.csv)", _by_name(find_cosmx, "CosMx counts"), read_cosmx, LIBRARY),
    "merscope": Kind("MERSCOPE (cell_by_gene.csv)", _by_name(find_merscope, "MERSCOPE counts"), read_merscope, LIBRARY),
    "stereoseq": Kind("Stereo-seq (.gef)", _stereoseq, read_stereoseq, LIBRARY | {"bin_size": "bin_size"}),
    "seqfish": Kind("seqFISH (…_CxG_section1.csv)", _seqfish, read_seqfish, LIBRARY),
    "slideseq": Kind(
        "Slide-seq (MappedDGEForR.csv, ….digital_expression.txt)",
        _by_name(find_slideseq, "Slide-seq counts"),
        read_slideseq,
        LIBRARY,
    ),
    "st": Kind("ST (a count table with spots named XxY)", _st, read_st, {"coordinates": "spots"}),
    "table": Kind(
        "a table of counts with coordinates (.csv, .tsv)", _table, read_table, LIBRARY | {"coordinates": "coordinates"}
    ),
}
"""In the order in which they are tried: what its own files name before what any folder may hold."""
