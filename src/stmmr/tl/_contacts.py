"""Neighbourhoods of domains, compared between groups of sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError
from stmmr._core.depends import depends
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.options import checked
from stmmr._core.record import record
from stmmr._core.sections import laid_apart, sections_of
from stmmr._core.space import coordinates
from stmmr.tl.designs import section_design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from stmmr._core.types import Float64

PSEUDO: Final = 0.5
"""Pseudo-count of observed and expected contacts, so that their ratio is finite."""
SECTIONS_AT_LEAST: Final = 0.5
"""Share of the sections that a domain must be in."""


@checked
def compare_contacts(
    adata: AnnData,
    section_key: str,
    *,
    group_key: str,
    covariates: Sequence[str] = (),
    donor_key: str | None = None,
    domain_key: str = keys.DOMAIN,
    n_neighbors: int = 6,
) -> None:
    """Test whether groups of sections differ in which domains are neighbours.

    In each section, the pairs of neighbouring spots of two domains are counted, and divided by the number expected if
    the same domains were scattered at random. The logarithms of these ratios are compared between groups as in
    `stmmr.tl.compare_composition`, with sections as replicates. A domain with itself tells how compact it is: the lower
    the ratio, the more borders it has.

    Parameters
    ----------
    adata
        With domains and coordinates.
    group_key, covariates, donor_key
        As in `stmmr.tl.compare_composition`.
    n_neighbors
        Number of nearest neighbours of a spot.

    Returns
    -------
    None. Sets:

    ``uns["stmmr_contact_tests"]``
        DataFrame with a row for each pair of domains: ``domain`` and ``other``; ``log2_ratio_…``, the mean of log₂
        (observed / expected) in each group; ``statistic``; ``pval``; ``pval_adj`` (Benjamini and Hochberg, over pairs).
        Domains in less than half of the sections are left out.
    ``uns["stmmr"]["contact_tests"]``
        Parameters.

    Raises
    ------
    InputError
        As in `stmmr.tl.compare_composition`; or if there are no coordinates, or no domain is in half of the sections.
    """
    compared = section_design(adata, section_key, group_key=group_key, covariates=covariates, donor_key=donor_key)
    ratios = contact_ratios(adata, section_key, domain_key=domain_key, n_neighbors=n_neighbors).loc[
        compared.group.index
    ]
    pairs = ratios.columns
    table = pd.DataFrame(
        {
            "domain": [pair[0] for pair in pairs],
            "other": [pair[1] for pair in pairs],
            **compared.tested(ratios, ratios, name="log2_ratio"),
        }
    )
    adata.uns[keys.CONTACT_TESTS] = table.set_axis(table.index.astype(str))
    columns = {"domain_key": domain_key, "section_key": section_key, "group_key": group_key}
    linked = {"covariates": list(covariates), "donor_key": donor_key or "", "n_neighbors": n_neighbors}
    record(adata, contact_tests=columns | linked)
    sources = [f"obs:{name}" for name in (*columns.values(), *covariates, donor_key) if name]
    depends(adata, "contact_tests", on=sources, writes=[f"uns:{keys.CONTACT_TESTS}", "notes:contact_tests"])


def contact_ratios(adata: AnnData, section_key: str, *, domain_key: str, n_neighbors: int) -> pd.DataFrame:
    """Compute log₂ (observed / expected) contacts of each pair of domains in each section.

    Returns
    -------
    A row for each section, a column for each pair (domain, other).
    """
    sections, domains = sections_of(adata, section_key), categories(adata, domain_key)
    assert sections is not None  # noqa: S101 - the key is given
    n_sections, n_domains = len(sections.categories), len(domains.categories)
    pairs = np.zeros((n_sections, n_domains, n_domains))
    codes, section = domains.codes.astype(np.intp), sections.codes.astype(np.intp)
    for spots, near in nearest_in_chunks(laid_apart(coordinates(adata), sections), n_neighbors):
        spot = np.repeat(spots, n_neighbors)
        other = near.ravel()
        inside = (section[spot] == section[other]) & (codes[spot] >= 0) & (codes[other] >= 0)
        np.add.at(pairs, (section[spot[inside]], codes[spot[inside]], codes[other[inside]]), 1)
    sizes = np.zeros((n_sections, n_domains))
    known = codes >= 0
    np.add.at(sizes, (section[known], codes[known]), 1)
    kept = np.flatnonzero((sizes > 0).mean(axis=0) >= SECTIONS_AT_LEAST)
    if not len(kept):
        raise InputError("Expected domains that are in half of the sections or more, found none.")
    observed, expected = _both_ways(pairs), _expected(pairs, sizes)
    ratios = np.log2((observed + PSEUDO) / (expected + PSEUDO))
    names = domains.categories.astype(str)
    first, second = (kept[index] for index in np.triu_indices(len(kept)))
    columns = [(names[a], names[b]) for a, b in zip(first, second, strict=True)]
    return pd.DataFrame(ratios[:, first, second], index=sections.categories).set_axis(
        pd.Index(columns, tupleize_cols=False), axis=1
    )


def _both_ways(pairs: Float64) -> Float64:
    """Count pairs of two domains whichever is the neighbour of the other, shape (S, K, K)."""
    both = pairs + pairs.transpose(0, 2, 1)
    diagonal = np.arange(pairs.shape[1])
    both[:, diagonal, diagonal] /= 2
    return np.asarray(both)


def _expected(pairs: Float64, sizes: Float64) -> Float64:
    """Compute the pairs expected if domains of these sizes were scattered at random, shape (S, K, K)."""
    share = sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1)
    return _both_ways(pairs.sum(axis=(1, 2))[:, None, None] * share[:, :, None] * share[:, None, :])
