"""Slides: pictures of any size at several resolutions, read a window at a time, always as 8-bit RGB."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from stmmr.image.pixels import (
    check_picture,
    is_blank,
    masked_glass,
    over_white,
    reduced,
    require_colour,
    require_picture,
    to_8_bit,
    without_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

KEPT_BYTES: Final = 96 * 2**20
"""Decoded blocks of a file that are kept, as neighbouring places read the same ones."""
KEPT_ROWS: Final = 256
"""Height of the strips of places that are read one after the other where nothing is decoded."""
OVERVIEW_PX: Final = 2000
"""Longest side of an overview, that of Space Ranger's hires pictures."""
STRIP_PIXELS: Final = 2**24
"""Pixels that are read at a time to reduce a slide without resolutions of its own."""


class Source(Protocol):
    """One resolution of a picture, wherever its pixels are."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def block(self) -> tuple[int, int] | None:
        """Height and width of the blocks that are decoded as one; None where any window costs its pixels only."""

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a window that lies inside, shape (height, width, 3 or 4)."""


class PixelArray:
    """Pixels in memory."""

    block = None

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a window."""
        return self.pixels[rows, columns]


class Level(NamedTuple):
    """One resolution of a slide."""

    source: Source
    downsample: float
    """Pixels of the full resolution along one of its own."""


class Slide:
    """A picture at one or more resolutions, of which windows are read.

    Parameters
    ----------
    name
        How messages name it.
    sources
        Its resolutions, the full one first.
    um_per_px
        Size of a pixel of the full resolution, where the picture tells.
    path
        Its file, if any.
    close
        Closes the file, when the slide is no longer used.

    Raises
    ------
    InputError
        If it has no colour.
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
        # halves of odd sides are rounded, so the longer side tells
        self.levels = [Level(source, max(self.size) / max(source.size)) for source in sources]
        self._blocks: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._kept = 0
        self._lock = Lock()
        sample = over_white(self._coarsest())
        require_colour(sample, where=name)
        self.is_blank = is_blank(sample)

    def level_for(self, downsample: float) -> int:
        """Find the coarsest level that still has a pixel for each of the wanted resolution."""
        fitting = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.01]
        return max(fitting, key=lambda i: self.levels[i].downsample, default=0)

    def block_height(self, downsample: float) -> float:
        """Get the height of what is decoded at once where a resolution is wanted, in pixels of the full one."""
        level = self.levels[self.level_for(downsample)]
        return (level.source.block or (KEPT_ROWS, 0))[0] * level.downsample

    def window(self, level: int, *, top: int, left: int, extent: int) -> NDArray[np.uint8]:
        """Read a square window of a level, shape (extent, extent, 3); beyond the border it goes on as its mirror."""
        height, width = self.levels[level].source.size
        if min(left, top) >= 0 and left + extent <= width and top + extent <= height:
            return self.region(level, slice(top, top + extent), slice(left, left + extent))
        rows, columns = _mirrored(top, extent, height), _mirrored(left, extent, width)
        inside = self.region(level, slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        window: NDArray[np.uint8] = inside[(rows - rows.min())[:, None], columns - columns.min()]
        return window

    def region(self, level: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Read a window of a level that lies inside, shape (height, width, 3); masked black is glass."""
        source = self.levels[level].source
        if source.block is None:
            return self._as_rgb(source.read(rows, columns))
        high, wide = source.block
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), dtype=np.uint8)
        for i in range(rows.start // high, -(-rows.stop // high)):
            for j in range(columns.start // wide, -(-columns.stop // wide)):
                block = self._block(level, i, j)
                target, part = _overlap(i * high, len(block), rows)
                across, piece = _overlap(j * wide, block.shape[1], columns)
                out[target, across] = block[part, piece]
        return out

    @cached_property
    def overview(self) -> tuple[NDArray[np.uint8], float]:
        """The whole slide reduced to at most 2000 pixels a side, and its pixels of the full resolution per pixel."""
        level = self.level_for(max(self.size) / OVERVIEW_PX)
        source, downsample = self.levels[level]
        height, width = source.size
        step = -(-max(height, width) // OVERVIEW_PX)
        strips = []
        for rows in self._strips(level, step):
            part = self.region(level, rows, slice(0, width))
            strips.append(reduced(part, step=step))
        return np.concatenate(strips), downsample * step

    def _strips(self, level: int, step: int) -> Iterator[slice]:
        """Cut the rows of a level into strips of whole steps."""
        height, width = self.levels[level].source.size
        high = max(STRIP_PIXELS // width // step, 1) * step
        for top in range(0, height, high):
            yield slice(top, min(top + high, height))

    def _block(self, level: int, i: int, j: int) -> NDArray[np.uint8]:
        """Get a block of a level, decoded now or before."""
        key = level, i, j
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        source = self.levels[level].source
        (height, width), (high, wide) = source.size, source.block or source.size
        rows, columns = slice(i * high, min((i + 1) * high, height)), slice(j * wide, min((j + 1) * wide, width))
        block = self._as_rgb(source.read(rows, columns))
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._kept += block.nbytes
            while self._kept > KEPT_BYTES and len(self._blocks) > 1:
                self._kept -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def _as_rgb(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Bring pixels of the file to RGB on glass."""
        return without_mask(over_white(to_8_bit(pixels, highest=self._highest)), self._glass)

    def _coarsest(self) -> NDArray[np.uint8]:
        """Read the coarsest level, thinned out where that is large, and note its range and its glass."""
        source = self.levels[-1].source
        height, width = source.size
        step = 1 + max(height, width) // OVERVIEW_PX
        if source.block is None or height * width <= STRIP_PIXELS:
            raw = source.read(slice(0, height), slice(0, width))[::step, ::step]
        else:  # squares spread over it, as all of it would take minutes
            raw = np.concatenate([source.read(rows, columns) for rows, columns in _spread(source)])
        self._highest = float(raw.max())
        pixels = to_8_bit(raw, highest=self._highest, where=self.name)
        self._glass = masked_glass(over_white(pixels))
        return pixels


def open_slide(image: str | Path | NDArray[Any] | Any, *, where: str = "image") -> Slide:
    """Open a picture.

    Parameters
    ----------
    image
        File (PNG, JPEG, TIFF, OME-TIFF and, where openslide is installed, the formats of slide scanners), an array of
        shape (height, width, 3 or 4), or an image of SpatialData with or without several resolutions.
    where
        How messages name what is no file.

    Returns
    -------
    The slide. Files that have resolutions or tiles of their own are read where windows are asked for.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, or has no colour.
    """
    if isinstance(image, Slide):
        return image
    if isinstance(image, (str, Path)):
        from stmmr.image.slide_files import open_file

        return open_file(require_picture(image))
    if hasattr(image, "dims") or hasattr(image, "children"):
        from stmmr.image.slide_files import open_spatial_image

        return open_spatial_image(image, where=where)
    return Slide("array", [PixelArray(check_picture(image, where=where))])


def _spread(source: Source) -> Iterator[tuple[slice, slice]]:
    """Choose squares of 256 pixels, eight rows of eight, over a large source."""
    height, width = source.size
    side = min(256, height, width)
    for top in np.linspace(0, height - side, 8).astype(int):
        for left in np.linspace(0, width - side, 8).astype(int):
            yield slice(top, top + side), slice(left, left + side)


def _overlap(start: int, length: int, wanted: slice) -> tuple[slice, slice]:
    """Get where a block of a length lies in what is wanted, and which part of the block that is."""
    first, last = max(start, wanted.start), min(start + length, wanted.stop)
    return slice(first - wanted.start, last - wanted.start), slice(first - start, last - start)


def _mirrored(start: int, extent: int, length: int) -> NDArray[np.int64]:
    """Get the indices of an extent along an axis that continues as its mirror image."""
    index = np.arange(start, start + extent) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
