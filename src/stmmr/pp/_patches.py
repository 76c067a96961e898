"""Patches of a picture, cut and resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_patches(
    picture: NDArray[np.uint8], centres: NDArray[np.float64], *, sides: NDArray[np.float64], patch_px: int
) -> NDArray[np.uint8]:
    """Cut square patches out of a picture and resample them, anti-aliased.

    Parameters
    ----------
    picture
        Shape (height, width, 3).
    centres
        Shape (B, 2), as x, y in pixels; pixel i spans i to i + 1.
    sides
        Shape (S,), sides of the patches in pixels of the picture.
    patch_px
        Pixels to which each side is resampled.

    Returns
    -------
    Patches, shape (B, S, patch_px, patch_px, 3), uint8.
    """
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    size = (patch_px, patch_px)
    patches = np.empty((len(centres), len(sides), *size, 3), dtype=np.uint8)
    for i, (x, y) in enumerate(centres):
        for j, side in enumerate(sides):
            margin = 2 + 2 * side / patch_px  # more than the filter reads beyond the patch
            left, top = np.floor([x - side / 2 - margin, y - side / 2 - margin]).astype(int)
            extent = int(np.ceil(side + 2 * margin)) + 1
            window = _window(picture, left, top, extent)
            box = (x - side / 2 - left, y - side / 2 - top, x + side / 2 - left, y + side / 2 - top)
            patch = Image.fromarray(window).resize(size, bilinear, box=box, reducing_gap=3)
            patches[i, j] = np.asarray(patch)
    return patches


def _window(picture: NDArray[np.uint8], left: int, top: int, extent: int) -> NDArray[np.uint8]:
    """Cut a square window, mirrored at the border where it reaches beyond."""
    height, width = picture.shape[:2]
    if min(left, top) >= 0 and left + extent <= width and top + extent <= height:
        return picture[top : top + extent, left : left + extent]
    return picture[_mirrored(top, extent, height)[:, None], _mirrored(left, extent, width)]


def _mirrored(start: int, extent: int, length: int) -> NDArray[np.int64]:
    """Get the indices of an extent along an axis that continues as its mirror image."""
    index = np.arange(start, start + extent) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
