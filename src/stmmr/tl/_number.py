"""How many domains the data tell apart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import logger, require_positive
from stmmr._core.kernel import independent_spots, kernel_of
from stmmr._core.record import record, recorded
from stmmr.tl._mixture import TiedMixture, fit_tied
from stmmr.tl._points import embedding_at, moves_with_bandwidth, points_of
from stmmr.tl._readouts import REGULARISATION, fit_from_kmeans, likeliest, sample

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

TIE: Final = 0.99
"""Share of the best number's gain over one domain that counts as the same; how many places are independent, which the
criterion is multiplied by, is not known better."""
GIVE_UP, FAR_BEHIND = 5, 2.0
"""Numbers in a row, and the standard errors by which they lie behind the best, after which no more are tried."""
FITTED_AT_MOST: Final = 5_000
"""Places that mixtures of each number of domains are fitted to."""


def number_of_domains(
    adata: AnnData,
    *,
    at_most: int = 20,
    n_init: int = 10,
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    progress: bool = False,
) -> None:
    """Find how many domains the data tell apart, and which numbers would do as well.

    By the Bayesian information criterion of tied Gaussian mixtures, as many places counted as there are independent
    ones: propagation makes neighbours alike, and N places hold what the trace of the squared smoother, ‖A²‖², says. A
    number is plausible if its criterion lies within one standard error of the best (Vuong's test of two models on the
    same data). Where the bandwidth of the graph was chosen, domains are counted at the middle between it and the one
    that predicts best, as how many there are asks less for sharp borders than where they lie. No labels are read.

    Parameters
    ----------
    adata
        With an embedding.
    at_most
        Largest number tried; fewer are where five in a row lie two standard errors behind the best.
    n_init
        Starts of the mixture for each number; the likeliest counts.
    use_rep
        Key of ``obsm``. For others than the embedding of `stmmr.StMMR`, every place counts.
    random_state
        Seed of the starts.
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    None. Sets ``uns["stmmr"]["number_of_domains"]``:

    ``"chosen"``, ``"lowest"``, ``"highest"``
        the number with the best criterion, or a smaller one that has 99 % of its gain over one domain, and the range of
        plausible ones.
    ``"tried"``, ``"criterion"``, ``"standard_errors"``
        each number; twice its log-likelihood, less the penalty, above that of one domain; how far below the best it
        lies. Drawn by `stmmr.pl.number_of_domains`.
    ``"independent_places"``
        how many places count, and the parameters.

    Raises
    ------
    InputError
        If there is no such embedding, or it has an entry that is not finite.

    References
    ----------
    Schwarz 1978, doi:10.1214/aos/1176344136. Vuong 1989, doi:10.2307/1912557. Degrees of freedom of a smoother: Buja,
    Hastie & Tibshirani 1989, doi:10.1214/aos/1176347115.
    """
    require_positive(at_most, name="at_most")
    require_positive(n_init, name="n_init")
    everywhere, n = independent_points(adata, use_rep, random_state=random_state, progress=progress)
    points = sample(everywhere, 1, at_most=FITTED_AT_MOST, random_state=random_state)
    n = min(n, float(len(points)))
    largest = min(at_most, len(np.unique(points, axis=0)))
    likelihood = likelihoods(points, largest, n, n_init=n_init, random_state=random_state)
    tried = np.arange(1, len(likelihood) + 1)
    criterion, errors = compare(likelihood, n, width=points.shape[1])
    best = int(criterion.argmax())
    plausible = tried[errors < 1]
    found = {
        "chosen": int(tried[(criterion >= TIE * criterion[best]).argmax()]),
        "lowest": int(plausible.min()),
        "highest": int(plausible.max()),
        "tried": tried,
        "criterion": criterion,
        "standard_errors": errors,
        "independent_places": n,
        "n_init": n_init,
        "use_rep": use_rep,
        "random_state": random_state,
    }
    record(adata, number_of_domains=found)
    logger.info("%(chosen)d domains stand out; %(lowest)d to %(highest)d would do as well.", found)
    if best == len(tried) - 1 and len(tried) == at_most:
        logger.warning("As many domains stand out as were tried (%d); there may be more: raise at_most.", at_most)


def chosen_number(adata: AnnData, *, use_rep: str, random_state: int) -> int:
    """Find the number of domains and get it."""
    number_of_domains(adata, use_rep=use_rep, random_state=random_state)
    return int(recorded(adata)["number_of_domains"]["chosen"])


def independent_points(
    adata: AnnData, use_rep: str, *, random_state: int, progress: bool = False
) -> tuple[NDArray[np.floating[Any]], float]:
    """Get the embedding to count domains in, and how many of its places are independent."""
    points, _ = points_of(adata, use_rep, random_state=random_state)
    graph = recorded(adata).get("spatial_graph", {})
    if use_rep != keys.EMBEDDING or not graph:
        return points, float(len(points))
    kernel = kernel_of(adata)
    if "bandwidth_best" in graph and moves_with_bandwidth(adata, use_rep):
        kernel = kernel_of(adata, scale=math.sqrt(graph["bandwidth_best"] / graph["bandwidth"]))
        points = embedding_at(adata, kernel, progress=progress)
    return points, independent_spots(kernel)


def likelihoods(
    points: NDArray[np.float64], largest: int, n: float, *, n_init: int, random_state: int
) -> NDArray[np.float64]:
    """Fit a mixture of each number of domains, until `GIVE_UP` in a row lie far behind.

    One more start is the mixture before with one of its domains split, so that more domains are no less likely.

    Returns
    -------
    Logarithm of the density of each point under each mixture, shape (K, N).
    """
    if largest == 1:
        return np.zeros((1, len(points)))
    found: list[NDArray[np.float64]] = []
    mixture: TiedMixture | None = None
    for k in range(1, largest + 1):
        draws = np.random.RandomState(random_state)
        starts = [fit_from_kmeans(points, k, random_state=draws) for _ in range(n_init)]
        drawn = likeliest(starts, points, k)
        mixture = (
            drawn if mixture is None else max(drawn, split(mixture, points), key=lambda fitted: fitted.lower_bound_)
        )
        found.append(mixture.score_samples(points))
        _, errors = compare(np.array(found), n, width=points.shape[1])
        if k > GIVE_UP and (errors[-GIVE_UP:] > FAR_BEHIND).all():
            break
    return np.array(found)


def split(mixture: TiedMixture, points: NDArray[np.float64]) -> TiedMixture:
    """Fit a tied mixture of one more group, from where the group that is most drawn out falls in two."""
    share = mixture.predict_proba(points)  # (N, K)
    white = np.linalg.cholesky(mixture.covariances_)  # (d, d)
    gains, steps = [], []
    for k, centre in enumerate(mixture.means_):
        apart = np.linalg.solve(white, (points - centre).T)  # (d, N)
        spread, directions = np.linalg.eigh((share[:, k] * apart) @ apart.T)
        gains.append(spread[-1] - share[:, k].sum())
        steps.append(white @ directions[:, -1])
    k = int(np.argmax(gains))
    means = np.vstack([mixture.means_, mixture.means_[k] - steps[k]])
    means[k] += steps[k]
    weights = np.append(mixture.weights_, mixture.weights_[k] / 2)
    weights[k] /= 2
    start = replace(mixture, weights_=weights, means_=means)
    return fit_tied(points, start, regularisation=REGULARISATION)


def compare(
    likelihood: NDArray[np.float64], n: float, *, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weigh mixtures of 1, 2, … tied Gaussians on the same points.

    Parameters
    ----------
    likelihood
        Logarithm of the density of each point under each mixture, shape (K, N).
    n
        How many of the points are independent.
    width
        d, directions of the points.

    Returns
    -------
    The criterion of each, above that of one Gaussian, and the standard errors by which each lies below the best.
    """
    n_parameters = np.arange(1, len(likelihood) + 1) * (1 + width)  # less what all have: one covariance
    criterion = 2 * n * likelihood.mean(axis=1) - n_parameters * np.log(n)
    best = criterion.argmax()
    spread = 2 * np.sqrt(n) * (likelihood[best] - likelihood).std(axis=1)
    behind = criterion[best] - criterion
    errors = np.divide(behind, spread, out=np.full(len(behind), np.inf), where=spread > 0)
    errors[behind == 0] = 0
    return criterion - criterion[0], errors
