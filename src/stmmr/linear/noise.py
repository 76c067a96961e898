"""Signal and noise in the features: the noise between neighbours, and the components that stand out from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import representation, require_key
from stmmr._core.kernel import nearest, white_noise
from stmmr._core.pca import (
    SPOTS_PER_COMPONENT,
    mean_and_covariance,
    number_of_components,
    principal_scores,
    second_moments,
)
from stmmr._core.rows import CHUNK, empty, slices

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel

NOISE_NEIGHBOURS: Final = 3
"""Nearest neighbours whose difference from a spot counts as noise, and all neighbours as near as the last of them."""
NOISE_NEIGHBOURS_AT_MOST: Final = 8
TIE: Final = 1.01
"""Distances within this ratio count as equal."""
NULL_SPOTS: Final = 20_000
NULL_DRAWS_AT_MOST: Final = 20
"""White noise is drawn until it has this many spots in all, or this many times: the largest eigenvalue, averaged over
the draws, varies more in a small tissue."""
NOISE_SPOTS_PER_FEATURE: Final = 20
"""Number of spots for each feature from which a section's own noise is used in full; with fewer, only in part."""
CORRELATION_SPOTS: Final = 3
"""Number of spots for each feature up to which the correlations of the noise cannot be told from chance."""


@dataclass(frozen=True, kw_only=True)
class SpatialComponents:
    """Components of the features, in descending order of their variance over the tissue relative to noise."""

    axes: NDArray[np.float64]
    """Shape (F, d): (A²F − centre)·axes is the embedding; its columns have the variances `signal`."""
    centre: NDArray[np.float64]
    """Mean of the propagated features, shape (F,)."""
    signal: NDArray[np.float64]
    """1 − λ₀/λ of each component, shape (d,): the share of its variance that is not noise."""


def principal_components(values: NDArray[np.floating], n: int) -> NDArray[np.float32]:
    """Project on the leading principal components that vary.

    Parameters
    ----------
    values
        Shape (N, F).
    n
        Largest number of components; fewer if there are fewer than four spots for each.

    Returns
    -------
    Scores, float32, shape (N, ≤ n).
    """
    if (values == values[:1]).all():
        return np.zeros((len(values), 1), dtype=np.float32)
    n = max(1, min(n, values.shape[1], len(values) // SPOTS_PER_COMPONENT, len(values) - 1))
    # exact solvers with a fixed start: the randomised solver would depend on the seed
    scores, spread = principal_scores(values, n, solver="arpack" if n < min(values.shape) else "full")
    varying = spread > 1e-4 * float(spread[0])
    varying[0] = True
    return np.asarray(scores[:, varying], dtype=np.float32)


def expression_features(
    adata: AnnData, *, use_rep: str | None, n_components: int = 50, otherwise: str = ""
) -> NDArray[np.float32]:
    """Get the principal components of the expression, shape (N, F); `otherwise` ends the hint if there are none.

    A small tissue carries fewer than `n_components` of a representation: one for every 20 spots, or five.
    """
    if use_rep is not None:
        n = number_of_components(adata.n_obs, at_most=n_components)
        return principal_components(representation(adata, use_rep), n)
    hint = f"Run stmmr.pp.expression(adata) first{otherwise}."
    require_key(adata.obsm, keys.COMPONENTS, where="obsm", hint=hint)
    return representation(adata, keys.COMPONENTS)[:, :n_components]


def local_noise(features: NDArray[np.floating], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the covariance of the noise from the differences between neighbouring spots.

    It is half the mean outer product of the differences between a spot and its three nearest neighbours (more on a
    grid, where more are equally near). Slow variation cancels out (Switzer & Green 1984, minimum/maximum
    autocorrelation factors). Cell types that lie mixed count as noise. Correlations are shrunk by the share 3F/N that
    chance has in them, fully where there are fewer than three spots for each feature.

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
        is_near = distance <= TIE * distance[:, [min(NOISE_NEIGHBOURS, near.shape[1]) - 1]]
        spot, neighbor = np.nonzero(is_near)
        difference = features[rows][spot] - features[near[rows][spot, neighbor]]
        covariance += second_moments(difference)
        n += len(spot)
    shrinkage = min(1.0, CORRELATION_SPOTS * features.shape[1] / len(xy))
    variances = np.diag(np.diag(covariance))
    return np.asarray((covariance + shrinkage * (variances - covariance)) / (2 * n))


def with_equal_noise(
    features: NDArray[np.float32],
    xy: NDArray[np.float64],
    codes: NDArray[np.integer],
    *,
    to: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Bring the noise of all sections to the same covariance, by a linear map of each section.

    Sections differ in depth and quality, and so in noise; spots of a noisier section would lie farther apart.
    Differences in tissue stay, because the noise is measured between neighbouring spots.

    Parameters
    ----------
    features
        Features centred in each section, shape (N, F).
    xy
        Coordinates with sections laid apart, shape (N, 2).
    codes
        Section of each spot, shape (N,).
    to
        Target covariance, shape (F, F); None: that over all sections.

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
    """Get the map, shape (F, F), that brings the noise of a section to a covariance; only in part with few spots."""
    n, width = features.shape
    share = min(1.0, n / (NOISE_SPOTS_PER_FEATURE * width)) if n > NOISE_NEIGHBOURS else 0.0
    own = share * local_noise(features, xy) + (1 - share) * to if share else to
    return _power(own, -0.5) @ _power(to, 0.5)


def _power(covariance: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Raise a covariance to a power, shape (F, F)."""
    variance, rotation = np.linalg.eigh(covariance)
    kept = np.maximum(variance, 1e-6 * (variance[-1] or 1)) ** exponent
    return np.asarray(rotation * kept @ rotation.T)


def whitening(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Get axes along which noise of a covariance, shape (F, F), has unit variance, as columns, (F, F)."""
    variance, rotation = np.linalg.eigh(noise)
    return np.asarray(rotation / np.sqrt(np.maximum(variance, 1e-6 * (variance[-1] or 1))))


def spatial_components(
    propagated: NDArray[np.floating], noise: NDArray[np.float64], level: float, *, at_least: int = 0
) -> SpatialComponents:
    """Find the components in which the propagated features vary more than propagated noise would.

    The features are scaled so that their noise is white, propagated, and rotated to their principal axes with variances
    λ. The largest variance λ₀ that white noise reaches over the same graph is the threshold: components with λ > λ₀ are
    informative. Each is scaled to the variance 1 − λ₀/λ, near 1 for pure signal and 0 where it could be noise.

    Parameters
    ----------
    propagated
        A²F, shape (N, F).
    noise
        Covariance of the noise, shape (F, F).
    level
        λ₀, from `propagated_with_level`.
    at_least
        Smallest number of components; those that are not informative get a small scale.
    """
    white = whitening(noise)
    centre, covariance = mean_and_covariance(propagated)
    eigenvalues, rotation = _principal_axes(white.T @ covariance @ white)
    signal = 1 - level / np.maximum(eigenvalues, 1e-12)
    d = min(max(int((signal > 0).sum()), at_least), len(signal))
    signal = np.maximum(signal[:d], 1e-2 if at_least else 0)
    axes = white @ rotation[:, :d] * np.sqrt(signal / np.maximum(eigenvalues[:d], 1e-12))
    return SpatialComponents(axes=axes, centre=centre, signal=signal)


def propagated_with_level(
    features: NDArray[np.floating], kernel: Kernel, *, progress: bool = False
) -> tuple[NDArray[np.float32], float]:
    """Propagate features, shape (N, F), and white noise of the same width.

    Returns
    -------
    A²F, shape (N, F), and λ₀, the largest variance of the propagated noise along any axis, averaged over draws.
    """
    n, width = features.shape
    draws = min(-(-NULL_SPOTS // n), NULL_DRAWS_AT_MOST)

    def columns(spots: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.hstack([features[spots], white_noise(spots, draws * width)])

    smooth = empty((n, width))
    total, products = np.zeros(draws * width), np.zeros((draws, width, width))
    for spots, both in kernel.propagate(columns, progress=progress):
        smooth[spots] = both[:, :width]
        total += both[:, width:].sum(axis=0, dtype=np.float64)
        products += [second_moments(draw) for draw in np.split(both[:, width:], draws, axis=1)]
    means = total.reshape(draws, width) / n
    largest = [_principal_axes(p / n - np.outer(m, m))[0][0] for p, m in zip(products, means, strict=True)]
    return smooth, float(np.mean(largest))


def _principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get variances, in descending order, and axes as columns."""
    variances, axes = np.linalg.eigh(covariance)
    return variances[::-1], axes[:, ::-1]
