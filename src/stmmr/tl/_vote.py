"""Majority vote of partitions, and how alike partitions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from stmmr._core.rows import CHUNK, release, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stmmr._core.types import Float64, Ints, Numbers

    Partitions = NDArray[np.int8] | Sequence[NDArray[np.int8]]
    """The groups of each partition, shape (M, N)."""

COMPARED_AT_MOST: Final = 5_000
"""Spots on which partitions are compared with each other."""
ROUNDS: Final = 20


def n_groups_of(partitions: Partitions) -> Ints:
    """Count the groups of partitions, shape (M, N), that have a spot; shape (M,)."""
    return np.array([len(np.unique(partition)) for partition in partitions])


def drawn(n: int, *, random_state: int) -> Ints:
    """Draw the spots, of n, on which partitions are compared."""
    return np.random.default_rng(random_state).permutation(n)[:COMPARED_AT_MOST]


def vote(
    partitions: Partitions,
    n_groups: int,
    *,
    weights: Float64,
    random_state: int,
    similarity: Float64 | None = None,
) -> tuple[Ints, Float64, float]:
    """Match partitions, shape (M, N), of K groups to each other and take the majority vote for each spot.

    Each has so many votes as its weight, shape (M,). Partitions are compared on spots drawn with the seed. The vote
    starts from the partition that agrees best with all others, among those without an empty group, and ends before a
    group would lose its last spot. `similarity` is the adjusted Rand index of all pairs on these spots, (M, M), where
    it is at hand.

    Returns
    -------
    Labels, shape (N,); the share of votes for each, shape (N,); the mean adjusted Rand index between the labels and the
    partitions, by their weights.
    """
    weights = weights / weights.sum()
    compared = drawn(len(partitions[0]), random_state=random_state)
    sample = np.stack([partition[compared] for partition in partitions])
    complete = n_groups_of(partitions)
    similarity = adjusted_rand(sample, n_groups) if similarity is None else similarity
    agreement = np.where(complete == complete.max(), similarity @ weights, -np.inf)
    labels: NDArray[np.integer] = np.array(partitions[int(agreement.argmax())])
    for _ in range(ROUNDS):
        majority, most, own = _counted(partitions, weights, labels, n_groups)
        if np.array_equal(majority, labels) or len(np.unique(majority)) < complete.max():
            break
        labels, own = majority, most
    agreement = adjusted_rand(labels[None, compared], n_groups, sample)[0] @ weights
    return labels.astype(np.intp), np.minimum(own, 1.0), float(agreement)


def _counted(
    partitions: Partitions, weights: Float64, labels: NDArray[np.integer], n_groups: int
) -> tuple[NDArray[np.integer], Float64, Float64]:
    """Let partitions, matched to the labels, vote: get the majority, its votes and those for the labels; (N,) each."""
    names = [matched(partition, labels, n_groups) for partition in partitions]
    majority = np.empty(len(labels), dtype=np.int16)
    most, own = np.empty(len(labels)), np.empty(len(labels))
    for rows in slices(len(labels), CHUNK):
        spots = np.arange(len(labels[rows]))
        votes = np.zeros((len(spots), n_groups))
        for name, partition, weight in zip(names, partitions, weights, strict=True):
            votes[spots, name[partition[rows]]] += weight
        majority[rows], most[rows], own[rows] = votes.argmax(axis=1), votes.max(axis=1), votes[spots, labels[rows]]
    release()
    return majority, most, own


def adjusted_rand(partitions: Numbers, n_groups: int, others: Numbers | None = None) -> Float64:
    """Compute the adjusted Rand index of all pairs of partitions, (M, N) to (M, M), or with `others`, (L, N) to (M, L).

    Hubert & Arabie 1985, doi:10.1007/BF01908075.
    """
    others = partitions if others is None else others
    member, other_member = _members(partitions, n_groups), _members(others, n_groups)
    shared = (member @ other_member.T).astype(np.float64)
    shared = shared.reshape(len(partitions), n_groups, len(others), n_groups)
    together = _pairs(shared).sum(axis=(1, 3))  # of spots in one group of both
    own, own_of_others = _pairs_inside(member, n_groups), _pairs_inside(other_member, n_groups)
    expected = np.outer(own, own_of_others) / max(_pairs(partitions.shape[1]), 1)
    largest = (own[:, None] + own_of_others) / 2
    same = np.isclose(largest, expected)  # a single group, or only groups of one
    return np.where(same, 1.0, (together - expected) / np.where(same, 1.0, largest - expected))


def _members(partitions: Numbers, n_groups: int) -> NDArray[np.float32]:
    """Mark the spots of each group of each partition, shape (M·K, N)."""
    marks = partitions[:, None, :] == np.arange(n_groups)[:, None]
    return np.asarray(marks.reshape(len(partitions) * n_groups, -1), dtype=np.float32)


def _pairs_inside(member: NDArray[np.float32], n_groups: int) -> Float64:
    """Count the pairs of spots in one group of each partition, shape (M,)."""
    return np.asarray(_pairs(member.sum(axis=1, dtype=np.float64)).reshape(-1, n_groups).sum(axis=1))


def _pairs(n: Any) -> Any:
    """Count the pairs of n spots."""
    return n * (n - 1) / 2


def matched(partition: Numbers, labels: Numbers, n_groups: int) -> Ints:
    """Match the groups of a partition one to one to the labels with which they share most spots, shape (K,)."""
    shared = sum(
        np.bincount(partition[rows].astype(np.intp) * n_groups + labels[rows], minlength=n_groups**2)
        for rows in slices(len(labels), CHUNK)
    )
    groups, names = linear_sum_assignment(np.reshape(shared, (n_groups, n_groups)), maximize=True)
    return np.asarray(names[np.argsort(groups)], dtype=np.intp)
