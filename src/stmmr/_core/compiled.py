"""Compiled loops, for what NumPy and SciPy would do with far more memory or time. Functions hold no lock of Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from stmmr._core.caches import provide_caches

provide_caches()

from numba import njit  # noqa: E402 - it reads where its cache is when it is imported

if TYPE_CHECKING:
    from collections.abc import Callable

    from stmmr._core.types import Float32, Float64, Ints, Numbers

Loop = TypeVar("Loop", bound="Callable[..., object]")


def compiled(function: Loop) -> Loop:
    """Compile a function when it is first called; later processes read it from a cache."""
    return cast("Loop", njit(nogil=True, cache=True)(function))


@compiled
def means_of_neighbours(
    xy: Float64, features: Float32, rows: Ints, first: Ints, last: Ints, bandwidth: float, reach: float
) -> tuple[Float32, Float64]:  # pragma: no cover - compiled
    """Compute rows of A·F and the sums of their weights; see `stmmr._core.means`.

    Candidates for the neighbours of a spot are from `first` to before `last` in each strip, shape (n, strips). A spot
    has twice the weight of one at its position.
    """
    most = (last - first).sum(axis=1).max()
    near, weight = np.empty(most, np.intp), np.empty(most)
    means, totals = np.empty((len(rows), features.shape[1]), np.float32), np.empty(len(rows))
    for t, i in enumerate(rows):
        n = 0
        for strip in range(first.shape[1]):
            for j in range(first[i, strip], last[i, strip]):
                squared = 0.0
                for axis in range(xy.shape[1]):
                    squared += (xy[j, axis] - xy[i, axis]) ** 2
                near[n], weight[n] = j, squared
                n += squared <= reach * reach
        total = 1.0
        for k in range(n):
            weight[k] = np.exp(-weight[k] / (2 * bandwidth * bandwidth))
            total += weight[k]
        totals[t] = total
        own = np.float32(1 / total)
        for f in range(features.shape[1]):
            means[t, f] = own * features[i, f]
        for k in range(n):
            j, share = near[k], np.float32(weight[k] / total)  # read once, outside of the loop
            for f in range(features.shape[1]):
                means[t, f] += share * features[j, f]
    return means, totals


@compiled
def add_products_of_columns(
    columns: Numbers, values: Float64, order: Ints, stop: Numbers, products: Float64
) -> None:  # pragma: no cover - compiled
    """Add the upper triangle of XᵀX to `products`, shape (G, G), for a sparse X by rows, whose columns ascend in each.

    Parameters
    ----------
    columns, values
        Of the entries, shape (nnz,).
    order, stop
        The entries, column by column, and where the row of each ends, shape (nnz,).
    """
    for k, entry in enumerate(order):
        value, own = values[entry], products[columns[entry]]
        for other in range(entry, stop[k]):
            own[columns[other]] += value * values[other]


@compiled
def moments_over_neighbours(
    begins: Ints,
    spots: Ints,
    values: Float32,
    ends: Ints,
    neighbours: Ints,
    weights: Float64,
    of_spot: Float64,
    section: Ints,
) -> Float64:  # pragma: no cover - compiled
    """Compute Σz², Σz⁴ and ΣΣ w z z over each section, shape (3, S, G), of genes relative to their means there.

    Genes are columns of a sparse matrix: gene g has `values` at `spots` from ``begins[g]`` to ``begins[g + 1]``. Spot i
    has `neighbours` with `weights` from ``ends[i]`` to ``ends[i + 1]``, all in its `section`. The weights that begin or
    end at a spot sum to `of_spot`.
    """
    n, n_genes, n_sections = len(section), len(begins) - 1, section.max() + 1
    sums, whole, sizes = np.zeros((3, n_sections, n_genes)), np.zeros(n_sections), np.zeros(n_sections)
    for i in range(n):
        whole[section[i]] += of_spot[i] / 2
        sizes[section[i]] += 1
    value, seen = np.zeros(n, np.float32), np.zeros(n_sections, np.intp)
    mean, low, high = np.zeros(n_sections), np.zeros(n_sections), np.zeros(n_sections)
    for gene in range(n_genes):
        own = range(begins[gene], begins[gene + 1])
        seen[:], mean[:], low[:], high[:] = 0, 0, np.inf, -np.inf
        for k in own:
            s, x = section[spots[k]], values[k]
            value[spots[k]] = x
            seen[s] += 1
            mean[s] += x
            low[s], high[s] = min(low[s], x), max(high[s], x)
        by_spot = 4 * len(own) > n  # otherwise, products without the zeros are exact enough
        for s in range(n_sections):
            if seen[s] < sizes[s]:
                low[s], high[s] = min(low[s], 0), max(high[s], 0)
            mean[s] /= sizes[s]
            squared = mean[s] ** 2
            sums[0, s, gene] = (sizes[s] - seen[s]) * squared
            sums[1, s, gene] = (sizes[s] - seen[s]) * squared * squared
            sums[2, s, gene] = 0 if by_spot else squared * whole[s]
        for k in own:
            i = spots[k]
            s = section[i]
            squared = (values[k] - mean[s]) ** 2
            sums[0, s, gene] += squared
            sums[1, s, gene] += squared * squared
            if not by_spot:
                around = -mean[s] * of_spot[i]
                for j in range(ends[i], ends[i + 1]):
                    around += weights[j] * value[neighbours[j]]
                sums[2, s, gene] += values[k] * around
        if by_spot:
            for i in range(n):
                s, around = section[i], 0.0
                for j in range(ends[i], ends[i + 1]):
                    around += weights[j] * (value[neighbours[j]] - mean[s])
                sums[2, s, gene] += (value[i] - mean[s]) * around
        for k in own:
            value[spots[k]] = 0
        for s in range(n_sections):
            if low[s] == high[s]:  # round-off would look like a pattern
                sums[:, s, gene] = 0
    return sums


@compiled
def sums_by_group(
    begins: Numbers, spots: Numbers, values: Float32, group: Ints, n_groups: int
) -> Float64:  # pragma: no cover - compiled
    """Sum 1, x and exp(x) − 1 over the values of each gene in each group of spots, shape (3, groups, G).

    Genes are columns of a sparse matrix, as in `moments_over_neighbours`.
    """
    sums = np.zeros((3, n_groups, len(begins) - 1))
    for gene in range(len(begins) - 1):
        for k in range(begins[gene], begins[gene + 1]):
            own, value = group[spots[k]], np.float64(values[k])
            sums[0, own, gene] += 1
            sums[1, own, gene] += value
            sums[2, own, gene] += np.expm1(value)
    return sums
