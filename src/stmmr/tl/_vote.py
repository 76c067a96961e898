"""Majority vote of partitions, and how alike partitions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from stmmr._core.rows import CHUNK, slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr._core.types import Float64, Ints, Numbers

COMPARED_AT_MOST: Final = 5_000
"""Spots on which partitions are compared with each other."""
ROUNDS: Final = 20


def n_groups_of(partitions: NDArray[np.int8], n_groups: int) -> Ints:
    """Count the groups of partitions, shape (M, N), that have a spot; shape (M,)."""
    return np.array([np.count_nonzero(np.bincount(partition, minlength=n_groups)) for partition in partitions])


def vote(partitions: NDArray[np.int8], n_groups: int, *, random_state: int) -> tuple[Ints, Float64, float]:
    """Match partitions, shape (M, N), of K groups to each other and take the majority vote for each spot.

    Partitions are compared on spots drawn with the seed. The vote starts from the partition that agrees best with all
    others, among those without an empty group, and ends before a group would lose its last spot.

    Returns
    -------
    Labels, shape (N,); the share of partitions that agree with each, shape (N,); the mean adjusted Rand index between
    the labels and the partitions.
    """
    n = partitions.shape[1]
    compared = np.random.default_rng(random_state).permutation(n)[:COMPARED_AT_MOST]
    sample = partitions[:, compared]
    complete = n_groups_of(partitions, n_groups)
    agreement = np.where(complete == complete.max(), adjusted_rand(sample, n_groups).sum(axis=1), -np.inf)
    labels = partitions[agreement.argmax()].astype(np.intp)
    for _ in range(ROUNDS):
        majority, most, own = _counted(partitions, labels, n_groups)
        if np.array_equal(majority, labels) or len(np.unique(majority)) < complete.max():
            break
        labels, own = majority, most
    agreement = adjusted_rand(np.vstack([labels[compared], sample]), n_groups)[0, 1:].mean()
    return labels, own / len(partitions), float(agreement)


def _counted(partitions: NDArray[np.int8], labels: Ints, n_groups: int) -> tuple[Ints, Ints, Ints]:
    """Let partitions, matched to the labels, vote: get the majority, its votes and those for the labels; (N,) each."""
    names = [matched(partition, labels, n_groups) for partition in partitions]
    majority, most, own = (np.empty(len(labels), dtype=np.intp) for _ in range(3))
    for rows in slices(len(labels), CHUNK):
        spots = np.arange(len(labels[rows]))
        votes = np.zeros((len(spots), n_groups), dtype=np.intp)
        for name, partition in zip(names, partitions, strict=True):
            votes[spots, name[partition[rows]]] += 1
        majority[rows], most[rows], own[rows] = votes.argmax(axis=1), votes.max(axis=1), votes[spots, labels[rows]]
    return majority, most, own


def adjusted_rand(partitions: Numbers, n_groups: int) -> Float64:
    """Compute the adjusted Rand index of all pairs of partitions, (M, N) to (M, M).

    Hubert & Arabie 1985, doi:10.1007/BF01908075.
    """
    m, n = partitions.shape
    member = (partitions[:, None, :] == np.arange(n_groups)[:, None]).reshape(m * n_groups, n).astype(np.float32)
    shared = (member @ member.T).astype(np.float64).reshape(m, n_groups, m, n_groups)
    together = (shared * (shared - 1) / 2).sum(axis=(1, 3))  # pairs of spots in one group of both
    own = together.diagonal()
    expected = np.outer(own, own) / max(n * (n - 1) / 2, 1)
    largest = (own[:, None] + own) / 2
    same = np.isclose(largest, expected)  # a single group, or only groups of one
    return np.where(same, 1.0, (together - expected) / np.where(same, 1.0, largest - expected))


def matched(partition: Numbers, labels: Ints, n_groups: int) -> Ints:
    """Match the groups of a partition one to one to the labels with which they share most spots, shape (K,)."""
    shared = np.bincount(partition.astype(np.intp) * n_groups + labels, minlength=n_groups**2)
    groups, names = linear_sum_assignment(shared.reshape(n_groups, n_groups), maximize=True)
    return np.asarray(names[np.argsort(groups)], dtype=np.intp)
