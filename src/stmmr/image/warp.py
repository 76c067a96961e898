"""Pictures turned into the axes of the coordinates, as figures here and in scanpy and squidpy draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr.image.registration import inverse, mapped, scale_of, scaling
from stmmr.image.slide import OVERVIEW_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray


def in_coordinates(
    picture: NDArray[np.uint8], matrix: NDArray[np.float64], *, beyond: NDArray[np.float64], empty: int
) -> tuple[NDArray[np.uint8], float]:
    """Lay a picture in the axes of the coordinates, its first pixel at 0, 0.

    Parameters
    ----------
    picture
        Shape (height, width, 3).
    matrix
        From coordinates to its pixels, shape (3, 3).
    beyond
        Coordinates, shape (N, 2), that a turned picture is to cover; what lies further out is cut off.
    empty
        Level of what the picture does not cover.

    Returns
    -------
    The picture, as it is where only its scale differs, and its pixels per unit of the coordinates.
    """
    from PIL import Image

    scale = scale_of(matrix)
    if np.allclose(matrix, scaling(scale), atol=1e-3):
        return picture, scale
    height, width = picture.shape[:2]
    corners = mapped(
        inverse(matrix),
        np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64),
    )
    low, high = beyond.min(axis=0), beyond.max(axis=0)
    margin = 0.05 * (high - low).max()
    right, bottom = np.minimum(corners.max(axis=0), high + margin)
    scale = min(scale, OVERVIEW_PX / max(right, bottom))
    size = max(int(right * scale), 1), max(int(bottom * scale), 1)
    back = matrix @ scaling(1 / scale)
    laid = Image.fromarray(picture).transform(
        size, Image.Transform.AFFINE, tuple(back[:2].ravel()), Image.Resampling.BILINEAR, fillcolor=(empty,) * 3
    )
    return np.asarray(laid), scale
