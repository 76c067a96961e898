"""Where spots are drawn in the tissue: shared by the figures and the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError
from stmmr._core.space import spacing
from stmmr.image.pixels import check_image, masked_glass, without_mask

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_MARGIN: Final = 0.02
"""Room around the places, as a share of the longer side of the tissue."""
_BETWEEN: Final = 0.15
"""Room between sections, over the largest of them."""
FADED: Final = 0.65
"""Opacity of the picture: H&E is as strong in colour as the places on it."""
ON_PICTURE: Final = 0.7
ALONE: Final = 1.0
"""Diameter of a place over the distance between places, with and without a picture below."""


def spot_width(xy: NDArray[np.float64]) -> float:
    """Measure the distance between spots that circles are drawn by: to the second nearest."""
    return spacing(xy, nth=2) or 1.0


def in_rows(xy: NDArray[np.float64], sections: pd.Categorical) -> NDArray[np.float64]:
    """Lay sections side by side in rows, about as many as columns; coordinates of shape (N, 2)."""
    n = len(sections.categories)
    columns = math.ceil(math.sqrt(n))
    xy = xy.copy()
    for code in range(n):
        own = xy[sections.codes == code]
        xy[sections.codes == code] -= (own.min(axis=0) + own.max(axis=0)) / 2
    row, column = np.divmod(sections.codes, columns)
    return np.asarray(xy + np.column_stack([column, row]) * np.ptp(xy, axis=0) * (1 + _BETWEEN))


def frame_of(xy: NDArray[np.float64], spacing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get the corners of the tissue with a little room around it."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = spacing / 2 + _MARGIN * (high - low).max()
    return low - room, high + room


def drawable(picture: NDArray[Any]) -> NDArray[Any]:
    """Show a background masked in black as glass; what is no H&E picture, e.g. a greyscale one, as it is."""
    try:
        pixels = check_image(picture)
        return without_mask(pixels, masked_glass(pixels))
    except InputError:
        return picture
