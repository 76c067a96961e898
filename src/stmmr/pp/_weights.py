"""Who is near whom: distances, the kernel, and what passes along it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmmr._validate import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE_DRAWS: Final = 64
"""Columns of noise by which a property of the graph is estimated."""


def nearest_neighbour_distance(xy: NDArray[np.float64]) -> float:
    """Take the median distance of a place to the nearest place elsewhere."""
    if len(xy) < 2:
        raise InputError(f"Expected at least two places, found {len(xy)}.")
    places = np.unique(xy, axis=0)
    distance, _ = cKDTree(places).query(places, k=[2])
    return float(np.median(distance))


def nearest(xy: NDArray[np.float64], n_neighbors: int) -> NDArray[np.intp]:
    """Find the nearest other places of every place.

    Parameters
    ----------
    xy
        Coordinates, shape (N, 2).
    n_neighbors
        How many.

    Returns
    -------
    Positions of the neighbours, shape (N, n_neighbors), nearest first; never the place itself.

    Raises
    ------
    InputError
        If there are not as many other places.
    """
    n_places = len(xy)
    if not 1 <= n_neighbors < n_places:
        raise InputError(
            f"Expected n_neighbors between 1 and the number of other places ({n_places - 1}), found {n_neighbors}."
        )
    found = np.asarray(cKDTree(xy).query(xy, k=n_neighbors + 1)[1])
    others = found != np.arange(n_places)[:, None]
    # of several places at one point the place itself need not be among those found: then the farthest goes
    others[others.all(axis=1), -1] = False
    return np.reshape(found[others], (n_places, n_neighbors))


def gaussian_weights(xy: NDArray[np.float64], *, bandwidth: float, tolerance: float) -> sparse.csr_matrix[Any]:
    """Compute A as CSR, shape (n_obs, n_obs)."""
    tree = cKDTree(xy)
    radius = bandwidth * math.sqrt(-2 * math.log(tolerance))
    pairs = tree.query_pairs(radius, output_type="ndarray")  # (n_pairs, 2), each once
    squared = ((xy[pairs[:, 0]] - xy[pairs[:, 1]]) ** 2).sum(axis=1)
    kernel = np.exp(-squared / (2 * bandwidth**2))
    n = len(xy)
    upper = sparse.coo_matrix((kernel, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    weights = sparse.csr_matrix(upper + upper.T + 2 * sparse.identity(n))
    rows = np.asarray(weights.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / rows) @ weights, dtype=np.float32)


def propagate(weights: sparse.csr_matrix[Any], features: NDArray[Any]) -> NDArray[np.float32]:
    """Compute A(A·F), shape (N, F)."""
    return np.asarray(weights @ (weights @ features), dtype=np.float32)


def independent_places(weights: sparse.csr_matrix[Any]) -> float:
    """Estimate ‖A²‖², the degrees of freedom of the propagation: as many independent places hold what all tell.

    By the variance that white noise keeps (Hutchinson 1990), which needs no A².
    """
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((weights.shape[0], NOISE_DRAWS), dtype=np.float32)
    return float((propagate(weights, noise) ** 2).sum() / NOISE_DRAWS)
