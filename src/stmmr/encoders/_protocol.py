"""What an encoder is: it turns patches of the image around each spot (or cell, or bin) into a row of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """What `stmmr.pp.histology` expects of an encoder; to add one, write a class with these six members.

    The encoder does not crop or resample: for each batch of B spots it receives one patch of `patch_px` × `patch_px`
    pixels for each of the S diameters, whatever the resolution of the image. Batches come from several threads.

    Features are stored on disk only if the encoder has a seventh member, ``fingerprint``: a string that changes
    whenever the features would change (weights, settings). It is read after `fit`.
    """

    @property
    def name(self) -> str:
        """Name that is recorded with the features."""

    @property
    def diameters_um(self) -> tuple[float, ...]:
        """Sides of the S patches around a spot, in µm."""

    @property
    def patch_px(self) -> int:
        """Pixels to which the side of every patch is resampled."""

    @property
    def feature_names(self) -> list[str]:
        """Names of the F features, after `fit`."""

    def fit(self, sample: NDArray[np.uint8], *, um_per_px: float) -> Encoder:
        """Learn from a sample of the patches, and return an encoder for this image.

        An encoder that has nothing to learn returns itself.

        Parameters
        ----------
        sample
            Patches, shape (n, S, patch_px, patch_px, 3), RGB.
        um_per_px
            Resolution of the image that the patches were resampled from.
        """

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches, shape (B, S, patch_px, patch_px, 3), as finite features, shape (B, F)."""
