"""Where spots are drawn in the tissue: shared by the figures and the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError
from stmmr._core.space import spacing
from stmmr.image.pixels import check_image, masked_glass, without_mask

if TYPE_CHECKING:
    import pandas as pd

    from stmmr._core.types import Float64, Numbers

_MARGIN: Final = 0.02
"""Space around the spots, as a share of the longer side of the tissue."""
_BETWEEN: Final = 0.18
"""Space between sections, as a share of the largest one."""
FADED: Final = 0.65
"""Opacity of the image: the colours of H&E are as strong as those of the spots."""
ON_IMAGE: Final = 0.7
ALONE: Final = 1.0
"""Diameter of a spot over the distance between spots, with and without an image below."""


def spot_width(xy: Float64) -> float:
    """Measure the distance between spots that sets the size of circles: to the second nearest spot."""
    return spacing(xy, nth=2) or 1.0


def in_rows(xy: Float64, sections: pd.Categorical, *, lines: int = 1) -> Float64:
    """Arrange sections side by side in a square of rows and columns, below names of `lines`; `xy` is (N, 2)."""
    n = len(sections.categories)
    columns = math.ceil(math.sqrt(n))
    xy = xy.copy()
    for code in range(n):
        rows = np.flatnonzero(sections.codes == code)
        inside = xy[rows]
        xy[rows] -= (inside.min(axis=0) + inside.max(axis=0)) / 2
    row, column = np.divmod(sections.codes, columns)
    between = 1 + _BETWEEN * np.array([1, lines])
    for axis, (place, extent) in enumerate(zip((column, row), np.ptp(xy, axis=0), strict=True)):
        xy[:, axis] += place * extent * between[axis]
    return xy


def frame_of(xy: Float64, spacing: float) -> tuple[Float64, Float64]:
    """Get the corners of the tissue with a little space around it."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = spacing / 2 + _MARGIN * (high - low).max()
    return low - margin, high + margin


def drawable(image: Numbers) -> Numbers:
    """Replace a background masked in black by glass; other images than H&E, e.g. greyscale ones, stay as they are."""
    try:
        pixels = check_image(image)
        return without_mask(pixels, masked_glass(pixels))
    except InputError:
        return image
