"""The nearest other places of every place, in the tissue and in the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from stmmr._validate import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


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


def neighbor_graph(points: NDArray[np.floating[Any]], n_neighbors: int, *, random_state: int) -> AnnData:
    """Get the exact neighbours of points, shape (N, d), as :func:`scanpy.pp.neighbors` keeps them in a new AnnData.

    As many as there are, where there are not `n_neighbors` others.
    """
    import scanpy as sc
    from anndata import AnnData
    from sklearn.neighbors import KNeighborsTransformer

    light = AnnData(points)
    n_neighbors = min(n_neighbors, len(points) - 1)
    # exact, and without the minute that pynndescent takes to compile
    by_tree = KNeighborsTransformer(n_neighbors=n_neighbors, algorithm="kd_tree")
    sc.pp.neighbors(light, n_neighbors, use_rep="X", transformer=by_tree, random_state=random_state)
    return light
