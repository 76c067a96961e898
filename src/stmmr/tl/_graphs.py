"""Graphs over the embedding: nearest spots, diffusion along their links, and links between domains (PAGA)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from stmmr._core.kernel import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

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


N_DIFFUSION: Final = 10
"""Diffusion components that distances are measured by: scanpy's own number."""
FARTHEST_SHARE: Final = 0.1
"""Share of a domain that counts as its far end."""
RESOLVED: Final = 1e-6
"""What 1 − λ is taken for at least; scanpy keeps λ in float32."""
FEWEST: Final = 4
"""Linked places for which scanpy finds diffusion components."""


class Linked(NamedTuple):
    """Places, linked to their nearest in the embedding."""

    light: AnnData
    """The graph as scanpy keeps it; rows are the n places it is made of."""
    component: NDArray[np.intp]
    """Which places are linked at all, (n,)."""
    codes: NDArray[np.intp]
    """Their domains, (n,)."""
    random_state: int

    @classmethod
    def of(
        cls, points: NDArray[np.floating[Any]], codes: NDArray[np.intp], *, n_neighbors: int, random_state: int
    ) -> Linked:
        """Link points, shape (n, d)."""
        light = neighbor_graph(points, n_neighbors)
        light.uns["neighbors"]["params"]["n_neighbors"] = n_neighbors
        _, component = csgraph.connected_components(light.obsp["connectivities"], directed=False)
        return cls(light, component.astype(np.intp), codes, random_state)

    def linked_to(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Get all places of the component that most of some places are in."""
        return np.flatnonzero(self.component == np.bincount(self.component[places]).argmax())

    def diffusion(self, places: NDArray[np.intp]) -> AnnData:
        """Find the diffusion components of some places, all linked."""
        import scanpy as sc

        part = self.light[places].copy()
        sc.tl.diffmap(part, n_comps=min(N_DIFFUSION, len(places) - 1), random_state=self.random_state)
        return part

    def far_end(self, domain: int) -> int:
        """Find the place in the middle of the tenth of a domain that is farthest from the others."""
        inside = self.linked_to(np.flatnonzero(self.codes == domain))
        own = self.codes[inside] == domain
        if len(inside) < FEWEST:
            return int(inside[own][0])
        at = diffusion_coordinates(self.diffusion(inside))
        others = at[~own] if (~own).any() else at
        # the mean squared distance to all others, but for a constant
        far = np.square(at[own] - others.mean(axis=0)).sum(axis=1)
        n_end = max(1, round(FARTHEST_SHARE * len(far)))
        end = np.argpartition(-far, n_end - 1)[:n_end]
        middle = np.square(at[own][end] - np.median(at[own][end], axis=0)).sum(axis=1).argmin()
        return int(inside[own][end[middle]])

    def extreme(self, values: NDArray[np.floating[Any]], *, lowest: bool) -> int:
        """Find the place, of the most that are linked, whose neighbourhood has the highest or lowest mean."""
        links = self.light.obsp["connectivities"] > 0
        around = (links @ values + values) / (np.asarray(links.sum(axis=1)).ravel() + 1)
        inside = self.linked_to(np.arange(len(values)))
        return int(inside[around[inside].argmin() if lowest else around[inside].argmax()])

    def pseudotime(self, root: int) -> NDArray[np.float64]:
        """Measure the diffusion distance to a place, the largest set to 1; NaN where there is no way, shape (n,)."""
        time = np.full(len(self.codes), np.nan)
        time[root] = 0.0
        inside = self.linked_to(np.array([root]))
        if len(inside) >= FEWEST:
            at = diffusion_coordinates(self.diffusion(inside))
            distance = np.linalg.norm(at - at[inside.searchsorted(root)], axis=1)
            time[inside] = distance / (distance.max() or 1.0)
        return time

    def domain_at(self, place: int) -> int:
        """Get the domain of a place; where it has none, that of the nearest that has one."""
        if self.codes[place] >= 0:
            return int(self.codes[place])
        known = np.flatnonzero(self.codes >= 0)
        points = np.asarray(self.light.X)
        return int(self.codes[known[np.square(points[known] - points[place]).sum(axis=1).argmin()]])


def diffusion_coordinates(part: AnnData) -> NDArray[np.float64]:
    """Scale diffusion components so that distances between places are those of pseudotime.

    λ / (1 − λ) · ψ of every component but the constant one, of the random walk: scanpy keeps those of its symmetric
    form, which are the same times the constant one. ``sc.tl.dpt`` leaves out components with λ of 0.9994 and more; on
    long paths of many places these are the first ones, those that tell most.
    """
    components, values = np.asarray(part.obsm["X_diffmap"], dtype=np.float64), part.uns["diffmap_evals"]
    scale = np.asarray(values, dtype=np.float64)[1:]
    walk = components[:, 1:] / components[:, :1]
    return np.asarray(walk * (scale / np.maximum(1 - scale, RESOLVED)))


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
