"""Nearest neighbours, the Gaussian kernel of the spatial graph, and propagation over it in tiles."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmmr._core.arrays import device, propagated
from stmmr._core.checks import InputError, require_step
from stmmr._core.parallel import in_parallel, progress_bar, threads
from stmmr._core.rows import empty, release
from stmmr._core.sections import graph_sections, laid_apart, tissue_coordinates
from stmmr._core.space import array_positions, spacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

    from stmmr._core.arrays import Device
    from stmmr._core.types import Csr, Float32, Float64, Ints, Numbers

NOISE_DRAWS: Final = 64
"""Columns of noise from which a property of the graph is estimated."""
COUNTED_AT_MOST: Final = 10_000
"""Spots whose neighbours are counted."""
TILE: Final = 16_384
"""Spots that are propagated, or whose neighbours are searched, at once: bounds the memory of their neighbourhoods."""


def nearest_neighbour_distance(xy: Float64) -> float:
    """Measure the median distance between nearest neighbours from every location, of which there must be two."""
    distance = spacing(xy, at_most=None)
    if distance is None:
        raise InputError(f"Expected at least two spots at different positions, found {len(xy)} in all.")
    return distance


def nearest(xy: Float64, n_neighbors: int) -> Ints:
    """Find the nearest neighbours of every point.

    Parameters
    ----------
    xy
        Coordinates, shape (N, d).
    n_neighbors
        Number of neighbours.

    Returns
    -------
    Indices of the neighbours, shape (N, n_neighbors), nearest first; the point itself is never among them.

    Raises
    ------
    InputError
        If there are fewer other points.
    """
    every = empty((len(xy), n_neighbors), _index(len(xy)))
    for points, neighbors in nearest_in_chunks(xy, n_neighbors):
        every[points] = neighbors
    return every


def nearest_in_chunks(xy: Float64, n_neighbors: int) -> Iterator[tuple[Ints, Ints]]:
    """Find the nearest neighbours as `nearest` does, a chunk of points at a time.

    Chunks are in the order of the tree, in which points follow their neighbours: three times as fast as in any order.

    Yields
    ------
    Indices of points, shape (n,), and of their neighbours, shape (n, n_neighbors).
    """
    n = len(xy)
    if not 1 <= n_neighbors < n:
        raise InputError(f"Expected n_neighbors between 1 and {n - 1}, the number of other spots, found {n_neighbors}.")
    tree = cKDTree(xy)
    for start in range(0, n, TILE):
        points = np.asarray(tree.indices[start : start + TILE], dtype=np.intp)
        nearby = np.asarray(tree.query(xy[points], k=n_neighbors + 1, workers=threads())[1])
        others = nearby != points[:, None]
        # of several points at one position, the point itself may be missing: then the farthest is left out
        others[others.all(axis=1), -1] = False
        yield points, np.reshape(nearby[others], (len(points), n_neighbors))


def gaussian_weights(xy: Float64, *, bandwidth: float, tolerance: float) -> Csr:
    """Compute A as CSR, shape (n, n), of spots that fit in memory with all their neighbours."""
    n = len(xy)
    pairs = cKDTree(xy).query_pairs(reach(bandwidth, tolerance), output_type="ndarray")  # (n_pairs, 2), each once
    rows, columns = pairs.astype(np.int32).T
    squared = np.zeros(len(pairs))
    for axis in np.ascontiguousarray(xy.T):
        squared += (axis[rows] - axis[columns]) ** 2
    diagonal = np.arange(n, dtype=np.int32)
    values = np.concatenate([np.exp(-squared / (2 * bandwidth**2)), np.ones(n)])
    indices = np.concatenate([rows, diagonal]), np.concatenate([columns, diagonal])
    half = sparse.csr_matrix((values, indices), shape=(n, n))
    kernel: Csr = half + half.T  # with 2 on the diagonal
    kernel.data /= np.repeat(kernel.sum(axis=1).A1, np.diff(kernel.indptr))
    weights = kernel.astype(np.float32)
    weights.sort_indices()
    return weights


def reach(bandwidth: float, tolerance: float) -> float:
    """Compute the distance at which the kernel falls to the tolerance."""
    return bandwidth * math.sqrt(-2 * math.log(tolerance))


def propagate(weights: Csr, features: Numbers) -> Float32:
    """Compute A(A·F), shape (N, F), of a graph in memory."""
    return np.asarray(weights @ (weights @ features), dtype=np.float32)


class Kernel(NamedTuple):
    """The spatial graph as coordinates and a bandwidth; A itself is computed for a tile of spots at a time."""

    xy: Float64
    """Coordinates, shape (N, 2)."""
    bandwidth: float
    """l, in units of the coordinates."""
    tolerance: float
    """Kernel value below which there is no edge."""

    def weights(self) -> Csr:
        """Compute A, shape (N, N), tile by tile."""
        rows, columns, values = [], [], []
        for tile, near, local in self._neighbourhoods(1):
            weights = gaussian_weights(local, bandwidth=self.bandwidth, tolerance=self.tolerance)[tile].tocoo()
            rows.append(near[tile][weights.row])
            columns.append(near[weights.col])
            values.append(weights.data)
        n = len(self.xy)
        parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(parts, shape=(n, n), dtype=np.float32)

    def mean_neighbours(self) -> float:
        """Compute the mean number of neighbours of a spot, from about 10,000 spots."""
        tree = cKDTree(self.xy)
        sample = self.xy[:: max(1, len(self.xy) // COUNTED_AT_MOST)]
        radius = reach(self.bandwidth, self.tolerance)
        return float(np.mean(tree.query_ball_point(sample, radius, return_length=True, workers=threads()))) - 1

    def twice_with_share(self, features: Numbers) -> tuple[Float32, Float64]:
        """Compute A(A·F), shape (N, F), and the share of each row in itself, (N,): the diagonal of A²."""
        from stmmr._core.means import mean_twice_with_share

        within = reach(self.bandwidth, self.tolerance)
        return mean_twice_with_share(self.xy, features, bandwidth=self.bandwidth, reach=within)

    def propagate(
        self, features: Callable[[Ints], Float32], *, progress: bool = False, task: str = ""
    ) -> Iterator[tuple[Ints, Float32]]:
        """Compute A(A·F) a tile of spots at a time, several tiles in parallel.

        A row of A²F depends on features within twice the reach of the kernel, so memory is bounded by the tile, not
        by N.

        Parameters
        ----------
        features
            Function that returns the rows of F at given spots, shape (n, F).
        progress
            Show a progress bar.
        task
            Name of the progress bar.

        Yields
        ------
        Indices of the spots of a tile, shape (t,), and their rows of A²F, shape (t, F).
        """
        rows: deque[Ints] = deque()

        def tasks() -> Iterator[tuple[object, ...]]:
            for tile, near, local in self._neighbourhoods(2):
                rows.append(near[tile])
                yield local, tile, features(near), self.bandwidth, self.tolerance, device()

        with progress_bar(len(self.xy), task or "propagation", "spots", shown=progress) as bar:
            for smooth in in_parallel(_propagated, tasks()):
                bar.update(len(smooth))
                yield rows.popleft(), smooth
                release()

    def _neighbourhoods(self, steps: int) -> Iterator[tuple[Ints, Ints, Float64]]:
        """Divide the tissue into tiles, each with the spots around it.

        Around a tile are the spots within `steps` times the reach of the kernel of its bounding box.

        Yields
        ------
        Positions of the tile among the spots around it, indices of those spots (ascending), and their coordinates.
        """
        margin = steps * reach(self.bandwidth, self.tolerance) * (1 + 1e-9)
        by_x = np.argsort(self.xy[:, 0], kind="stable").astype(_index(len(self.xy)))
        x = self.xy[by_x, 0]
        for tile in tiles(self.xy, TILE):
            low, high = self.xy[tile].min(axis=0) - margin, self.xy[tile].max(axis=0) + margin
            strip = by_x[x.searchsorted(low[0]) : x.searchsorted(high[0], side="right")]
            inside = (self.xy[strip, 1] >= low[1]) & (self.xy[strip, 1] <= high[1])
            near = np.sort(strip[inside])
            yield near.searchsorted(tile), near, self.xy[near]


def kernel_of(adata: AnnData, *, scale: float = 1.0) -> Kernel:
    """Get the graph that `stmmr.pp.spatial_graph` built, with its bandwidth times `scale`."""
    graph = require_step(adata, "spatial_graph", by="stmmr.pp.spatial_graph")
    if graph["use"] == "array":
        xy = laid_apart(array_positions(adata), graph_sections(adata))
    else:
        xy = tissue_coordinates(adata)
    return Kernel(xy, scale * graph["bandwidth"], graph["tolerance"])


def _propagated(
    xy: Float64, tile: Ints, features: Numbers, bandwidth: float, tolerance: float, device: Device
) -> Float32:
    # rows at the rim are incomplete, but those of the tile do not reach them in two steps
    if device == "numpy":
        from stmmr._core.means import mean_twice

        return mean_twice(xy, features, tile, bandwidth=bandwidth, reach=reach(bandwidth, tolerance))
    return propagated(gaussian_weights(xy, bandwidth=bandwidth, tolerance=tolerance), features, tile, device=device)


def tiles(xy: Float64, at_most: int) -> Iterator[Ints]:
    """Divide spots into compact tiles of similar size by halving along the longer side; indices ascend in each."""
    queue = [np.arange(len(xy), dtype=_index(len(xy)))]
    while queue:
        part = queue.pop()
        if len(part) <= at_most:
            yield np.sort(part)
            continue
        along = xy[part, int(np.ptp(xy[part], axis=0).argmax())]
        order = np.argpartition(along, len(part) // 2)
        queue += [part[order[len(part) // 2 :]], part[order[: len(part) // 2]]]


def _index(n: int) -> type[np.signedinteger[Any]]:
    """Get the smallest type of indices of n spots."""
    return np.int32 if n < 2**31 else np.intp


def white_noise(spots: Ints, n_columns: int) -> Float32:
    """Draw −1 or 1 for spots, shape (n, n_columns); a spot gets the same numbers whatever tile it is in.

    They are computed from its index by the finaliser of SplitMix64 (Steele, Lea & Flood 2014,
    doi:10.1145/2660193.2660195).
    """
    n_words = -(-n_columns // 64)
    word: Numbers = spots.astype(np.uint64)[:, None] * np.uint64(n_words) + np.arange(n_words, dtype=np.uint64)
    word = (word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    bits = np.unpackbits(word.view(np.uint8), axis=1, count=n_columns)
    return bits.astype(np.float32) * 2 - 1


def independent_spots(kernel: Kernel) -> float:
    """Estimate ‖A²‖², the degrees of freedom of the propagation: the number of independent spots.

    The estimate is the variance that white noise keeps (Hutchinson 1990), so A² is not computed.
    """
    kept = kernel.propagate(lambda spots: white_noise(spots, NOISE_DRAWS))
    return sum(float(np.square(noise, dtype=np.float64).sum()) for _, noise in kept) / NOISE_DRAWS
