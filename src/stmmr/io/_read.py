"""Read any supported input: recognise its platform, then call the reader for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import coordinate_columns
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import existing, visible
from stmmr._core.untrusted import reader
from stmmr.image.slide_files import SCANNERS
from stmmr.io._adopt import adopt
from stmmr.io._archives import archive_ending, unpacked_archive
from stmmr.io._mudata import from_mudata, is_mudata
from stmmr.io._peek import tables_at
from stmmr.io._placing import section_names
from stmmr.io._platforms import KINDS, Platform

if TYPE_CHECKING:
    from anndata import AnnData

SUPPORTED: Final = (
    "an AnnData, SpatialData or MuData (.h5ad, .zarr, .h5mu), output of Visium, Visium HD, Xenium, CosMx, MERSCOPE, "
    "Stereo-seq, seqFISH, Slide-seq or ST, or tables of counts and coordinates (.csv, .tsv)"
)
IMAGES: Final = SCANNERS | {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".qptiff"}
"""File endings of images, which are no counts."""
CONVERTED: Final = {
    ".rds": "Convert it in R: anndataR::write_h5ad(readRDS('{name}'), '{target}').",
    ".rdata": "Convert it in R: load('{name}'), then anndataR::write_h5ad(object, '{target}') of the object in it.",
    ".rda": "Convert it in R: load('{name}'), then anndataR::write_h5ad(object, '{target}') of the object in it.",
    ".h5seurat": "Convert it in R: SeuratDisk::Convert('{name}', dest = 'h5ad').",
    ".loom": "Convert it in R: zellkonverter::writeH5AD(LoomExperiment::import('{name}', type = "
    "'SingleCellLoomExperiment'), '{target}'); in Python: scanpy.read_loom('{name}').write_h5ad('{target}').",
    ".xlsx": "Save each sheet as .csv.",
    ".xls": "Save each sheet as .csv.",
    ".robj": "Convert it in R: load('{name}'), then anndataR::write_h5ad(object, '{target}') of the object in it.",
    ".qs": "Convert it in R: anndataR::write_h5ad(qs::qread('{name}'), '{target}').",
    ".cloupe": "Give the output folder of Space Ranger that it was made from.",
    ".vzg": "Give the folder with cell_by_gene.csv and cell_metadata.csv.",
    ".xenium": "Give its folder.",
    ".pkl": "Write the object in it by AnnData.write_h5ad('{target}').",
    ".pickle": "Write the object in it by AnnData.write_h5ad('{target}').",
    ".mat": "Save counts and coordinates as .csv.",
    ".rar": "Unpack it, and give the folder.",
    ".7z": "Unpack it, and give the folder.",
}
"""Files that other programs must convert, and how."""
DEEPEST: Final = 3
"""Folders within folders that are searched."""
MOST_CHILDREN: Final = 500
"""Files and folders of a folder that are looked at."""
NOT_ALONE: Final = frozenset({"table", "st", "10x_h5", "slideseq"})
"""Platforms whose files mean little without what lies beside them."""
ADOPTED: Final = frozenset({"h5ad", "zarr", "h5mu"})
"""Platforms whose data other software may have written."""
GOES_WITH: Final = {
    "bin_size": "a Visium HD folder, Stereo-seq (.gef, .gem) or a table of transcripts",
    "library_id": "the output folder of a platform",
    "coordinates": "a table of counts",
    "backed": "an .h5ad or .zarr, whose counts can stay in the file,",
    "keep_off_tissue": "Visium, .h5ad, .zarr or a table",
    "boundaries": "Xenium, CosMx, MERSCOPE or cells of Visium HD",
}


@dataclass(frozen=True)
class Recognised:
    """The platform of an input."""

    platform: Platform
    """Kind of input; "archive" for a packed one, "sections" for a folder with several."""
    path: Path
    """The file or folder that is read."""
    because: str
    """Why it was recognised."""
    sections: tuple[Recognised, ...] = ()
    """Of a folder with several inputs, each of them."""


@reader("a section of a supported platform")
def recognise(path: str | Path, *, bin_size: int | None = None) -> Recognised:
    """Recognise the platform of a file or folder, without reading the counts.

    Parameters
    ----------
    path
        Output folder of a platform, a table of counts, a .h5ad file or a .zarr folder; an archive of one (.zip,
        .tar.gz); a folder in which only one thing can be read, or several, which are sections.
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
    refuse_others(location, path)
    try:
        match = _direct(location, bin_size)
        if match is None and location.is_file() and (ending := archive_ending(location)):
            return Recognised("archive", location, f"its name ends with {ending}")
    except InputError:  # files of several samples, maybe
        inside = _inside(location, bin_size, depth=0) if location.is_dir() else []
        if len(inside) < 2:
            raise
        match = None
    else:
        is_alone = match is None or match.platform == "10x_h5"  # counts without positions
        inside = _inside(location, bin_size, depth=DEEPEST) if is_alone and location.is_dir() else []
    if match is not None:  # what lies packed beside counts belongs to them
        inside = [part for part in inside if part.platform != "archive"]
    if match is not None and match.platform in NOT_ALONE and location.is_dir():  # tables of results beside data
        adopted = [part for part in _inside(location, bin_size, depth=0) if part.platform in ADOPTED]
        match, inside = (None, adopted) if adopted else (match, inside)
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = listed((str(part.path.relative_to(location)) for part in inside), at_most=4)
        return Recognised("sections", location, f"it holds {len(inside)} inputs ({names})", tuple(inside))
    if match is not None:
        return match
    if location.is_dir() and len(matrices := [*location.glob("*.h5")]) == 1:  # with a table of coordinates beside it
        return _direct(matrices[0], bin_size) or _unsupported(location, path)
    if location.name == "spatial" and (match := _direct(location.parent, bin_size)) is not None:
        return match
    return _unsupported(location, path)


def _unsupported(location: Path, path: str | Path) -> NoReturn:
    raise InputError(f"Expected {SUPPORTED} at {path}, found {listed(visible(location))}. {_advice(location)}")


def _direct(location: Path, bin_size: int | None) -> Recognised | None:
    """Recognise a file or folder by itself."""
    for platform, kind in KINDS.items():
        if match := kind.find(location, bin_size):
            return Recognised(platform, *match)
    return None


def _inside(folder: Path, bin_size: int | None, *, depth: int) -> list[Recognised]:
    """Recognise what a folder and its subfolders hold; only AnnData files, if it has some, beside tables of them."""
    found: list[Recognised] = []
    for child in [folder / name for name in visible(folder)][:MOST_CHILDREN]:
        match: Recognised | None = None
        with suppress(InputError, OSError):
            match = _direct(child, bin_size) if child.is_file() or depth else None
            if match is None and child.is_file() and (ending := archive_ending(child)):
                match = Recognised("archive", child, f"its name ends with {ending}")
        if match is not None and (child.is_dir() or match.platform not in NOT_ALONE):
            found.append(match)
        elif match is None and child.is_dir() and depth:
            found += _inside(child, bin_size, depth=depth - 1)
    files = [part for part in found if part.platform in ADOPTED and part.path.parent == folder]
    return files or found


@reader("a section of a supported platform")
def read(
    path: str | Path,
    *,
    bin_size: int | None = None,
    library_id: str | None = None,
    coordinates: str | Path | None = None,
    backed: bool = False,
    keep_off_tissue: bool = False,
    boundaries: bool = False,
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
    boundaries
        Read the outlines of cells as well, into ``obsm["cell_boundaries"]``, for exports.

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
        boundaries=boundaries,
    )


def read_recognised(recognised: Recognised, **options: str | Path | int | None) -> AnnData:
    """Read what was recognised, with the options of :func:`read`."""
    options = {name: value for name, value in options.items() if value is not None and value is not False}
    logger.info("Reading %s as %s: %s.", recognised.path, recognised.platform, recognised.because)
    if recognised.platform == "archive":
        with unpacked_archive(recognised.path) as content:
            chosen: Any = options
            try:
                return read(content, **chosen)
            except InputError as error:  # names what lies in a temporary folder
                raise InputError(str(error).replace(str(content), str(recognised.path))) from error
    if recognised.platform == "sections":
        return _read_sections(recognised, **options)
    platform, kind = recognised.platform, KINDS[recognised.platform]
    for name in options.keys() - kind.options.keys():
        raise InputError(f"Expected {GOES_WITH[name]} for {name}, found {platform}. Leave {name} out.")
    keep = platform in ADOPTED and bool(options.pop("keep_off_tissue", False))
    data = kind.read(recognised.path, **{kind.options[name]: value for name, value in options.items()})
    adata = from_mudata(data)[0] if is_mudata(data) else data
    return adopt(adata, keep_off_tissue=keep) if platform in ADOPTED else adata


def _read_sections(recognised: Recognised, **options: str | Path | int | None) -> AnnData:
    """Read the inputs of a folder and put them into one table, with the sections in ``obs["section"]``."""
    from stmmr.io._concat import concat_sections

    names = section_names([part.path for part in recognised.sections])
    parts = {name: read_recognised(part, **options) for name, part in zip(names, recognised.sections, strict=True)}
    _check_different(parts, recognised.path)
    key = keys.SECTION if not any(keys.SECTION in part.obs for part in parts.values()) else keys.NEW_SECTION
    adata = concat_sections(parts, section_key=key)
    logger.info("Sections are in obs[%r]: %s.", key, listed(parts, at_most=8))
    return adata


def _check_different(parts: dict[str, AnnData], folder: Path) -> None:
    """Check that sections are not the same spots with other values, such as raw and processed data."""
    for (name, one), (other_name, other) in combinations(parts.items(), 2):
        if one.shape != other.shape or not one.obs_names.equals(other.obs_names):
            continue
        xy, other_xy = one.obsm.get(keys.SPATIAL), other.obsm.get(keys.SPATIAL)
        is_same_place = xy is not None and other_xy is not None and np.array_equal(xy, other_xy)
        if is_same_place and one.X is not None and other.X is not None and (one.X != other.X).sum():
            raise InputError(
                f"Expected different sections in {folder}, found the same spots with other values in {name} and "
                f"{other_name}. Give one of them."
            )


def refuse_others(location: Path, path: str | Path) -> None:
    """Raise an InputError for files that are no counts, or that another program must convert."""
    if not location.is_file():
        return
    if location.suffix.lower() in IMAGES:
        raise InputError(
            f"Expected the counts of a section at {path}, found an image. Give the counts, and the image as "
            f'image="{location.name}" (--image {location.name}).'
        )
    ending = Path(location.name.lower().removesuffix(".gz")).suffix
    if how := CONVERTED.get(ending):
        target = location.with_suffix(".h5ad").name
        raise InputError(
            f"Expected counts in a format that stmmr reads, found {location.suffix} at {path}. "
            + how.format(name=location.name, target=target)
        )


def _advice(location: Path) -> str:
    """Suggest what to do with an input that is not supported."""
    if any((folder / "segmented_outputs").is_dir() for folder in (location, location / "outs")):
        return "Complete segmented_outputs/: it lacks filtered_feature_cell_matrix.h5."
    tables = {file: head.header for file, head in tables_at(location).items()} if location.is_dir() else {}
    if len(tables) > 1:
        counts = min(tables, key=lambda file: (coordinate_columns(tables[file]) is not None, -len(tables[file])))
        return f"Give one of these: which table has the counts is not clear; {counts} may be it."
    return "Give one of these, or convert the data to .h5ad with the coordinates in obsm['spatial']."
