"""Images resampled into the axes of the coordinates, as figures here and in scanpy and squidpy draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr.image.registration import inverse, mapped, scale_of, scaling
from stmmr.image.slide import OVERVIEW_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray


def in_coordinates(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], *, xy: NDArray[np.float64], fill: int
) -> tuple[NDArray[np.uint8], float]:
    """Resample an image into the axes of the coordinates, with its first pixel at 0, 0.

    `matrix`, shape (3, 3), maps coordinates to pixels of `image`, shape (height, width, 3). An image that differs by a
    scale only is returned unchanged. A turned one is cropped a little beyond the coordinates `xy`, shape (N, 2), and
    pixels outside of it have the level `fill`.

    Returns
    -------
    The image and its pixels per unit of the coordinates.
    """
    from PIL import Image

    scale = scale_of(matrix)
    if np.allclose(matrix, scaling(scale), atol=1e-3):
        return image, scale
    height, width = image.shape[:2]
    corners = mapped(inverse(matrix), np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64))
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.05 * (high - low).max()
    right, bottom = np.minimum(corners.max(axis=0), high + margin)
    scale = min(scale, OVERVIEW_PX / max(right, bottom))
    size = max(int(right * scale), 1), max(int(bottom * scale), 1)
    back = matrix @ scaling(1 / scale)
    warped = Image.fromarray(image).transform(
        size, Image.Transform.AFFINE, tuple(back[:2].ravel()), Image.Resampling.BILINEAR, fillcolor=(fill,) * 3
    )
    return np.asarray(warped), scale
