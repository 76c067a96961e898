"""The bandwidth of the spatial graph, chosen by how well spots are predicted from their neighbours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core.kernel import gaussian_weights, nearest_neighbour_distance
from stmmr.linear.noise import local_noise, whitening

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

STEP: Final = 2 ** (1 / 4)
"""Ratio of one candidate bandwidth to the next."""
SMALLEST, LARGEST, LIMIT = 0.5, 4.0, 16.0
"""Range of the candidates, in nearest-neighbour distances. Beyond `LARGEST`, the next candidate is tried only while the
error falls by more than a standard error."""
SPOTS_AT_MOST: Final = 20_000
"""Largest number of spots used to choose the bandwidth; in a larger tissue, compact windows are drawn."""
WINDOWS: Final = 4


class Curve(NamedTuple):
    """Prediction error of each candidate bandwidth; all of shape (B,)."""

    bandwidths: NDArray[np.float64]
    """In units of the coordinates, ascending."""
    error: NDArray[np.float64]
    """Mean squared error of the prediction, relative to the variance of the noise."""
    standard_error: NDArray[np.float64]
    """Standard error of this mean over spots."""

    @property
    def threshold(self) -> float:
        """The smallest error plus its standard error."""
        best = self.error.argmin()
        return float(self.error[best] + self.standard_error[best])

    def choose(self) -> float:
        """Get the smallest bandwidth whose error is within one standard error of the smallest error.

        Between candidates, the error is interpolated linearly in the logarithm of the bandwidth.
        """
        first = int((self.error <= self.threshold).argmax())
        if first == 0:
            return float(self.bandwidths[0])
        above, below = self.error[first - 1 : first + 1]
        share = (above - self.threshold) / (above - below)
        return float(self.bandwidths[first - 1] * (self.bandwidths[first] / self.bandwidths[first - 1]) ** share)


def bandwidth_curve(features: NDArray[np.floating], xy: NDArray[np.float64], *, tolerance: float) -> Curve:
    """Predict every spot from the others with each candidate bandwidth (leave-one-out cross-validation).

    A bandwidth that is too small leaves noise in the prediction, one that is too large blurs the signal. Among
    bandwidths that predict equally well, the smallest blurs borders least: the one-standard-error rule (Breiman et al.
    1984, Classification and Regression Trees, section 3.4.3). The choice uses no labels and no number of domains.

    Parameters
    ----------
    features
        Features before propagation, shape (N, F).
    xy
        Coordinates, shape (N, 2).
    tolerance
        Kernel value below which the graph has no edge.
    """
    used = windows(xy)
    features, xy = features[used], xy[used]
    white = (features - features.mean(axis=0, dtype=np.float64)) @ whitening(local_noise(features, xy))
    unit = nearest_neighbour_distance(xy)
    tried: list[tuple[float, float, float]] = []
    for step in range(1 + round(math.log(LIMIT / SMALLEST, STEP))):
        ratio = SMALLEST * STEP**step
        weights = gaussian_weights(xy, bandwidth=ratio * unit, tolerance=tolerance)
        errors = ((white - predicted_by_others(white, weights)) ** 2).mean(axis=1)  # (N,)
        tried.append((ratio * unit, errors.mean(), errors.std() / math.sqrt(len(errors))))
        bandwidths, error, standard_error = np.array(tried).T
        past = error.argmin() < step - 1
        flat = ratio > LARGEST * 0.99 and error[-2] - error[-1] < standard_error[-1]
        if past or flat:
            break
    return Curve(bandwidths, error, standard_error)


def predicted_by_others(features: NDArray[np.float64], weights: sparse.csr_matrix[Any]) -> NDArray[np.float64]:
    """Propagate features without each spot's own share; a spot without neighbours gets the mean."""
    own = np.asarray(weights.multiply(weights.T).sum(axis=1)).reshape(-1, 1).astype(np.float64)  # diagonal of A²
    others = weights @ (weights @ features) - own * features
    alone = own > 1 - 1e-3
    return np.asarray(np.where(alone, features.mean(axis=0), others / np.where(alone, 1, 1 - own)))


def windows(xy: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw compact windows of a large tissue, the spots nearest to random centres; of a small tissue, all spots."""
    if len(xy) <= SPOTS_AT_MOST:
        return np.arange(len(xy))
    rng = np.random.default_rng(0)
    centres = xy[rng.choice(len(xy), WINDOWS, replace=False)]
    return np.unique(cKDTree(xy).query(centres, k=SPOTS_AT_MOST // WINDOWS)[1])
