"""Hierarchy of domains, and partitions from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, require_step
from stmmr._core.colors import colors_by_name, set_colors
from stmmr._core.depends import clears_outdated
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.pca import second_moments
from stmmr._core.record import record
from stmmr._core.rows import CHUNK, slices
from stmmr._core.sources import partition_of
from stmmr.tl._points import N_COMPONENTS, points_of
from stmmr.tl._readouts import REGULARISATION

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Float64, Floats, Ints


@checked
@in_tissue_order
def domain_tree(adata: AnnData, *, domain_key: str = keys.DOMAIN, use_rep: str = keys.EMBEDDING) -> None:
    """Merge domains step by step, each time the two whose union has the smallest variance (Ward).

    Distances are in standard deviations within domains, as in the mixture. Start from more domains than needed, and
    `stmmr.tl.cut_tree` gives any smaller number, each nested in the next.

    Parameters
    ----------
    adata
        With an embedding and domains.
    domain_key
        Column of ``obs`` with the domains to merge; spots without one are left out.
    use_rep
        Key of ``obsm`` from which the domains were computed.

    Returns
    -------
    None. Sets ``uns["stmmr"]["domain_tree"]``, drawn by `stmmr.pl.domain_tree`:

    ``"linkage"``
        Merges as in `scipy.cluster.hierarchy.linkage`, shape (K − 1, 4).
    ``"domains"``
        Names of the leaves; and the parameters.

    Raises
    ------
    InputError
        If there are no such domains or embedding, or only one domain.

    References
    ----------
    Ward 1963, doi:10.1080/01621459.1963.10500845.
    """
    leaves = categories(adata, domain_key).remove_unused_categories()
    if len(leaves.categories) < 2:
        raise InputError(f"Expected at least 2 domains in obs[{domain_key!r}], found {len(leaves.categories)}.")
    is_wide = use_rep in adata.obsm and np.shape(adata.obsm[use_rep])[1] > N_COMPONENTS
    # variances within domains scale every direction: components are scaled before only to choose among many
    points, _ = points_of(adata, use_rep, whiten=None if is_wide else False, random_state=0)
    known = leaves.codes >= 0
    points = points if known.all() else points[known]
    centres, sizes = centres_within(points, leaves.codes[known].astype(np.intp))
    tree = {
        "linkage": ward(centres, sizes),
        "domains": [str(name) for name in leaves.categories],
        "domain_key": domain_key,
        "use_rep": use_rep,
        "partition": partition_of(adata, domain_key),
    }
    record(adata, domain_tree=tree)


@checked
@clears_outdated
def cut_tree(adata: AnnData, n_domains: int, *, key_added: str = keys.DOMAIN) -> None:
    """Merge domains along their tree until `n_domains` are left; partitions of different numbers are nested.

    Parameters
    ----------
    adata
        After `stmmr.tl.domain_tree`.
    n_domains
        Number of domains.
    key_added
        Column of ``obs`` to write. The tree refers to the column that it was computed from: choose another one to go
        back and forth.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical; a merged domain has the name and, in ``uns[f"{key_added}_colors"]``, the
    colour of its largest member.

    Raises
    ------
    InputError
        If there is no tree, it has fewer leaves, or its column has changed.
    """
    from scipy.cluster import hierarchy

    tree = require_step(adata, "domain_tree", by="stmmr.tl.domain_tree")
    names = [str(name) for name in tree["domains"]]
    if not 1 <= n_domains <= len(names):
        raise InputError(f"Expected n_domains between 1 and {len(names)}, the leaves of the tree, found {n_domains}.")
    leaves = categories(adata, tree["domain_key"]).remove_unused_categories()
    same = tree.get("partition", "") in ("", partition_of(adata, tree["domain_key"]))
    if not same or [str(name) for name in leaves.categories] != names:
        raise InputError(
            f"Expected the domains of the tree in obs[{tree['domain_key']!r}], found others. Run "
            "stmmr.tl.domain_tree(adata) again, and give cut_tree another key_added."
        )
    group = hierarchy.cut_tree(np.asarray(tree["linkage"]), n_clusters=[n_domains])[:, 0]
    sizes = np.bincount(leaves.codes[leaves.codes >= 0], minlength=len(names))
    largest = [max(np.flatnonzero(group == g), key=lambda leaf: (sizes[leaf], -leaf)) for g in group]
    kept = sorted(set(largest))
    codes = np.array([kept.index(leaf) for leaf in largest] + [-1])[leaves.codes]
    known = colors_by_name(adata, tree["domain_key"])
    adata.obs[key_added] = pd.Categorical.from_codes(codes, categories=pd.Index([names[leaf] for leaf in kept]))
    set_colors(adata, key_added, known=known)


def centres_within(points: Floats, codes: Ints) -> tuple[Float64, Float64]:
    """Compute the centres of groups, scaled to unit variance within groups in every direction, and their sizes."""
    sizes = np.bincount(codes).astype(np.float64)
    centres = np.column_stack([np.bincount(codes, weights=column) for column in points.T]) / sizes[:, None]
    within = sum((second_moments(points[rows] - centres[codes[rows]]) for rows in slices(len(points), CHUNK)), 0.0)
    variance, rotation = np.linalg.eigh(within / len(points))
    return centres @ (rotation / np.sqrt(np.maximum(variance, 0) + REGULARISATION)), sizes


def ward(centres: Float64, sizes: Float64) -> Float64:
    """Merge groups with centres, shape (K, d), and sizes by Ward's criterion; that of SciPy starts from single points.

    Returns
    -------
    Linkage, shape (K − 1, 4): the two merged groups, the height, the number of leaves.
    """
    k = len(centres)
    groups = {i: (centres[i], sizes[i]) for i in range(k)}
    leaves = dict.fromkeys(range(k), 1)
    merges = []
    for new in range(k, 2 * k - 1):
        height, i, j = min(
            (np.sqrt(2 * n * m / (n + m)) * np.linalg.norm(a - b), i, j)
            for i, (a, n) in groups.items()
            for j, (b, m) in groups.items()
            if i < j
        )
        (a, n), (b, m) = groups.pop(i), groups.pop(j)
        groups[new] = (n * a + m * b) / (n + m), n + m
        leaves[new] = leaves.pop(i) + leaves.pop(j)
        merges.append([i, j, height, leaves[new]])
    return np.array(merges, dtype=np.float64)
