"""Read any supported input: recognise its platform, then call the reader for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import existing, visible
from stmmr._core.untrusted import reader
from stmmr.image.slide_files import SCANNERS
from stmmr.io._adopt import adopt
from stmmr.io._mudata import from_mudata, is_mudata
from stmmr.io._platforms import KINDS, Platform

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

SUPPORTED: Final = ", ".join(kind.label for kind in KINDS.values())
IMAGES: Final = SCANNERS | {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".qptiff"}
"""File endings of images, which are no counts."""
ADOPTED: Final = frozenset({"h5ad", "zarr", "h5mu"})
"""Platforms whose data other software may have written."""
GOES_WITH: Final = {
    "bin_size": "a Visium HD folder or Stereo-seq .gef",
    "library_id": "the output folder of a platform",
    "coordinates": "a table of counts",
    "backed": "an .h5ad or .zarr, whose counts can stay in the file,",
    "keep_off_tissue": "Visium, .h5ad or .zarr",
}


@dataclass(frozen=True)
class Recognised:
    """The platform of an input."""

    platform: Platform
    """Kind of input."""
    path: Path
    """The file or folder that is read."""
    because: str
    """Why it was recognised."""


@reader("a section of a supported platform")
def recognise(path: str | Path, *, bin_size: int | None = None) -> Recognised:
    """Recognise the platform of a file or folder, without reading the counts.

    Parameters
    ----------
    path
        Output folder of a platform, a table of counts, a .h5ad file or a .zarr folder.
    bin_size
        Width of the bins in µm, for Visium HD.

    Returns
    -------
    The platform, the file or folder that is read, and why it was recognised.

    Raises
    ------
    InputError
        If the input is not supported, is an image, or has no bins of that size.
    """
    location = existing(path)
    if location.is_file() and location.suffix.lower() in IMAGES:
        raise InputError(
            f"Expected the counts of a section at {path}, found an image. Give the counts, and the image as "
            f'image="{location.name}" (--image {location.name}).'
        )
    for platform, kind in KINDS.items():
        if match := kind.find(location, bin_size):
            return Recognised(platform, *match)
    raise InputError(f"Expected {SUPPORTED} at {path}, found {listed(visible(location))}. {_advice(location)}")


@reader("a section of a supported platform")
def read(
    path: str | Path,
    *,
    bin_size: int | None = None,
    library_id: str | None = None,
    coordinates: str | Path | None = None,
    backed: bool = False,
    keep_off_tissue: bool = False,
) -> AnnData:
    """Read a section of any supported platform.

    The log states which platform the input was recognised as, and why.

    Parameters
    ----------
    path
        Output folder of a platform, a table of counts, a .h5ad file or a .zarr folder. Each has a reader in `stmmr.io`.
    bin_size
        Width of the bins: for Visium HD in µm, by default the smallest from 8 µm on; for Stereo-seq in spots of the
        chip, by default 50.
    library_id
        Key of the section in ``uns["spatial"]``, for the output folder of a platform. By default the name in its files.
    coordinates
        Table with the coordinates of the spots, if it is not in the folder of the count table.
    backed
        Leave the counts of an .h5ad or .zarr in the file, if memory cannot hold them.
    keep_off_tissue
        Keep the spots that are off the tissue (``in_tissue`` is 0), which are dropped otherwise.

    Returns
    -------
    Counts and coordinates; the reader of the platform lists the keys. In an AnnData of other software, coordinates
    under another name are put into ``obsm["spatial"]``, genes named by identifiers get the symbols of ``var``, and
    controls, antibodies and spots off the tissue are dropped. Of a MuData file, the modality with the
    expression, and the others in ``obsm`` (`from_mudata` returns them as blocks).

    Raises
    ------
    InputError
        If the input is not supported or damaged, or an option does not apply to it.
    """
    recognised = recognise(path, bin_size=bin_size)
    return read_recognised(
        recognised,
        bin_size=bin_size,
        library_id=library_id,
        coordinates=coordinates,
        backed=backed,
        keep_off_tissue=keep_off_tissue,
    )


def read_recognised(recognised: Recognised, **options: str | Path | int | None) -> AnnData:
    """Read what was recognised, with the options of :func:`read`."""
    platform, kind = recognised.platform, KINDS[recognised.platform]
    options = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in options.keys() - kind.options.keys():
        raise InputError(f"Expected {GOES_WITH[name]} for {name}, found {platform}. Leave {name} out.")
    logger.info("Reading %s as %s: %s.", recognised.path, platform, recognised.because)
    keep = platform in ADOPTED and bool(options.pop("keep_off_tissue", False))
    data = kind.read(recognised.path, **{kind.options[name]: value for name, value in options.items()})
    adata = from_mudata(data)[0] if is_mudata(data) else data
    return adopt(adata, keep_off_tissue=keep) if platform in ADOPTED else adata


def _advice(location: Path) -> str:
    """Suggest what to do with an input that is not supported."""
    if any((folder / "segmented_outputs").is_dir() for folder in (location, location / "outs")):
        return "Complete segmented_outputs/: it lacks filtered_feature_cell_matrix.h5."
    return "Give one of these, or convert the data to .h5ad with the coordinates in obsm['spatial']."
