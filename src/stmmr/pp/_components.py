"""What of the features varies over the tissue, what is noise, and the bandwidth that tells them apart best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.spatial import cKDTree

from stmmr import _keys
from stmmr._validate import representation, require_key
from stmmr.pp._weights import gaussian_weights, nearest_neighbour_distance, propagate

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse

NOISE_NEIGHBOURS: Final = 3
"""Nearest places whose differences from a place are taken for noise."""
NULL_DRAWS: Final = 3
"""Tissues of pure noise whose largest eigenvalues are averaged."""
PLACES_PER_COMPONENT: Final = 4
"""Fewest places for each principal component that is read."""
STEP: Final = 2 ** (1 / 3)
"""Ratio of neighbouring bandwidths that are tried."""
SMALLEST, LARGEST, LIMIT = 0.5, 4.0, 16.0
"""Bandwidths tried, in nearest-neighbour distances; beyond `LARGEST` only while the signal grows by `GROWTH` a step."""
GROWTH: Final = 1.02
PLACES_AT_MOST: Final = 20_000
"""Places that are read to choose the bandwidth; of more, compact windows are drawn."""
WINDOWS: Final = 4


@dataclass(frozen=True, kw_only=True)
class SpatialComponents:
    """Directions of the features, in the order of how far their variance over the tissue stands out from noise."""

    axes: NDArray[np.float64]
    """Shape (F, d): (A²F − centre)·axes is the embedding, whose columns have the variances `signal`."""
    centre: NDArray[np.float64]
    """Mean of the propagated features, shape (F,)."""
    signal: NDArray[np.float64]
    """1 − λ₀/λ of each direction that stands out, shape (d,): the share of its variance that is no noise."""


def principal_components(values: NDArray[Any], n: int) -> NDArray[np.float32]:
    """Project on the leading principal components that vary.

    Parameters
    ----------
    values
        Shape (N, F).
    n
        At most as many; fewer where there are fewer than four places for each.

    Returns
    -------
    Scores, float32, shape (N, ≤ n).
    """
    from sklearn.decomposition import PCA

    if (values == values[:1]).all():
        return np.zeros((len(values), 1), dtype=np.float32)
    n = max(1, min(n, values.shape[1], len(values) // PLACES_PER_COMPONENT, len(values) - 1))
    # solved to the end, from one start: the same for every seed, unlike the randomised solver
    solver = "arpack" if n < min(values.shape) else "full"
    scores = PCA(n, svd_solver=solver, random_state=0).fit_transform(values)
    spread = scores.std(axis=0)
    varying = spread > 1e-4 * float(spread[0])
    varying[0] = True
    return np.asarray(scores[:, varying], dtype=np.float32)


def expression_features(
    adata: AnnData, *, use_rep: str | None, n_components: int = 50, otherwise: str = ""
) -> NDArray[np.float32]:
    """Get the principal components that stand for the expression, shape (N, F); `otherwise` ends the hint if none."""
    if use_rep is not None:
        return principal_components(representation(adata, use_rep), n_components)
    hint = f"Run stmmr.pp.expression(adata) first{otherwise}."
    require_key(adata.obsm, _keys.COMPONENTS, where="obsm", hint=hint)
    return representation(adata, _keys.COMPONENTS)[:, :n_components]


def local_noise(features: NDArray[Any], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the covariance of the noise from the differences of neighbouring places.

    Half the mean outer product of the differences between a place and its three nearest: what varies slowly over the
    tissue cancels out (Switzer & Green 1984, minimum/maximum autocorrelation factors). Cell types that lie mixed count
    as noise.

    Parameters
    ----------
    features
        Shape (N, F).
    xy
        Coordinates, shape (N, 2).

    Returns
    -------
    Covariance, shape (F, F).
    """
    k = min(NOISE_NEIGHBOURS, len(xy) - 1)
    near: NDArray[np.intp] = np.asarray(cKDTree(xy).query(xy, k=list(range(2, k + 2)))[1])  # (N, k)
    covariance = np.zeros((features.shape[1],) * 2)
    for neighbour in near.T:
        difference = np.asarray(features - features[neighbour], dtype=np.float64)
        covariance += difference.T @ difference
    return covariance / (2 * near.size)


def spatial_components(
    propagated: NDArray[Any],
    weights: sparse.csr_matrix[Any],
    noise: NDArray[np.float64],
    *,
    at_least: int = 0,
) -> SpatialComponents:
    """Find the directions in which the propagated features vary more than propagated noise would.

    The features are scaled so that their noise is white, propagated, and rotated to their principal axes, with
    variances λ. The largest λ₀ that white noise reaches over the same graph is the level to stand out from. A direction
    is then scaled to the variance 1 − λ₀/λ: near 1 where it is all signal, nothing where it could be noise.

    Parameters
    ----------
    propagated
        A²F, shape (N, F).
    weights
        A, rows sum to 1, shape (N, N).
    noise
        Covariance of the noise, shape (F, F).
    at_least
        Directions to return even if they do not stand out; they get a small scale.
    """
    variance, rotation = np.linalg.eigh(noise)
    white = rotation / np.sqrt(np.maximum(variance, 1e-6 * (variance[-1] or 1)))  # (F, F)
    centre = propagated.mean(axis=0, dtype=np.float64)
    eigenvalues, directions = _principal_axes((propagated - centre) @ white)
    signal = 1 - noise_level(weights, propagated.shape[1]) / np.maximum(eigenvalues, 1e-12)
    d = min(max(int((signal > 0).sum()), at_least), len(signal))
    signal = np.maximum(signal[:d], 1e-2 if at_least else 0)
    axes = white @ directions[:, :d] * np.sqrt(signal / np.maximum(eigenvalues[:d], 1e-12))
    return SpatialComponents(axes=axes, centre=centre, signal=signal)


def noise_level(weights: sparse.csr_matrix[Any], n_features: int) -> float:
    """Measure the largest variance that white noise keeps in any direction when it is propagated."""
    rng = np.random.default_rng(0)  # one estimate of an expectation, not a draw that a seed should change
    largest = []
    for _ in range(NULL_DRAWS):
        drawn = propagate(weights, rng.standard_normal((weights.shape[0], n_features), dtype=np.float32))
        largest.append(_principal_axes(drawn - drawn.mean(axis=0, dtype=np.float64))[0][0])
    return float(np.mean(largest))


def _principal_axes(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get variances, descending, and directions of centred data."""
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    return variances[::-1], directions[:, ::-1]


def bandwidth_curve(
    features: NDArray[Any], xy: NDArray[np.float64], *, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure how much signal stands out from the noise at each of a range of bandwidths.

    Too small a bandwidth leaves the signal in the noise, too large a one blurs it; the sum of the shares 1 − λ₀/λ (see
    `spatial_components`) has its maximum in between. No labels, no number of domains.

    Parameters
    ----------
    features
        Before propagation, shape (N, F).
    xy
        Coordinates, shape (N, 2).
    tolerance
        Kernel value at which graphs are cut.

    Returns
    -------
    Bandwidths in units of the coordinates, and the signal at each.
    """
    chosen = windows(xy)
    features, xy = features[chosen], xy[chosen]
    noise = local_noise(features, xy)
    unit = nearest_neighbour_distance(xy)
    tried: list[float] = []
    signal: list[float] = []
    for step in range(1 + round(math.log(LIMIT / SMALLEST, STEP))):
        ratio = SMALLEST * STEP**step
        if ratio > LARGEST * 1.01 and signal[-1] < GROWTH * signal[-2]:
            break
        weights = gaussian_weights(xy, bandwidth=ratio * unit, tolerance=tolerance)
        found = spatial_components(propagate(weights, features), weights, noise)
        tried.append(ratio * unit)
        signal.append(float(found.signal.sum()))
    return np.array(tried), np.array(signal)


def peak(bandwidths: NDArray[np.float64], signal: NDArray[np.float64]) -> float:
    """Find the top of the parabola through the largest signal and its neighbours, over the logarithm of bandwidths."""
    top = int(signal.argmax())
    if not 0 < top < len(signal) - 1:
        return float(bandwidths[top])
    before, at, after = signal[top - 1 : top + 2]
    steps = (before - after) / (2 * (before - 2 * at + after)) if before + after < 2 * at else 0.0
    return float(bandwidths[top] * STEP**steps)


def windows(xy: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw compact pieces of a large tissue: the places nearest to some drawn at random; all places of a small one."""
    if len(xy) <= PLACES_AT_MOST:
        return np.arange(len(xy))
    rng = np.random.default_rng(0)
    centres = xy[rng.choice(len(xy), WINDOWS, replace=False)]
    return np.unique(cKDTree(xy).query(centres, k=PLACES_AT_MOST // WINDOWS)[1])
