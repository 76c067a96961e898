"""One entrance for every kind of input."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stmmr._validate import InputError, listed
from stmmr.io._files import existing, visible
from stmmr.io._tables import read_h5ad, read_zarr
from stmmr.io._visium import find_bins, find_matrix, read_visium, read_visium_hd

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmmr")

Platform = Literal["h5ad", "zarr", "visium", "visium_hd"]
ZARR_FILES = (".zgroup", "zarr.json")
UNDERSTOOD = (
    "an AnnData file (.h5ad), an AnnData or SpatialData store (.zarr), a Visium folder "
    "(filtered_feature_bc_matrix.h5 and spatial/) or a Visium HD folder (binned_outputs/)"
)


@dataclass(frozen=True)
class Recognised:
    """What an input was taken for."""

    platform: Platform
    """Kind of input."""
    path: Path
    """The file or folder that is read."""
    because: str
    """By what it was recognised."""


def recognise(path: str | Path, *, bin_size: int | None = None) -> Recognised:
    """Say what kind of input a file or folder is, without reading the counts.

    Parameters
    ----------
    path
        A vendor's output folder, a .h5ad file or a .zarr folder.
    bin_size
        Width of the bins in µm, for Visium HD.

    Returns
    -------
    Platform, the file or folder that is read, and by what it was recognised.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no known kind of input, or has no bins of that size.
    """
    where = existing(path)
    if where.is_file() and where.suffix == ".h5ad":
        return Recognised("h5ad", where, "its name ends with .h5ad")
    if where.is_dir() and (where.suffix == ".zarr" or any((where / name).exists() for name in ZARR_FILES)):
        return Recognised("zarr", where, "it is a zarr store")
    if bins := find_bins(where, bin_size):
        folder, size = bins
        return Recognised("visium_hd", folder, f"it holds bins of {size} µm")
    if matrix := find_matrix(where):
        if matrix == where:
            return Recognised("visium", matrix, "its name is that of a count matrix")
        return Recognised("visium", matrix.parent, f"it holds {matrix.name}")
    raise InputError(f"Expected {UNDERSTOOD} at {path}, found {listed(visible(where))}. {_advice(where)}")


def read(
    path: str | Path, *, bin_size: int | None = None, library_id: str | None = None, backed: bool = False
) -> AnnData:
    """Read a section, whatever wrote it.

    Parameters
    ----------
    path
        A vendor's output folder (Visium, Visium HD), a .h5ad file or a .zarr folder.
    bin_size
        Width of the bins in µm, for Visium HD. By default the smallest from 8 µm on.
    library_id
        Key of the section's pictures in ``uns["spatial"]``, for a vendor's folder. By default what the
        files say.
    backed
        Leave the counts of an .h5ad or .zarr in the file, where they are more than the memory holds.

    Returns
    -------
    Counts and coordinates; see :func:`read_h5ad`, :func:`read_zarr`, :func:`read_visium` and
    :func:`read_visium_hd` for the keys.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no known kind of input, is damaged, or an option does not go with it.
    """
    found = recognise(path, bin_size=bin_size)
    return read_recognised(found, bin_size=bin_size, library_id=library_id, backed=backed)


def read_recognised(
    found: Recognised, *, bin_size: int | None = None, library_id: str | None = None, backed: bool = False
) -> AnnData:
    """Read what was recognised; see :func:`read`."""
    if bin_size is not None and found.platform != "visium_hd":
        raise InputError(f"Expected a Visium HD folder for bin_size, found {found.platform}. Leave bin_size out.")
    if library_id is not None and found.platform in ("h5ad", "zarr"):
        raise InputError(
            f"Expected a vendor's folder for library_id, found {found.platform}, whose libraries have names. "
            "Leave library_id out."
        )
    if backed and found.platform not in ("h5ad", "zarr"):
        raise InputError(
            f"Expected an .h5ad or .zarr, whose counts can stay in the file, found {found.platform}. Convert it, or "
            "read it into memory."
        )
    logger.info("Reading %s as %s: %s.", found.path, found.platform, found.because)
    match found.platform:
        case "h5ad":
            return read_h5ad(found.path, backed=backed)
        case "zarr":
            return read_zarr(found.path, backed=backed)
        case "visium":
            return read_visium(found.path, library_id=library_id)
        case "visium_hd":
            return read_visium_hd(found.path, bin_size=bin_size, library_id=library_id)


def _advice(where: Path) -> str:
    """Say what to do with an input that is not understood."""
    if any((folder / "segmented_outputs").is_dir() for folder in (where, where / "outs")):
        return (
            "The cells in segmented_outputs/ are not read: give a folder that has binned_outputs/ as well, "
            "or convert the cells to .h5ad."
        )
    return "Give one of these, or convert the data to .h5ad with the coordinates in obsm['spatial']."
