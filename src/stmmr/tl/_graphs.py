"""Graphs over the embedding: nearest neighbours, diffusion along them, and links between domains (PAGA)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from stmmr._core.caches import provide_caches
from stmmr._core.kernel import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from stmmr._core.types import Csr, Float64, Floats, Ints

    Matrix = Float64

_HALVINGS: Final = 64
N_DIFFUSION: Final = 10
"""Diffusion components that distances are computed from, as in scanpy."""
FARTHEST_SHARE: Final = 0.1
"""Share of a domain that is its far end."""
RESOLVED: Final = 1e-6
"""Lower limit of 1 − λ, as scanpy keeps λ in float32."""
FEWEST: Final = 4
"""Fewest linked spots for which scanpy computes diffusion components."""


def neighbor_graph(points: Floats, n_neighbors: int) -> AnnData:
    """Build the graph of exact nearest neighbours of points, shape (N, d), in an AnnData as scanpy keeps it.

    With fewer than `n_neighbors` other points, all of them are neighbours.
    """
    from anndata import AnnData

    light = AnnData(points)
    light.obsp["connectivities"] = fuzzy_graph(points.astype(np.float64), min(n_neighbors, len(points) - 1))
    light.uns["neighbors"] = {"connectivities_key": "connectivities", "params": {"method": "umap"}}
    return light


def fuzzy_graph(points: Float64, n_neighbors: int) -> Csr:
    """Weight the edges to the exact neighbours of points, shape (N, N), as ``fuzzy_simplicial_set`` of umap-learn.

    That one is compiled again in every process, which takes four seconds. `n_neighbors` includes the point itself.
    """
    n_points = len(points)
    neighbors = nearest(points, n_neighbors - 1)  # (N, k − 1)
    distance = np.stack([np.linalg.norm(points - points[column], axis=1) for column in neighbors.T], axis=1)
    ends = np.arange(0, neighbors.size + 1, n_neighbors - 1)
    weights = _memberships(distance).astype(np.float32).ravel()
    directed = sparse.csr_matrix((weights, neighbors.ravel(), ends), shape=(n_points, n_points))
    return sparse.csr_matrix(directed + directed.T - directed.multiply(directed.T))


def _memberships(distance: Float64) -> Float64:
    """Convert distances to neighbours into weights exp(−(d − ρ)₊ / σ), both of shape (N, k − 1).

    ρ is the smallest distance above 0, and σ is such that the weights of a row sum to log₂ k.
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
    # σ is at least a thousandth of the mean distance: that of the point, or of all points if its own is 0
    mean = distance.sum(axis=1, keepdims=True) / (n_others + 1)
    floor = 1e-3 * np.where(np.isinf(nearest_apart), mean.mean(), mean)
    return np.asarray(np.exp(-beyond / np.maximum(sigma, floor)))


class Linked(NamedTuple):
    """Spots that are linked to their nearest neighbours in the embedding."""

    light: AnnData
    """The graph of n spots, as scanpy keeps it."""
    component: Ints
    """Connected component of each spot, shape (n,)."""
    codes: Ints
    """Domain of each spot, shape (n,)."""
    random_state: int

    @classmethod
    def of(cls, points: Floats, codes: Ints, *, n_neighbors: int, random_state: int) -> Linked:
        """Link points, shape (n, d)."""
        light = neighbor_graph(points, n_neighbors)
        light.uns["neighbors"]["params"]["n_neighbors"] = n_neighbors
        _, component = csgraph.connected_components(light.obsp["connectivities"], directed=False)
        return cls(light, component.astype(np.intp), codes, random_state)

    def linked_to(self, spots: Ints) -> Ints:
        """Get all spots of the component that contains most of the given spots."""
        return np.flatnonzero(self.component == np.bincount(self.component[spots]).argmax())

    def diffusion(self, spots: Ints) -> AnnData:
        """Compute the diffusion components of spots of one component."""
        provide_caches()
        import scanpy as sc

        part = self.light[spots].copy()
        sc.tl.diffmap(part, n_comps=min(N_DIFFUSION, len(spots) - 1), random_state=self.random_state)
        return part

    def far_end(self, domain: int) -> int:
        """Find the central spot of the tenth of a domain that is farthest from all other domains."""
        linked = self.linked_to(np.flatnonzero(self.codes == domain))
        own = self.codes[linked] == domain
        if len(linked) < FEWEST:
            return int(linked[own][0])
        position = diffusion_coordinates(self.diffusion(linked))
        others = position[~own] if (~own).any() else position
        # equals the mean squared distance to all others, up to a constant
        distance = np.square(position[own] - others.mean(axis=0)).sum(axis=1)
        n_end = max(1, round(FARTHEST_SHARE * len(distance)))
        end = np.argpartition(-distance, n_end - 1)[:n_end]
        middle = np.square(position[own][end] - np.median(position[own][end], axis=0)).sum(axis=1).argmin()
        return int(linked[own][end[middle]])

    def extreme(self, values: Floats, *, lowest: bool) -> int:
        """Find the spot whose neighbourhood has the highest or lowest mean, in whichever component it is."""
        links = self.light.obsp["connectivities"] > 0
        mean = (links @ values + values) / (np.asarray(links.sum(axis=1)).ravel() + 1)
        return int(mean.argmin() if lowest else mean.argmax())

    def pseudotime(self, root: int) -> Float64:
        """Compute the diffusion distance to a spot, scaled to at most 1; NaN outside its component, shape (n,)."""
        time = np.full(len(self.codes), np.nan)
        time[root] = 0.0
        linked = self.linked_to(np.array([root]))
        if len(linked) >= FEWEST:
            position = diffusion_coordinates(self.diffusion(linked))
            distance = np.linalg.norm(position - position[linked.searchsorted(root)], axis=1)
            time[linked] = distance / (distance.max() or 1.0)
        return time

    def domain_at(self, spot: int) -> int:
        """Get the domain of a spot, or of the nearest spot that has one."""
        if self.codes[spot] >= 0:
            return int(self.codes[spot])
        known = np.flatnonzero(self.codes >= 0)
        points = np.asarray(self.light.X)
        return int(self.codes[known[np.square(points[known] - points[spot]).sum(axis=1).argmin()]])


def diffusion_coordinates(part: AnnData) -> Float64:
    """Scale diffusion components so that distances between spots are those of pseudotime.

    The coordinates are λ / (1 − λ) · ψ for every component of the random walk but the constant one. scanpy keeps those
    of the symmetric form, which are the same times the constant one. ``sc.tl.dpt`` leaves out components with λ of
    0.9994 and more, which are the most informative ones on long paths of many spots.
    """
    components, values = np.asarray(part.obsm["X_diffmap"], dtype=np.float64), part.uns["diffmap_evals"]
    scale = np.asarray(values, dtype=np.float64)[1:]
    walk = components[:, 1:] / components[:, :1]
    return np.asarray(walk * (scale / np.maximum(1 - scale, RESOLVED)))


def connectivities(points: Floats, codes: Ints, *, n_neighbors: int) -> Matrix:
    """Compare the number of edges between groups with that expected at random (PAGA).

    Edges go from each spot in the embedding, shape (N, d), to its nearest neighbours; `n_neighbors` includes the spot
    itself, and the code −1 is no group. Same as ``sc.tl.paga``, for which scanpy needs igraph: Wolf et al. 2019,
    doi:10.1186/s13059-019-1663-x.

    Returns
    -------
    From 0 (no edges) to 1 (as many as at random, or more), shape (K, K), 0 on the diagonal.
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
    """Keep the edges of the spanning tree with the smallest sum of inverse weights, shape (K, K), symmetric."""
    inverse = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
    tree = csgraph.minimum_spanning_tree(sparse.csr_matrix(inverse)).toarray() > 0
    return np.where(tree | tree.T, weights, 0.0)


def ends_of_longest_path(tree: Matrix, sizes: Ints) -> tuple[int, int]:
    """Find the two nodes that are most edges apart, the larger first; of several such pairs, the largest nodes."""
    steps = csgraph.shortest_path(tree > 0, unweighted=True)
    steps[np.isinf(steps)] = -1
    ends = np.argwhere(steps == steps.max())  # each pair both ways
    first, second = ends[np.lexsort((sizes[ends[:, 1]], sizes[ends[:, 0]]))[-1]]
    return int(first), int(second)


class Rooted(NamedTuple):
    """A tree seen from its root."""

    parent: Ints
    """Parent of each node, shape (K,); −1 for the root, −2 for nodes that are not in the tree."""
    depth: Ints
    """Number of edges to the root, shape (K,); −1 for nodes that are not in the tree."""

    @classmethod
    def at(cls, tree: Matrix, root: int) -> Rooted:
        """Root a tree at a node."""
        order, before = csgraph.breadth_first_order(sparse.csr_matrix(tree), root, directed=False)
        parent = np.full(len(tree), -2, dtype=np.intp)
        depth = np.full(len(tree), -1, dtype=np.intp)
        parent[root], depth[root] = -1, 0
        for node in order[1:]:
            parent[node] = before[node]
            depth[node] = depth[parent[node]] + 1
        return cls(parent, depth)

    def children(self, node: int) -> list[int]:
        """Get the children of a node."""
        return [int(child) for child in np.flatnonzero(self.parent == node)]

    def path(self, node: int) -> list[int]:
        """Get the nodes from the root to a node, both included."""
        nodes = [node]
        while self.parent[nodes[-1]] >= 0:
            nodes.append(int(self.parent[nodes[-1]]))
        return nodes[::-1]

    def branches(self, names: Sequence[str]) -> list[str | None]:
        """Name the branch of each node by its first and last node, as ``"1"`` or ``"1 to 4"``; None off the tree."""
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
