"""Principal components: of arrays in memory, and of features and genes that are read in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stmmr._core.parallel import one_thread
from stmmr._core.rows import CHUNK, empty, map_rows, slices

if TYPE_CHECKING:
    from stmmr._core.counts import Normalisation
    from stmmr._core.types import CountRows, Float32, Float64, Numbers


COMPONENTS: Final = 50
"""Components that are kept of the features of an image encoder."""
SPOTS_PER_COMPONENT: Final = 4
"""Fewest spots for each principal component."""
COMPONENT_SPOTS, FEWEST_COMPONENTS = 20, 5
"""Spots for each component of the expression, whose noise and its correlations are estimated as well; and the number of
components in a smaller tissue."""


def principal_scores(
    values: Numbers, n: int, *, solver: Literal["auto", "full", "arpack"] = "auto", random_state: int = 0
) -> tuple[Numbers, Numbers]:
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


def number_of_components(n_spots: int, *, at_most: int = COMPONENTS) -> int:
    """Get the number of components of the expression that so many spots can carry."""
    return min(at_most, max(FEWEST_COMPONENTS, n_spots // COMPONENT_SPOTS))


@dataclass(frozen=True, kw_only=True)
class FeaturePCA:
    """Leading principal components of features of image patches."""

    centre: Float64
    """Mean of the features, shape (F,)."""
    axes: Float64
    """Axes, shape (F, d), each of length one with its largest entry positive."""
    share: Float64
    """Share of the variance along each axis, shape (d,)."""

    def project(self, features: Numbers) -> Float32:
        """Project features, shape (N, F), a chunk of spots at a time; shape (N, d)."""
        scores = empty((len(features), self.axes.shape[1]))
        for rows in slices(len(features), CHUNK):
            scores[rows] = (features[rows] - self.centre) @ self.axes
        return scores


def feature_pca(features: Numbers, *, n_components: int = COMPONENTS) -> FeaturePCA:
    """Fit principal components from the covariance, which is summed in double precision chunk by chunk.

    Parameters
    ----------
    features
        Shape (N, F), in memory or mapped to a file: one chunk of spots is read at a time.
    n_components
        Largest number of components; there are at least four spots for each, and each varies.
    """
    centre, covariance = mean_and_covariance(features)
    axes = leading_axes(covariance, n_spots=len(features), n=n_components)
    variances = np.einsum("fd,fg,gd->d", axes, covariance, axes, optimize=True)
    return FeaturePCA(centre=centre, axes=axes, share=variances / max(float(np.trace(covariance)), 1e-300))


@one_thread
def leading_axes(covariance: Float64, *, n_spots: int, n: int) -> Float64:
    """Find the axes of the leading principal components that vary, from the covariance of the features.

    Parameters
    ----------
    covariance
        Shape (F, F).
    n_spots
        Number of spots behind the covariance; each component needs four.
    n
        Largest number of components.

    Returns
    -------
    Shape (F, ≤ n), each column of length one with its largest entry positive.
    """
    from scipy.linalg.blas import dsymv
    from scipy.sparse.linalg import LinearOperator, eigsh

    width = len(covariance)
    n = max(1, min(n, width, n_spots // SPOTS_PER_COMPONENT, n_spots - 1))
    if 2 * n < width and covariance.any():  # a fixed start, so that no seed is needed
        # a product that knows of the symmetry reads half of the matrix
        product = LinearOperator(covariance.shape, matvec=partial(dsymv, 1.0, covariance.T), dtype=np.float64)
        variances, axes = eigsh(product, n, v0=np.ones(width))
    else:
        variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1][:n], axes[:, ::-1][:, :n]
    varying = variances > 1e-8 * variances[0]  # standard deviations above 1e-4 of the largest
    varying[0] = True
    axes = axes[:, varying]
    return np.asarray(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(axes.T))]))


def mean_and_covariance(values: Numbers) -> tuple[Float64, Float64]:
    """Compute mean and covariance of features, shape (N, F), a chunk of spots at a time."""
    centre = sum((values[rows].sum(axis=0, dtype=np.float64) for rows in slices(len(values), CHUNK)), 0.0) / len(values)
    products = sum((second_moments(values[rows] - centre) for rows in slices(len(values), CHUNK)), 0.0)
    return np.asarray(centre), np.asarray(products / len(values))


def second_moments(rows: Numbers) -> Float64:
    """Sum the outer products of rows with themselves, shape (n, F) to (F, F)."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.asarray(rows.T @ rows)


def gene_components(
    counts: CountRows, normalise: Normalisation, *, n_components: int, progress: bool
) -> tuple[Float32, Float64]:
    """Find the principal components of the selected genes, each section centred by itself.

    Two passes over the counts: one for the covariance of the genes, one for the scores. Memory is bounded by genes² and
    the chunk.

    Parameters
    ----------
    counts
        From `by_rows`.
    normalise
        Normalisation of the counts, and the genes.
    n_components
        Largest number of components; there are at least four spots for each.
    progress
        Show progress bars.

    Returns
    -------
    Scores, shape (N, ≤ n_components), and axes in the space of the genes.
    """
    n_genes = int(normalise.genes.sum())
    totals = np.zeros((int(normalise.sections.max()) + 1, n_genes))
    products = np.zeros((n_genes, n_genes))
    for part in map_rows(normalise.moments, counts, task="covariance of genes", progress=progress):
        totals += part.totals
        products += part.products
    sizes = np.bincount(normalise.sections)[:, None]  # (S, 1)
    centres = totals / np.maximum(sizes, 1)  # (S, G)
    products = np.triu(products)
    products += np.triu(products, 1).T
    products -= (centres * sizes).T @ centres
    products /= len(normalise.size)  # the covariance
    axes = leading_axes(products, n_spots=len(normalise.size), n=n_components)
    return projected(counts, normalise, centres=centres, axes=axes, progress=progress), axes


def projected(
    counts: CountRows, normalise: Normalisation, *, centres: Float64, axes: Float64, progress: bool
) -> Float32:
    """Project log-normalised values on axes, shape (G, n), relative to the centre of each section, (S, G); (N, n)."""
    project = partial(normalise.projected, centres=centres, axes=axes)
    scores = empty((len(normalise.size), axes.shape[1]))
    start = 0
    for part in map_rows(project, counts, task="components", progress=progress):
        scores[start : start + len(part)] = part
        start += len(part)
    return scores
