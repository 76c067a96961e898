"""Slides: images of any size at one or several resolutions, read window by window, always as 8-bit RGB."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from stmmr.image.pixels import (
    check_image,
    is_blank,
    masked_glass,
    over_white,
    reduced,
    require_colour,
    require_image_file,
    to_8_bit,
    without_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

KEPT_BYTES: Final = 96 * 2**20
"""Decoded blocks of a file that stay in memory, as neighbouring spots read the same ones."""
KEPT_ROWS: Final = 256
"""Height of the strips in which spots are read one after the other if nothing has to be decoded."""
OVERVIEW_PX: Final = 2000
"""Longest side of an overview, that of Space Ranger's hires images."""
STRIP_PIXELS: Final = 2**24
"""Pixels that are read at a time to reduce a slide that has no further resolutions."""


class SpatialArray(Protocol):
    """An image of SpatialData at one resolution, an xarray.DataArray."""

    dims: Iterable[object]
    shape: tuple[int, ...]
    data: Any


@runtime_checkable
class SpatialTree(Protocol):
    """An image of SpatialData at several resolutions, an xarray.DataTree; "scale0" is the full one."""

    children: Mapping[str, SpatialTree]
    data_vars: Mapping[object, SpatialArray]


class Source(Protocol):
    """One resolution of an image, wherever its pixels are."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def block(self) -> tuple[int, int] | None:
        """Height and width of the blocks that are decoded as one; None if a window costs its own pixels only."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read a window inside the image, shape (height, width, 3 or 4)."""


class PixelArray:
    """Pixels in memory."""

    block = None

    def __init__(self, pixels: NDArray[np.generic]) -> None:
        self.pixels = pixels
        self.size = pixels.shape[0], pixels.shape[1]

    def read(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Read a window."""
        return self.pixels[rows, columns]


class Level(NamedTuple):
    """One resolution of a slide."""

    source: Source
    downsample: float
    """Pixels of the full resolution along one pixel of this one."""


class Slide:
    """An image at one or several resolutions, the full one first, of which windows are read.

    Messages call it by `name`. `um_per_px` is the size of a pixel of the full resolution, if the image states it, and
    `path` its file, if any, which `close` closes once the slide is no longer used. A greyscale image is an InputError.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        um_per_px: float | None = None,
        path: Path | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        if close is not None:
            weakref.finalize(self, close)
        self.name = name
        self.path = path
        self.um_per_px = um_per_px
        self.size = sources[0].size
        # halves of odd sides are rounded: the longer side is more exact
        self.levels = [Level(source, max(self.size) / max(source.size)) for source in sources]
        self._blocks: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._kept = 0
        self._lock = Lock()
        sample = over_white(self._coarsest())
        require_colour(sample, where=name)
        self.is_blank = is_blank(sample)

    def level_for(self, downsample: float) -> int:
        """Find the coarsest level with at least one pixel per pixel of the wanted resolution."""
        fitting = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.01]
        return max(fitting, key=lambda i: self.levels[i].downsample, default=0)

    def block_height(self, downsample: float) -> float:
        """Get the height of the blocks that are decoded for a resolution, in pixels of the full one."""
        level = self.levels[self.level_for(downsample)]
        return (level.source.block or (KEPT_ROWS, 0))[0] * level.downsample

    def window(self, level: int, *, top: int, left: int, extent: int) -> NDArray[np.uint8]:
        """Read a square window of a level, shape (extent, extent, 3); the image is mirrored beyond its border."""
        height, width = self.levels[level].source.size
        if min(left, top) >= 0 and left + extent <= width and top + extent <= height:
            return self.region(level, slice(top, top + extent), slice(left, left + extent))
        rows, columns = _mirrored(top, extent, height), _mirrored(left, extent, width)
        inside = self.region(level, slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        window: NDArray[np.uint8] = inside[(rows - rows.min())[:, None], columns - columns.min()]
        return window

    def region(self, level: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Read a window inside a level, shape (height, width, 3); a background masked in black becomes glass."""
        source = self.levels[level].source
        if source.block is None:
            return self._as_rgb(source.read(rows, columns))
        block_height, block_width = source.block
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), dtype=np.uint8)
        for i in range(rows.start // block_height, -(-rows.stop // block_height)):
            for j in range(columns.start // block_width, -(-columns.stop // block_width)):
                block = self._block(level, i, j)
                to_rows, from_rows = _overlap(i * block_height, block.shape[0], rows)
                to_columns, from_columns = _overlap(j * block_width, block.shape[1], columns)
                out[to_rows, to_columns] = block[from_rows, from_columns]
        return out

    @cached_property
    def overview(self) -> tuple[NDArray[np.uint8], float]:
        """The whole slide at no more than 2000 pixels a side, and pixels of the full resolution per pixel of it."""
        level = self.level_for(max(self.size) / OVERVIEW_PX)
        source, downsample = self.levels[level]
        height, width = source.size
        step = -(-max(height, width) // OVERVIEW_PX)
        strip = max(STRIP_PIXELS // width // step, 1) * step  # a whole number of steps
        parts = [
            reduced(self.region(level, slice(top, min(top + strip, height)), slice(0, width)), step=step)
            for top in range(0, height, strip)
        ]
        return np.concatenate(parts), downsample * step

    @property
    def identity(self) -> Path | NDArray[np.generic]:
        """What tells this image from others: its file, otherwise the pixels, of a lazily read image the overview."""
        source = self.levels[0].source
        return self.path or (source.pixels if isinstance(source, PixelArray) else self.overview[0])

    def _block(self, level: int, i: int, j: int) -> NDArray[np.uint8]:
        """Get a block of a level, from memory if it was decoded before."""
        key = level, i, j
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        source = self.levels[level].source
        (height, width), (block_height, block_width) = source.size, source.block or source.size
        rows = slice(i * block_height, min((i + 1) * block_height, height))
        columns = slice(j * block_width, min((j + 1) * block_width, width))
        block = self._as_rgb(source.read(rows, columns))
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._kept += block.nbytes
            while self._kept > KEPT_BYTES and len(self._blocks) > 1:
                self._kept -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def _as_rgb(self, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Convert pixels of the file to RGB, with glass instead of a black mask."""
        return without_mask(over_white(to_8_bit(pixels, highest=self._highest)), self._glass)

    def _coarsest(self) -> NDArray[np.uint8]:
        """Read the coarsest level, subsampled if it is large, and note its highest value and its glass."""
        source = self.levels[-1].source
        height, width = source.size
        step = 1 + max(height, width) // OVERVIEW_PX
        if source.block is None or height * width <= STRIP_PIXELS:
            raw = source.read(slice(0, height), slice(0, width))[::step, ::step]
        else:  # reading all of it would take minutes
            raw = np.concatenate([source.read(rows, columns) for rows, columns in _spread(source)])
        self._highest = float(np.max(raw))
        pixels = to_8_bit(raw, highest=self._highest, where=self.name)
        self._glass = masked_glass(over_white(pixels))
        return pixels


ImageSource: TypeAlias = "str | Path | NDArray[np.generic] | SpatialArray | SpatialTree | Slide"
"""What `open_slide` opens."""


def open_slide(image: ImageSource, *, where: str = "image") -> Slide:
    """Open an image; of files with tiles or several resolutions, only the windows that are used are read later.

    Files are PNG, JPEG, TIFF, OME-TIFF and, with openslide, the formats of slide scanners. Arrays have the shape
    (height, width, 3 or 4), images of SpatialData one or several resolutions; messages name these by `where`. Raises
    InputError if a file is missing or cannot be read, or the image is greyscale.
    """
    if isinstance(image, Slide):
        return image
    if isinstance(image, (str, Path)):
        from stmmr.image.slide_files import open_file

        return open_file(require_image_file(image))
    if isinstance(image, np.ndarray) or not (hasattr(image, "dims") or hasattr(image, "children")):
        return Slide("array", [PixelArray(check_image(np.asarray(image), where=where))])
    from stmmr.image.slide_files import open_spatial_image

    return open_spatial_image(image, where=where)


def _spread(source: Source) -> Iterator[tuple[slice, slice]]:
    """Choose 8 × 8 squares of 256 pixels, spread over a large source."""
    height, width = source.size
    side = min(256, height, width)
    for top in np.linspace(0, height - side, 8).astype(int):
        for left in np.linspace(0, width - side, 8).astype(int):
            yield slice(top, top + side), slice(left, left + side)


def _overlap(start: int, length: int, window: slice) -> tuple[slice, slice]:
    """Get the overlap of a block with a window, as a slice of the window and as a slice of the block."""
    first, last = max(start, window.start), min(start + length, window.stop)
    return slice(first - window.start, last - window.start), slice(first - start, last - start)


def _mirrored(start: int, extent: int, length: int) -> NDArray[np.int64]:
    """Get the indices of an extent along an axis that is mirrored beyond its ends."""
    index = np.arange(start, start + extent) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
