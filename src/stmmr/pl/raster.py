"""Rasterisation of more spots than a figure has pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np

from stmmr._core.rows import CHUNK, slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from stmmr._core.types import Float64, Floats, Ints, Numbers

PIXELS_FROM: Final = 100_000
"""Number of spots from which pixels are drawn: in a new figure, circles would be smaller than two pixels."""
_LONG_SIDE: Final = 900
"""Pixels along the longer side, as in a new figure at 200 dpi."""


class Blend(Protocol):
    """Colours of pixels with several spots."""

    def of_pixels(self, pixel: Ints, /) -> Float64:
        """Get red, green, blue and opacity, shape (n_pixels, 4), from the pixel of each spot, shape (N,)."""


class Grid:
    """Grid of pixels over spots at `xy`, shape (N, 2), within a frame (lowest and highest x and y)."""

    def __init__(self, xy: Floats, frame: tuple[Numbers, Numbers]) -> None:
        low, high = frame
        self.low = low
        self.side = float((high - low).max()) / _LONG_SIDE
        """Size of a pixel, in the units of the coordinates."""
        width, height = np.ceil((high - low) / self.side).astype(int)
        self.width, self.height = int(width), int(height)
        pixel = np.empty(len(xy), dtype=np.int32)
        for rows in slices(len(xy), CHUNK):
            column, row = np.clip(((xy[rows] - low) / self.side).astype(np.intp), 0, [width - 1, height - 1]).T
            pixel[rows] = row * width + column
        index = np.bincount(pixel, minlength=self.width * self.height)
        self.taken = np.flatnonzero(index)
        """Pixels with spots, by rows."""
        index[self.taken] = np.arange(len(self.taken))
        self.pixel = cast("Ints", index.astype(np.int32)[pixel])
        """Index of the pixel of each spot among those with spots, shape (N,)."""

    def nearest(self, reach: float) -> Ints:
        """Find the nearest pixel with spots for each pixel, as an index of `taken`, shape (height, width).

        It is -1 if that is farther than `reach`, in units of the coordinates, and than one pixel.
        """
        from scipy.ndimage import distance_transform_edt

        number = np.full((self.height, self.width), -1)
        number.flat[self.taken] = np.arange(len(self.taken))
        distance, (row, column) = distance_transform_edt(number < 0, return_indices=True)
        return np.where(distance <= max(1, reach / self.side), number[row, column], -1)


def draw_pixels(
    ax: Axes, xy: Floats, look: Blend, *, frame: tuple[Numbers, Numbers], reach: float = 0, alpha: float = 1
) -> None:
    """Draw spots at `xy`, shape (N, 2), as pixels of a frame (lowest and highest x and y); limits are not changed.

    Empty pixels up to a distance of `reach`, at least a pixel, get the colour of the nearest one.
    """
    grid = Grid(xy, frame)
    pixels = np.zeros((grid.height * grid.width, 4), dtype=np.uint8)
    pixels[grid.taken] = np.rint(255 * look.of_pixels(grid.pixel))
    low, side = grid.low, grid.side
    ax.imshow(
        _closed(pixels.reshape(grid.height, grid.width, 4), max(1, reach / side)),
        extent=(low[0], low[0] + grid.width * side, low[1], low[1] + grid.height * side),
        origin="lower",
        interpolation="nearest",
        alpha=alpha,
    )


def _closed(pixels: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Fill empty pixels with the colour of the nearest other one within reach; shape (height, width, 4)."""
    from scipy.ndimage import distance_transform_edt

    distance, (row, column) = distance_transform_edt(pixels[..., 3] == 0, return_indices=True)
    return np.where((distance <= reach)[..., None], pixels[row, column], pixels)


def most_of(pixel: Ints, codes: NDArray[np.integer[Any]]) -> Ints:
    """Find the most frequent code in each pixel, the smallest of equally frequent ones.

    Pixel, 0, 1, …, each with a spot, and code of each spot, from 0, have shape (N,).
    """
    n = int(codes.max()) + 1
    cells, votes = np.unique(pixel * n + codes, return_counts=True)
    pixels, code = np.divmod(cells, n)
    order = np.lexsort((-code, votes, pixels))
    last = np.flatnonzero(np.diff(pixels, append=-1))  # pixels ascend, before and after sorting
    return np.asarray(code[order[last]])


def mean_of(pixel: Ints, numbers: Floats) -> Float64:
    """Compute the mean of the finite numbers in each pixel, NaN if there is none; arguments of shape (N,)."""
    known = np.isfinite(numbers)
    n_pixels = int(pixel.max()) + 1
    n_known = np.bincount(pixel[known], minlength=n_pixels)
    total = np.bincount(pixel[known], numbers[known], minlength=n_pixels)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)
