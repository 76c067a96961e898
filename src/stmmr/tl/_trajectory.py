"""Trajectory: pseudotime, branches, and the graph over domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, logger, require_choice, require_key
from stmmr._core.depends import clears_outdated, depends
from stmmr._core.genes import gene_values, require_gene
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.order import put_back, tissue_order
from stmmr._core.parallel import one_thread
from stmmr._core.record import record
from stmmr._core.rows import CHUNK, slices
from stmmr._core.space import rows_called
from stmmr.tl._graphs import FEWEST, Linked, Rooted, connectivities, ends_of_longest_path, spanning_tree
from stmmr.tl._points import points_of

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Float64, Floats, Ints

FITTED_AT_MOST: Final = 20_000
"""Spots of the graph: exact neighbours of more take long, and a path needs no more."""
N_NEIGHBORS: Final = 30
"""Twice as many as for UMAP: after propagation, the nearest fifteen are hardly more than those around in the tissue."""
NEAREST: Final = 5
"""Spots of the sample whose mean pseudotime is assigned to another spot."""
TREE_AT_MOST: Final = 10
"""Largest width of an embedding in which neighbours are searched in a tree."""

End = Literal["highest", "lowest"]


class Root(NamedTuple):
    """Start of the trajectory."""

    kind: str
    """domain, gene or spot; "tree" if none is given."""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions(Checked):
    """Options of the graph and of a root by a gene.

    Attributes
    ----------
    expression
        "highest" or "lowest": where the expression of `root_gene` is so, the trajectory starts.
    n_neighbors
        Number of neighbours of a spot, including the spot itself.
    """

    expression: End = "highest"
    n_neighbors: int = N_NEIGHBORS

    def __post_init__(self) -> None:
        """Check ranges and choices."""
        super().__post_init__()
        require_choice(self.expression, get_args(End), name="expression")
        if self.n_neighbors < 3:
            raise InputError(f"Expected n_neighbors of at least 3, found {self.n_neighbors!r}.")


@checked
@shows_options(TrajectoryOptions)
@one_thread
@clears_outdated
def trajectory(
    adata: AnnData,
    *,
    root_domain: str | None = None,
    root_gene: str | None = None,
    root_spot: str | None = None,
    domain_key: str = keys.DOMAIN,
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    **options: Any,
) -> None:
    """Order spots along a trajectory from a root (pseudotime), and domains in a tree.

    Spots are linked to their nearest neighbours in the embedding. Pseudotime is the diffusion distance to the root over
    these links, from 0 at the root to 1 at the farthest spot. It is never reversed: for the other direction, choose the
    other end as root. The graph over domains compares the number of links between two domains with that expected at
    random (PAGA). The spanning tree of its strongest links, seen from the domain of the root, gives the branches.

    The root is one spot. Give one of `root_domain`, `root_gene` and `root_spot`, or none:

    - `root_domain`: the far end of a domain is the tenth of its spots with the largest diffusion distance from all
      other domains; the root is the spot in the middle of these;
    - `root_gene`: the root is the spot where the mean expression of the gene, over the spot and its neighbours in the
      embedding, is highest (or lowest), also if it is in a small piece that is not connected to the rest;
    - `root_spot`: the root is this spot;
    - none: the root is one end of the longest path through the tree of domains, the one with more spots. The direction
      of pseudotime is then arbitrary.

    With more than 20,000 spots, the graph is built on a sample of 20,000. Each other spot gets the mean pseudotime of
    its five nearest neighbours in the sample.

    Parameters
    ----------
    adata
        With an embedding and domains.
    root_domain
        Name of the domain to start in.
    root_gene
        Name of the gene to start from.
    root_spot
        Name of the spot to start at.
    use_rep
        Key of ``obsm`` with the embedding.
    random_state
        Seed of the sample and of the start of the eigenvalue solver.

    Returns
    -------
    None. Sets:

    ``obs["stmmr_pseudotime"]``
        float64, 0 to 1; NaN for spots that are not connected to the root (a warning gives their number).
    ``obs["stmmr_branch"]``
        Categorical: the domains between two forks of the tree, named by the first and last, as "1 to 4"; missing if the
        domain is not connected to the root or the spot has none.
    ``uns["stmmr"]["trajectory"]``
        ``"connectivities"`` and ``"tree"``, shape (K, K), between 0 and 1, of the ``"domains"`` in their order;
        ``"root"`` ("domain", "gene", "spot", or "tree" if none was given), ``"root_spot"``, ``"root_domain"``,
        ``"n_unreachable"`` and the parameters. Drawn by `stmmr.pl.trajectory` and `stmmr.pl.paga`.

    Raises
    ------
    InputError
        If more than one root is given, there is no such domain, gene or spot, only one domain, or no embedding.

    References
    ----------
    Haghverdi et al. 2016, doi:10.1038/nmeth.3971 (diffusion pseudotime, by scanpy); Wolf et al. 2019,
    doi:10.1186/s13059-019-1663-x (PAGA).
    """
    chosen = TrajectoryOptions(**options)
    domains = categories(adata, domain_key, hint="Run stmmr.tl.consensus(adata) first.").remove_unused_categories()
    names = [str(name) for name in domains.categories]
    root = chosen_root(adata, names, domain_key, root_domain=root_domain, root_gene=root_gene, root_spot=root_spot)
    if len(names) < 2:
        raise InputError(f"Expected at least 2 domains in obs[{domain_key!r}], found {len(names)}.")
    points, _ = points_of(adata, use_rep, fewest=FEWEST, random_state=random_state)
    n_neighbors = min(chosen.n_neighbors, adata.n_obs - 1)
    order = tissue_order(adata)
    points, codes, spots = points[order], domains.codes[order].astype(np.intp), adata.obs_names[order]
    fitted = _sample(adata.n_obs, root, spots, random_state)
    graph = Linked.of(points[fitted], codes[fitted], n_neighbors=n_neighbors, random_state=random_state)
    weights = connectivities(points[fitted], codes[fitted], n_neighbors=n_neighbors)
    tree = spanning_tree(weights)
    if root.kind == "tree":
        root = root._replace(name=names[ends_of_longest_path(tree, np.bincount(codes[codes >= 0]))[0]])
        logger.info(
            "No root given: starting in domain %r, the larger end of the longest path through the tree.", root.name
        )
    index = _root_index(adata, graph, root, order[fitted], names, lowest=chosen.expression == "lowest")
    time = _of_all(points, fitted, graph.pseudotime(index))
    n_unreachable = _warn_unreachable(time, rows_called(adata))
    if root.kind == "gene":
        _warn_small_piece(graph, index, root.name, rows_called(adata))
    start = graph.domain_at(index)
    branch = Rooted.at(tree, start).branches(names)
    adata.obs[keys.PSEUDOTIME] = put_back(time, order)
    adata.obs[keys.BRANCH] = _by_domain(branch, domains.codes.astype(np.intp))
    step = {
        "connectivities": weights,
        "tree": tree,
        "domains": names,
        "domain_key": domain_key,
        "use_rep": use_rep,
        "n_neighbors": n_neighbors,
        "random_state": random_state,
        "root": root.kind,
        "root_gene": root.name if root.kind == "gene" else "",
        "expression": chosen.expression,
        "root_spot": str(spots[fitted[index]]),
        "root_domain": names[start],
        "n_unreachable": n_unreachable,
        "n_fitted": len(fitted),
    }
    record(adata, trajectory=step)
    writes = [f"obs:{keys.PSEUDOTIME}", f"obs:{keys.BRANCH}", "notes:trajectory"]
    depends(adata, "trajectory", on=[f"obs:{domain_key}", f"obsm:{use_rep}"], writes=writes)


def chosen_root(
    adata: AnnData,
    names: list[str],
    domain_key: str,
    *,
    root_domain: str | None,
    root_gene: str | None,
    root_spot: str | None,
) -> Root:
    """Get the root from the options, checked."""
    options = {"domain": root_domain, "gene": root_gene, "spot": root_spot}
    given = {kind: str(name) for kind, name in options.items() if name is not None}
    if len(given) > 1:
        roots = " and ".join(f"root_{kind}={name!r}" for kind, name in given.items())
        raise InputError(f"Expected one root, found {roots}. Give one of root_domain, root_gene and root_spot.")
    if not given:
        return Root("tree")
    ((kind, name),) = given.items()
    if kind == "gene":
        require_gene(adata, name)
    elif kind == "spot":
        require_key(adata.obs_names, name, where="obs_names")
    else:
        require_key(names, name, where=f"obs[{domain_key!r}]")
    return Root(kind, name)


def _sample(n_spots: int, root: Root, names: pd.Index, random_state: int) -> Ints:
    """Draw the spots of the graph, ascending; a root spot is one of them."""
    if n_spots <= FITTED_AT_MOST:
        return np.arange(n_spots)
    sample = np.random.default_rng(random_state).choice(n_spots, FITTED_AT_MOST, replace=False)
    if root.kind == "spot":
        sample[0] = _index(names, root.name)
    return np.unique(sample).astype(np.intp)


def _root_index(adata: AnnData, graph: Linked, root: Root, fitted: Ints, names: list[str], *, lowest: bool) -> int:
    """Find the root among the spots of the graph, which are the rows `fitted` of the data."""
    match root.kind:
        case "spot":
            return int(np.flatnonzero(fitted == _index(adata.obs_names, root.name))[0])
        case "gene":
            return graph.extreme(gene_values(adata, root.name)[fitted], lowest=lowest)
        case _:
            code = names.index(root.name)
            if not (graph.codes == code).any():
                raise InputError(
                    f"Expected {rows_called(adata)} of domain {root.name!r} in a sample of {len(fitted)}, found none. "
                    'For so small a domain, name one of them (root_spot="…", --root-spot …).'
                )
            return graph.far_end(code)


def _warn_unreachable(time: Float64, spots: str) -> int:
    """Count the spots that are not connected to the root, with a warning if there are any."""
    n = int(np.isnan(time).sum())
    if n:
        logger.warning("%d of %d %s are not connected to the root: their pseudotime is NaN.", n, len(time), spots)
    return n


def _warn_small_piece(graph: Linked, root: int, gene: str, spots: str) -> None:
    """Warn if the root is in a piece of the embedding that is not the largest."""
    sizes = np.bincount(graph.component)
    own = sizes[graph.component[root]]
    if own < sizes.max():
        logger.warning(
            "%s is most extreme in a separate piece of %d %s: the trajectory starts there, the others get NaN. For the "
            "largest piece (%d), name its root by root_domain or root_spot (--root-domain, --root-spot).",
            gene,
            own,
            spots,
            sizes.max(),
        )


def _index(names: pd.Index, name: str) -> int:
    """Get the index of a name, the first if it is not unique."""
    return int(np.flatnonzero(names.astype(str) == name)[0])


def _of_all(points: Floats, fitted: Ints, time: Float64) -> Float64:
    """Assign spots outside the sample the mean of their nearest ones in it; NaN if the nearest one has none."""
    from sklearn.neighbors import NearestNeighbors

    if len(fitted) == len(points):
        return time
    # in more dimensions, a tree visits nearly every point, one at a time
    algorithm = "kd_tree" if points.shape[1] <= TREE_AT_MOST else "brute"
    sample = NearestNeighbors(n_neighbors=NEAREST, algorithm=algorithm).fit(points[fitted])
    every = np.empty(len(points))
    for rows in slices(len(points), CHUNK):
        near = time[sample.kneighbors(points[rows], return_distance=False)]
        reached = np.isfinite(near)
        mean = np.where(reached, near, 0).sum(axis=1) / np.maximum(reached.sum(axis=1), 1)
        every[rows] = np.where(reached[:, 0], mean, np.nan)
    every[fitted] = time
    return every


def _by_domain(branch: list[str | None], codes: Ints) -> pd.Categorical[Any]:
    """Assign each spot the branch of its domain."""
    kept = list(dict.fromkeys(name for name in branch if name is not None))
    lookup = np.array([-1 if name is None else kept.index(name) for name in branch] + [-1])
    return pd.Categorical.from_codes(lookup[codes].tolist(), categories=pd.Index(kept))
