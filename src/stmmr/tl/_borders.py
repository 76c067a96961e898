"""Which domains border which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.kernel import nearest_in_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS_AT_MOST: Final = 3
"""Neighbouring domains that a domain is compared with, as published (Hu et al. 2021)."""


def contacts(
    xy: NDArray[np.float64], codes: NDArray[np.intp], sections: NDArray[np.intp], *, n_domains: int, n_neighbors: int
) -> NDArray[np.int64]:
    """Count the places of each domain (column) among the nearest places of those of each domain (row).

    Parameters
    ----------
    xy
        Coordinates, shape (N, 2).
    codes
        Domain of each place, −1 for none; shape (N,).
    sections
        Section of each place, shape (N,): places of another are no neighbours.
    n_domains
        K.
    n_neighbors
        Nearest places that count; all others where there are fewer.

    Returns
    -------
    Shape (K, K).
    """
    counted = np.zeros(n_domains**2, dtype=np.int64)
    for places, near in nearest_in_chunks(xy, min(n_neighbors, len(xy) - 1)):
        own, other = np.broadcast_arrays(codes[places, None], codes[near])
        known = (own >= 0) & (other >= 0) & (sections[places, None] == sections[near])
        counted += np.bincount(own[known] * n_domains + other[known], minlength=n_domains**2)
    return counted.reshape(n_domains, n_domains)


def neighboring_domains(contact: NDArray[np.int64], n_of: NDArray[np.intp], *, min_contact: float) -> NDArray[np.bool_]:
    """Tell which domains are neighbours of each, as SpaGCN does (Hu et al. 2021).

    Those with more contacts than `min_contact` times their places, at most the three with most; where none has as many,
    the one with most.

    Parameters
    ----------
    contact
        As `contacts` counts them, shape (K, K).
    n_of
        Places of each domain, shape (K,).
    min_contact
        Contacts for each place of the other domain.

    Returns
    -------
    Whether domain j (column) is a neighbour of domain k (row), shape (K, K). A domain that touches none has none.
    """
    contact = np.where(np.eye(len(contact), dtype=bool), 0, contact)
    enough = contact > min_contact * n_of
    most = (contact == contact.max(axis=1, keepdims=True)) & (contact > 0)
    neighbours = np.where(enough.any(axis=1, keepdims=True), enough, most)
    rank = np.argsort(np.argsort(-np.where(neighbours, contact, -1), axis=1, kind="stable"), axis=1)
    allowed = np.where(enough.any(axis=1, keepdims=True), NEIGHBOURS_AT_MOST, 1)
    return np.asarray(neighbours & (rank < allowed))
