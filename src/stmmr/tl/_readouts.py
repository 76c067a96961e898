"""Ways to cut an embedding into groups; arrays in, labels out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from stmmr._validate import InputError, logger, require_choice, require_positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

Covariance = Literal["tied", "full", "diag"]
FITTED_AT_MOST: Final = 10_000
"""Points that a readout is fitted to; the others are assigned."""


def whitened(embedding: NDArray[np.float64], n_components: int, *, random_state: int) -> NDArray[np.float64]:
    """Take the leading components that vary, each at unit variance; shape (n_obs, ≤ n_components)."""
    from sklearn.decomposition import PCA

    n = min(n_components, *embedding.shape)
    scores = PCA(n, random_state=random_state).fit_transform(embedding)
    spread = scores.std(axis=0)
    varying = spread > 1e-6 * max(float(spread[0]), np.finfo(np.float64).tiny)
    return np.asarray(scores[:, varying] / spread[varying])


def gaussian_mixture(
    points: NDArray[np.float64],
    n_domains: int,
    *,
    covariance: Covariance = "tied",
    n_init: int = 20,
    regularisation: float = 0.1,
    fitted_at_most: int = FITTED_AT_MOST,
    random_state: int = 0,
) -> NDArray[np.intp]:
    """Cluster by the likeliest of several Gaussian mixtures, each started from k-means.

    Parameters
    ----------
    points
        Shape (N, d).
    n_domains
        How many groups.
    covariance
        "tied" (one for all groups), "full" or "diag" (one for each).
    n_init
        How many starts.
    regularisation
        Variance added to every direction; the signal of an embedding has variances up to 1.
    fitted_at_most
        Points that the mixture is fitted to, drawn at random; the others are assigned.
    random_state
        Seed of the sample and the starts.

    Returns
    -------
    Labels 0 … K − 1, shape (N,); a group may stay empty.

    Raises
    ------
    InputError
        If there are fewer different places than groups, or `covariance` is not among its choices.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    require_choice(covariance, get_args(Covariance), name="covariance")
    check_number(points, n_domains)
    mixture: Any = GaussianMixture(
        n_domains,
        covariance_type=covariance,
        n_init=n_init,
        max_iter=300,
        reg_covar=regularisation,
        random_state=random_state,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(sample(points, fitted_at_most, random_state=random_state))
    if not mixture.converged_:
        logger.warning("The Gaussian mixture did not settle in 300 rounds; its last state is used.")
    return np.asarray(mixture.predict(points), dtype=np.intp)


def sample(points: NDArray[np.float64], at_most: int, *, random_state: int) -> NDArray[np.float64]:
    """Draw points without replacement; all of them where they are no more."""
    if len(points) <= at_most:
        return points
    return np.random.default_rng(random_state).choice(points, at_most, replace=False)


def check_number(points: NDArray[np.float64], n_domains: int) -> None:
    """Check that there are as many different points as groups are wanted."""
    require_positive(n_domains, name="n_domains")
    distinct = len(np.unique(points, axis=0))
    if n_domains > distinct:
        raise InputError(f"Expected at most as many domains as different places ({distinct}), found {n_domains}.")
