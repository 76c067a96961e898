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
    low, high = frame
    side = float((high - low).max()) / _LONG_SIDE
    width, height = np.ceil((high - low) / side).astype(np.intp)
    column, row = np.clip(((xy - low) / side).astype(np.intp), 0, [width - 1, height - 1]).T
    taken, pixel = np.unique(row * width + column, return_inverse=True)
    picture = np.zeros((height * width, 4), dtype=np.uint8)
    picture[taken] = np.rint(255 * look.of_pixels(pixel))
    ax.imshow(
        _closed(picture.reshape(height, width, 4), max(1, reach / side)),
        extent=(low[0], low[0] + width * side, low[1], low[1] + height * side),
        origin="lower",
        interpolation="nearest",
        alpha=alpha,
    )


def _closed(picture: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Give empty pixels the colour of the nearest other one within a reach; picture of shape (height, width, 4)."""
    from scipy.ndimage import distance_transform_edt

    distance, (row, column) = distance_transform_edt(picture[..., 3] == 0, return_indices=True)
    return np.where((distance <= reach)[..., None], picture[row, column], picture)
