"""Where an image shows tissue, whether spots (or cells, or bins) lie on it, and which patches are useless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr.image.pixels import GLASS_OD, channel_densities, white_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SMOOTHED_UM: Final = 20.0
"""Width (sigma) by which the image is smoothed to find tissue, so that lumina and gaps between cells count."""
SHARE_OF_GLASS: Final = 0.9
"""Share of glass above which a patch counts as background."""
SHARPNESS: Final = 0.2
"""Share of the median sharpness of the tissue below which a patch counts as blurred."""
UNCHANGED: Final = "unchanged"
SWAPPED: Final = "mirrored along its diagonal"
"""The orientation in which x is y and y is x."""
TURNS: Final = {
    UNCHANGED: (1, 0, 0, 1),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored upside down": (1, 0, 0, -1),
    "turned by 180°": (-1, 0, 0, -1),
    "turned by 90° clockwise": (0, -1, 1, 0),
    "turned by 90° counterclockwise": (0, 1, -1, 0),
    SWAPPED: (0, 1, 1, 0),
    "mirrored along its other diagonal": (0, -1, -1, 0),
}
"""Orientations of an image: the linear maps, row by row, from the present x and y to those in the image."""


def tissue_mask(image: NDArray[np.uint8], *, um_per_px: float) -> NDArray[np.bool_]:
    """Find the tissue in an image: where the smoothed optical density exceeds that of glass, shape (height, width)."""
    from scipy.ndimage import gaussian_filter

    density = channel_densities(image, white_of(image)).mean(axis=0)
    sigma = min(max(SMOOTHED_UM / um_per_px, 1.0), max(density.shape))
    return np.asarray(gaussian_filter(density, sigma) > GLASS_OD)


def in_mask(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Look up points, shape (N, 2), in a mask, in its pixels; False outside of it."""
    column, row = np.floor(points).astype(int).T
    height, width = mask.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    values = np.zeros(len(points), dtype=bool)
    values[inside] = mask[row[inside], column[inside]]
    return values


def share_by_turn(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> dict[str, float]:
    """Measure the share of points on tissue for every orientation of the image, the present one included."""
    height, width = mask.shape
    shares = {}
    for name, (a, b, c, d) in TURNS.items():
        # a turn by 90° swaps height and width
        frame = np.array([width, height]) if a else np.array([height, width])
        turned = (points - frame / 2) @ np.array([[a, b], [c, d]], dtype=float).T + [width / 2, height / 2]
        shares[name] = float(in_mask(mask, turned).mean())
    return shares


def patch_quality(patches: NDArray[np.uint8], *, white: NDArray[np.float64]) -> NDArray[np.float32]:
    """Measure the share of glass and the sharpness of patches, shape (B, p, p, 3) to (B, 2).

    Sharpness is the standard deviation of the Laplacian of the green channel, which shows both stains, divided by the
    standard deviation of the channel itself: contrast and strength of the stain cancel out.
    """
    from scipy.ndimage import laplace

    glass = (channel_densities(patches, white).mean(axis=0) < GLASS_OD).mean(axis=(1, 2))
    green = patches[..., 1].astype(np.float32)
    detail = laplace(green, axes=(1, 2)).std(axis=(1, 2))
    return np.stack([glass, detail / (green.std(axis=(1, 2)) + 1)], axis=1).astype(np.float32)


def patch_flags(quality: NDArray[np.float32], *, inside: NDArray[np.bool_]) -> pd.Categorical:
    """Name what each patch shows: tissue, blurred tissue, or background; or that its spot is outside the image.

    `quality`, shape (N, 2), is from `patch_quality`; a sharpness of NaN means that the image is too coarse to tell.
    """
    import pandas as pd

    glass, sharpness = quality.T
    names = np.where(glass > SHARE_OF_GLASS, "background", "tissue").astype(object)
    tissue = (names == "tissue") & np.isfinite(sharpness)
    if tissue.any():
        names[tissue & (sharpness < SHARPNESS * np.median(sharpness[tissue]))] = "blurred"
    names[~inside] = "outside"
    return pd.Categorical(names, categories=["tissue", "blurred", "background", "outside"])
