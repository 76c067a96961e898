"""Patches of a slide, cut and resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.image.slide import Slide


def read_patches(
    slide: Slide, centres: NDArray[np.float64], *, sides: NDArray[np.float64], patch_px: int
) -> NDArray[np.uint8]:
    """Cut square patches out of a slide and resample them, anti-aliased.

    Each is read from the coarsest resolution of the slide that has as many pixels.

    Parameters
    ----------
    slide
        The picture.
    centres
        Shape (B, 2), as x, y in pixels of the full resolution; pixel i spans i to i + 1.
    sides
        Shape (S,), sides of the patches in pixels of the full resolution.
    patch_px
        Pixels to which each side is resampled.

    Returns
    -------
    Patches, shape (B, S, patch_px, patch_px, 3), uint8.
    """
    patches = np.empty((len(centres), len(sides), patch_px, patch_px, 3), dtype=np.uint8)
    for j, side in enumerate(sides):
        level = slide.level_for(side / patch_px)
        step = slide.levels[level].downsample
        for i, centre in enumerate(centres / step):
            patches[i, j] = _patch(slide, level, centre, side=side / step, patch_px=patch_px)
    return patches


def _patch(slide: Slide, level: int, centre: NDArray[np.float64], *, side: float, patch_px: int) -> NDArray[np.uint8]:
    """Cut one patch, in pixels of a level."""
    from PIL import Image

    margin = 2 + 2 * side / patch_px  # more than the filter reads beyond the patch
    left, top = np.floor(centre - side / 2 - margin).astype(int)
    extent = int(np.ceil(side + 2 * margin)) + 1
    x, y = centre - [left, top]
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    window = Image.fromarray(slide.window(level, top=top, left=left, extent=extent))
    return np.asarray(window.resize((patch_px, patch_px), Image.Resampling.BILINEAR, box=box, reducing_gap=3))
