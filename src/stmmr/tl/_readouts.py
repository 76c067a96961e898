"""Clustering methods: arrays in, labels out."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar, get_args

import numpy as np

from stmmr._core.checks import InputError, logger, require_choice, require_positive
from stmmr._core.pca import principal_scores
from stmmr.tl._mixture import ITERATIONS, SINGULAR, TiedMixture, fit_tied

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike
    from sklearn.mixture import GaussianMixture

    from stmmr._core.types import Float64, Floats, Ints

    Points = Floats
    """Shape (N, d), in memory or mapped from a file."""

Covariance = Literal["tied", "full", "diag"]
FITTED_AT_MOST: Final = 10_000
"""Default number of points that a method is fitted to; the others are assigned."""
REGULARISATION: Final = 0.01
"""Variance added to every direction of a mixture; the signal of an embedding has variances up to 1."""
_CHUNK: Final = 65_536
"""Points assigned at once: bounds the memory of points × groups."""
UNEQUAL: Final = 2.0
"""Ratio of the sizes of sections above which as many points are drawn from each."""
_WARD_AT_MOST: Final = 20_000


class Mixture(Protocol):
    """A fitted mixture of this module or of scikit-learn."""

    @property
    def lower_bound_(self) -> float:
        """Mean log-likelihood."""

    @property
    def converged_(self) -> bool:
        """Whether the fit converged."""

    def predict(self, points: Float64) -> Ints:
        """Find the likeliest group."""


M = TypeVar("M", bound=Mixture)


def whitened(embedding: Float64, n_components: int, *, random_state: int) -> Float64:
    """Compute the leading principal components that vary, each scaled to unit variance.

    Returns
    -------
    Shape (n_obs, ≤ n_components); one column of zeros if nothing varies.
    """
    if (embedding == embedding[:1]).all():
        return np.zeros((len(embedding), 1))
    n = min(n_components, *embedding.shape)
    scores, spread = principal_scores(embedding, n, random_state=random_state)
    varying = spread > 1e-6 * spread[0]
    return np.asarray(scores[:, varying] / spread[varying])


def gaussian_mixture(
    points: Points,
    n_domains: int,
    *,
    covariance: Covariance = "tied",
    n_init: int = 20,
    regularisation: float = REGULARISATION,
    fitted_at_most: int = FITTED_AT_MOST,
    random_state: int = 0,
) -> Ints:
    """Cluster points, shape (N, d), by the likeliest of `n_init` Gaussian mixtures, each started from k-means.

    Mixtures with an empty group are not considered; if all have one, the groups are those of k-means. They are fitted
    to `fitted_at_most` points, drawn at random; the others are assigned. Labels are 0 … K − 1, shape (N,).

    Raises InputError if there are fewer different points than groups, `covariance` is not one of its choices, or a
    covariance is singular in spite of the regularisation.
    """
    require_choice(covariance, get_args(Covariance), name="covariance")
    fitted = sample(points, n_domains, at_most=fitted_at_most, random_state=random_state)
    if n_domains == 1:
        return np.zeros(len(points), dtype=np.intp)
    require_positive(regularisation, name="regularisation")
    # the same starts as with n_init of scikit-learn, which only returns the best
    draws = np.random.RandomState(random_state)
    fit = fit_from_kmeans if covariance == "tied" else partial(_fit_unequal, covariance=covariance)
    starts = [fit(fitted, n_domains, regularisation=regularisation, random_state=draws) for _ in range(n_init)]
    best = likeliest(starts, fitted, n_domains)
    if len(np.unique(best.predict(fitted))) < n_domains:
        return kmeans(points, n_domains, fitted_at_most=fitted_at_most, random_state=random_state)
    return assigned(best.predict, points)


def likeliest(starts: list[M], points: Float64, n_groups: int) -> M:
    """Choose the likeliest mixture without an empty group, or the likeliest of all if each has one."""
    starts = sorted(starts, key=lambda mixture: -mixture.lower_bound_)
    complete = (m for m in starts if len(np.unique(m.predict(points))) == n_groups)
    best = next(complete, starts[0])
    if not best.converged_:
        logger.info("The Gaussian mixture did not converge in %d iterations; its last state is used.", ITERATIONS)
    return best


def fit_from_kmeans(
    points: Float64,
    n_groups: int,
    *,
    regularisation: float = REGULARISATION,
    iterations: int = ITERATIONS,
    random_state: np.random.RandomState,
) -> TiedMixture:
    """Fit one mixture with a shared covariance from one start."""
    start = memberships(points, n_groups, random_state=random_state)
    return fit_tied(points, start, regularisation=regularisation, iterations=iterations)


def _fit_unequal(
    points: Float64,
    n_groups: int,
    *,
    covariance: Covariance,
    regularisation: float,
    random_state: np.random.RandomState,
) -> GaussianMixture:
    """Fit one mixture with a covariance for each group from one start."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        n_groups, covariance_type=covariance, reg_covar=regularisation, max_iter=ITERATIONS, random_state=random_state
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return mixture.fit(points)
        except ValueError as error:
            raise InputError(SINGULAR) from error


def memberships(points: Float64, n_groups: int, *, random_state: np.random.RandomState) -> Float64:
    """Compute memberships by one k-means, 1 or 0, shape (N, K), to start a mixture from."""
    from sklearn.cluster import KMeans

    if n_groups == 1:
        return np.ones((len(points), 1))
    labels = KMeans(n_groups, n_init=1, random_state=random_state).fit(points).labels_
    return np.asarray(np.eye(n_groups)[labels])


def kmeans(
    points: Points, n_domains: int, *, n_init: int = 20, fitted_at_most: int = FITTED_AT_MOST, random_state: int = 0
) -> Ints:
    """Cluster points, shape (N, d), by the best of `n_init` k-means, each started by k-means++; labels 0 … K − 1, (N,).

    Centres are fitted to `fitted_at_most` points, drawn at random; the others are assigned.
    """
    from sklearn.cluster import KMeans

    fitted = sample(points, n_domains, at_most=fitted_at_most, random_state=random_state)
    centres = KMeans(n_domains, n_init=n_init, random_state=random_state).fit(fitted)
    return assigned(centres.predict, points)


def agglomerative(points: Points, n_domains: int) -> Ints:
    """Cluster points, shape (N, d), by merging groups with the smallest increase of the variance within (Ward).

    Time and memory grow with N²: half a minute and 3 GB for 20,000 points, the limit. Labels are 0 … K − 1, shape (N,).
    """
    from sklearn.cluster import AgglomerativeClustering

    if len(points) > _WARD_AT_MOST:
        raise InputError(
            f"Expected at most {_WARD_AT_MOST:,} spots for method='agglomerative', found {len(points):,}. "
            "Use method='gaussian_mixture' or 'kmeans'."
        )
    check_number(points, n_domains)
    if n_domains == 1:
        return np.zeros(len(points), dtype=np.intp)
    return np.asarray(AgglomerativeClustering(n_domains).fit_predict(points), dtype=np.intp)


def sample(points: Points, n_domains: int, *, at_most: int, random_state: int, sections: Ints | None = None) -> Float64:
    """Draw at most so many points without replacement, and check that there are enough different ones.

    With `sections` of very different sizes, shape (N,), as many are drawn from each, so that none decides for all.
    """
    if len(points) <= at_most:
        check_number(points, n_domains)
        return points.astype(np.float64, copy=False)
    rng = np.random.default_rng(random_state)
    sizes = np.zeros(1, dtype=np.intp) if sections is None else np.bincount(sections)
    sizes = sizes[sizes > 0]
    if sections is not None and len(sizes) > 1 and sizes.max() > UNEQUAL * sizes.min():
        drawn = points[balanced(sections, at_most, rng)]
    else:
        drawn = points[rng.choice(len(points), at_most, replace=False)]
    check_number(drawn, n_domains, among=f" among {at_most} drawn")
    return drawn.astype(np.float64, copy=False)


def balanced(sections: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Draw as many rows of each section; small sections are drawn as a whole, and the others share what they leave."""
    rows = np.split(np.argsort(sections, kind="stable"), np.cumsum(np.bincount(sections))[:-1])
    drawn: list[Ints] = []
    left = n
    for number, own in enumerate(sorted(rows, key=len)):
        quota = min(len(own), left // (len(rows) - number))
        drawn.append(rng.choice(own, quota, replace=False))
        left -= quota
    return np.concatenate(drawn)


def assigned(predict: Callable[[Float64], ArrayLike], points: Points) -> Ints:
    """Assign all points to groups, a chunk at a time."""
    chunks = (points[start : start + _CHUNK].astype(np.float64) for start in range(0, len(points), _CHUNK))
    return np.concatenate([np.asarray(predict(chunk), dtype=np.intp) for chunk in chunks])


def check_number(points: Points, n_domains: int, *, among: str = "") -> None:
    """Check that there are at least as many different points as groups."""
    if not isinstance(n_domains, (int, np.integer)) or n_domains < 1:
        raise InputError(f"Expected n_domains to be a positive whole number, found {n_domains!r}.")
    distinct = len(np.unique(points, axis=0))
    if n_domains > distinct:
        raise InputError(
            f"Expected at most {distinct} domains, the number of different spots{among}, found {n_domains}."
        )
