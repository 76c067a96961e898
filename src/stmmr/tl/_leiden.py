"""Domains as Leiden communities of the neighbour graph of the embedding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.caches import provide_caches
from stmmr._core.checks import InputError, require_extra, require_positive
from stmmr.tl._graphs import neighbor_graph
from stmmr.tl._readouts import FITTED_AT_MOST, assigned, sample

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Floats, Ints

_N_NEIGHBORS: Final = 15
_FEWEST: Final = 3
"""With two spots, the graph has no edge."""
_RESOLUTIONS: Final = (1e-3, 1e3)
_ROUNDS: Final = 25
"""Halvings of the range on a logarithmic scale: the last two resolutions differ by less than a millionth."""


def leiden(
    points: Floats,
    n_domains: int | None = None,
    *,
    resolution: float | None = None,
    fitted_at_most: int = FITTED_AT_MOST,
    random_state: int = 0,
) -> tuple[Ints, float]:
    """Cluster points, shape (N, d), by communities of their neighbour graph, at a resolution or with a number of them.

    The graph has the 15 exact nearest neighbours of each of `fitted_at_most` points, drawn at random; the other points
    get the label of their nearest ones. The search for `n_domains` bisects resolutions from 0.001 to 1000, in at most
    25 steps. Not every number of communities exists (there are at least as many as connected components); the closest
    one is taken.

    Returns
    -------
    Labels 0 … K − 1, shape (N,), and the resolution.

    Raises
    ------
    InputError
        If not exactly one of `n_domains` and `resolution` is given, or there are fewer different points than groups.
    ImportError
        If the extra ``leiden`` is not installed.

    References
    ----------
    Traag, Waltman and van Eck (2019), From Louvain to Leiden, doi:10.1038/s41598-019-41695-z; by
    :func:`scanpy.tl.leiden`.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if (n_domains is None) == (resolution is None):
        raise InputError(
            f"Expected either n_domains or resolution, found n_domains={n_domains!r} and resolution={resolution!r}."
        )
    if resolution is not None:
        require_positive(resolution, name="resolution")
    require_extra("igraph", extra="leiden")
    fewest = 1 if n_domains is None else n_domains
    fitted = sample(points, fewest, at_most=fitted_at_most, random_state=random_state)
    if n_domains == 1 or len(points) == 1:
        return np.zeros(len(points), dtype=np.intp), resolution or 0.0
    if len(points) < _FEWEST:
        raise InputError(f"Expected at least {_FEWEST} spots for method='leiden', found {len(points)}.")
    graph = neighbor_graph(fitted, _N_NEIGHBORS)
    if resolution is not None:
        labels = _communities(graph, resolution, random_state=random_state)
    else:
        labels, resolution = _search(graph, n_domains or 1, random_state=random_state)
    if len(fitted) == len(points):
        return labels, resolution
    # brute force, as kd-trees are slower in so many dimensions; weights keep the labels of the sample itself
    vote = KNeighborsClassifier(_N_NEIGHBORS, weights="distance", algorithm="brute").fit(fitted, labels)
    return assigned(vote.predict, points), resolution


def _search(graph: AnnData, n_domains: int, *, random_state: int) -> tuple[Ints, float]:
    """Find a resolution with the requested number of communities, or the closest number."""
    low, high = _RESOLUTIONS
    by_number: dict[int, tuple[Ints, float]] = {}
    for _ in range(_ROUNDS):
        resolution = math.sqrt(low * high)
        labels = _communities(graph, resolution, random_state=random_state)
        number = int(labels.max()) + 1
        by_number[number] = labels, resolution
        if number == n_domains:
            return by_number[number]
        low, high = (resolution, high) if number < n_domains else (low, resolution)
    return by_number[min(by_number, key=lambda number: abs(number - n_domains))]


def _communities(graph: AnnData, resolution: float, *, random_state: int) -> Ints:
    """Label the communities 0 … K − 1."""
    provide_caches()
    import scanpy as sc

    sc.tl.leiden(
        graph,
        resolution,
        random_state=random_state,
        flavor="igraph",
        n_iterations=2,
        directed=False,
        key_added="community",
    )
    return np.asarray(graph.obs["community"].cat.codes, dtype=np.intp)
