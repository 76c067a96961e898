"""The bandwidth of the spatial graph, chosen by how well spots are predicted from their neighbours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core.kernel import Kernel, nearest_neighbour_distance
from stmmr.linear.noise import local_noise, propagated_with_level, spatial_components, whitening

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP: Final = 2 ** (1 / 4)
"""Ratio of one candidate bandwidth to the next."""
SMALLEST, LARGEST, LIMIT = 2**-1.5, 4.0, 16.0
"""Range of the candidates, in nearest-neighbour distances. Beyond `LARGEST`, the next candidate is tried only while the
error falls by more than a standard error."""
SHARPNESS: Final = 1.25
"""Exponent that turns the bandwidth that predicts best into that of domains, in nearest-neighbour distances. Chosen on
labelled tissue (docs/accuracy.md): where borders are as thin as a spot, blur costs more than noise; where a domain is a
mixture of many single cells, noise costs more."""
SPOTS_AT_MOST: Final = 20_000
"""Largest number of spots used to choose the bandwidth; in a larger tissue, compact windows are drawn."""
WINDOWS: Final = 4


class Curve(NamedTuple):
    """Prediction error of each candidate bandwidth; arrays of shape (B,)."""

    bandwidths: NDArray[np.float64]
    """In units of the coordinates, ascending."""
    error: NDArray[np.float64]
    """Share of the variance that is not predicted, averaged over the informative components."""

    unit: float
    """Median distance between nearest neighbours."""

    def choose(self) -> float:
        """Get the bandwidth for domains, from the one that predicts best."""
        return float(self.unit * (self.best() / self.unit) ** SHARPNESS)

    def best(self) -> float:
        """Get the bandwidth of the smallest error, between candidates at the vertex of the parabola through three."""
        lowest = int(self.error.argmin())
        if lowest in (0, len(self.error) - 1):
            return float(self.bandwidths[lowest])
        near = slice(lowest - 1, lowest + 2)
        below, at_lowest, above = self.error[near]
        curvature = below - 2 * at_lowest + above
        shift = 0.0 if curvature <= 0 else (below - above) / (2 * curvature)
        return float(self.bandwidths[lowest] * STEP**shift)


def bandwidth_curve(features: NDArray[np.floating], xy: NDArray[np.float64], *, tolerance: float) -> Curve:
    """Predict every spot from the others with each candidate bandwidth (leave-one-out cross-validation).

    A bandwidth that is too small leaves noise in the prediction, one that is too large blurs the signal. Components
    without signal are predicted best by the mean of the tissue, so that the more of them a representation has, the
    larger a bandwidth they prefer. The error is therefore averaged over the informative components, each by the share
    of its variance: the choice hardly depends on the number of components. It uses no labels and no number of domains.

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
    bandwidths: list[float] = []
    totals: list[float] = []
    moments: list[NDArray[np.float64]] = []
    for step in range(1 + round(math.log(LIMIT / SMALLEST, STEP))):
        bandwidth = SMALLEST * STEP**step * unit
        rest = white - predicted_by_others(white, Kernel(xy, bandwidth, tolerance))
        errors = (rest**2).mean(axis=1)  # (N,)
        bandwidths.append(bandwidth)
        totals.append(float(errors.mean()))
        moments.append(rest.T @ rest / len(rest))
        past = int(np.argmin(totals)) < step - 1
        flat = bandwidth > LARGEST * 0.99 * unit and totals[-2] - totals[-1] < errors.std() / math.sqrt(len(errors))
        if past or flat:
            break
    axes = informative_axes(white, Kernel(xy, bandwidths[int(np.argmin(totals))], tolerance))
    variances = np.maximum(((white @ axes) ** 2).mean(axis=0), np.finfo(np.float64).tiny)  # 0 if no gene varies
    error = [float(((axes * (moment @ axes)).sum(axis=0) / variances).mean()) for moment in moments]
    return Curve(np.array(bandwidths), np.array(error), unit)


def informative_axes(white: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float64]:
    """Find the axes, shape (F, d), along which propagated features vary more than white noise would; at least one."""
    smooth, level = propagated_with_level(white, kernel)
    components = spatial_components(smooth, np.eye(white.shape[1]), level, at_least=1)
    return np.asarray(components.axes / np.linalg.norm(components.axes, axis=0))


def predicted_by_others(features: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float64]:
    """Propagate features without each spot's own share; a spot without neighbours gets the mean."""
    return without_share(features, *kernel.twice_with_share(features))


def without_share(
    features: NDArray[np.float64], propagated: NDArray[np.floating], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take from propagated features, shape (N, F), the share of each spot, (N,), in itself."""
    own = share[:, None]
    alone = own > 1 - 1e-3
    return np.asarray(
        np.where(alone, features.mean(axis=0), (propagated - own * features) / np.where(alone, 1, 1 - own))
    )


def windows(xy: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw compact windows of a large tissue, the spots nearest to random centres; of a small tissue, all spots."""
    if len(xy) <= SPOTS_AT_MOST:
        return np.arange(len(xy))
    rng = np.random.default_rng(0)
    centres = xy[rng.choice(len(xy), WINDOWS, replace=False)]
    return np.unique(cKDTree(xy).query(centres, k=SPOTS_AT_MOST // WINDOWS)[1])
