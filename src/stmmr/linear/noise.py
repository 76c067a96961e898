"""What of the features varies over the tissue, and what is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import representation, require_key
from stmmr._core.kernel import nearest, white_noise
from stmmr._core.pca import SPOTS_PER_COMPONENT, mean_and_covariance, principal_scores, second_moments
from stmmr._core.rows import CHUNK, empty, slices

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel

NOISE_NEIGHBOURS: Final = 3
"""Nearest places whose differences from a place are taken for noise, and all that lie as near as the last of them."""
NOISE_NEIGHBOURS_AT_MOST: Final = 8
TIE: Final = 1.01
"""Ratio of distances that count as the same."""
NULL_PLACES: Final = 20_000
NULL_DRAWS_AT_MOST: Final = 20
"""Places of tissues of pure noise, in all, whose largest eigenvalues are averaged: the fewer each has, the more they
vary."""
NOISE_PLACES_PER_FEATURE: Final = 20
"""Places for each feature from which on a section's own noise is taken; with fewer, a share of it."""


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
    if (values == values[:1]).all():
        return np.zeros((len(values), 1), dtype=np.float32)
    n = max(1, min(n, values.shape[1], len(values) // SPOTS_PER_COMPONENT, len(values) - 1))
    # solved to the end, from one start: the same for every seed, unlike the randomised solver
    scores, spread = principal_scores(values, n, solver="arpack" if n < min(values.shape) else "full")
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
    require_key(adata.obsm, keys.COMPONENTS, where="obsm", hint=hint)
    return representation(adata, keys.COMPONENTS)[:, :n_components]


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
    covariance, n = np.zeros((features.shape[1],) * 2), 0
    for rows in slices(len(xy), CHUNK):
        distance = np.linalg.norm(xy[near[rows]] - xy[rows, None], axis=2)  # (c, k)
        among = distance <= TIE * distance[:, [min(NOISE_NEIGHBOURS, near.shape[1]) - 1]]
        place, which = np.nonzero(among)
        difference = features[rows][place] - features[near[rows][place, which]]
        covariance += second_moments(difference)
        n += len(place)
    return covariance / (2 * n)


def with_equal_noise(
    features: NDArray[np.float32],
    xy: NDArray[np.float64],
    codes: NDArray[np.integer[Any]],
    *,
    to: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Bring the noise of each section to one covariance, by a linear map for each.

    Sections differ in depth and quality, and with them in noise; places of a noisier one would lie farther out.
    What differs because other tissue was cut stays, as noise is of neighbouring places.

    Parameters
    ----------
    features
        The mean of each section taken off, shape (N, F).
    xy
        Coordinates with sections laid apart, shape (N, 2).
    codes
        Section of each place, shape (N,).
    to
        The covariance, shape (F, F); that over all sections where it is not given.

    Returns
    -------
    float32, shape (N, F).
    """
    mean = local_noise(features, xy) if to is None else to
    equal = empty(features.shape)
    for code in range(int(codes.max()) + 1):
        own = np.flatnonzero(codes == code)
        equal[own] = features[own] @ noise_map(features[own], xy[own], mean)
    return equal


def noise_map(features: NDArray[np.float32], xy: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the map, shape (F, F), that brings the noise of a section to a covariance, less so the fewer its places."""
    n, width = features.shape
    share = min(1.0, n / (NOISE_PLACES_PER_FEATURE * width)) if n > NOISE_NEIGHBOURS else 0.0
    own = share * local_noise(features, xy) + (1 - share) * to if share else to
    return _power(own, -0.5) @ _power(to, 0.5)


def _power(covariance: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Raise a covariance to a power, shape (F, F)."""
    variance, rotation = np.linalg.eigh(covariance)
    kept = np.maximum(variance, 1e-6 * (variance[-1] or 1)) ** exponent
    return np.asarray(rotation * kept @ rotation.T)


def whitening(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find directions in which noise of a covariance, shape (F, F), has unit variance; they are columns, (F, F)."""
    variance, rotation = np.linalg.eigh(noise)
    return np.asarray(rotation / np.sqrt(np.maximum(variance, 1e-6 * (variance[-1] or 1))))


def spatial_components(
    propagated: NDArray[Any], noise: NDArray[np.float64], level: float, *, at_least: int = 0
) -> SpatialComponents:
    """Find the directions in which the propagated features vary more than propagated noise would.

    The features are scaled so that their noise is white, propagated, and rotated to their principal axes, with
    variances λ. The largest λ₀ that white noise reaches over the same graph is the level to stand out from. A direction
    is then scaled to the variance 1 − λ₀/λ: near 1 where it is all signal, nothing where it could be noise.

    Parameters
    ----------
    propagated
        A²F, shape (N, F).
    noise
        Covariance of the noise, shape (F, F).
    level
        λ₀, see `propagated_with_level`.
    at_least
        Directions to return even if they do not stand out; they get a small scale.
    """
    white = whitening(noise)
    centre, covariance = mean_and_covariance(propagated)
    eigenvalues, directions = _principal_axes(white.T @ covariance @ white)
    signal = 1 - level / np.maximum(eigenvalues, 1e-12)
    d = min(max(int((signal > 0).sum()), at_least), len(signal))
    signal = np.maximum(signal[:d], 1e-2 if at_least else 0)
    axes = white @ directions[:, :d] * np.sqrt(signal / np.maximum(eigenvalues[:d], 1e-12))
    return SpatialComponents(axes=axes, centre=centre, signal=signal)


def propagated_with_level(
    features: NDArray[Any], kernel: Kernel, *, progress: bool = False
) -> tuple[NDArray[np.float32], float]:
    """Propagate features, shape (N, F), and as many columns of white noise beside them.

    Returns
    -------
    A²F, shape (N, F), and the largest variance that white noise keeps in any direction, averaged over draws.
    """
    n, width = features.shape
    draws = min(-(-NULL_PLACES // n), NULL_DRAWS_AT_MOST)

    def columns(places: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.hstack([features[places], white_noise(places, draws * width)])

    smooth = empty((n, width))
    total, products = np.zeros(draws * width), np.zeros((draws, width, width))
    for places, both in kernel.propagate(columns, progress=progress):
        smooth[places] = both[:, :width]
        total += both[:, width:].sum(axis=0, dtype=np.float64)
        products += [second_moments(draw) for draw in np.split(both[:, width:], draws, axis=1)]
    means = total.reshape(draws, width) / n
    largest = [_principal_axes(p / n - np.outer(m, m))[0][0] for p, m in zip(products, means, strict=True)]
    return smooth, float(np.mean(largest))


def _principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get variances, descending, and directions."""
    variances, directions = np.linalg.eigh(covariance)
    return variances[::-1], directions[:, ::-1]
