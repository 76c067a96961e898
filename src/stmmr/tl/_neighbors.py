"""The nearest places in the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray


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
