"""Best number of domains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import logger
from stmmr._core.depends import depends
from stmmr._core.kernel import independent_spots, kernel_of
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.parallel import one_thread
from stmmr._core.record import record, recorded
from stmmr.linear.bandwidth import windows
from stmmr.tl._mixture import TiedMixture, fit_tied
from stmmr.tl._points import embedding_at, moves_with_bandwidth, points_of
from stmmr.tl._readouts import REGULARISATION, fit_from_kmeans, likeliest, sample

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.kernel import Kernel
    from stmmr._core.types import Float64, Floats

TIE: Final = 0.95
"""Share of the gain of the best number over one domain that counts as equally good: the number of independent spots, a
factor of the criterion, is not known more precisely, and of equally good numbers the smallest is the simplest."""
GIVE_UP, FAR_BEHIND = 5, 2.0
"""So many numbers in a row, each so many standard errors below the best, end the search."""
FIRST, LEADING = 10, 3
"""Iterations of each start, and starts that are then fitted until they converge: the likeliest so far."""
FITTED_AT_MOST: Final = 5_000
"""Spots that mixtures are fitted to."""


@checked
@one_thread
@in_tissue_order
def number_of_domains(
    adata: AnnData,
    *,
    at_most: int = 20,
    n_init: int = 10,
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    progress: bool = False,
) -> None:
    """Find the best number of domains, and the range of numbers that fit almost equally well.

    The Bayesian information criterion of tied Gaussian mixtures compares the numbers. No labels are used. If you know
    the number from the anatomy, pass it to `stmmr.tl.consensus` instead.

    The sample size is the number of independent spots: averaging over neighbours makes spots alike, so N spots carry
    the information of ‖A²‖² independent ones, the trace of the squared smoother. A number is plausible if its criterion
    is within one standard error of the best (Vuong's test of two models on the same data), or if it is chosen. If the
    bandwidth of the graph was chosen, the embedding is computed at the geometric mean of it and the bandwidth that
    predicts best, because counting domains needs less sharp borders than drawing them.

    Parameters
    ----------
    adata
        With an embedding.
    at_most
        Largest number to try; the search ends earlier if five in a row are two standard errors below the best.
    n_init
        Number of starts of the mixture for each number; the likeliest counts.
    use_rep
        Key of ``obsm``. For an embedding that is not from `stmmr.StMMR`, every spot counts as independent.
    random_state
        Seed of the starts.

    Returns
    -------
    None. Sets ``uns["stmmr"]["number_of_domains"]``, drawn by `stmmr.pl.number_of_domains`:

    ``"chosen"``, ``"lowest"``, ``"highest"``
        The number with the best criterion, or a smaller one with 95 % of its gain over one domain; and the range of
        plausible numbers.
    ``"tried"``, ``"criterion"``, ``"standard_errors"``
        Each number; its criterion (twice the log-likelihood minus the penalty, relative to one domain); its distance to
        the best in standard errors.
    ``"independent_spots"``
        The number of independent spots; and the parameters.

    Raises
    ------
    InputError
        If there is no such embedding, or it has an entry that is not finite.

    References
    ----------
    Schwarz 1978, doi:10.1214/aos/1176344136. Vuong 1989, doi:10.2307/1912557. Degrees of freedom of a smoother: Buja,
    Hastie & Tibshirani 1989, doi:10.1214/aos/1176347115.
    """
    every_point, n = independent_points(adata, use_rep, random_state=random_state, progress=progress)
    points = sample(every_point, 1, at_most=FITTED_AT_MOST, random_state=random_state)
    n = min(n, float(len(points)))
    largest = min(at_most, len(np.unique(points, axis=0)))
    likelihood = likelihoods(points, largest, n, n_init=n_init, random_state=random_state)
    tried = np.arange(1, len(likelihood) + 1)
    criterion, errors = compare(likelihood, n, width=points.shape[1])
    best = int(criterion.argmax())
    plausible = tried[errors < 1]
    chosen = int(tried[(criterion >= TIE * criterion[best]).argmax()])
    low, high = min(chosen, int(plausible.min())), int(plausible.max())
    result = {
        "chosen": chosen,
        "lowest": low,
        "highest": high,
        "tried": tried,
        "criterion": criterion,
        "standard_errors": errors,
        "independent_spots": n,
        "n_init": n_init,
        "use_rep": use_rep,
        "random_state": random_state,
    }
    record(adata, number_of_domains=result)
    depends(adata, "number_of_domains", on=[f"obsm:{use_rep}"], writes=["notes:number_of_domains"])
    others = f" ({low}–{high} fit almost equally well; choose with biology)" if low < high else ""
    logger.info("Best number of domains: %d%s.", chosen, others)
    if best == len(tried) - 1 and len(tried) == at_most:
        logger.warning("The best number of domains is the largest that was tried (%d). Try more with at_most.", at_most)


def chosen_number(adata: AnnData, *, use_rep: str, random_state: int) -> int:
    """Find the best number of domains and return it."""
    number_of_domains(adata, use_rep=use_rep, random_state=random_state)
    return int(recorded(adata)["number_of_domains"]["chosen"])


def independent_points(
    adata: AnnData, use_rep: str, *, random_state: int, progress: bool = False
) -> tuple[Floats, float]:
    """Get the embedding for the number of domains, and the number of its independent spots."""
    points, _ = points_of(adata, use_rep, random_state=random_state)
    graph = recorded(adata).get("spatial_graph", {})
    if use_rep != keys.EMBEDDING or not graph:
        return points, float(len(points))
    kernel = kernel_of(adata)
    if "bandwidth_best" in graph and moves_with_bandwidth(adata, use_rep):
        kernel = kernel_of(adata, scale=math.sqrt(graph["bandwidth_best"] / graph["bandwidth"]))
        points = embedding_at(adata, kernel, progress=progress)
    return points, n_independent(kernel)


def n_independent(kernel: Kernel) -> float:
    """Estimate the number of independent spots, of a large tissue from compact windows."""
    rows = windows(kernel.xy)
    return independent_spots(kernel._replace(xy=kernel.xy[rows])) * len(kernel.xy) / len(rows)


def likelihoods(points: Float64, largest: int, n: float, *, n_init: int, random_state: int) -> Float64:
    """Fit a mixture for each number of domains, until `GIVE_UP` in a row are far below the best.

    The mixture with one domain less, one of its domains split, is an extra start: more domains are then never less
    likely.

    Returns
    -------
    Log density of each point under each mixture, shape (K, N).
    """
    if largest == 1:
        return np.zeros((1, len(points)))
    densities: list[Float64] = []
    mixture: TiedMixture | None = None
    for k in range(1, largest + 1):
        draws = np.random.RandomState(random_state)
        starts = [fit_from_kmeans(points, k, iterations=FIRST, random_state=draws) for _ in range(n_init)]
        leading = sorted(starts, key=lambda start: -start.lower_bound_)[:LEADING]
        drawn = likeliest([_finished(start, points) for start in leading], points, k)
        mixture = (
            drawn if mixture is None else max(drawn, split(mixture, points), key=lambda fitted: fitted.lower_bound_)
        )
        densities.append(mixture.score_samples(points))
        _, errors = compare(np.array(densities), n, width=points.shape[1])
        if k > GIVE_UP and (errors[-GIVE_UP:] > FAR_BEHIND).all():
            break
    return np.array(densities)


def _finished(mixture: TiedMixture, points: Float64) -> TiedMixture:
    """Fit a mixture until it converges."""
    return mixture if mixture.converged_ else fit_tied(points, mixture, regularisation=REGULARISATION)


def split(mixture: TiedMixture, points: Float64) -> TiedMixture:
    """Fit a tied mixture with one more group, starting from a split of the most elongated group."""
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


def compare(likelihood: Float64, n: float, *, width: int) -> tuple[Float64, Float64]:
    """Compare mixtures of 1, 2, … tied Gaussians on the same points.

    `likelihood` is the log density of each point under each mixture, shape (K, N), of which `n` points are independent;
    `width` is the number of dimensions.

    Returns
    -------
    The criterion of each relative to one Gaussian, and its distance to the best in standard errors.
    """
    n_parameters = np.arange(1, len(likelihood) + 1) * (1 + width)  # without the covariance, which all have
    criterion = 2 * n * likelihood.mean(axis=1) - n_parameters * np.log(n)
    return criterion - criterion[0], behind_best(likelihood, n, criterion / (2 * n))


def behind_best(likelihood: Float64, n: float, value: Float64 | None = None) -> Float64:
    """Compute by how many standard errors mixtures are behind the best one on the same points (Vuong 1989); shape (M,).

    `likelihood` is the log density of each point under each mixture, shape (M, N), of which `n` points are independent.
    `value` is what mixtures are compared by, without it the mean log density.
    """
    value = likelihood.mean(axis=1) if value is None else value
    best = value.argmax()
    spread = (likelihood[best] - likelihood).std(axis=1) / np.sqrt(n)
    behind = value[best] - value
    errors = np.divide(behind, spread, out=np.full(len(behind), np.inf), where=spread > 0)
    errors[behind == 0] = 0
    return np.asarray(errors)
