"""Open slides in files and in SpatialData: find their resolutions and read windows of each."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError, logger
from stmmr._core.untrusted import examined, require_memory
from stmmr.image.pixels import MAX_PIXELS, decoded_by_tifffile, decoding, format_of, greyscale, read_image
from stmmr.image.slide import PixelArray, Slide, SpatialTree

if TYPE_CHECKING:
    from pathlib import Path

    import openslide
    import tifffile
    from numpy.typing import NDArray

    from stmmr.image.slide import SpatialArray

SCANNERS: Final = {".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
"""Endings of the formats of slide scanners that openslide reads (https://openslide.org/formats/)."""
SMALL_TILES: Final = "Save it with tiles of at most 1024 pixels a side."
BLOCK: Final = 512
"""Side in pixels of the blocks that are decoded at once if a file has no tiles, or very small ones."""
UM_PER_PX: Final = (0.05, 50.0)
"""Sizes of pixels that microscopes have, in µm; programs that do not know it write 72 dots per inch."""


class Chunked:
    """A resolution whose pixels are in a zarr or dask array; messages name it by `where`.

    `axes` are "Y", "X", and "C" or "S" for the channels; others have length one. `block` is the height and width that
    are decoded at once.
    """

    def __init__(self, array: Any, axes: str, *, where: Path | str, block: tuple[int, int]) -> None:
        self.array, self.axes, self.where = array, axes, where
        self.block: tuple[int, int] | None = block
        self.size = array.shape[axes.index("Y")], array.shape[axes.index("X")]

    def read(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read a window."""
        slices = {"Y": rows, "X": columns, "C": slice(None), "S": slice(None)}
        with decoding(self.where):
            part = self.array[tuple(slices.get(axis, 0) for axis in self.axes)]
            pixels = np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "compute") else part)
        left = "".join(axis for axis in self.axes if axis in slices)
        channels = [i for i, axis in enumerate(left) if axis in "CS"]
        return pixels.transpose([left.index("Y"), left.index("X"), *channels])


class ByOpenSlide:
    """A resolution of a file that openslide reads."""

    def __init__(self, file: openslide.OpenSlide, level: int) -> None:
        self.file, self.level = file, level
        width, height = file.level_dimensions[level]
        self.size = height, width
        tile = (file.properties.get(f"openslide.level[{level}].tile-{side}") for side in ("height", "width"))
        high, wide = (int(length or BLOCK) for length in tile)
        self.block: tuple[int, int] | None = (high, wide) if max(high, wide) <= 4 * BLOCK else (BLOCK, BLOCK)

    def read(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read a window."""
        # openslide expects the corner in pixels of the full resolution
        step = self.file.level_downsamples[self.level]
        corner = round(columns.start * step), round(rows.start * step)
        extent = columns.stop - columns.start, rows.stop - rows.start
        return np.asarray(self.file.read_region(corner, self.level, extent))


def open_file(path: Path) -> Slide:
    """Open an image file, if possible with a reader that decodes no more than the windows."""
    if path.suffix.lower() in SCANNERS and (slide := _by_openslide(path)):
        return slide
    match format_of(path):
        case "tiff":
            with decoding(path):
                return _tiff(path)
        case "other" if slide := _by_openslide(path):
            return slide
        case _:
            return Slide(path.name, [PixelArray(read_image(path))], path=path)


def _by_openslide(path: Path) -> Slide | None:
    """Open a file by openslide; None if openslide is not installed or does not know the format."""
    if importlib.util.find_spec("openslide") is None:
        if path.suffix.lower() in SCANNERS:
            logger.info("openslide is not installed (pip install 'stmmr-kit[slides]'): %s is read as TIFF.", path.name)
        return None
    import openslide

    examined(path, slide=True)
    if openslide.OpenSlide.detect_format(path) is None:
        return None
    try:
        file = openslide.OpenSlide(path)
        sources = [ByOpenSlide(file, level) for level in range(file.level_count)]
        stated = file.properties.get(openslide.PROPERTY_NAME_MPP_X)
        um = _plausible(float(stated)) if stated else None
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
    um = _size_of_pixel(series, tiff)
    codecs = importlib.util.find_spec("imagecodecs") is not None
    small = sizes["X"] * sizes["Y"] <= MAX_PIXELS
    if keyframe.photometric not in {1, 2, 6} or not (decoded_by_tifffile(keyframe) or codecs or not small):
        tiff.close()
        return Slide(path.name, [PixelArray(read_image(path))], um_per_px=um, path=path)
    block = _block(keyframe)
    for level in series.levels:
        high, wide = _block(level.keyframe)
        require_memory(high * wide * keyframe.samplesperpixel * series.dtype.itemsize, path, advice=SMALL_TILES)
    sources = [
        Chunked(zarr.open(series.aszarr(level=i), mode="r"), level.axes.replace("Q", "C"), where=path, block=block)
        for i, level in enumerate(series.levels)
    ]
    return Slide(path.name, sources, um_per_px=um, path=path, close=tiff.close)


def open_spatial_image(image: SpatialArray | SpatialTree, *, where: str) -> Slide:
    """Open an image of SpatialData: a DataArray (c, y, x), or a DataTree of one for each resolution."""
    scales = levels(image)
    axes = ["".join(str(dim).upper() for dim in scale.dims) for scale in scales]
    if any(set(names) != set("CYX") for names in axes):
        raise InputError(f"Expected {where} with the axes c, y and x, found {', '.join(axes) or 'nothing'}.")
    if scales[0].shape[axes[0].index("C")] not in {3, 4}:
        raise greyscale(where)
    pairs = zip(scales, axes, strict=True)
    return Slide(where, [Chunked(scale.data, names, where=where, block=(BLOCK, BLOCK)) for scale, names in pairs])


def levels(image: SpatialArray | SpatialTree) -> list[Any]:
    """Get the resolutions of an image of SpatialData as arrays, the full one first."""
    if not isinstance(image, SpatialTree):
        return [image]
    scales = sorted(image.children.items(), key=lambda scale: int(scale[0].removeprefix("scale")))
    return [next(iter(scale.data_vars.values())) for _, scale in scales]


def _block(page: tifffile.TiffPage) -> tuple[int, int]:
    """Choose the block that is decoded at once: a tile, or as many strips as have about the size of a block."""
    if page.is_tiled:
        high, wide = page.tilelength, page.tilewidth
        return (high, wide) if min(high, wide) >= BLOCK // 4 else (BLOCK, BLOCK)
    strip = max(page.rowsperstrip, 1)
    rows = max(2 * BLOCK * BLOCK // page.imagewidth // strip, 1) * strip
    return min(rows, page.imagelength), page.imagewidth


def _size_of_pixel(series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile) -> float | None:
    """Get µm per pixel from the metadata of a TIFF; None if it is missing or no size that microscopes have."""
    import tifffile

    if tiff.is_ome:
        pixels = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
        unit = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}.get(pixels.get("PhysicalSizeXUnit", "µm"))
        if unit and "PhysicalSizeX" in pixels:
            return _plausible(float(pixels["PhysicalSizeX"]) * unit)
    page = series.keyframe
    if tiff.is_svs:
        stated = tifffile.tifffile.svs_description_metadata(page.description).get("MPP")
        return _plausible(float(stated)) if stated else None
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(page.resolutionunit or 1))
    per_unit = page.get_resolution()[0] if unit else 0
    return _plausible(unit / per_unit) if unit and per_unit else None


def _plausible(um: float) -> float | None:
    low, high = UM_PER_PX
    return um if low <= um <= high else None
