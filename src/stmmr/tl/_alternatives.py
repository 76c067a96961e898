"""A second partition of the tissue, where the partitions behind the consensus fall into two groups."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from stmmr._core.checks import InputError
from stmmr._core.depends import facts_about, warn_outdated
from stmmr._core.options import checked
from stmmr._core.record import recorded
from stmmr._core.sources import partition_of
from stmmr.tl._vote import adjusted_rand, drawn, matched, vote

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Bools, Float64, Floats, Ints
    from stmmr.tl._vote import Partitions

SUPPORT: Final = 0.2
"""Smallest share of the votes that supports an alternative. Smaller groups are mostly starts that went astray."""
SAME: Final = 0.8
"""Adjusted Rand index from which two partitions count as one."""


class Alternative(NamedTuple):
    """The partition that the second group of partitions agrees on."""

    labels: Ints
    """Shape (N,), named as the domains with which they share most spots."""
    support: float
    """Share of the votes of its group."""
    similarity: float
    """Adjusted Rand index with the domains."""


@checked
def alternatives(adata: AnnData) -> pd.DataFrame:
    """List the domains and, if clustering finds one, the second partition of the tissue, with their support.

    The mixtures behind `stmmr.tl.consensus` can fall into groups with different partitions of one tissue. If mixtures
    with at least a fifth of the votes agree on another partition than the domains, `consensus` keeps that as well. Both
    fit the data; choose with biology.

    Parameters
    ----------
    adata
        After `stmmr.tl.consensus`.

    Returns
    -------
    One row per partition, the domains first, indexed by its column of ``obs``: ``support``, the share of the votes of
    mixtures that agree on it, NaN if domains were merged since; ``similarity``, its adjusted Rand index with the
    domains; and ``n_spots``, the number of spots with another domain in it.

    Raises
    ------
    InputError
        If the domains are not those of `stmmr.tl.consensus`.
    """
    step = recorded(adata).get("consensus")
    if step is None:
        raise InputError("Expected domains of stmmr.tl.consensus, found none. Run stmmr.tl.consensus first.")
    warn_outdated(adata, "consensus")
    key, other = str(step["key_added"]), step.get("alternative")
    edited = facts_about(adata, "consensus").get("partition", "") not in ("", partition_of(adata, key))
    rows = {key: (math.nan if edited else float(step["support"]), 1.0, 0)}
    if other and other["key_added"] in adata.obs:
        moved = (adata.obs[key].astype(str) != adata.obs[other["key_added"]].astype(str)).sum()
        rows[str(other["key_added"])] = (float(other["support"]), float(other["similarity"]), int(moved))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["support", "similarity", "n_spots"])


def second_answer(
    partitions: Partitions,
    labels: Ints,
    n_groups: int,
    *,
    weights: Float64,
    random_state: int,
    similarity: Float64 | None = None,
) -> tuple[Alternative | None, float]:
    """Find what the second group of partitions, shape (M, N), agrees on, and the support of the labels.

    Partitions are grouped by average linkage of their adjusted Rand indices, `similarity` where it is at hand. The tree
    is cut where a second group with enough support, the share of the `weights`, (M,), first appears.
    """
    weights = weights / weights.sum()
    compared = drawn(len(labels), random_state=random_state)
    sample, own = np.stack([partition[compared] for partition in partitions]), labels[None, compared]
    similarity = adjusted_rand(sample, n_groups) if similarity is None else similarity
    agreement = adjusted_rand(own, n_groups, sample)[0]
    groups = _two_groups(similarity, weights)
    if groups is None:
        return None, float(weights[agreement >= SAME].sum())
    first, second = sorted(groups, key=lambda group: -np.average(agreement[group], weights=weights[group]))
    known = {"weights": weights[second], "similarity": similarity[np.ix_(second, second)]}
    partitions = [partitions[i] for i in np.flatnonzero(second).tolist()]
    other = vote(partitions, n_groups, random_state=random_state, **known)[0]
    alike = float(adjusted_rand(own, n_groups, other[None, compared])[0, 0])
    support, support_of_other = float(weights[first].sum()), float(weights[second].sum())
    if alike >= SAME:
        return None, support + support_of_other
    names = matched(other, labels, n_groups)
    return Alternative(names[other], support_of_other, alike), support


def _two_groups(similarity: Floats, weights: Float64) -> tuple[Bools, Bools] | None:
    """Find the two groups of similar partitions with most support; None unless the second one has enough."""
    m = len(similarity)
    distance = np.maximum(1 - similarity, 0)
    np.fill_diagonal(distance, 0)
    if m < 3 or not distance.any():
        return None
    tree = linkage(squareform(distance, checks=False), "average")
    for n_groups in range(2, m):
        groups = fcluster(tree, n_groups, "maxclust")
        support = np.bincount(groups, weights=weights)
        first, second = np.argsort(-support, kind="stable")[:2]
        if support[first] < SUPPORT:
            return None
        if support[second] >= SUPPORT:
            return groups == first, groups == second
    return None
