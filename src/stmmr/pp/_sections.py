"""Several sections in one table: which place is of which, and where they lie so that none touches another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._record import recorded
from stmmr._validate import InputError, coordinates, require_key

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

GAP: Final = 100
"""Distance between sections, over the largest extent of the data."""


def sections_of(adata: AnnData, section_key: str | None) -> pd.Categorical | None:
    """Get the section of each place, checked; None without a key.

    Raises
    ------
    InputError
        If there is no such column, or a place has no section.
    """
    if section_key is None:
        return None
    require_key(adata.obs.columns, section_key, where="obs")
    sections = pd.Categorical(adata.obs[section_key]).remove_unused_categories()
    missing = int((sections.codes < 0).sum())
    if missing:
        raise InputError(
            f"Expected a section at every place in obs[{section_key!r}], found {missing} of {adata.n_obs} without one. "
            "Name them or drop these places first."
        )
    return sections


def graph_sections(adata: AnnData) -> pd.Categorical | None:
    """Get the sections that the spatial graph keeps apart; None where it was made without."""
    return sections_of(adata, recorded(adata).get("spatial_graph", {}).get("section_key") or None)


def laid_apart(xy: NDArray[np.float64], sections: pd.Categorical | None) -> NDArray[np.float64]:
    """Move sections away from each other, along x; coordinates of shape (N, 2)."""
    if sections is None:
        return xy
    return xy + np.outer(sections.codes, [GAP * max(float(np.ptp(xy, axis=0).max()), 1), 0])


def tissue_coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places, checked, with the sections of the spatial graph laid apart."""
    return laid_apart(coordinates(adata), graph_sections(adata))


def centred(values: NDArray[Any], sections: pd.Categorical | None) -> NDArray[Any]:
    """Take the mean of each section off its places, shape (N, F)."""
    if sections is None:
        return values
    values = values.copy()
    for code in range(len(sections.categories)):
        values[sections.codes == code] -= values[sections.codes == code].mean(axis=0)
    return values
