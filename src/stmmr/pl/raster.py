"""More places than a figure has pixels: a picture of what lies in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

PIXELS_FROM: Final = 100_000
"""Places from which on they are drawn as pixels: spread over a new figure, a circle would be smaller than two."""
_LONG_SIDE: Final = 900
"""Pixels along the longer side: those of a new figure at 200 dpi."""


class Blend(Protocol):
    """Colours of many places at once."""

    def of_pixels(self, pixel: NDArray[np.intp], /) -> NDArray[np.float64]:
        """Colour pixels 0, 1, … by the places in them, none without.

        Parameters
        ----------
        pixel
            Pixel of each place, shape (N,).

        Returns
        -------
        Red, green, blue and opacity from 0 to 1, shape (n_pixels, 4).
        """


class Grid:
    """Which pixel each place lies in.

    Parameters
    ----------
    xy
        Places, shape (N, 2).
    frame
        Lowest and highest x and y of the picture.
    """

    def __init__(self, xy: NDArray[np.floating[Any]], frame: tuple[NDArray[Any], NDArray[Any]]) -> None:
        low, high = frame
        self.low = low
        self.side = float((high - low).max()) / _LONG_SIDE
        """Length of a pixel, in the units of the places."""
        width, height = np.ceil((high - low) / self.side).astype(int)
        self.width, self.height = int(width), int(height)
        column, row = np.clip(((xy - low) / self.side).astype(np.intp), 0, [width - 1, height - 1]).T
        self.taken, self.pixel = np.unique(row * width + column, return_inverse=True)
        """Pixels with places, by rows; and which of these each place lies in, shape (N,)."""

    def nearest(self, reach: float) -> NDArray[np.intp]:
        """Find the pixel with places that is nearest to each, shape (height, width), by its number in `taken`.

        -1 where it is farther than `reach`, in units of the places, and than one pixel.
        """
        from scipy.ndimage import distance_transform_edt

        number = np.full((self.height, self.width), -1)
        number.flat[self.taken] = np.arange(len(self.taken))
        distance, (row, column) = distance_transform_edt(number < 0, return_indices=True)
        return np.where(distance <= max(1, reach / self.side), number[row, column], -1)


def draw_pixels(
    ax: Axes,
    xy: NDArray[np.floating[Any]],
    look: Blend,
    *,
    frame: tuple[NDArray[Any], NDArray[Any]],
    reach: float = 0,
    alpha: float = 1,
) -> None:
    """Draw places as the pixels they lie in.

    Parameters
    ----------
    ax
        Axes; their limits are left to the caller.
    xy
        Places, shape (N, 2).
    look
        Colours.
    frame
        Lowest and highest x and y of the picture.
    reach
        How far from the places empty pixels take the colour of the nearest one; a pixel at least.
    alpha
        Opacity.
    """
    grid = Grid(xy, frame)
    picture = np.zeros((grid.height * grid.width, 4), dtype=np.uint8)
    picture[grid.taken] = np.rint(255 * look.of_pixels(grid.pixel))
    low, side = grid.low, grid.side
    ax.imshow(
        _closed(picture.reshape(grid.height, grid.width, 4), max(1, reach / side)),
        extent=(low[0], low[0] + grid.width * side, low[1], low[1] + grid.height * side),
        origin="lower",
        interpolation="nearest",
        alpha=alpha,
    )


def _closed(picture: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Give empty pixels the colour of the nearest other one within a reach; picture of shape (height, width, 4)."""
    from scipy.ndimage import distance_transform_edt

    distance, (row, column) = distance_transform_edt(picture[..., 3] == 0, return_indices=True)
    return np.where((distance <= reach)[..., None], picture[row, column], picture)


def most_of(pixel: NDArray[np.intp], codes: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Find the code of most places in each pixel, the first of equals.

    Parameters
    ----------
    pixel
        Pixel of each place: 0, 1, …, none without a place; shape (N,).
    codes
        Code of each place, from 0, shape (N,).
    """
    n = int(codes.max()) + 1
    cells, votes = np.unique(pixel * n + codes, return_counts=True)
    at, code = np.divmod(cells, n)
    order = np.lexsort((-code, votes, at))
    last = np.flatnonzero(np.diff(at, append=-1))  # `at` ascends, in the same steps before and after sorting
    return np.asarray(code[order[last]])


def mean_of(pixel: NDArray[np.intp], numbers: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Get the mean of the finite numbers in each pixel; NaN without any. Both of shape (N,)."""
    known = np.isfinite(numbers)
    n_pixels = int(pixel.max()) + 1
    n_known = np.bincount(pixel[known], minlength=n_pixels)
    total = np.bincount(pixel[known], numbers[known], minlength=n_pixels)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)
