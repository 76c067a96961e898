"""Weighted means of neighbours by compiled loops: A·F, a row at a time, without A."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.compiled import means_of_neighbours
from stmmr._core.parallel import in_threads
from stmmr._core.rows import slices

if TYPE_CHECKING:
    from stmmr._core.types import Float32, Float64, Floats, Ints

PART: Final = 2_048
"""Rows that a thread computes at a time."""
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
    once, _ = means_of_neighbours(xy, features, np.arange(len(xy)), first, last, bandwidth, reach)
    return np.asarray(means_of_neighbours(xy, once, place[rows], first, last, bandwidth, reach)[0])


def mean_twice_with_share(xy: Float64, features: Floats, *, bandwidth: float, reach: float) -> tuple[Float32, Float64]:
    """Compute A(A·F) of all rows, shape (n, f), and the diagonal of A², shape (n,): the share that each row has in it.

    With the kernel k and its sums s, A²ᵢᵢ = Σⱼ kᵢⱼ² / (sᵢ sⱼ), and k² is the kernel of a bandwidth that is √2 smaller.
    """
    order, first, last = _candidates(xy, reach)
    xy, features = xy[order], features[order].astype(np.float32, copy=False)
    once, total = _in_parts(xy, features, first, last, bandwidth, reach)
    twice, _ = _in_parts(xy, once, first, last, bandwidth, reach)
    inverse = (1 / total)[:, None].astype(np.float32)
    squares, narrow = _in_parts(xy, inverse, first, last, bandwidth / math.sqrt(2), reach)
    smooth, own = np.empty_like(twice), np.empty(len(xy))
    smooth[order] = twice
    own[order] = (squares[:, 0] * narrow + 2 / total) / total  # a spot's own weight is 2, and its square 4
    return smooth, own


def _in_parts(xy: Float64, features: Float32, first: Ints, last: Ints, *kernel: float) -> tuple[Float32, Float64]:
    """Compute all rows, several parts of them in parallel."""
    parts = ((np.arange(part.start, part.stop), first, last, *kernel) for part in slices(len(xy), PART))
    means, totals = zip(*in_threads(partial(means_of_neighbours, xy, features), parts), strict=True)
    return np.concatenate(means), np.concatenate(totals)


def _candidates(xy: Float64, reach: float) -> tuple[Ints, Ints, Ints]:
    """Sort spots by strips across the first axis, and within each along the second one.

    Returns
    -------
    The order of the spots, shape (n,), and for each of the sorted spots where the candidates for its neighbours start
    and end in each strip around it, shape (n, strips).
    """
    strip = np.floor(xy[:, 0] * (STRIPS / reach))
    order = np.lexsort((xy[:, 0], xy[:, 1], strip))  # whatever the order of the rows
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
