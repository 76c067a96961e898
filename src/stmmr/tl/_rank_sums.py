"""Wilcoxon rank sums of every domain against others, for values that are mostly zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from stmmr._core.types import Bools, Csc, Float64, Ints, Numbers

_CELLS_AT_ONCE: Final = 2**20
"""Entries of the table of distinct values × domains that are processed at once."""


class RankSums(NamedTuple):
    """Comparison of each of K domains with others, for G genes."""

    z: Float64
    """Rank sum in standard deviations above its expectation, corrected for ties, shape (K, G); 0 if all values are the
    same."""
    auc: Float64
    """Share of pairs of a spot inside and one outside in which the first is larger, ties counted half, (K, G)."""


def rank_sums(values: Csc, codes: Ints, others: list[Bools]) -> list[RankSums]:
    """Compare each domain with others, for every gene.

    For a gene, the table of distinct values × domains gives the number of pairs of spots in which one domain has the
    larger value, for all pairs of domains. A comparison with several domains is a sum of these numbers.

    Parameters
    ----------
    values
        Not negative and without stored zeros, shape (N, G).
    codes
        Domain of each spot from 0 to K − 1, shape (N,).
    others
        For each comparison, whether domain k (row) is compared with domain j (column), shape (K, K); with none: NaN.
    """
    sizes = np.bincount(codes, minlength=len(others[0]))
    together = [other | np.eye(len(other), dtype=bool) for other in others]
    wins = np.empty((len(others), len(sizes), values.shape[1]))
    ties = np.empty_like(wins)
    for gene in range(values.shape[1]):
        own = slice(values.indptr[gene], values.indptr[gene + 1])
        pairs, tied = _pairs(values.data[own], codes[values.indices[own]], sizes, together)
        for i, other in enumerate(others):
            wins[i, :, gene] = (pairs * other).sum(axis=1)
        ties[:, :, gene] = tied
    return [_scored(wins[i], ties[i], sizes, other) for i, other in enumerate(others)]


def _pairs(values: Numbers, codes: Ints, sizes: Ints, together: list[Bools]) -> tuple[Float64, Float64]:
    """Count for one gene the pairs of spots with a larger first value, (K, K), and Σ(t³ − t), (comparisons, K)."""
    n_domains = len(sizes)
    order = np.argsort(values)
    ascending = values[order]
    distinct = np.cumsum(np.diff(ascending, prepend=ascending[:1]) > 0)
    cells = distinct * n_domains + codes[order]
    n_distinct = int(distinct[-1]) + 1 if len(distinct) else 0
    below = (sizes - np.bincount(codes, minlength=n_domains)).astype(np.float64)  # spots with 0, the lowest value
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


def _tied(table: Float64, union: Bools) -> Float64:
    """Sum t³ − t over the distinct values, for each union of domains; shape (K,)."""
    t = table @ union.T.astype(np.float64)
    return np.asarray((t * t * t - t).sum(axis=0))  # t**3 is a power of floats, and slow


def _scored(wins: Float64, ties: Float64, sizes: Ints, others: Bools) -> RankSums:
    """Convert numbers of pairs, (K, G), into z and the area under the curve."""
    n, m = sizes[:, None].astype(np.float64), (others @ sizes.astype(np.float64))[:, None]
    total = n + m
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
        z = (wins - n * m / 2) / np.sqrt(variance)
        auc = wins / (n * m)
    # round-off may leave a small variance if all values are the same
    same = ties >= total**3 - total
    return RankSums(np.where(same & (m > 0), 0.0, np.where(m > 0, z, np.nan)), auc)
