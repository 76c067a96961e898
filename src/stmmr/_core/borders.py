"""Neighbouring domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.pieces import gap_of, on_one_piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr._core.types import Bools, Float64, Ints

NEIGHBOURS_AT_MOST: Final = 3
"""Number of neighbouring domains that a domain is compared with, as published (Hu et al. 2021)."""


def contacts(xy: Float64, codes: Ints, sections: Ints, *, n_domains: int, n_neighbors: int) -> NDArray[np.int64]:
    """Count, among the nearest neighbours of the spots of each domain (row), the spots of each domain (column), (K, K).

    `codes` are the domains of the spots, −1 for none. Spots of different `sections` or on two sides of a gap are no
    neighbours.
    """
    counted, gap = np.zeros(n_domains**2, dtype=np.int64), gap_of(xy)
    for spots, neighbors in nearest_in_chunks(xy, min(n_neighbors, len(xy) - 1)):
        own, other = np.broadcast_arrays(codes[spots, None], codes[neighbors])
        known = (own >= 0) & (other >= 0) & (sections[spots, None] == sections[neighbors])
        known &= on_one_piece(xy, spots, neighbors, gap)
        counted += np.bincount(own[known] * n_domains + other[known], minlength=n_domains**2)
    return counted.reshape(n_domains, n_domains)


def neighboring_domains(contact: NDArray[np.int64], sizes: Ints, *, min_contact: float) -> Bools:
    """Find the neighbouring domains (columns) of each domain (row), shape (K, K), as SpaGCN does (Hu et al. 2021).

    They are domains with more contacts than `min_contact` times their number of spots (`sizes`), at most the three with
    most contacts. If there is none, it is the one with most contacts. A domain without contacts has no neighbour.
    """
    contact = np.where(np.eye(len(contact), dtype=bool), 0, contact)
    enough = contact > min_contact * sizes
    most = (contact == contact.max(axis=1, keepdims=True)) & (contact > 0)
    neighbours = np.where(enough.any(axis=1, keepdims=True), enough, most)
    rank = np.argsort(np.argsort(-np.where(neighbours, contact, -1), axis=1, kind="stable"), axis=1)
    allowed = np.where(enough.any(axis=1, keepdims=True), NEIGHBOURS_AT_MOST, 1)
    return np.asarray(neighbours & (rank < allowed))
