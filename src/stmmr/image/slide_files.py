"""Slides in files and in SpatialData: where their resolutions are and how a window of each is read."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError, logger
from stmmr.image.pixels import MAX_PIXELS, decoded_by_tifffile, decoding, format_of, greyscale, read_picture
from stmmr.image.slide import PixelArray, Slide

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray

SCANNERS: Final = {".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
"""Endings of the formats of slide scanners that openslide reads (https://openslide.org/formats/)."""
BLOCK: Final = 512
"""Pixels a side that are decoded at once where a file has no tiles of its own, or odd ones."""
UM_PER_PX: Final = (0.05, 50.0)
"""Sizes of pixels that microscopes have, in µm; programs write 72 dots per inch where they know nothing."""


class Chunked:
    """A resolution whose pixels are somewhere else: a zarr or dask array.

    Parameters
    ----------
    array
        Sliced as NumPy arrays are.
    axes
        Name of each axis; "Y", "X" and one of "C" and "S" for the channels, others of length one.
    path
        File that messages name.
    block
        Height and width that are decoded at once.
    """

    def __init__(self, array: Any, axes: str, *, path: Any, block: tuple[int, int]) -> None:
        self.array, self.axes, self.path = array, axes, path
        self.block: tuple[int, int] | None = block

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.array.shape[self.axes.index("Y")], self.array.shape[self.axes.index("X")]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a window."""
        where: dict[str, Any] = {"Y": rows, "X": columns, "C": slice(None), "S": slice(None)}
        with decoding(self.path):
            part = self.array[tuple(where.get(axis, 0) for axis in self.axes)]
            pixels = np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "compute") else part)
        left = [axis for axis in self.axes if axis in where]
        return pixels.transpose(
            [left.index(axis) for axis in ("Y", "X")] + [i for i, a in enumerate(left) if a in "CS"]
        )


class ByOpenSlide:
    """A resolution of a file that openslide reads."""

    def __init__(self, file: Any, level: int) -> None:
        self.file, self.level = file, level
        properties = file.properties
        tile = (properties.get(f"openslide.level[{level}].tile-{side}") for side in ("height", "width"))
        high, wide = (int(length or BLOCK) for length in tile)
        self.block: tuple[int, int] | None = (high, wide) if max(high, wide) <= 4 * BLOCK else (BLOCK, BLOCK)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = self.file.level_dimensions[self.level]
        return height, width

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a window."""
        # openslide names the corner by pixels of the full resolution
        step = self.file.level_downsamples[self.level]
        corner = round(columns.start * step), round(rows.start * step)
        extent = columns.stop - columns.start, rows.stop - rows.start
        return np.asarray(self.file.read_region(corner, self.level, extent))


def open_file(path: Path) -> Slide:
    """Open a picture in a file, by whatever reads a window of it without decoding the rest."""
    if path.suffix.lower() in SCANNERS and (found := _by_openslide(path)):
        return found
    match format_of(path):
        case "tiff":
            with decoding(path):
                return _tiff(path)
        case "other" if found := _by_openslide(path):
            return found
        case _:
            return Slide(path.name, [PixelArray(read_picture(path))], path=path)


def _by_openslide(path: Path) -> Slide | None:
    """Open a file by openslide; None where it is not installed or does not know the file."""
    if importlib.util.find_spec("openslide") is None:
        if path.suffix.lower() in SCANNERS:
            logger.info("openslide is not installed (pip install 'stmmr-kit[slides]'): trying %s as a TIFF.", path.name)
        return None
    import openslide

    if openslide.OpenSlide.detect_format(path) is None:
        return None
    try:
        file = openslide.OpenSlide(path)
        sources = [ByOpenSlide(file, level) for level in range(file.level_count)]
        told = file.properties.get(openslide.PROPERTY_NAME_MPP_X)
        um = _plausible(float(told)) if told else None
        return Slide(path.name, sources, um_per_px=um, path=path, close=file.close)
    except openslide.OpenSlideError as error:
        raise InputError(
            f"Expected a whole slide in {path}, found a damaged or truncated file ({error}). Copy it again."
        ) from error


def _tiff(path: Path) -> Slide:
    """Open a TIFF with all of its resolutions."""
    import tifffile

    tiff = tifffile.TiffFile(path)
    try:
        return _tiff_slide(path, tiff)
    except BaseException:
        tiff.close()
        raise


def _tiff_slide(path: Path, tiff: tifffile.TiffFile) -> Slide:
    """Find the resolutions of a TIFF."""
    import zarr

    series = tiff.series[0]
    axes, keyframe = series.axes.replace("Q", "C"), series.keyframe
    sizes = dict(zip(axes, series.shape, strict=True))
    if not any(sizes.get(axis) in {3, 4} for axis in "CS"):
        raise greyscale(str(path))
    codecs = importlib.util.find_spec("imagecodecs") is not None
    small = sizes["X"] * sizes["Y"] <= MAX_PIXELS
    if keyframe.photometric not in {1, 2, 6} or not (decoded_by_tifffile(keyframe) or codecs or not small):
        um = _size_of_pixel(series, tiff)
        tiff.close()
        return Slide(path.name, [PixelArray(read_picture(path))], um_per_px=um, path=path)
    block = _block(keyframe)
    sources = [
        Chunked(zarr.open(series.aszarr(level=i), mode="r"), level.axes.replace("Q", "C"), path=path, block=block)
        for i, level in enumerate(series.levels)
    ]
    return Slide(path.name, sources, um_per_px=_size_of_pixel(series, tiff), path=path, close=tiff.close)


def open_spatial_image(image: Any, *, where: str) -> Slide:
    """Open an image of SpatialData: a DataArray (c, y, x), or a DataTree with one for each resolution."""
    scales = levels(image)
    axes = ["".join(str(dim).upper() for dim in scale.dims) for scale in scales]
    if any(set(found) != set("CYX") for found in axes):
        raise InputError(f"Expected {where} with the axes c, y and x, found {', '.join(axes) or 'nothing'}.")
    if scales[0].shape[axes[0].index("C")] not in {3, 4}:
        raise greyscale(where)
    sources = [
        Chunked(scale.data, found, path=where, block=(BLOCK, BLOCK)) for scale, found in zip(scales, axes, strict=True)
    ]
    return Slide(where, sources)


def levels(image: Any) -> list[Any]:
    """Get the resolutions of an image of SpatialData as arrays, the full one first."""
    if not hasattr(image, "children"):
        return [image]
    scales = sorted(image.children, key=lambda name: int(name.removeprefix("scale")))
    return [next(iter(image[scale].data_vars.values())) for scale in scales]


def _block(page: Any) -> tuple[int, int]:
    """Choose what is decoded at once: whole tiles, or strips that together are about as large."""
    if page.is_tiled:
        high, wide = page.tilelength, page.tilewidth
        return (high, wide) if min(high, wide) >= BLOCK // 4 else (BLOCK, BLOCK)
    strip = max(page.rowsperstrip, 1)
    rows = max(2 * BLOCK * BLOCK // page.imagewidth // strip, 1) * strip
    return min(rows, page.imagelength), page.imagewidth


def _size_of_pixel(series: Any, tiff: Any) -> float | None:
    """Find µm per pixel in what a TIFF says of itself; None where that is nothing a microscope could have."""
    import tifffile

    if tiff.is_ome:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
        unit = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}.get(pixels.get("PhysicalSizeXUnit", "µm"))
        if unit and "PhysicalSizeX" in pixels:
            return _plausible(float(pixels["PhysicalSizeX"]) * unit)
    page = series.keyframe
    if tiff.is_svs:
        told = tifffile.tifffile.svs_description_metadata(page.description).get("MPP")
        return _plausible(float(told)) if told else None
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(page.resolutionunit or 1))
    per_unit = page.get_resolution()[0] if unit else 0
    return _plausible(unit / per_unit) if unit and per_unit else None


def _plausible(um: float) -> float | None:
    low, high = UM_PER_PX
    return um if low <= um <= high else None
