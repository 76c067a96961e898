"""The graph over domains, and the tree in it: which domains lead to which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from stmmr._core.kernel import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def connectivities(points: NDArray[np.floating[Any]], codes: NDArray[np.intp], *, n_neighbors: int) -> Matrix:
    """Compare the edges between groups with those that as many edges thrown at random would make (PAGA).

    Edges go from each place to its nearest ones. The same as ``sc.tl.paga`` of the same neighbours, for which scanpy
    needs igraph.

    Parameters
    ----------
    points
        Places in the embedding, shape (N, d).
    codes
        Group of each place, from 0; −1 where it has none.
    n_neighbors
        Counted with the place itself.

    Returns
    -------
    From 0 (no edges) to 1 (as many as at random, or more), shape (K, K), 0 on the diagonal.

    References
    ----------
    Wolf et al. 2019, doi:10.1186/s13059-019-1663-x.
    """
    k, neighbors = int(codes.max()) + 1, nearest(points.astype(np.float64), n_neighbors - 1)
    source, target = np.repeat(codes, neighbors.shape[1]), codes[neighbors.ravel()]
    known = (source >= 0) & (target >= 0)
    edges = np.bincount(source[known] * k + target[known], minlength=k * k).reshape(k, k).astype(np.float64)
    size, leaving = np.bincount(codes[codes >= 0], minlength=k), edges.sum(axis=1)
    expected = (np.outer(leaving, size) + np.outer(size, leaving)) / max(int(size.sum()) - 1, 1)
    between = edges + edges.T
    np.fill_diagonal(between, 0)
    return np.minimum(between / np.where(expected > 0, expected, 1), 1)


def spanning_tree(weights: Matrix) -> Matrix:
    """Keep the edges of the spanning tree whose inverse weights add up to least, shape (K, K), symmetric."""
    inverse = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
    tree = csgraph.minimum_spanning_tree(sparse.csr_matrix(inverse)).toarray() > 0
    return np.where(tree | tree.T, weights, 0.0)


def ends_of_longest_path(tree: Matrix, sizes: NDArray[np.intp]) -> tuple[int, int]:
    """Find the two nodes with most edges between them, the larger one first; of equals, the larger ones."""
    steps = csgraph.shortest_path(tree > 0, unweighted=True)
    steps[np.isinf(steps)] = -1
    ends = np.argwhere(steps == steps.max())  # each pair both ways
    first, second = ends[np.lexsort((sizes[ends[:, 1]], sizes[ends[:, 0]]))[-1]]
    return int(first), int(second)


class Rooted(NamedTuple):
    """A tree as seen from its root."""

    parent: NDArray[np.intp]
    """The node before each; −1 at the root, and −2 where the tree does not lead; shape (K,)."""
    depth: NDArray[np.intp]
    """Edges to the root; −1 where the tree does not lead."""

    @classmethod
    def at(cls, tree: Matrix, root: int) -> Rooted:
        """Look from a node."""
        order, before = csgraph.breadth_first_order(sparse.csr_matrix(tree), root, directed=False)
        parent = np.full(len(tree), -2, dtype=np.intp)
        depth = np.full(len(tree), -1, dtype=np.intp)
        parent[root], depth[root] = -1, 0
        for node in order[1:]:
            parent[node] = before[node]
            depth[node] = depth[parent[node]] + 1
        return cls(parent, depth)

    def children(self, node: int) -> list[int]:
        """Get the nodes after one."""
        return [int(child) for child in np.flatnonzero(self.parent == node)]

    def path(self, node: int) -> list[int]:
        """Get the nodes from the root to one, both included."""
        found = [node]
        while self.parent[found[-1]] >= 0:
            found.append(int(self.parent[found[-1]]))
        return found[::-1]

    def branches(self, names: Sequence[str]) -> list[str | None]:
        """Name the run of nodes between forks that each node is in: ``"1"`` or ``"1 to 4"``; None off the tree."""
        named: list[str | None] = [None] * len(names)
        starts = [int(node) for node in np.flatnonzero(self.parent == -1)]
        while starts:
            run = [starts.pop()]
            while len(after := self.children(run[-1])) == 1:
                run += after
            starts += after
            name = names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}"
            for node in run:
                named[node] = name
        return named
