"""Square patches of a slide, resampled to a given number of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.image.slide import Slide


def read_patches(
    slide: Slide, centres: NDArray[np.float64], *, sides: NDArray[np.float64], patch_px: int
) -> NDArray[np.uint8]:
    """Read square patches of a slide, resampled and anti-aliased, shape (B, S, patch_px, patch_px, 3).

    `centres`, shape (B, 2), as x, y, and `sides`, shape (S,), are in pixels of the full resolution; pixel i covers i to
    i + 1. Each patch is read from the coarsest resolution that still has `patch_px` pixels along its side.
    """
    patches = np.empty((len(centres), len(sides), patch_px, patch_px, 3), dtype=np.uint8)
    for j, side in enumerate(sides):
        level = slide.level_for(side / patch_px)
        step = slide.levels[level].downsample
        for i, centre in enumerate(centres / step):
            patches[i, j] = _patch(slide, level, centre, side=side / step, patch_px=patch_px)
    return patches


def _patch(slide: Slide, level: int, centre: NDArray[np.float64], *, side: float, patch_px: int) -> NDArray[np.uint8]:
    """Read one patch; `centre` and `side` are in pixels of the level."""
    from PIL import Image

    margin = 2 + 2 * side / patch_px  # more than the filter reads beyond the patch
    left, top = np.floor(centre - side / 2 - margin).astype(int)
    extent = int(np.ceil(side + 2 * margin)) + 1
    x, y = centre - [left, top]
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    window = Image.fromarray(slide.window(level, top=top, left=left, extent=extent))
    return np.asarray(window.resize((patch_px, patch_px), Image.Resampling.BILINEAR, box=box, reducing_gap=3))
