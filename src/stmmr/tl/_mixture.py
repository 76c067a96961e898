"""Mixtures of Gaussians that share one covariance, in the few matrix products that this takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS_AT_MOST: Final = 300
"""Rounds of expectation and maximisation."""
TOLERANCE: Final = 1e-3
"""Gain of the mean log-likelihood below which they end; that of scikit-learn."""
SINGULAR: Final = (
    "Expected groups whose covariance can be inverted, found a singular one. "
    "Scale the points to variances near 1 or take a larger regularisation."
)


@dataclass(frozen=True, kw_only=True)
class TiedMixture:
    """Gaussians of one covariance: the logarithm of a group's share of a point is linear in the point.

    Names are those of scikit-learn's ``GaussianMixture``.
    """

    weights_: NDArray[np.float64]
    """Share of each group, shape (K,)."""
    means_: NDArray[np.float64]
    """Shape (K, d)."""
    covariances_: NDArray[np.float64]
    """The one covariance, shape (d, d)."""
    lower_bound_: float = -np.inf
    """Mean log-likelihood of the points in the last round."""
    converged_: bool = False
    """Whether the rounds ended because the likelihood hardly rose."""

    def linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Get what the density is made of: log πₖ N(x; μₖ, Σ) = c(x) + x·slopes + offsets.

        Returns
        -------
        Slopes, shape (d, K); offsets, shape (K,), with all that does not depend on x; and Σ⁻¹, shape (d, d), of which
        c(x) = −x·Σ⁻¹·x/2.
        """
        factor, lower = cho_factor(self.covariances_, lower=True)
        slopes = cho_solve((factor, lower), self.means_.T)
        constant = len(factor) * np.log(2 * np.pi) / 2 + np.log(np.diag(factor)).sum()
        offsets = np.log(self.weights_) - (self.means_.T * slopes).sum(axis=0) / 2 - constant
        return slopes, offsets, cho_solve((factor, lower), np.eye(len(factor)))

    def predict(self, points: NDArray[Any]) -> NDArray[np.intp]:
        """Find the likeliest group of points, shape (n, d)."""
        slopes, offsets, _ = self.linear()
        return np.asarray((points @ slopes + offsets).argmax(axis=1))

    def predict_proba(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Compute the probability of each group at points, shape (n, d); shape (n, K)."""
        slopes, offsets, _ = self.linear()
        return _shares(points @ slopes + offsets)[0]

    def score_samples(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Compute the logarithm of the density at points, shape (n, d)."""
        slopes, offsets, precision = self.linear()
        common = ((points @ precision) * points).sum(axis=1) / 2
        return np.asarray(logsumexp(points @ slopes + offsets, axis=1) - common)


def fit_tied(
    points: NDArray[np.float64], start: NDArray[np.float64] | TiedMixture, *, regularisation: float
) -> TiedMixture:
    """Fit a mixture by expectation and maximisation, by the same rules as scikit-learn's "tied".

    With one covariance Σ, XᵀX = NΣ + Σₖ nₖ μₖ μₖᵀ in every round, so that a round is two products of points × groups.

    Parameters
    ----------
    points
        Shape (N, d).
    start
        Share of the groups in each point, shape (N, K), such as memberships by k-means; or a mixture.
    regularisation
        Variance added to every direction.

    Raises
    ------
    InputError
        If the covariance is singular in spite of the regularisation.
    """
    centre = points.mean(axis=0)
    x = points - centre
    products = x.T @ x
    bound, converged = -np.inf, False
    if isinstance(start, TiedMixture):
        mixture = TiedMixture(weights_=start.weights_, means_=start.means_ - centre, covariances_=start.covariances_)
    else:
        mixture = _maximised(x, start, products, regularisation)
    for _ in range(ROUNDS_AT_MOST):
        slopes, offsets, precision = _linear(mixture)
        shares, log_sums = _shares(x @ slopes + offsets)
        # mean of c(x) over the points, by the trace of their products
        common = -np.sum(precision * products) / (2 * len(x))
        before, bound = bound, float(log_sums.mean() + common)
        mixture = _maximised(x, shares, products, regularisation)
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


def _linear(mixture: TiedMixture) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    try:
        return mixture.linear()
    except np.linalg.LinAlgError as error:
        raise InputError(SINGULAR) from error


def _maximised(
    x: NDArray[np.float64], shares: NDArray[np.float64], products: NDArray[np.float64], regularisation: float
) -> TiedMixture:
    sizes = shares.sum(axis=0) + 10 * np.finfo(np.float64).eps
    means = (shares.T @ x) / sizes[:, None]
    covariance = (products - (means * sizes[:, None]).T @ means) / sizes.sum()
    covariance.flat[:: len(covariance) + 1] += regularisation
    return TiedMixture(weights_=sizes / len(x), means_=means, covariances_=covariance)


def _shares(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn scores, shape (N, K), into shares, in place, and get the logarithm of their sums."""
    highest = scores.max(axis=1, keepdims=True)
    scores -= highest
    np.exp(scores, out=scores)
    sums = scores.sum(axis=1, keepdims=True)
    scores /= sums
    return scores, (np.log(sums) + highest)[:, 0]
