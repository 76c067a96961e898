"""Many partitions into one, with how sure it is of each place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from stmmr._core import keys
from stmmr._core.checks import InputError, require_positive
from stmmr._core.kernel import kernel_of
from stmmr._core.record import record
from stmmr._core.rows import CHUNK, slices
from stmmr.tl._domains import by_size
from stmmr.tl._number import chosen_number
from stmmr.tl._points import embedding_at, moves_with_bandwidth, points_of
from stmmr.tl._readouts import fit_from_kmeans, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.tl._mixture import TiedMixture

FITTED_AT_MOST: Final = 5_000
"""Places that one partition is fitted to; the others are assigned."""
COMPARED_AT_MOST: Final = 5_000
"""Places by which partitions are compared with each other."""
ROUNDS: Final = 20


def consensus(
    adata: AnnData,
    n_domains: int | Literal["auto"],
    *,
    scales: Sequence[float] = (0.8, 1.0, 1.25),
    n_partitions: int = 60,
    use_rep: str = keys.EMBEDDING,
    random_state: int = 0,
    key_added: str = keys.DOMAIN,
    confidence_key: str = keys.CONFIDENCE,
    progress: bool = False,
) -> None:
    """Cut the tissue into the spatial domains that many partitions agree on.

    Gaussian mixtures from different starts, on the embedding at somewhat smaller and larger bandwidths, are matched to
    the one that agrees best with all others, and vote place by place. Memory grows with the number of places times
    partitions (one byte each), not with pairs of places.

    Parameters
    ----------
    adata
        With an embedding by `stmmr.StMMR`, or any in ``obsm``.
    n_domains
        How many domains, at most 127; "auto" takes the number that `stmmr.tl.number_of_domains` finds.
    scales
        Bandwidths over that of the graph. Others than 1 are left out unless the embedding is one of linear encoders
        that were kept as they start, as by the default preset.
    n_partitions
        How many partitions, over all scales.
    use_rep
        Key of ``obsm``.
    random_state
        Seed of the starts.
    key_added
        Where the domains go.
    confidence_key
        Where the confidence goes.
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    None. Sets:

    ``obs[key_added]``
        categorical "1" … "K", from the largest domain to the smallest; K is less than `n_domains`, with a warning,
        where no place chose one of them.
    ``obs[confidence_key]``
        share of the partitions that agree at this place, in (0, 1].
    ``uns["stmmr"]["consensus"]``
        the parameters, and ``"agreement"``: the mean adjusted Rand index between the consensus and the partitions.

    Raises
    ------
    InputError
        If there is no such embedding, or fewer different places than domains.
    """
    require_positive(n_partitions, name="n_partitions")
    if n_domains == "auto":
        n_domains = chosen_number(adata, use_rep=use_rep, random_state=random_state)
    if not 0 < n_domains < 128:
        raise InputError(f"Expected 1 to 127 domains, found {n_domains}.")
    if 1.0 not in scales:
        raise InputError(f"Expected 1 among scales, found {list(scales)}.")
    embedding, _ = points_of(adata, use_rep, fewest=n_domains, random_state=random_state)
    if not moves_with_bandwidth(adata, use_rep):
        scales = (1.0,)
    each = -(-n_partitions // len(scales))
    partitions = np.empty((each * len(scales), adata.n_obs), dtype=np.int8)
    for at, scale in enumerate(scales):
        points = embedding if scale == 1 else embedding_at(adata, kernel_of(adata, scale=scale), progress=progress)
        mine = slice(at * each, (at + 1) * each)
        seeds = (random_state * len(partitions) + i for i in range(mine.start, mine.stop))
        mixtures = [one_mixture(points, n_domains, seed=seed) for seed in seeds]
        for rows, groups in assigned_by_all(mixtures, points):
            partitions[mine, rows] = groups
    labels, confidence, agreement = vote(partitions, n_domains, random_state=random_state)
    adata.obs[key_added] = by_size(labels, n_domains)
    adata.obs[confidence_key] = confidence
    parameters = {
        "n_domains": n_domains,
        "scales": list(scales),
        "n_partitions": len(partitions),
        "use_rep": use_rep,
        "random_state": random_state,
        "key_added": key_added,
        "confidence_key": confidence_key,
        "agreement": agreement,
    }
    record(adata, consensus=parameters)


def one_mixture(points: NDArray[np.floating[Any]], n_domains: int, *, seed: int) -> TiedMixture:
    """Fit a mixture from one start, to some of the points where there are many."""
    fitted = sample(points, n_domains, at_most=FITTED_AT_MOST, random_state=seed)
    return fit_from_kmeans(fitted, n_domains, random_state=np.random.RandomState(seed))


def assigned_by_all(
    mixtures: Sequence[TiedMixture], points: NDArray[np.floating[Any]]
) -> Iterator[tuple[slice, NDArray[np.intp]]]:
    """Find the likeliest group of every point under each of M mixtures, by one product for each chunk of points.

    Yields
    ------
    Some rows of the points and the groups there, shape (M, n).
    """
    linear = [mixture.linear() for mixture in mixtures]
    slopes = np.hstack([slope for slope, _, _ in linear])  # (d, M K)
    offsets = np.concatenate([offset for _, offset, _ in linear])
    for rows in slices(len(points), CHUNK):
        scores = points[rows].astype(np.float64) @ slopes + offsets
        yield rows, scores.reshape(len(scores), len(mixtures), -1).argmax(axis=2).T


def vote(
    partitions: NDArray[np.int8], n_groups: int, *, random_state: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Match partitions to each other and take the majority at each place.

    Parameters
    ----------
    partitions
        Labels 0 … K − 1, shape (M, N).
    n_groups
        K.
    random_state
        Seed of the places that partitions are compared by.

    Returns
    -------
    Labels, shape (N,); the share of the partitions behind each, shape (N,); the mean adjusted Rand index of the labels
    with the partitions.
    """
    n = partitions.shape[1]
    compared = np.random.default_rng(random_state).permutation(n)[:COMPARED_AT_MOST]
    few = partitions[:, compared]
    labels = partitions[adjusted_rand(few, n_groups).sum(axis=1).argmax()].astype(np.intp)
    most = np.zeros(n, dtype=np.int64)
    for _ in range(ROUNDS):
        before = labels.copy()
        names = [matched(partition, before, n_groups) for partition in partitions]
        for rows in slices(n, CHUNK):
            votes = np.zeros((len(labels[rows]), n_groups), dtype=np.int64)
            for name, partition in zip(names, partitions, strict=True):
                votes[np.arange(len(votes)), name[partition[rows]]] += 1
            labels[rows], most[rows] = votes.argmax(axis=1), votes.max(axis=1)
        if np.array_equal(before, labels):
            break
    return (
        labels,
        most / len(partitions),
        float(adjusted_rand(np.vstack([labels[compared], few]), n_groups)[0, 1:].mean()),
    )


def adjusted_rand(partitions: NDArray[Any], n_groups: int) -> NDArray[np.float64]:
    """Compute the adjusted Rand index of every two partitions at once; (M, N) to (M, M).

    Hubert & Arabie 1985, doi:10.1007/BF01908075.
    """
    m, n = partitions.shape
    member = (partitions[:, None, :] == np.arange(n_groups)[:, None]).reshape(m * n_groups, n).astype(np.float32)
    shared = (member @ member.T).astype(np.float64).reshape(m, n_groups, m, n_groups)
    together = (shared * (shared - 1) / 2).sum(axis=(1, 3))  # pairs of places that are together in both
    own = together.diagonal()
    expected = np.outer(own, own) / max(n * (n - 1) / 2, 1)
    largest = (own[:, None] + own) / 2
    same = np.isclose(largest, expected)  # one group, or nothing but groups of one
    return np.where(same, 1.0, (together - expected) / np.where(same, 1.0, largest - expected))


def matched(partition: NDArray[Any], labels: NDArray[np.intp], n_groups: int) -> NDArray[np.intp]:
    """Find, for each group of a partition, the label that it shares most places with, one to one; shape (K,)."""
    shared = np.bincount(partition.astype(np.intp) * n_groups + labels, minlength=n_groups**2)
    groups, names = linear_sum_assignment(shared.reshape(n_groups, n_groups), maximize=True)
    return np.asarray(names[np.argsort(groups)], dtype=np.intp)
