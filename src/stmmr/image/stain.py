"""Stain normalisation: the colours of a slide are mapped to those of a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError
from stmmr.image.pixels import optical_density

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TISSUE_OD: Final = 0.15
"""Mean optical density (natural logarithm) below which a pixel is left out. The paper applies it to each channel, which
leaves out pure eosin, as eosin absorbs hardly any red."""
EXTREME: Final = 1.0
"""Percentile of the angles that count as pure stain, and, from above, of the concentrations that count as full; as
published."""
REFERENCE_STAINS: Final = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
REFERENCE_HIGHEST: Final = (1.9705, 1.0308)
"""Haematoxylin and eosin, and their highest concentrations: the reference of M. Veta's stain normalisation toolbox,
which torchstain and TIAToolbox use as well."""
REFERENCE_WHITE: Final = 240.0
SAMPLE: Final = 200_000
"""Pixels from which the stains are estimated."""


@dataclass(frozen=True)
class Stains:
    """The stains of a slide (Macenko et al. 2009, doi:10.1109/ISBI.2009.5193250)."""

    colours: NDArray[np.float64]
    """Optical density of haematoxylin and eosin, rows of length one, shape (2, 3)."""
    highest: NDArray[np.float64]
    """Highest concentration of each, shape (2,)."""
    white: NDArray[np.float64]
    """RGB of the glass, shape (3,)."""

    def normalised(self, patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give patches, shape (…, 3), the colours of the reference."""
        od = _density(patches, self.white)
        rescaled = (np.asarray(REFERENCE_HIGHEST) / self.highest)[:, None] * np.asarray(REFERENCE_STAINS)
        transfer = (np.linalg.pinv(self.colours) @ rescaled).astype(np.float32)  # (3, 3), by the concentrations
        light = REFERENCE_WHITE * np.exp(-np.maximum(od @ transfer, 0))
        return np.asarray(np.rint(light).clip(0, 255), dtype=np.uint8)


def find_stains(pixels: NDArray[np.uint8], *, white: tuple[float, float, float]) -> Stains:
    """Find the stains in pixels, shape (…, 3): the extreme directions in the plane of their optical densities.

    `white` is the RGB of the glass. Raises InputError if fewer than 100 of the sampled pixels are stained.
    """
    flat = pixels.reshape(-1, 3)
    od = _density(flat[:: max(1, len(flat) // SAMPLE)], white)
    od = od[od.mean(axis=1) > TISSUE_OD]
    if len(od) < 100:
        raise InputError(
            f"Expected tissue stained by haematoxylin and eosin for stain='macenko', found {len(od)} stained pixels. "
            "Leave stain out."
        )
    plane = np.linalg.eigh(np.cov(od.T))[1][:, :0:-1]  # (3, 2), the two leading directions
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    angles = np.arctan2(*(od @ plane).T[::-1])
    ends = np.percentile(angles, [EXTREME, 100 - EXTREME])
    colours = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T  # (2, 3)
    colours = colours[np.argsort(-colours[:, 0])]  # haematoxylin absorbs more red
    concentrations = od @ np.linalg.pinv(colours)
    return Stains(colours, np.percentile(concentrations, 100 - EXTREME, axis=0), np.asarray(white))


def _density(pixels: NDArray[np.uint8], white: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Get the optical density by natural logarithms, in which the constants of the method are published."""
    return optical_density(pixels, white) * np.float32(np.log(10))
