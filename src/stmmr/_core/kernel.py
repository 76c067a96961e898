"""Who is near whom: distances, the kernel, and what passes along it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmmr._core.checks import InputError, require_step
from stmmr._core.parallel import in_parallel, progress_bar
from stmmr._core.sections import graph_sections, laid_apart, tissue_coordinates
from stmmr._core.space import array_positions, spacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

NOISE_DRAWS: Final = 64
"""Columns of noise by which a property of the graph is estimated."""
COUNTED_AT_MOST: Final = 10_000
"""Places whose neighbours are counted."""
TILE: Final = 32_768
"""Places that are propagated, or whose nearest are found, at once: bounds the memory of their neighbourhoods."""


def nearest_neighbour_distance(xy: NDArray[np.float64]) -> float:
    """Measure the median distance between nearest neighbours from every location, of which there must be two."""
    distance = spacing(xy, at_most=None)
    if distance is None:
        raise InputError(f"Expected at least two places, found {len(xy)}.")
    return distance


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
    found = np.empty((len(xy), n_neighbors), dtype=np.intp)
    for places, neighbors in nearest_in_chunks(xy, n_neighbors):
        found[places] = neighbors
    return found


def nearest_in_chunks(xy: NDArray[np.float64], n_neighbors: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Find the nearest other places of every place as `nearest` does, some places at a time.

    In the order of the tree, where places follow their neighbours: three times as fast as in any order.

    Yields
    ------
    Places, shape (n,), and their neighbours, shape (n, n_neighbors).
    """
    n_places = len(xy)
    if not 1 <= n_neighbors < n_places:
        raise InputError(
            f"Expected n_neighbors between 1 and the number of other places ({n_places - 1}), found {n_neighbors}."
        )
    tree = cKDTree(xy)
    for start in range(0, n_places, TILE):
        places = np.asarray(tree.indices[start : start + TILE], dtype=np.intp)
        found = np.asarray(tree.query(xy[places], k=n_neighbors + 1, workers=-1)[1])
        others = found != places[:, None]
        # of several places at one point the place itself need not be among those found: then the farthest goes
        others[others.all(axis=1), -1] = False
        yield places, np.reshape(found[others], (len(places), n_neighbors))


def gaussian_weights(xy: NDArray[np.float64], *, bandwidth: float, tolerance: float) -> sparse.csr_matrix[Any]:
    """Compute A as CSR, shape (n_obs, n_obs), of places that fit in memory with all their neighbours."""
    n = len(xy)
    pairs = cKDTree(xy).query_pairs(reach(bandwidth, tolerance), output_type="ndarray")  # (n_pairs, 2), each once
    squared = ((xy[pairs[:, 0]] - xy[pairs[:, 1]]) ** 2).sum(axis=1)
    kernel = np.exp(-squared / (2 * bandwidth**2))
    itself = np.arange(n)
    rows = np.concatenate([pairs[:, 0], pairs[:, 1], itself]).astype(np.int32)
    columns = np.concatenate([pairs[:, 1], pairs[:, 0], itself]).astype(np.int32)
    values = np.concatenate([kernel, kernel, np.full(n, 2.0)])
    values /= np.bincount(rows, values, minlength=n)[rows]
    weights = sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=(n, n))
    weights.sort_indices()
    return weights


def reach(bandwidth: float, tolerance: float) -> float:
    """Get the distance at which the kernel falls to the tolerance."""
    return bandwidth * math.sqrt(-2 * math.log(tolerance))


def propagate(weights: sparse.csr_matrix[Any], features: NDArray[Any]) -> NDArray[np.float32]:
    """Compute A(A·F), shape (N, F), of a graph in memory."""
    return np.asarray(weights @ (weights @ features), dtype=np.float32)


class Kernel(NamedTuple):
    """The spatial graph as what it is made of; A itself is written out for a tile of places at a time."""

    xy: NDArray[np.float64]
    """Coordinates, shape (N, 2)."""
    bandwidth: float
    """l, in units of the coordinates."""
    tolerance: float
    """Value at which the kernel is cut."""

    def weights(self) -> sparse.csr_matrix[Any]:
        """Compute A, shape (N, N), tile by tile."""
        rows, columns, values = [], [], []
        for tile, near, local in self._neighbourhoods(1):
            some = gaussian_weights(local, bandwidth=self.bandwidth, tolerance=self.tolerance)[tile].tocoo()
            rows.append(near[tile][some.row])
            columns.append(near[some.col])
            values.append(some.data)
        n = len(self.xy)
        parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(parts, shape=(n, n), dtype=np.float32)

    def mean_neighbours(self) -> float:
        """Count the other places within reach of a place, on the mean; among some places where there are many."""
        tree = cKDTree(self.xy)
        some = self.xy[:: max(1, len(self.xy) // COUNTED_AT_MOST)]
        found = tree.query_ball_point(some, reach(self.bandwidth, self.tolerance), return_length=True, workers=-1)
        return float(np.mean(found)) - 1

    def propagate(
        self, features: Callable[[NDArray[np.intp]], NDArray[np.float32]], *, progress: bool = False, what: str = ""
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Compute A(A·F) a tile of places at a time, several tiles at once.

        A row of A²F needs no more than the features within twice the reach of the kernel, so that memory is bounded by
        the tile, not by N.

        Parameters
        ----------
        features
            Gives the rows of F at some places, shape (n, F).
        progress
            Whether to show a progress bar.
        what
            Its name.

        Yields
        ------
        Places of a tile, shape (t,), and their rows of A²F, shape (t, F).
        """
        rows = []

        def tasks() -> Iterator[tuple[Any, ...]]:
            for tile, near, local in self._neighbourhoods(2):
                rows.append(near[tile])
                yield local, tile, features(near), self.bandwidth, self.tolerance

        with progress_bar(len(self.xy), what or "propagation", "places", shown=progress) as bar:
            for done, smooth in enumerate(in_parallel(_propagated, tasks())):
                bar.update(len(smooth))
                yield rows[done], smooth

    def _neighbourhoods(self, steps: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
        """Cut the tissue into tiles.

        Yields
        ------
        Where the tile lies among the places around it, those places (ascending), and their coordinates; around it is
        what is within so many times the reach of the kernel of its bounding box.
        """
        margin = steps * reach(self.bandwidth, self.tolerance) * (1 + 1e-9)
        by_x = np.argsort(self.xy[:, 0], kind="stable")
        x = self.xy[by_x, 0]
        for tile in tiles(self.xy, TILE):
            low, high = self.xy[tile].min(axis=0) - margin, self.xy[tile].max(axis=0) + margin
            strip = by_x[x.searchsorted(low[0]) : x.searchsorted(high[0], side="right")]
            inside = (self.xy[strip, 1] >= low[1]) & (self.xy[strip, 1] <= high[1])
            near = np.sort(strip[inside])
            yield near.searchsorted(tile), near, self.xy[near]


def kernel_of(adata: AnnData, *, scale: float = 1.0) -> Kernel:
    """Get the spatial graph that `stmmr.pp.spatial_graph` made, its bandwidth times `scale`."""
    graph = require_step(adata, "spatial_graph", by="stmmr.pp.spatial_graph")
    if graph["use"] == "array":
        xy = laid_apart(array_positions(adata), graph_sections(adata))
    else:
        xy = tissue_coordinates(adata)
    return Kernel(xy, scale * graph["bandwidth"], graph["tolerance"])


def _propagated(
    xy: NDArray[np.float64], tile: NDArray[np.intp], features: NDArray[Any], bandwidth: float, tolerance: float
) -> NDArray[np.float32]:
    weights = gaussian_weights(xy, bandwidth=bandwidth, tolerance=tolerance)
    # rows at the rim are not whole; those of the tile reach none of them in two steps
    return np.asarray(weights[tile] @ (weights @ features), dtype=np.float32)


def tiles(xy: NDArray[np.float64], at_most: int) -> Iterator[NDArray[np.intp]]:
    """Cut places into compact tiles of much the same number, by halves along the longer side; each ascending."""
    todo = [np.arange(len(xy))]
    while todo:
        part = todo.pop()
        if len(part) <= at_most:
            yield np.sort(part)
            continue
        along = xy[part, int(np.ptp(xy[part], axis=0).argmax())]
        order = np.argpartition(along, len(part) // 2)
        todo += [part[order[len(part) // 2 :]], part[order[: len(part) // 2]]]


def white_noise(places: NDArray[np.intp], n_columns: int) -> NDArray[np.float32]:
    """Draw −1 or 1 for places, shape (n, n_columns): a place has the same draws in whatever tile it is asked for.

    From its number by the finaliser of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195).
    """
    n_words = -(-n_columns // 64)
    word: NDArray[Any] = places.astype(np.uint64)[:, None] * np.uint64(n_words) + np.arange(n_words, dtype=np.uint64)
    word = (word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    bits = np.unpackbits(word.view(np.uint8), axis=1, count=n_columns)
    return bits.astype(np.float32) * 2 - 1


def independent_places(kernel: Kernel) -> float:
    """Estimate ‖A²‖², the degrees of freedom of the propagation: as many independent places hold what all tell.

    By the variance that white noise keeps (Hutchinson 1990), which needs no A².
    """
    kept = kernel.propagate(lambda places: white_noise(places, NOISE_DRAWS))
    return sum(float(np.square(noise, dtype=np.float64).sum()) for _, noise in kept) / NOISE_DRAWS
