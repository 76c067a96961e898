"""Pieces of tissue: neighbours on the other side of a gap are no neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.rows import slices
from stmmr._core.space import spacing

if TYPE_CHECKING:
    from stmmr._core.types import Bools, Float64, Ints

GAP: Final = 3.0
"""Distance, in distances between spots, that separates pieces."""
PAIRS: Final = 2**22
"""Pairs of neighbours that are compared at once."""


def gap_of(xy: Float64) -> float:
    """Get the distance that separates pieces, from coordinates of shape (N, 2): three distances between spots."""
    # sorted, because it is measured from every so many spots; the second nearest, as the nearest cells may almost touch
    distance = spacing(xy[np.lexsort(xy.T)], nth=2)
    return np.inf if distance is None else GAP * distance


def on_one_piece(xy: Float64, spots: Ints, neighbors: Ints, gap: float) -> Bools:
    """Check which neighbours of spots, (n, k), are reached from neighbour to neighbour without a step wider than a gap.

    Parameters
    ----------
    xy
        Coordinates, shape (N, 2).
    spots, neighbors
        Indices of spots, shape (n,), and of the neighbours of each, shape (n, k).
    gap
        Widest step.
    """
    reached: Bools = np.linalg.norm(xy[neighbors] - xy[spots, None], axis=2) <= gap
    far = np.flatnonzero(~reached.all(axis=1) & reached.any(axis=1))
    for rows in slices(len(far), max(1, PAIRS // neighbors.shape[1] ** 2)):
        part = far[rows]
        near = xy[neighbors[part]]  # (m, k, 2)
        linked = np.linalg.norm(near[:, :, None] - near[:, None], axis=3) <= gap
        while ((more := (linked & reached[part][:, None]).any(axis=2)) & ~reached[part]).any():
            reached[part] |= more
    return reached
