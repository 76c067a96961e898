"""Several sections in one table: which place is of which, and where they lie so that none touches another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.record import recorded
from stmmr._core.space import coordinates, spacing

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

GAP: Final = 100
"""Distance between sections, over the largest extent of the data."""
PLACES_PER_SECTION: Final = 3
"""Fewest places of a section, on the mean over sections."""
UNIT_MISMATCH: Final = 1.5
"""Ratio of the distances between places of two sections from which on to warn that their units may differ."""
LOOKED_AT: Final = 10_000
"""Places whose nearest are found to tell labels from sections."""
ADJOINING: Final = 3.0
"""How far the six neighbours of a place are at most, in distances between places."""
TOUCHING: Final = 0.1
"""Share of the places that lie beside one of another name, from which on these look like labels of places."""
AS_FAR: Final = 0.8
"""Ratio of the distance to the nearest place of all to that of the same name, among the closest places: about 1 on one
piece of tissue, less where sections lie upon each other."""


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
    n = len(sections.categories)
    if n > 1 and adata.n_obs < PLACES_PER_SECTION * n:
        raise InputError(
            f"Expected the few sections of the data in obs[{section_key!r}], found {n} values at {adata.n_obs} places. "
            "Name the column that tells sections apart."
        )
    return sections


def check_frames(xy: NDArray[np.float64], sections: pd.Categorical | None, *, section_key: str | None) -> None:
    """Warn of what is plain from where sections lie: one only, different units, labels instead of sections.

    Parameters
    ----------
    xy
        Coordinates as given, shape (N, 2): each section in a frame of its own, or all in one.
    sections
        Of each place; without, nothing is checked.
    section_key
        Name of their column.
    """
    if sections is None:
        return
    if len(sections.categories) == 1:
        logger.warning("There is one section only in obs[%r], %s.", section_key, sections.categories[0])
        return
    every = {
        str(name): spacing(xy[sections.codes == code], at_most=None) for code, name in enumerate(sections.categories)
    }
    distances = {name: distance for name, distance in every.items() if distance is not None}
    if not distances:
        return
    widest, closest = (choose(distances, key=distances.__getitem__) for choose in (max, min))
    if distances[widest] > UNIT_MISMATCH * distances[closest]:
        logger.warning(
            "Places of %s lie %.1f times as far apart as those of %s: their coordinates may be in different units, and "
            "one bandwidth holds for all. stmmr.pp.concat_sections brings them to one unit where it is known.",
            widest,
            distances[widest] / distances[closest],
            closest,
        )
    if look_like_labels(xy, sections):
        logger.warning(
            "obs[%r] looks like labels of places instead of sections: places of %s lie beside each other on one piece "
            "of tissue. No edge joins them, and the mean of each is taken off. Name the column that tells sections "
            "apart, or give no section_key.",
            section_key,
            listed(sections.categories, at_most=3),
        )


def look_like_labels(xy: NDArray[np.float64], sections: pd.Categorical) -> bool:
    """Tell whether names are of places of one piece of tissue, and not of sections; coordinates of shape (N, 2).

    On one piece of tissue, many places lie beside one of another name, and none closer than two of one name do: cells
    and spots keep a distance. Sections lie apart, or in frames of their own; then two that lie upon each other have
    places at any distance down to none.
    """
    every = np.arange(len(xy))[:: -(-len(xy) // LOOKED_AT)]
    tree = cKDTree(xy)
    nearest = np.asarray(tree.query(xy[every], k=[2])[0]).ravel()
    own = np.full(len(xy), np.inf)
    for code in range(len(sections.categories)):
        mine = np.flatnonzero(sections.codes == code)
        if len(mine) > 1:
            own[mine] = np.asarray(cKDTree(xy[mine]).query(xy[mine], k=[2])[0]).ravel()
    pitch = float(np.median(nearest))
    as_far = np.quantile(nearest, 0.05) >= AS_FAR * np.quantile(own[every], 0.05)
    if not as_far or pitch == 0:
        return False
    near = tree.query(xy[every], k=min(7, len(xy)))
    beside = (near[0] <= ADJOINING * pitch) & (sections.codes[near[1]] != sections.codes[every, None])
    return bool(beside.any(axis=1).mean() > TOUCHING)


def section_key_of(adata: AnnData) -> str | None:
    """Get the column of ``obs`` whose sections the spatial graph keeps apart; None where it has none."""
    return str(recorded(adata).get("spatial_graph", {}).get("section_key") or "") or None


def graph_sections(adata: AnnData) -> pd.Categorical | None:
    """Get the sections that the spatial graph keeps apart; None where it was made without."""
    return sections_of(adata, section_key_of(adata))


def laid_apart(xy: NDArray[np.float64], sections: pd.Categorical | None) -> NDArray[np.float64]:
    """Move sections away from each other, along x; coordinates of shape (N, 2)."""
    if sections is None:
        return xy
    return xy + np.outer(sections.codes, [GAP * max(float(np.ptp(xy, axis=0).max()), 1), 0])


def tissue_coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places as the spatial graph has them, checked.

    Sections are laid apart, shape (N, 2), or stacked where the graph is of ``obsm["spatial_3d"]``, shape (N, 3).
    """
    if recorded(adata).get("spatial_graph", {}).get("use") == keys.SPATIAL_3D:
        return stacked_coordinates(adata)
    return laid_apart(coordinates(adata), graph_sections(adata))


def plane_coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places in which noise is measured: the sections of the spatial graph laid apart."""
    graph = recorded(adata).get("spatial_graph", {})
    sections = graph_sections(adata)
    stacked = graph.get("use") == keys.SPATIAL_3D
    return planes(adata, sections) if stacked else laid_apart(coordinates(adata), sections)


def planes(adata: AnnData, sections: pd.Categorical | None) -> NDArray[np.float64]:
    """Lay the sections of ``obsm["spatial_3d"]`` apart, shape (N, 2); without sections, (N, 3) as they are."""
    xyz = stacked_coordinates(adata)
    return xyz if sections is None else laid_apart(xyz[:, :2], sections)


def stacked_coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places in one frame of all sections, shape (N, 3), checked.

    Raises
    ------
    InputError
        If there are none, or one is not finite.
    """
    hint = "Put x, y and z in one unit there, or run stmmr.pp.align_sections(adata, 'section') first."
    require_key(adata.obsm, keys.SPATIAL_3D, where="obsm", hint=hint)
    xyz = np.asarray(adata.obsm[keys.SPATIAL_3D], dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"Expected obsm['spatial_3d'] with three columns (x, y, z), found shape {xyz.shape}.")
    missing = int((~np.isfinite(xyz).all(axis=1)).sum())
    if missing:
        raise InputError(
            f"Expected finite coordinates in obsm['spatial_3d'], found {missing} of {len(xyz)} places without. Drop "
            "these places first."
        )
    return xyz


def centred(values: NDArray[Any], sections: pd.Categorical | None) -> NDArray[Any]:
    """Take the mean of each section off its places, shape (N, F)."""
    if sections is None:
        return values
    values = values.copy()
    for code in range(len(sections.categories)):
        values[sections.codes == code] -= values[sections.codes == code].mean(axis=0)
    return values
