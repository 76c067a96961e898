"""The spatial graph: who is near whom, and how much it counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_choice, require_positive
from stmmr._core.kernel import Kernel, nearest_neighbour_distance
from stmmr._core.record import record, recorded
from stmmr._core.sections import (
    check_frames,
    laid_apart,
    planes,
    sections_of,
    stacked_coordinates,
)
from stmmr._core.space import array_positions, coordinates, units
from stmmr.linear.bandwidth import Curve, bandwidth_curve
from stmmr.linear.noise import expression_features

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

Coordinates = Literal["spatial", "array", "spatial_3d"]
WRITTEN_AT_MOST: Final = 100_000
"""Places whose weights are written out; they take more memory than all else, and no step reads them."""
ACROSS_AT_LEAST: Final = 1e-3
"""Share of the weight of neighbours in other sections, below which to warn that sections stand by themselves."""


def spatial_graph(
    adata: AnnData,
    *,
    bandwidth: float | None = None,
    use: Coordinates = "spatial",
    use_rep: str | None = None,
    section_key: str | None = None,
    tolerance: float = 4e-5,
) -> None:
    r"""Weight neighbours by a Gaussian kernel of their distance.

    :math:`A \propto \exp(-D^2/2l^2) + \mathrm{Id}`, rows scaled to sum 1, pairs left out where the kernel is below
    `tolerance`. Memory grows with the number of neighbours, not with N². Later steps read what the graph is made of,
    ``uns["stmmr"]["spatial_graph"]`` and the coordinates, and find the neighbours of a tile of places at a time.

    Parameters
    ----------
    adata
        Places with coordinates.
    bandwidth
        l, in the units of the coordinates used. ``None`` chooses it from the data, without labels or a number of
        domains: the smallest that predicts the expression of a place from its neighbours as well as the best does,
        within one standard error (leave-one-out cross-validation).
    use
        "spatial" (``obsm["spatial"]``; where there is none, the array, with its rows √3 columns apart if it is
        hexagonal) or "array" (``obs["array_col"]``, ``obs["array_row"]`` as they are: the units of the published
        model; falls back to "spatial" where there are none, as published), or "spatial_3d"
        (``obsm["spatial_3d"]``, x, y and z in one unit: sections stand in one frame, and places have neighbours in
        those above and below; the bandwidth is chosen within sections).
    use_rep
        Key of ``obsm`` to choose the bandwidth by; ``None``: the components that `stmmr.pp.expression` wrote.
    section_key
        Column of ``obs`` that names the section of each place, where there are several: no edge crosses from one to
        another, wherever their coordinates lie, unless `use` is "spatial_3d".
    tolerance
        Kernel value at which the graph is cut; 4e-5 is 4.5 bandwidths.

    Returns
    -------
    None. Sets:

    ``obsp["stmmr_weights"]``
        float32 CSR, rows sum to 1; for at most 100,000 places.
    ``uns["stmmr"]["spatial_graph"]``
        parameters, the bandwidth and median nearest-neighbour distance, their unit, what it is in µm and where that
        is from (``"scale_from"``: microns_per_pixel, hexagonal array, square array, or unknown) and, where the
        bandwidth was chosen, ``"bandwidths_tried"``, the ``"error"`` of the prediction at each, in variances of the
        noise, its ``"standard_error"`` (drawn by `stmmr.pl.bandwidth`), and ``"bandwidth_best"``, that of the smallest
        error. With "spatial_3d" and sections, ``"across_sections"``: the share of the weight of a place's neighbours
        that is of other sections (NaN where weights are not written).

    Raises
    ------
    InputError
        If coordinates are missing, not finite or all the same, an option is out of range, or there is nothing to
        choose the bandwidth by.
    """
    require_choice(use, get_args(Coordinates), name="use")
    if not 0 < tolerance < 1:
        raise InputError(f"Expected tolerance between 0 and 1, found {tolerance!r}.")
    by_array = use == "array" and {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(adata.obs.columns)
    sections = sections_of(adata, section_key)
    stacked = use == keys.SPATIAL_3D
    if not (by_array or stacked):
        check_frames(coordinates(adata), sections, section_key=section_key)
    xy, apart = _positions(adata, sections, stacked=stacked, by_array=by_array)
    distance = nearest_neighbour_distance(apart)
    unit, um_per_unit, scale_from = ("array steps", math.nan, "unknown") if by_array else units(adata)
    if stacked:
        unit, um_per_unit, scale_from = _stacked_units(adata)
    curve: dict[str, Any] = {}
    if bandwidth is None:
        otherwise = ", name a representation (use_rep), or give a bandwidth"
        features = expression_features(adata, use_rep=use_rep, otherwise=otherwise)
        # within sections: one a few µm below would be all the neighbours there are to a place, and others have none
        bandwidth, curve = _chosen(bandwidth_curve(features, apart, tolerance=tolerance))
        length = f"{bandwidth * um_per_unit:.4g} µm" if math.isfinite(um_per_unit) else f"{bandwidth:.4g} {unit}"
        logger.info("Bandwidth chosen: %s, %.2f times the distance between places.", length, bandwidth / distance)
    require_positive(bandwidth, name="bandwidth")
    kernel = Kernel(xy, float(bandwidth), tolerance)
    if adata.n_obs <= WRITTEN_AT_MOST:
        adata.obsp[keys.GRAPH] = kernel.weights()
    elif keys.GRAPH in adata.obsp:
        del adata.obsp[keys.GRAPH]  # of another bandwidth
    without = by_array or (keys.SPATIAL not in adata.obsm and not stacked)
    parameters = {
        "use": "array" if by_array else use if stacked else "spatial",
        "coordinates": "array" if without else use if stacked else "spatial",
        "bandwidth": float(bandwidth),
        "nearest_neighbour_distance": distance,
        "unit": unit,
        "section_key": section_key or "",
        "um_per_unit": um_per_unit,
        "scale_from": scale_from,
        "tolerance": tolerance,
        "mean_neighbours": kernel.mean_neighbours(),
    }
    if stacked and sections is not None:
        parameters["across_sections"] = _share_across(adata, sections)
    record(adata, spatial_graph=parameters | curve)


def _chosen(found: Curve) -> tuple[float, dict[str, Any]]:
    """Get the bandwidth, and the curve it was chosen by as it is noted."""
    noted = {
        "bandwidth_best": float(found.bandwidths[found.error.argmin()]),
        "bandwidths_tried": found.bandwidths,
        "error": found.error,
        "standard_error": found.standard_error,
    }
    return found.choose(), noted


def _positions(
    adata: AnnData, sections: pd.Categorical | None, *, stacked: bool, by_array: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get the positions that the graph is of, and those with sections laid apart."""
    if stacked:
        return stacked_coordinates(adata), planes(adata, sections)
    xy = laid_apart(array_positions(adata) if by_array else coordinates(adata), sections)
    return xy, xy


def _stacked_units(adata: AnnData) -> tuple[str, float, str]:
    """Name the unit of the coordinates in three dimensions, its length in µm and what tells it."""
    aligned = "align_sections" in recorded(adata)
    return ("µm", 1.0, "align_sections") if aligned else ("coordinate units", math.nan, "unknown")


def _share_across(adata: AnnData, sections: pd.Categorical) -> float:
    """Measure how much of the weight of the neighbours of a place is of other sections."""
    if keys.GRAPH not in adata.obsp:
        return math.nan
    pairs = adata.obsp[keys.GRAPH].tocoo()
    others = pairs.row != pairs.col
    across = sections.codes[pairs.row] != sections.codes[pairs.col]
    share = float(pairs.data[across].sum() / max(pairs.data[others].sum(), 1e-12))
    if share < ACROSS_AT_LEAST and len(sections.categories) > 1:
        logger.warning(
            "Sections are too far apart in z for neighbours in others: these have %.1g of the weight. Check that z is "
            "in the unit of x and y.",
            share,
        )
    return share
