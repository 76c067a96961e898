"""Wilcoxon's rank sums of every domain against others, from values that are mostly zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

_CELLS_AT_ONCE: Final = 2**20
"""Entries of a table of distinct values × domains that is worked on at once."""


class RankSums(NamedTuple):
    """Of K domains and G genes, each domain against others."""

    z: NDArray[np.float64]
    """How many standard deviations the rank sum lies above chance, corrected for ties; shape (K, G). 0 where all values
    are the same."""
    auc: NDArray[np.float64]
    """Share of the pairs of a place inside and one outside in which the one inside has more, ties by half; (K, G)."""


def rank_sums(
    values: sparse.csc_matrix[Any], codes: NDArray[np.intp], others: list[NDArray[np.bool_]]
) -> list[RankSums]:
    """Compare each domain with others, for every gene.

    The table of distinct values × domains of a gene gives, for all pairs of domains at once, in how many pairs of
    places the one has more; what a domain is compared with is then a sum over domains.

    Parameters
    ----------
    values
        Not negative and without stored zeros, shape (N, G).
    codes
        Domain of each place from 0 to K − 1, shape (N,).
    others
        For each comparison, whether domain j (column) is among what domain k (row) is compared with, shape (K, K).

    Returns
    -------
    For each comparison. A domain that is compared with nothing has NaN.
    """
    n_of = np.bincount(codes, minlength=len(others[0]))
    together = [other | np.eye(len(other), dtype=bool) for other in others]
    wins = np.empty((len(others), len(n_of), values.shape[1]))
    ties = np.empty_like(wins)
    for gene in range(values.shape[1]):
        own = slice(values.indptr[gene], values.indptr[gene + 1])
        pairs, tied = _pairs(values.data[own], codes[values.indices[own]], n_of, together)
        for i, other in enumerate(others):
            wins[i, :, gene] = (pairs * other).sum(axis=1)
        ties[:, :, gene] = tied
    return [_scored(wins[i], ties[i], n_of, other) for i, other in enumerate(others)]


def _pairs(
    values: NDArray[Any], codes: NDArray[np.intp], n_of: NDArray[np.intp], together: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count, of one gene, pairs of places in which the first has more, (K, K), and Σ(t³ − t), (comparisons, K)."""
    n_domains = len(n_of)
    order = np.argsort(values)
    ascending = values[order]
    distinct = np.cumsum(np.diff(ascending, prepend=ascending[:1]) > 0)
    cells = distinct * n_domains + codes[order]
    n_distinct = int(distinct[-1]) + 1 if len(distinct) else 0
    below = (n_of - np.bincount(codes, minlength=n_domains)).astype(np.float64)  # places with zero, the lowest value
    pairs = np.outer(below, below) / 2
    tied = np.stack([_tied(below[None], union) for union in together])
    step = max(_CELLS_AT_ONCE // n_domains, 1)
    for start in range(0, n_distinct, step):
        stop = min(start + step, n_distinct)
        inside = slice(*np.searchsorted(cells, [start * n_domains, stop * n_domains]))
        shape = (stop - start, n_domains)
        counted = np.bincount(cells[inside] - start * n_domains, minlength=shape[0] * shape[1])
        table = counted.reshape(shape).astype(np.float64)
        up_to = below + np.cumsum(table, axis=0)
        pairs += table.T @ (up_to - table / 2)
        tied += np.stack([_tied(table, union) for union in together])
        below = up_to[-1]
    return pairs, tied


def _tied(table: NDArray[np.float64], union: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum t³ − t over the distinct values, for each union of domains; shape (K,)."""
    t = table @ union.T.astype(np.float64)
    return np.asarray((t**3 - t).sum(axis=0))


def _scored(
    wins: NDArray[np.float64], ties: NDArray[np.float64], n_of: NDArray[np.intp], others: NDArray[np.bool_]
) -> RankSums:
    """Turn counts of pairs, (K, G), into z and the area under the curve."""
    n, m = n_of[:, None].astype(np.float64), (others @ n_of.astype(np.float64))[:, None]
    total = n + m
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
        z = (wins - n * m / 2) / np.sqrt(variance)
        auc = wins / (n * m)
    # round-off may leave a trace of variance where all values are the same
    same = ties >= total**3 - total
    return RankSums(np.where(same & (m > 0), 0.0, np.where(m > 0, z, np.nan)), auc)
