"""How the tissue changes from one domain to the next: pseudotime, its branches and the graph over domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, logger, require_choice, require_key
from stmmr._core.genes import gene_values, require_gene
from stmmr._core.record import record
from stmmr._core.rows import CHUNK, slices
from stmmr.tl._graphs import FEWEST, Linked, Rooted, connectivities, ends_of_longest_path, spanning_tree
from stmmr.tl._points import points_of

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

FITTED_AT_MOST: Final = 20_000
"""Places that the graph is made of: exact neighbours of more take long, and a path needs no more to be seen."""
N_NEIGHBORS: Final = 30
"""Twice as many as for UMAP: after propagation, the nearest fifteen are hardly more than those around in the tissue."""
NEAREST: Final = 5
"""Places of the sample whose mean pseudotime another place takes."""
TREE_AT_MOST: Final = 10
"""Width of an embedding whose nearest places are looked up in a tree."""

End = Literal["highest", "lowest"]


class Root(NamedTuple):
    """What the trajectory starts from."""

    kind: str
    """domain, gene or place; "tree" where nobody said."""
    name: str = ""


def trajectory(
    adata: AnnData,
    *,
    root_domain: str | None = None,
    root_gene: str | None = None,
    root_place: str | None = None,
    expression: End = "highest",
    domain_key: str = keys.DOMAIN,
    use_rep: str = keys.EMBEDDING,
    n_neighbors: int = N_NEIGHBORS,
    random_state: int = 0,
) -> None:
    """Order the places by how far they are from a root, and the domains by which of them lead to which.

    Places are linked to their nearest ones in the embedding. Pseudotime is the diffusion distance to the root over
    these links, from 0 at the root to 1 at the place farthest from it, and is never turned round: to have the other
    direction, give the other end as root. The graph over domains compares the links between two domains with those
    expected at random (PAGA); the spanning tree of its strongest links, seen from the root's domain, gives the
    branches.

    The root is one place. Give one of `root_domain`, `root_gene` and `root_place`, or none:

    - of a **domain**, the tenth of its places that lie farthest from all other domains by diffusion distance are its
      far end, and the place in the middle of these is the root;
    - of a **gene**, the place around which, on the mean of it and its neighbours in the embedding, the gene is
      highest (or lowest) expressed;
    - with **none**, one end of the longest path through the tree of domains, the one with more places. Which end comes
      first is then no finding.

    With more than 20,000 places, a sample of as many makes the graph, and each other place takes the mean pseudotime of
    its five nearest of them.

    Parameters
    ----------
    adata
        With an embedding and domains.
    root_domain
        Name of the domain to start in.
    root_gene
        Name of the gene to start from.
    root_place
        Name of the place to start at.
    expression
        "highest" or "lowest": which of the gene's ends is the root.
    domain_key
        Column of ``obs`` with the domains.
    use_rep
        Key of ``obsm`` with the embedding.
    n_neighbors
        Neighbours of a place, counted with the place itself.
    random_state
        Seed of the sample and of the first vector of the eigenvalue solver.

    Returns
    -------
    None. Sets:

    ``obs["stmmr_pseudotime"]``
        float64, 0 to 1; NaN where no link leads to the root (a warning says at how many places).
    ``obs["stmmr_branch"]``
        categorical: the run of domains from one fork of the tree to the next, named by its ends, as "1 to 4"; missing
        where the tree does not lead to the root or the place has no domain.
    ``uns["stmmr"]["trajectory"]``
        ``"connectivities"`` and ``"tree"``, shape (K, K), between 0 and 1, of the ``"domains"`` in their order;
        ``"root"`` ("domain", "gene", "place", or "tree" where none was given), ``"root_place"``, ``"root_domain"``,
        ``"n_unreachable"`` and the parameters. Drawn by `stmmr.pl.trajectory` and `stmmr.pl.paga`.

    Raises
    ------
    InputError
        If more than one root is given, there is no such domain, gene or place, there is one domain only, or no
        embedding.

    References
    ----------
    Haghverdi et al. 2016, doi:10.1038/nmeth.3971 (diffusion pseudotime, by scanpy); Wolf et al. 2019,
    doi:10.1186/s13059-019-1663-x (PAGA).
    """
    require_choice(expression, ("highest", "lowest"), name="expression")
    domains = categories(adata, domain_key, hint="Run stmmr.tl.consensus(adata) first.").remove_unused_categories()
    names = [str(name) for name in domains.categories]
    root = chosen_root(adata, names, domain_key, domain=root_domain, gene=root_gene, place=root_place)
    if len(names) < 2:
        raise InputError(f"Expected at least 2 domains in obs[{domain_key!r}], found {len(names)}.")
    if n_neighbors < 3:
        raise InputError(f"Expected n_neighbors of at least 3, found {n_neighbors!r}.")
    points, _ = points_of(adata, use_rep, fewest=FEWEST, random_state=random_state)
    n_neighbors = min(n_neighbors, adata.n_obs - 1)
    fitted = _drawn(adata.n_obs, root, adata.obs_names, random_state)
    codes = domains.codes.astype(np.intp)
    graph = Linked.of(points[fitted], codes[fitted], n_neighbors=n_neighbors, random_state=random_state)
    weights = connectivities(points[fitted], codes[fitted], n_neighbors=n_neighbors)
    tree = spanning_tree(weights)
    if root.kind == "tree":
        root = root._replace(name=names[ends_of_longest_path(tree, np.bincount(codes[codes >= 0]))[0]])
        logger.info("No root given: domain %r, the larger end of the longest path through the tree.", root.name)
    at = _root_place(adata, graph, root, fitted, names, lowest=expression == "lowest")
    time = _of_all(points, fitted, graph.pseudotime(at))
    n_unreachable = int(np.isnan(time).sum())
    if n_unreachable:
        logger.warning("%d of %d places have no link to the root; their pseudotime is NaN.", n_unreachable, adata.n_obs)
    start = graph.domain_at(at)
    branch = Rooted.at(tree, start).branches(names)
    adata.obs[keys.PSEUDOTIME] = time
    adata.obs[keys.BRANCH] = _by_domain(branch, codes)
    noted: dict[str, Any] = {
        "connectivities": weights,
        "tree": tree,
        "domains": names,
        "domain_key": domain_key,
        "use_rep": use_rep,
        "n_neighbors": n_neighbors,
        "random_state": random_state,
        "root": root.kind,
        "root_gene": root.name if root.kind == "gene" else "",
        "expression": expression,
        "root_place": str(adata.obs_names[fitted[at]]),
        "root_domain": names[start],
        "n_unreachable": n_unreachable,
        "n_fitted": len(fitted),
    }
    record(adata, trajectory=noted)


def chosen_root(
    adata: AnnData, names: list[str], domain_key: str, *, domain: str | None, gene: str | None, place: str | None
) -> Root:
    """Get the root that was asked for, checked."""
    given = {"domain": domain, "gene": gene, "place": place}
    asked = {kind: str(name) for kind, name in given.items() if name is not None}
    if len(asked) > 1:
        found = " and ".join(f"root_{kind}={name!r}" for kind, name in asked.items())
        raise InputError(f"Expected one root, found {found}. Give one of root_domain, root_gene and root_place.")
    if not asked:
        return Root("tree")
    ((kind, name),) = asked.items()
    among = {"domain": names, "gene": adata.var_names, "place": adata.obs_names}[kind]
    where = {"domain": f"obs[{domain_key!r}]", "gene": "var_names", "place": "obs_names"}[kind]
    if kind == "gene":
        require_gene(adata, name)
    else:
        require_key(among, name, where=where)
    return Root(kind, name)


def _drawn(n_places: int, root: Root, names: pd.Index, random_state: int) -> NDArray[np.intp]:
    """Draw the places that make the graph, ascending; the root is one of them."""
    if n_places <= FITTED_AT_MOST:
        return np.arange(n_places)
    drawn = np.random.default_rng(random_state).choice(n_places, FITTED_AT_MOST, replace=False)
    if root.kind == "place":
        drawn[0] = _at(names, root.name)
    return np.unique(drawn).astype(np.intp)


def _root_place(
    adata: AnnData, graph: Linked, root: Root, fitted: NDArray[np.intp], names: list[str], *, lowest: bool
) -> int:
    """Find the root among the places of the graph."""
    match root.kind:
        case "place":
            return int(fitted.searchsorted(_at(adata.obs_names, root.name)))
        case "gene":
            return graph.extreme(gene_values(adata, root.name)[fitted], lowest=lowest)
        case _:
            code = names.index(root.name)
            if not (graph.codes == code).any():
                raise InputError(
                    f"Expected places of domain {root.name!r} in the sample of {len(fitted)}, found none. It is very "
                    "small: name a place of it (root_place)."
                )
            return graph.far_end(code)


def _at(names: pd.Index, name: str) -> int:
    """Get the position of a name, the first where it is not unique."""
    return int(np.flatnonzero(names.astype(str) == name)[0])


def _of_all(
    points: NDArray[np.floating[Any]], fitted: NDArray[np.intp], time: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give each place not in the sample the mean of the nearest in it; NaN where the nearest one is unreachable."""
    from sklearn.neighbors import NearestNeighbors

    if len(fitted) == len(points):
        return time
    # a tree of more directions visits nearly every point, one at a time
    algorithm = "kd_tree" if points.shape[1] <= TREE_AT_MOST else "brute"
    sample = NearestNeighbors(n_neighbors=NEAREST, algorithm=algorithm).fit(points[fitted])
    found = np.empty(len(points))
    for rows in slices(len(points), CHUNK):
        near = time[sample.kneighbors(points[rows], return_distance=False)]
        reached = np.isfinite(near)
        mean = np.where(reached, near, 0).sum(axis=1) / np.maximum(reached.sum(axis=1), 1)
        found[rows] = np.where(reached[:, 0], mean, np.nan)
    found[fitted] = time
    return found


def _by_domain(branch: list[str | None], codes: NDArray[np.intp]) -> pd.Categorical[Any]:
    """Give each place the branch of its domain."""
    kept = list(dict.fromkeys(name for name in branch if name is not None))
    lookup = np.array([-1 if name is None else kept.index(name) for name in branch] + [-1])
    return pd.Categorical.from_codes(lookup[codes].tolist(), categories=pd.Index(kept))
