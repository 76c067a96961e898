"""Principal components: of arrays in memory, and of features and genes that are read in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core.rows import CHUNK, empty, map_rows, slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr._core.counts import Normalisation


COMPONENTS: Final = 50
"""Components that are kept of the features of a network."""
PLACES_PER_COMPONENT: Final = 4
"""Fewest places for each principal component that is read."""


def principal_scores(
    values: NDArray[Any], n: int, *, solver: Literal["auto", "full", "arpack"] = "auto", random_state: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Get the scores of the `n` leading principal components of an array in memory, by scikit-learn.

    Parameters
    ----------
    values
        Shape (N, F).
    n
        Number of components, at most min(N, F).
    solver, random_state
        Those of `sklearn.decomposition.PCA`; "full" and "arpack" do not depend on the seed.

    Returns
    -------
    Scores, shape (N, n), and the standard deviation of each, shape (n,).
    """
    from sklearn.decomposition import PCA

    scores = PCA(n, svd_solver=solver, random_state=random_state).fit_transform(values)
    return scores, scores.std(axis=0)


@dataclass(frozen=True, kw_only=True)
class FeaturePCA:
    """Leading principal components of features."""

    centre: NDArray[np.float64]
    """Mean of the features, shape (F,)."""
    axes: NDArray[np.float64]
    """Directions, shape (F, d), each of length one, its largest entry positive."""
    share: NDArray[np.float64]
    """Share of the variance of each, shape (d,)."""

    def project(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Get the scores of features, shape (N, F), a chunk of places at a time, shape (N, d)."""
        scores = empty((len(features), self.axes.shape[1]))
        for rows in slices(len(features), CHUNK):
            scores[rows] = (features[rows] - self.centre) @ self.axes
        return scores


def feature_pca(features: NDArray[Any], *, n_components: int = COMPONENTS) -> FeaturePCA:
    """Fit the principal components of features by their covariance, summed in double precision chunk by chunk.

    Parameters
    ----------
    features
        Shape (N, F), in memory or mapped to a file: no more than a chunk of places is read at a time.
    n_components
        At most as many; fewer where there are fewer than four places for each, or fewer vary.
    """
    centre, covariance = mean_and_covariance(features)
    axes = leading_axes(covariance, n_places=len(features), n=n_components)
    variances = np.einsum("fd,fg,gd->d", axes, covariance, axes, optimize=True)
    return FeaturePCA(centre=centre, axes=axes, share=variances / max(float(np.trace(covariance)), 1e-300))


def leading_axes(covariance: NDArray[np.float64], *, n_places: int, n: int) -> NDArray[np.float64]:
    """Find the directions of the leading principal components that vary, by the covariance of the features.

    Parameters
    ----------
    covariance
        Shape (F, F).
    n_places
        Places it was measured at; four are asked for each component.
    n
        At most as many.

    Returns
    -------
    Shape (F, ≤ n), each column of length one, its largest entry positive.
    """
    from scipy.sparse.linalg import eigsh

    width = len(covariance)
    n = max(1, min(n, width, n_places // PLACES_PER_COMPONENT, n_places - 1))
    if 2 * n < width and covariance.any():  # the same start for every seed
        variances, directions = eigsh(covariance, n, v0=np.ones(width))
    else:
        variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1][:n], directions[:, ::-1][:, :n]
    varying = variances > 1e-8 * variances[0]  # standard deviations above 1e-4 of the largest
    varying[0] = True
    directions = directions[:, varying]
    return np.asarray(directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(len(directions.T))]))


def mean_and_covariance(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the mean and the covariance of features, shape (N, F), a chunk of places at a time."""
    centre = sum((values[rows].sum(axis=0, dtype=np.float64) for rows in slices(len(values), CHUNK)), 0.0) / len(values)
    products = sum((second_moments(values[rows] - centre) for rows in slices(len(values), CHUNK)), 0.0)
    return np.asarray(centre), np.asarray(products / len(values))


def second_moments(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Sum the outer products of rows, shape (n, F), with themselves."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.asarray(rows.T @ rows)


def gene_components(
    counts: Any, normalise: Normalisation, *, n_components: int, progress: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Find the principal components of the genes that are read, the mean of each section taken off.

    In two passes: one for the covariance of the genes, one for the scores; memory is bounded by genes² and the chunk.

    Parameters
    ----------
    counts
        As `by_rows` gives them.
    normalise
        How the values come from them.
    n_components
        At most as many; fewer where there are fewer than four places for each.
    progress
        Whether to show progress bars.

    Returns
    -------
    Scores, shape (N, ≤ n_components), and directions among the genes that are read.
    """
    n_genes = int(normalise.genes.sum())
    totals = np.zeros((int(normalise.sections.max()) + 1, n_genes))
    products = np.zeros((n_genes, n_genes))
    for part in map_rows(normalise.moments, counts, what="covariance of genes", progress=progress):
        totals += part.totals
        products += part.products
    n_of = np.bincount(normalise.sections)[:, None]  # (S, 1)
    centres = totals / np.maximum(n_of, 1)  # (S, G)
    covariance = (products - (centres * n_of).T @ centres) / len(normalise.size)
    axes = leading_axes(covariance, n_places=len(normalise.size), n=n_components)
    return projected(counts, normalise, centres=centres, axes=axes, progress=progress), axes


def projected(
    counts: Any,
    normalise: Normalisation,
    *,
    centres: NDArray[np.float64],
    axes: NDArray[np.float64],
    progress: bool,
) -> NDArray[np.float32]:
    """Project log-normalised values, less the centre of each section, shape (S, G), on axes, shape (G, n); (N, n)."""
    project = partial(normalise.projected, centres=centres, axes=axes)
    scores = empty((len(normalise.size), axes.shape[1]))
    done = 0
    for some in map_rows(project, counts, what="components", progress=progress):
        scores[done : done + len(some)] = some
        done += len(some)
    return scores
