"""Places linked to their nearest in the embedding, and distances along these links; by scanpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy.sparse import csgraph

from stmmr.tl._neighbors import neighbor_graph

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

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
