"""The nearest places in the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.kernel import nearest

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_HALVINGS: Final = 64


def neighbor_graph(points: NDArray[np.floating[Any]], n_neighbors: int) -> AnnData:
    """Get the graph of exact neighbours as :func:`scanpy.pp.neighbors` keeps it in a new AnnData.

    Of points, shape (N, d). As many as there are, where there are not `n_neighbors` others.
    """
    from anndata import AnnData

    light = AnnData(points)
    light.obsp["connectivities"] = fuzzy_graph(points.astype(np.float64), min(n_neighbors, len(points) - 1))
    light.uns["neighbors"] = {"connectivities_key": "connectivities", "params": {"method": "umap"}}
    return light


def fuzzy_graph(points: NDArray[np.float64], n_neighbors: int) -> sparse.csr_matrix[Any]:
    """Weigh the edges between neighbours, shape (N, N): ``fuzzy_simplicial_set`` of umap-learn.

    Theirs is compiled anew in every process, which takes four seconds.

    Parameters
    ----------
    points
        Shape (N, d).
    n_neighbors
        Exact neighbours, with the point itself.
    """
    n_points = len(points)
    neighbors = nearest(points, n_neighbors - 1)  # (N, k − 1)
    distance = np.stack([np.linalg.norm(points - points[column], axis=1) for column in neighbors.T], axis=1)
    ends = np.arange(0, neighbors.size + 1, n_neighbors - 1)
    weights = _memberships(distance).astype(np.float32).ravel()
    directed = sparse.csr_matrix((weights, neighbors.ravel(), ends), shape=(n_points, n_points))
    return sparse.csr_matrix(directed + directed.T - directed.multiply(directed.T))


def _memberships(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn distances to neighbours into weights exp(−(d − ρ)₊ / σ), both of shape (N, k − 1).

    ρ is the smallest distance that is not 0, and σ such that the weights of a row add up to log₂ k.
    """
    n_others = distance.shape[1]
    nearest_apart = np.min(distance, axis=1, where=distance > 0, initial=np.inf, keepdims=True)
    beyond = np.maximum(distance - np.where(np.isinf(nearest_apart), 0, nearest_apart), 0)
    low, high, sigma = np.zeros((3, len(distance), 1))
    high[:], sigma[:] = np.inf, 1
    for _ in range(_HALVINGS):
        too_wide = np.exp(-beyond / sigma).sum(axis=1, keepdims=True) > np.log2(n_others + 1)
        high, low = np.where(too_wide, sigma, high), np.where(too_wide, low, sigma)
        sigma = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
    # never below a thousandth of the mean distance: of the point's own, or of all where its own are 0
    mean = distance.sum(axis=1, keepdims=True) / (n_others + 1)
    floor = 1e-3 * np.where(np.isinf(nearest_apart), mean.mean(), mean)
    return np.asarray(np.exp(-beyond / np.maximum(sigma, floor)))
