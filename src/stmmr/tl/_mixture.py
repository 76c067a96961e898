"""Gaussian mixtures with one shared covariance, fitted with few matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from stmmr._core.types import Float64, Ints, Numbers

ITERATIONS: Final = 300
"""Largest number of iterations of expectation and maximisation."""
TOLERANCE: Final = 1e-3
"""Gain of the mean log-likelihood below which iterations end, as in scikit-learn."""
SINGULAR: Final = (
    "Expected groups whose covariance can be inverted, found a singular one. "
    "Scale the points to variances near 1 or use a larger regularisation."
)


@dataclass(frozen=True, kw_only=True)
class TiedMixture:
    """Gaussians with a shared covariance, which makes the log-odds between groups linear.

    Attributes have the names of ``GaussianMixture`` of scikit-learn.
    """

    weights_: Float64
    """Weight of each group, shape (K,)."""
    means_: Float64
    """Shape (K, d)."""
    covariances_: Float64
    """Shared covariance, shape (d, d)."""
    lower_bound_: float = -np.inf
    """Mean log-likelihood of the points in the last iteration."""
    converged_: bool = False
    """Whether iterations ended because the likelihood hardly increased."""

    def linear(self) -> tuple[Float64, Float64, Float64]:
        """Compute the terms of log πₖ N(x; μₖ, Σ) = c(x) + x·slopes + offsets.

        Returns
        -------
        Slopes, shape (d, K); offsets, shape (K,); and Σ⁻¹, shape (d, d), with c(x) = −x·Σ⁻¹·x/2.
        """
        factor, lower = cho_factor(self.covariances_, lower=True, check_finite=False)
        slopes = cho_solve((factor, lower), self.means_.T, check_finite=False)
        constant = len(factor) * np.log(2 * np.pi) / 2 + np.log(np.diag(factor)).sum()
        offsets = np.log(self.weights_) - (self.means_.T * slopes).sum(axis=0) / 2 - constant
        return slopes, offsets, cho_solve((factor, lower), np.eye(len(factor)), check_finite=False)

    def predict(self, points: Numbers) -> Ints:
        """Find the likeliest group of points, shape (n, d)."""
        slopes, offsets, _ = self.linear()
        return np.asarray((points @ slopes + offsets).argmax(axis=1))

    def predict_proba(self, points: Numbers) -> Float64:
        """Compute the probability of each group at points, shape (n, d); shape (n, K)."""
        slopes, offsets, _ = self.linear()
        return _probabilities(slopes.T @ points.T + offsets[:, None])[0].T

    def score_samples(self, points: Numbers) -> Float64:
        """Compute the logarithm of the density at points, shape (n, d)."""
        slopes, offsets, precision = self.linear()
        common = ((points @ precision) * points).sum(axis=1) / 2
        return np.asarray(logsumexp(points @ slopes + offsets, axis=1) - common)


def fit_tied(
    points: Float64, start: Float64 | TiedMixture, *, regularisation: float, iterations: int = ITERATIONS
) -> TiedMixture:
    """Fit a mixture to points, shape (N, d), by expectation and maximisation, with the rules of "tied" in scikit-learn.

    It starts from memberships, shape (N, K), such as those of k-means, or from a mixture, such as one that was given
    only a few `iterations`. With a shared covariance Σ,
    XᵀX = NΣ + Σₖ nₖ μₖ μₖᵀ in every iteration, which then takes two products of points × groups.

    Raises InputError if the covariance is singular in spite of the regularisation, the variance added to every
    direction.
    """
    centre = points.mean(axis=0)
    x = points - centre
    products = x.T @ x
    bound, converged = -np.inf, False
    if isinstance(start, TiedMixture):
        mixture = TiedMixture(weights_=start.weights_, means_=start.means_ - centre, covariances_=start.covariances_)
    else:
        mixture = _maximised(x, start.T, products, regularisation)
    for _ in range(iterations):
        slopes, offsets, precision = _linear(mixture)
        probabilities, log_sums = _probabilities(slopes.T @ x.T + offsets[:, None])
        # mean of c(x) over the points, from the trace of their products
        common = -np.sum(precision * products) / (2 * len(x))
        before, bound = bound, float(log_sums.mean() + common)
        mixture = _maximised(x, probabilities, products, regularisation)
        if abs(bound - before) < TOLERANCE:
            converged = True
            break
    return TiedMixture(
        weights_=mixture.weights_,
        means_=mixture.means_ + centre,
        covariances_=mixture.covariances_,
        lower_bound_=bound,
        converged_=converged,
    )


def _linear(mixture: TiedMixture) -> tuple[Float64, Float64, Float64]:
    try:
        return mixture.linear()
    except np.linalg.LinAlgError as error:
        raise InputError(SINGULAR) from error


def _maximised(x: Float64, probabilities: Float64, products: Float64, regularisation: float) -> TiedMixture:
    sizes = probabilities.sum(axis=1) + 10 * np.finfo(np.float64).eps
    means = (probabilities @ x) / sizes[:, None]
    covariance = (products - (means * sizes[:, None]).T @ means) / sizes.sum()
    covariance.flat[:: len(covariance) + 1] += regularisation
    return TiedMixture(weights_=sizes / len(x), means_=means, covariances_=covariance)


def _probabilities(scores: Float64) -> tuple[Float64, Float64]:
    """Convert scores, shape (K, N), into probabilities in place, and get the logarithm of their sums.

    With a row for each group, reductions run over whole rows, several times as fast as over the few groups of a point.
    """
    highest = scores.max(axis=0)
    scores -= highest
    np.exp(scores, out=scores)
    sums = scores.sum(axis=0)
    scores /= sums
    return scores, np.log(sums) + highest
