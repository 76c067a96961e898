"""The encoder without weights: colour, texture and nuclei of an H&E image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from stmmr._core.fingerprints import digest
from stmmr._core.version import VERSION
from stmmr.image.pixels import GLASS_OD, channel_densities, white_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESOLVED_UM: Final = 2.0
"""µm per pixel from which on single nuclei cannot be told apart."""
NUCLEUS_UM: Final = 2.0
"""Width (sigma) of a small nucleus, in µm."""
CHUNK: Final = 16
"""Spots whose patches are described together: their pixels stay in the cache of the processor."""


@dataclass(frozen=True)
class HEEncoder:
    """Colour, texture and nuclei of an H&E image; no weights to download.

    For each diameter, within the round window of that diameter: mean and standard deviation of haematoxylin, eosin
    (colour deconvolution of Ruifrok and Johnston 2001) and optical density; the share of glass and lumen; the strength
    of two bands of detail; the alignment of fibres (coherence of the structure tensor); the share of nuclei, by Otsu's
    threshold of haematoxylin; and, if image and patch resolve 2 µm, nuclei per 1000 µm². All are the same for a turned
    or mirrored image.

    The white of the glass and the threshold of nuclei are learnt from the image. Set them, for example to those of a
    fitted encoder, to treat several sections of one staining alike.
    """

    name: ClassVar[str] = "he"
    diameters_um: tuple[float, ...] = (60.0, 120.0, 240.0)
    """Diameters of the round windows, in µm."""
    patch_px: int = 64
    """Pixels to which the diameter of a window is resampled."""
    white: tuple[float, float, float] | None = None
    """RGB of the glass, 0 to 255."""
    nucleus_od: float | None = None
    """Haematoxylin above which a pixel belongs to a nucleus."""
    um_per_px: float | None = None
    """Resolution of the image."""

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, each with its diameter."""
        stains = ("haematoxylin", "eosin", "optical_density")
        names = [name for stain in stains for name in (stain, f"{stain}_sd")]
        names += ["glass", "fine_texture", "coarse_texture", "fibre_alignment", "nuclei_share"]
        names = [f"{name}_{diameter:g}um" for diameter in self.diameters_um for name in names]
        return names + [f"nuclei_{self.diameters_um[i]:g}um" for i in self._resolved]

    @property
    def fingerprint(self) -> str:
        """Hash of what determines the features: the settings, and this version of the package."""
        return digest({"encoder": repr(self), "version": VERSION})

    def fit(self, sample: NDArray[np.uint8], *, um_per_px: float) -> HEEncoder:
        """Learn the white of the glass and the threshold of nuclei from a sample of the patches."""
        fitted = replace(self, um_per_px=um_per_px, white=self.white or white_of(sample[:, :, ::2, ::2]))
        if self.nucleus_od is not None:
            return fitted
        haematoxylin, _, density = fitted._stains(sample[:, :, ::2, ::2])
        return replace(fitted, nucleus_od=_nucleus_threshold(haematoxylin[density > GLASS_OD]))

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches, shape (B, S, patch_px, patch_px, 3), as features, shape (B, F)."""
        if self.nucleus_od is None:
            raise RuntimeError("The encoder is not fitted; call fit first.")
        chunks = (patches[start : start + CHUNK] for start in range(0, max(len(patches), 1), CHUNK))
        return np.concatenate([self._described(chunk, self.nucleus_od) for chunk in chunks])

    def _described(self, patches: NDArray[np.uint8], nucleus_od: float) -> NDArray[np.float32]:
        """Describe a few patches."""
        disc = _disc(self.patch_px)
        haematoxylin, eosin, density = self._stains(patches)  # each (B, S, p, p)
        features = [
            *_mean_sd(haematoxylin, disc),
            *_mean_sd(eosin, disc),
            *_mean_sd(density, disc),
            _mean(density < GLASS_OD, disc),
            *_texture(density, disc),
            _mean(haematoxylin > nucleus_od, disc),
        ]
        columns = [np.stack(features, axis=-1).reshape(len(patches), -1)]  # (B, S * 11)
        for i in self._resolved:
            columns.append(_count_nuclei(haematoxylin[:, i], self.diameters_um[i], nucleus_od)[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)

    @property
    def _resolved(self) -> list[int]:
        """Indices of the diameters at which single nuclei can be told apart."""
        um_per_px = [max(self.um_per_px or 0.0, diameter / self.patch_px) for diameter in self.diameters_um]
        return [i for i, um in enumerate(um_per_px) if um < RESOLVED_UM]

    def _stains(self, patches: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Separate haematoxylin and eosin, and get the mean optical density; each of shape (B, S, p, p)."""
        from skimage.color import hed_from_rgb

        if self.white is None:
            raise RuntimeError("The encoder is not fitted; call fit first.")
        od = channel_densities(patches, self.white)  # as rgb2hed, but with the white of this image
        stains = hed_from_rgb[:, :2].T.astype(np.float32) @ od.reshape(3, -1)
        haematoxylin, eosin = stains.reshape(2, *od.shape[1:])
        return haematoxylin, eosin, od.mean(axis=0)


def _disc(patch_px: int) -> NDArray[np.bool_]:
    """Make the round window in a square patch."""
    axis = np.arange(patch_px) - (patch_px - 1) / 2
    return np.asarray(np.hypot(axis[:, None], axis) <= patch_px / 2)


def _mean(values: NDArray[np.generic], disc: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average over the window, the last two axes."""
    weights = (disc / disc.sum()).astype(np.float32).ravel()
    # a product with a vector is several times faster than selecting the pixels
    return np.asarray(values.reshape(*values.shape[:-2], -1).astype(np.float32, copy=False) @ weights)


def _mean_sd(values: NDArray[np.float32], disc: NDArray[np.bool_]) -> tuple[NDArray[np.float32], ...]:
    """Get mean and standard deviation over the window."""
    mean = _mean(values, disc)
    return mean, np.sqrt(_mean(np.square(values - mean[..., None, None]), disc))


def _texture(density: NDArray[np.float32], disc: NDArray[np.bool_]) -> tuple[NDArray[np.float32], ...]:
    """Measure detail of about 2 and 4 pixels, and how parallel the edges are (0 to 1)."""
    blurred = [density, *(_blurred(density, sigma) for sigma in (1, 2, 4))]
    fine = np.sqrt(_mean(np.square(blurred[1] - blurred[2]), disc))
    coarse = np.sqrt(_mean(np.square(blurred[2] - blurred[3]), disc))
    down, right = np.gradient(blurred[1], axis=(2, 3))
    vertical, horizontal, mixed = (_mean(g, disc) for g in (down * down, right * right, down * right))
    alignment = np.hypot(vertical - horizontal, 2 * mixed) / (vertical + horizontal + 1e-6)
    return fine, coarse, alignment


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur squares of pixels, the last two axes, as `scipy.ndimage.gaussian_filter` does, by two matrix products."""
    from scipy.ndimage import gaussian_filter1d

    size = values.shape[-1]
    kernel = gaussian_filter1d(np.eye(size), sigma, axis=0).astype(np.float32)
    across = values.reshape(-1, size) @ kernel.T
    return np.asarray(kernel @ across.reshape(values.shape))


def _count_nuclei(haematoxylin: NDArray[np.float32], diameter: float, threshold: float) -> NDArray[np.float32]:
    """Count blobs of haematoxylin in patches (B, p, p) of a diameter in µm, per 1000 µm²."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    disc = _disc(haematoxylin.shape[-1])
    sigma = NUCLEUS_UM * haematoxylin.shape[-1] / diameter
    smooth = gaussian_filter(haematoxylin, (0, sigma, sigma))
    blobs = smooth - gaussian_filter(haematoxylin, (0, 2 * sigma, 2 * sigma))
    size = 2 * round(sigma) + 1
    # without the second condition, every pixel of a plateau would be a maximum
    tops = (blobs == maximum_filter(blobs, (1, size, size))) & (blobs > 0.01) & (smooth > threshold)
    area = np.pi * (diameter / 2) ** 2 / 1000
    return _mean(tops, disc) * np.float32(disc.sum() / area)


def _nucleus_threshold(haematoxylin: NDArray[np.float32]) -> float:
    """Find the threshold of nuclei in pixels of tissue; infinite if all have one value."""
    from skimage.filters import threshold_otsu

    if haematoxylin.size < 2 or np.ptp(haematoxylin) == 0:
        return float("inf")
    return float(threshold_otsu(haematoxylin))  # type: ignore[no-untyped-call]
