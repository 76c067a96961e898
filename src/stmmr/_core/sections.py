"""Several sections in one AnnData: the section of each spot, and coordinates that keep sections apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.record import recorded
from stmmr._core.space import coordinates, rows_called, spacing

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64, Ints, Numbers

GAP: Final = 100
"""Distance between sections, in multiples of the largest extent of the data."""
SPOTS_PER_SECTION: Final = 3
"""Fewest spots of a section, averaged over sections."""
UNIT_MISMATCH: Final = 1.5
"""Ratio of the spacing of two sections above which their units may differ."""
SAMPLED: Final = 10_000
"""Spots that are examined to tell labels from sections."""
ADJOINING: Final = 3.0
"""Largest distance of the six neighbours of a spot, in multiples of the spacing."""
TOUCHING: Final = 0.1
"""Share of spots with a neighbour of another name above which the names look like labels."""
AS_FAR: Final = 0.8
"""Distance to the nearest spot over that to the nearest of the same name, among the closest spots. It is about 1 on one
piece of tissue, and less if sections overlap."""


def sections_of(adata: AnnData, section_key: str | None) -> pd.Categorical | None:
    """Get the section of each spot, checked; None without a key.

    Raises InputError if there is no such column, a spot has no section, or there are nearly as many sections as spots.
    """
    if section_key is None:
        return None
    sections = categories(adata, section_key, fractions=True).remove_unused_categories()
    missing = int((sections.codes < 0).sum())
    if missing:
        raise InputError(
            f"Expected a section for all {rows_called(adata)} in obs[{section_key!r}], found {missing} of "
            f"{adata.n_obs} without one. Name their sections or remove them first."
        )
    n = len(sections.categories)
    if n > 1 and adata.n_obs < SPOTS_PER_SECTION * n:
        raise InputError(
            f"Expected the sections of the data in obs[{section_key!r}], found {n} different values for {adata.n_obs} "
            f"{rows_called(adata)}. Name the column that holds the sections."
        )
    return sections


def check_frames(xy: Float64, sections: pd.Categorical | None, *, section_key: str | None) -> None:
    """Warn if there is only one section, units seem to differ, or sections look like labels of spots.

    Parameters
    ----------
    xy
        Original coordinates, shape (N, 2): each section in its own frame, or all in one.
    sections
        Section of each spot; with None, nothing is checked.
    section_key
        Name of their column.
    """
    if sections is None:
        return
    if len(sections.categories) == 1:
        logger.warning("Only one section in obs[%r]: %s.", section_key, sections.categories[0])
        return
    spacings = {
        str(name): spacing(xy[sections.codes == code], at_most=None) for code, name in enumerate(sections.categories)
    }
    distances = {name: distance for name, distance in spacings.items() if distance is not None}
    if not distances:
        return
    widest, closest = (choose(distances, key=distances.__getitem__) for choose in (max, min))
    if distances[widest] > UNIT_MISMATCH * distances[closest]:
        logger.warning(
            "Neighbours in section %s are %.1f times as far apart as in %s: coordinates may be in different units, but "
            "all sections get one bandwidth. stmmr.pp.concat_sections converts known units to one.",
            widest,
            distances[widest] / distances[closest],
            closest,
        )
    if look_like_labels(xy, sections):
        logger.warning(
            "obs[%r] looks like labels instead of sections: %s are neighbours on one piece of tissue. With it, no edge "
            "of the graph joins them and each is centred by itself. Name the column that holds the sections "
            '(section_key="…", --section-key …), or leave it out.',
            section_key,
            listed(sections.categories, at_most=3),
        )


def look_like_labels(xy: Float64, sections: pd.Categorical) -> bool:
    """Check whether names are labels on one piece of tissue and not sections; coordinates of shape (N, 2).

    On one piece of tissue, many spots are beside one of another name, and none is closer to it than spots of one name
    are to each other. Sections are apart, or each has its own frame; two that overlap have spots at any distance.
    """
    sampled = np.arange(len(xy))[:: -(-len(xy) // SAMPLED)]
    tree = cKDTree(xy)
    nearest = np.asarray(tree.query(xy[sampled], k=[2])[0]).ravel()
    own = np.full(len(xy), np.inf)
    for code in range(len(sections.categories)):
        inside = np.flatnonzero(sections.codes == code)
        if len(inside) > 1:
            own[inside] = np.asarray(cKDTree(xy[inside]).query(xy[inside], k=[2])[0]).ravel()
    pitch = float(np.median(nearest))
    as_far = np.quantile(nearest, 0.05) >= AS_FAR * np.quantile(own[sampled], 0.05)
    if not as_far or pitch == 0:
        return False
    distance, neighbors = tree.query(xy[sampled], k=min(7, len(xy)))
    beside = (distance <= ADJOINING * pitch) & (sections.codes[neighbors] != sections.codes[sampled, None])
    return bool(beside.any(axis=1).mean() > TOUCHING)


def section_key_of(adata: AnnData) -> str | None:
    """Get the column of ``obs`` with the sections of the spatial graph; None if it was built without sections."""
    return str(recorded(adata).get("spatial_graph", {}).get("section_key") or "") or None


def graph_sections(adata: AnnData) -> pd.Categorical | None:
    """Get the sections that the spatial graph keeps apart; None if it was built without sections."""
    return sections_of(adata, section_key_of(adata))


def section_codes(sections: pd.Categorical | None, n_obs: int) -> Ints:
    """Get the number of the section of each spot, shape (n_obs,); 0 for all where there are no sections."""
    return np.zeros(n_obs, dtype=np.intp) if sections is None else np.asarray(sections.codes, dtype=np.intp)


def laid_apart(xy: Float64, sections: pd.Categorical | None) -> Float64:
    """Move sections away from each other, along x; coordinates of shape (N, 2)."""
    if sections is None:
        return xy
    return xy + np.outer(sections.codes, [GAP * max(float(np.ptp(xy, axis=0).max()), 1), 0])


def tissue_coordinates(adata: AnnData) -> Float64:
    """Get the coordinates that the spatial graph is built on, checked.

    Sections are moved apart, shape (N, 2), or stacked if the graph uses ``obsm["spatial_3d"]``, shape (N, 3).
    """
    if recorded(adata).get("spatial_graph", {}).get("use") == keys.SPATIAL_3D:
        return stacked_coordinates(adata)
    return laid_apart(coordinates(adata), graph_sections(adata))


def plane_coordinates(adata: AnnData) -> Float64:
    """Get the coordinates in which noise is measured: those of the spatial graph with its sections moved apart."""
    graph = recorded(adata).get("spatial_graph", {})
    sections = graph_sections(adata)
    stacked = graph.get("use") == keys.SPATIAL_3D
    return planes(adata, sections) if stacked else laid_apart(coordinates(adata), sections)


def planes(adata: AnnData, sections: pd.Categorical | None) -> Float64:
    """Move the sections of ``obsm["spatial_3d"]`` apart in one plane, (N, 2); without sections, (N, 3) as they are."""
    xyz = stacked_coordinates(adata)
    return xyz if sections is None else laid_apart(xyz[:, :2], sections)


def stacked_coordinates(adata: AnnData) -> Float64:
    """Get coordinates in one frame for all sections, shape (N, 3), checked.

    Raises InputError if there are none, or one is not finite.
    """
    hint = "Put x, y and z in one unit there, or run stmmr.pp.align_sections(adata, 'section') first."
    require_key(adata.obsm, keys.SPATIAL_3D, where="obsm", hint=hint)
    xyz = np.asarray(adata.obsm[keys.SPATIAL_3D], dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"Expected obsm['spatial_3d'] with three columns (x, y, z), found shape {xyz.shape}.")
    missing = int((~np.isfinite(xyz).all(axis=1)).sum())
    if missing:
        raise InputError(
            f"Expected finite coordinates in obsm['spatial_3d'], found {missing} of {len(xyz)} {rows_called(adata)} "
            "without. Remove them first."
        )
    return xyz


def centred(values: Numbers, sections: pd.Categorical | None) -> Numbers:
    """Subtract the mean of each section, shape (N, F)."""
    if sections is None:
        return values
    values = values.copy()
    for code in range(len(sections.categories)):
        values[sections.codes == code] -= values[sections.codes == code].mean(axis=0)
    return values
