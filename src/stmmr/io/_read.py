"""One entrance for every kind of input."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, listed
from stmmr._core.files import existing, visible
from stmmr.image.slide_files import SCANNERS
from stmmr.io._mudata import from_mudata, is_mudata
from stmmr.io._platforms import KINDS, Platform

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmmr")

UNDERSTOOD: Final = ", ".join(kind.shown for kind in KINDS.values())
PICTURES: Final = SCANNERS | {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".qptiff"}
"""How the names of pictures end, which are no counts."""
GOES_WITH: Final = {
    "bin_size": "a Visium HD folder or Stereo-seq .gef",
    "library_id": "a vendor's folder",
    "coordinates": "a table of counts",
}


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
        A vendor's output folder, a table of counts, a .h5ad file or a .zarr folder.
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
        If it is no known kind of input, is a picture, or has no bins of that size.
    """
    where = existing(path)
    if where.is_file() and where.suffix.lower() in PICTURES:
        raise InputError(
            f"Expected the counts of a section at {path}, found a picture. Give the counts, and the picture as "
            f"image='{where.name}' (--image)."
        )
    for platform, kind in KINDS.items():
        if found := kind.find(where, bin_size):
            return Recognised(platform, *found)
    raise InputError(f"Expected {UNDERSTOOD} at {path}, found {listed(visible(where))}. {_advice(where)}")


def read(
    path: str | Path,
    *,
    bin_size: int | None = None,
    library_id: str | None = None,
    coordinates: str | Path | None = None,
    backed: bool = False,
) -> AnnData:
    """Read a section, whatever wrote it.

    Parameters
    ----------
    path
        A vendor's output folder, a table of counts, a .h5ad file or a .zarr folder; see `stmmr.io` for the readers of
        each kind.
    bin_size
        Width of the bins: of Visium HD in µm, by default the smallest from 8 µm on; of Stereo-seq in spots of the
        chip, by default 50.
    library_id
        Key of the section's pictures and scale in ``uns["spatial"]``, for a vendor's folder. By default what the
        files say.
    coordinates
        Table of the places' coordinates, or of the spots of an ST array, where it is not found in the folder of the
        count table.
    backed
        Leave the counts of an .h5ad or .zarr in the file, where they are more than the memory holds.

    Returns
    -------
    Counts and coordinates; see the reader of its kind for the keys. It says what the input was taken for, and why. Of a
    MuData file, the modality with the expression, and the others in ``obsm`` (`from_mudata` names them as blocks).

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no known kind of input, is damaged, or an option does not go with it.
    """
    found = recognise(path, bin_size=bin_size)
    return read_recognised(found, bin_size=bin_size, library_id=library_id, coordinates=coordinates, backed=backed)


def read_recognised(
    found: Recognised,
    *,
    bin_size: int | None = None,
    library_id: str | None = None,
    coordinates: str | Path | None = None,
    backed: bool = False,
) -> AnnData:
    """Read what was recognised; see :func:`read`."""
    kind = KINDS[found.platform]
    given: dict[str, Any] = {"bin_size": bin_size, "library_id": library_id, "coordinates": coordinates}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - kind.options.keys():
        raise InputError(f"Expected {GOES_WITH[name]} for {name}, found {found.platform}. Leave {name} out.")
    if backed:
        if "backed" not in kind.options:
            raise InputError(
                f"Expected an .h5ad or .zarr, whose counts can stay in the file, found {found.platform}. Convert it, "
                "or read it into memory."
            )
        given["backed"] = True
    logger.info("Reading %s as %s: %s.", found.path, found.platform, found.because)
    read_as: Any = kind.read(found.path, **{kind.options[name]: value for name, value in given.items()})
    # of a MuData the places, with the modalities beside the expression in obsm
    return from_mudata(read_as)[0] if is_mudata(read_as) else read_as


def _advice(where: Path) -> str:
    """Say what to do with an input that is not understood."""
    if any((folder / "segmented_outputs").is_dir() for folder in (where, where / "outs")):
        return "Complete segmented_outputs/: it lacks filtered_feature_cell_matrix.h5."
    return "Give one of these, or convert the data to .h5ad with the coordinates in obsm['spatial']."
