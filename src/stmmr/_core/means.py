"""Weighted means of neighbours by compiled loops: A·F, a row at a time, without A."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.caches import provide_caches

provide_caches()

from numba import njit  # noqa: E402 - it reads where its cache is when it is imported

if TYPE_CHECKING:
    from stmmr._core.types import Float32, Float64, Floats, Ints

STRIPS: Final = 2
"""Strips of the tissue within the reach of the kernel; neighbours are searched in as many on either side."""


def mean_twice(xy: Float64, features: Floats, rows: Ints, *, bandwidth: float, reach: float) -> Float32:
    """Compute some rows of A(A·F), where spots farther than `reach` are no neighbours.

    Parameters
    ----------
    xy
        Coordinates, shape (n, 2 or 3).
    features
        F, shape (n, f).
    rows
        Which rows, shape (t,).

    Returns
    -------
    Shape (t, f).
    """
    order, first, last = _candidates(xy, reach)
    xy, features = xy[order], features[order].astype(np.float32, copy=False)
    place = np.empty(len(xy), np.intp)
    place[order] = np.arange(len(xy))
    once = _means(xy, features, np.arange(len(xy)), first, last, bandwidth, reach)
    return np.asarray(_means(xy, once, place[rows], first, last, bandwidth, reach))


def _candidates(xy: Float64, reach: float) -> tuple[Ints, Ints, Ints]:
    """Sort spots by strips across the first axis, and within each along the second one.

    Returns
    -------
    The order of the spots, shape (n,), and for each of the sorted spots where the candidates for its neighbours start
    and end in each strip around it, shape (n, strips).
    """
    strip = np.floor(xy[:, 0] * (STRIPS / reach))
    order = np.lexsort((xy[:, 1], strip))
    y = xy[order, 1]
    strips, starts = np.unique(strip[order], return_index=True)
    ends = np.append(starts[1:], len(y))
    bounds = np.zeros((2, len(y), 2 * STRIPS + 1), np.intp)
    for own, middle in enumerate(strips):
        spots = slice(starts[own], ends[own])
        around = np.flatnonzero(np.abs(strips[max(own - STRIPS, 0) : own + STRIPS + 1] - middle) <= STRIPS)
        for i, other in enumerate(around + max(own - STRIPS, 0)):
            within = y[starts[other] : ends[other]]
            bounds[0, spots, i] = starts[other] + within.searchsorted(y[spots] - reach)
            bounds[1, spots, i] = starts[other] + within.searchsorted(y[spots] + reach, side="right")
    return order, bounds[0], bounds[1]


@njit(nogil=True, cache=True)
def _means(
    xy: Float64, features: Float32, rows: Ints, first: Ints, last: Ints, bandwidth: float, reach: float
) -> Float32:  # pragma: no cover - compiled
    """Compute rows of A·F from the candidates of each spot; a spot has twice the weight of one at its position."""
    most = (last - first).sum(axis=1).max()
    near, weight = np.empty(most, np.intp), np.empty(most)
    means = np.empty((len(rows), features.shape[1]), np.float32)
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
        own = np.float32(1 / total)
        for f in range(features.shape[1]):
            means[t, f] = own * features[i, f]
        for k in range(n):
            j, share = near[k], np.float32(weight[k] / total)  # read once, outside of the loop
            for f in range(features.shape[1]):
                means[t, f] += share * features[j, f]
    return means
