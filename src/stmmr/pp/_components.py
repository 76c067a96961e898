"""What of the features varies over the tissue, and what is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr import _keys
from stmmr._validate import representation, require_key
from stmmr.pp._weights import nearest, propagate

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse

NOISE_NEIGHBOURS: Final = 3
"""Nearest places whose differences from a place are taken for noise, and all that lie as near as the last of them."""
NOISE_NEIGHBOURS_AT_MOST: Final = 8
TIE: Final = 1.01
"""Ratio of distances that count as the same."""
NULL_DRAWS: Final = 3
"""Tissues of pure noise whose largest eigenvalues are averaged."""
PLACES_PER_COMPONENT: Final = 4
"""Fewest places for each principal component that is read."""


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

    Half the mean outer product of the differences between a place and its three nearest, or more on a grid where more
    are as near: what varies slowly over the tissue cancels out (Switzer & Green 1984, minimum/maximum autocorrelation
    factors). Cell types that lie mixed count as noise.

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
    near = nearest(xy, min(NOISE_NEIGHBOURS_AT_MOST, len(xy) - 1))
    distance = np.linalg.norm(xy[near] - xy[:, None], axis=2)  # (N, k)
    among = distance <= TIE * distance[:, [min(NOISE_NEIGHBOURS, near.shape[1]) - 1]]
    covariance = np.zeros((features.shape[1],) * 2)
    for neighbour, counts in zip(near.T, among.T, strict=True):
        difference = np.asarray(features[counts] - features[neighbour[counts]], dtype=np.float64)
        covariance += difference.T @ difference
    return covariance / (2 * float(among.sum()))


def whitening(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find directions in which noise of a covariance, shape (F, F), has unit variance; they are columns, (F, F)."""
    variance, rotation = np.linalg.eigh(noise)
    return np.asarray(rotation / np.sqrt(np.maximum(variance, 1e-6 * (variance[-1] or 1))))


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
    white = whitening(noise)
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
