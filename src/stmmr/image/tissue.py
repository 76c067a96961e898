"""Where a picture shows tissue, whether the places lie on it, and which patches are of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr.image.pixels import GLASS_OD, optical_density, white_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMOOTHED_UM: Final = 20.0
"""Width (sigma) over which the picture is smoothed to find tissue, so that lumina and gaps between cells count."""
SHARE_OF_GLASS: Final = 0.9
"""Share of glass from which on a patch counts as background."""
SHARPNESS: Final = 0.2
"""Share of the median sharpness of the tissue below which a patch counts as blurred."""
TURNS: Final = {
    "as it is": (1, 0, 0, 1),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored upside down": (1, 0, 0, -1),
    "turned by 180°": (-1, 0, 0, -1),
    "turned by 90° clockwise": (0, -1, 1, 0),
    "turned by 90° counterclockwise": (0, 1, -1, 0),
    "mirrored along its diagonal": (0, 1, 1, 0),
    "mirrored along its other diagonal": (0, -1, -1, 0),
}
"""Ways a picture may lie: the linear maps from x and y as given to those in the picture, row by row."""


def tissue_mask(picture: NDArray[np.uint8], *, um_per_px: float) -> NDArray[np.bool_]:
    """Find the tissue: where the optical density, smoothed over 20 µm, is that of no glass.

    Parameters
    ----------
    picture
        Shape (height, width, 3).
    um_per_px
        Size of its pixels.

    Returns
    -------
    Shape (height, width).
    """
    from scipy.ndimage import gaussian_filter

    density = optical_density(picture, white_of(picture)).mean(axis=-1)
    return np.asarray(gaussian_filter(density, max(SMOOTHED_UM / um_per_px, 1.0)) > GLASS_OD)


def looked_up(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Look points, shape (N, 2), up in a mask, in its pixels; False outside."""
    column, row = np.floor(points).astype(int).T
    height, width = mask.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    found = np.zeros(len(points), dtype=bool)
    found[inside] = mask[row[inside], column[inside]]
    return found


def share_by_turn(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> dict[str, float]:
    """Measure which share of the points lies on tissue as the picture lies, and turned or mirrored."""
    height, width = mask.shape
    shares = {}
    for name, (a, b, c, d) in TURNS.items():
        # of a picture that was turned by 90°, height and width have changed places
        frame = np.array([width, height]) if a else np.array([height, width])
        centred = points - frame / 2
        turned = centred @ np.array([[a, b], [c, d]], dtype=float).T + [width / 2, height / 2]
        shares[name] = float(looked_up(mask, turned).mean())
    return shares


def patch_quality(patches: NDArray[np.uint8], *, white: NDArray[np.float64]) -> NDArray[np.float32]:
    """Measure patches, shape (B, p, p, 3): the share of glass and the sharpness, shape (B, 2).

    The sharpness is the standard deviation of the Laplacian of the green channel, in which both stains show, over the
    standard deviation of the channel itself: contrast and strength of the stain cancel out.
    """
    from scipy.ndimage import laplace

    glass = (optical_density(patches, white).mean(axis=-1) < GLASS_OD).mean(axis=(1, 2))
    green = patches[..., 1].astype(np.float32)
    detail = laplace(green, axes=(1, 2)).std(axis=(1, 2))
    return np.stack([glass, detail / (green.std(axis=(1, 2)) + 1)], axis=1).astype(np.float32)


def flags(quality: NDArray[np.float32], *, inside: NDArray[np.bool_]) -> Any:
    """Name what each patch shows: tissue, background, or blurred tissue; or that its place lies outside the picture.

    Parameters
    ----------
    quality
        What `patch_quality` measured, shape (N, 2); no sharpness (NaN) where the picture has none to tell.
    inside
        Whether each place lies in the picture, shape (N,).

    Returns
    -------
    A categorical, shape (N,).
    """
    import pandas as pd

    glass, sharpness = quality.T
    names = np.where(glass > SHARE_OF_GLASS, "background", "tissue").astype(object)
    tissue = (names == "tissue") & np.isfinite(sharpness)
    if tissue.any():
        names[tissue & (sharpness < SHARPNESS * np.median(sharpness[tissue]))] = "blurred"
    names[~inside] = "outside"
    return pd.Categorical(names, categories=["tissue", "blurred", "background", "outside"])
