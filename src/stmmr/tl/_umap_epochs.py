"""The epochs of UMAP, compiled once for all processes: those of umap-learn are compiled again in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from stmmr._core.types import Float64, Ints

NEGATIVES: Final = 5
"""Spots that are pushed away for each neighbour that is drawn near."""
FARTHEST: Final = 4.0
"""Longest step along an axis."""


@njit(cache=True, fastmath=True)
def run_epochs(
    layout: Float64, heads: Ints, tails: Ints, interval: Float64, a: float, b: float, n_epochs: int, seed: int
) -> None:
    """Move a layout, shape (N, 2), in place by the stochastic gradient descent of UMAP.

    Each edge from one of `heads` to one of `tails` is drawn every `interval` epochs. 1 / (1 + a d²ᵇ) is the weight of
    two spots at the distance d.
    """
    n, state = len(layout), np.uint64(seed)
    due, due_negative = interval.copy(), interval / NEGATIVES
    for epoch in range(n_epochs):
        rate = 1.0 - epoch / n_epochs
        for edge in range(len(heads)):
            if due[edge] > epoch:
                continue
            head, tail = heads[edge], tails[edge]
            square = (layout[head, 0] - layout[tail, 0]) ** 2 + (layout[head, 1] - layout[tail, 1]) ** 2
            if square > 0:
                power = square ** (b - 1)
                pull = -2 * a * b * power / (1 + a * power * square)
                for axis in range(2):
                    step = pull * (layout[head, axis] - layout[tail, axis])
                    step = rate * min(max(step, -FARTHEST), FARTHEST)
                    layout[head, axis] += step
                    layout[tail, axis] -= step
            due[edge] += interval[edge]
            n_negative = int((epoch - due_negative[edge]) * NEGATIVES / interval[edge])
            for _ in range(n_negative):
                state ^= state << np.uint64(13)  # xorshift
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                other = int(state % np.uint64(n))
                square = (layout[head, 0] - layout[other, 0]) ** 2 + (layout[head, 1] - layout[other, 1]) ** 2
                if square <= 0:
                    continue
                push = 2 * b / ((0.001 + square) * (1 + a * square**b))
                for axis in range(2):
                    step = push * (layout[head, axis] - layout[other, axis])
                    layout[head, axis] += rate * min(max(step, -FARTHEST), FARTHEST)
            due_negative[edge] += n_negative * interval[edge] / NEGATIVES
