"""What an encoder is: from patches of the picture around each place to one row of features per place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """What `stmmr.pp.histology` asks of an encoder; one class with these six members is a new one.

    Cutting and resampling the patches is not the encoder's work: per batch of B places it receives one patch
    of `patch_px` × `patch_px` pixels for each of the S diameters, whatever the resolution of the picture.
    Batches come from several threads.

    Features of an encoder are kept on disk only if it has a seventh member, ``fingerprint``: a string that is
    another one whenever the features would be (weights, settings), read after `fit`.
    """

    @property
    def name(self) -> str:
        """Name that is recorded with the features."""
        ...

    @property
    def diameters_um(self) -> tuple[float, ...]:
        """Sides of the S patches around a place, in µm."""
        ...

    @property
    def patch_px(self) -> int:
        """Pixels to which the side of every patch is resampled."""
        ...

    @property
    def feature_names(self) -> list[str]:
        """Names of the F features, once fitted."""
        ...

    def fit(self, sample: NDArray[np.uint8], *, um_per_px: float) -> Encoder:
        """Look at a sample of the patches; return an encoder for this picture.

        An encoder that has nothing to learn returns itself.

        Parameters
        ----------
        sample
            Patches, shape (n, S, patch_px, patch_px, 3), RGB.
        um_per_px
            Resolution of the picture that the patches were resampled from.
        """
        ...

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches, shape (B, S, patch_px, patch_px, 3), as finite features, shape (B, F)."""
        ...
