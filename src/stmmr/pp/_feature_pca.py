"""Principal components of wide features of the picture, fitted and projected in a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._scratch import empty
from stmmr.pp._components import leading_axes, mean_and_covariance
from stmmr.pp._rows import CHUNK, slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPONENTS: Final = 50
"""Components that are kept of the features of a network."""


@dataclass(frozen=True, kw_only=True)
class FeaturePCA:
    """Leading principal components of features."""

    centre: NDArray[np.float64]
    """Mean of the features, shape (F,)."""
    axes: NDArray[np.float64]
    """Directions, shape (F, d), each of length one, its largest entry positive."""
    share: NDArray[np.float64]
    """Share of the variance of each, shape (d,)."""

    def project(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Get the scores of features, shape (N, F), a chunk of places at a time, shape (N, d)."""
        scores = empty((len(features), self.axes.shape[1]))
        for rows in slices(len(features), CHUNK):
            scores[rows] = (features[rows] - self.centre) @ self.axes
        return scores


def feature_pca(features: NDArray[Any], *, n_components: int = COMPONENTS) -> FeaturePCA:
    """Fit the principal components of features by their covariance, summed in double precision chunk by chunk.

    Parameters
    ----------
    features
        Shape (N, F), in memory or mapped to a file: no more than a chunk of places is read at a time.
    n_components
        At most as many; fewer where there are fewer than four places for each, or fewer vary.
    """
    centre, covariance = mean_and_covariance(features)
    axes = leading_axes(covariance, n_places=len(features), n=n_components)
    variances = np.einsum("fd,fg,gd->d", axes, covariance, axes, optimize=True)
    return FeaturePCA(centre=centre, axes=axes, share=variances / max(float(np.trace(covariance)), 1e-300))
