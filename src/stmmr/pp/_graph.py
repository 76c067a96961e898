"""The spatial graph: which spots are neighbours, with which weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, get_args

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_choice
from stmmr._core.depends import clears_outdated
from stmmr._core.kernel import Kernel, nearest_neighbour_distance
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.parallel import one_thread
from stmmr._core.record import record, recorded
from stmmr._core.sections import check_frames, laid_apart, planes, sections_of, stacked_coordinates
from stmmr._core.space import array_positions, coordinates, rows_called, units
from stmmr.linear.bandwidth import Curve, bandwidth_curve
from stmmr.linear.noise import expression_features

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

Coordinates = Literal["spatial", "array", "spatial_3d"]
WRITTEN_AT_MOST: Final = 100_000
"""Spots up to which weights are stored; no step reads them, and they take more memory than all other results."""
WIDEST_UM: Final = 100.0
"""Largest bandwidth in µm that is chosen, unless spots are farther apart, then one distance between them: with more
noise, spots are predicted best from farther away, but borders stay where they are."""
WIDEST_CELLS: Final = 10.0
"""The same in distances between cells, where the length of a unit is unknown: cells are about 10 µm apart."""
ACROSS_AT_LEAST: Final = 1e-3
"""Share of the weight of neighbours in other sections below which sections are practically not connected."""


@checked
@one_thread
@clears_outdated
@in_tissue_order
def spatial_graph(
    adata: AnnData,
    *,
    bandwidth: float | None = None,
    use: Coordinates = "spatial",
    use_rep: str | None = None,
    section_key: str | None = None,
    tolerance: float = 4e-5,
) -> None:
    r"""Build the spatial graph: neighbours weighted by a Gaussian kernel of their distance.

    :math:`A \propto \exp(-D^2/2l^2) + \mathrm{Id}`, rows scaled to sum 1, without pairs whose kernel is below
    `tolerance`. Memory grows with the number of neighbours, not with N². Later steps read the bandwidth and the
    coordinates and compute the weights of a tile of spots at a time.

    Parameters
    ----------
    adata
        Spots with coordinates.
    bandwidth
        l, in the units of the coordinates. None chooses it from the data, without labels or a number of domains.
        Leave-one-out cross-validation finds the bandwidth that best predicts the informative components of a spot from
        its neighbours. The graph gets the power 1.25 of it, with both in distances between spots. The limit is 100 µm
        or one distance between spots, whichever is larger. If the length of a unit is unknown, it is one distance
        between spots of an array, or ten between cells.
    use
        - "spatial": ``obsm["spatial"]``, otherwise the array, with rows √3 columns apart if it is hexagonal;
        - "array": ``obs["array_col"]`` and ``obs["array_row"]`` as they are, the units of the published model; without
          them "spatial";
        - "spatial_3d": ``obsm["spatial_3d"]``, x, y and z in one unit. Sections share one frame, and spots have
          neighbours in the sections above and below; the bandwidth is chosen within sections.
    use_rep
        Key of ``obsm`` that the bandwidth is chosen on; None: the components of `stmmr.pp.expression`.
    section_key
        Column of ``obs`` with the section of each spot, if there are several. No edge joins two sections, whatever
        their coordinates, unless `use` is "spatial_3d".
    tolerance
        Kernel value below which there is no edge; 4e-5 is at 4.5 bandwidths.

    Returns
    -------
    None. Sets:

    ``obsp["stmmr_weights"]``
        float32 CSR, rows sum to 1; for at most 100,000 spots.
    ``uns["stmmr"]["spatial_graph"]``
        Parameters; the bandwidth and the median distance between nearest neighbours, their unit, its length in µm and
        the source of that (``"scale_from"``: microns_per_pixel, hexagonal array, square array, or unknown). If the
        bandwidth was chosen: ``"bandwidths_tried"``, the prediction ``"error"`` at each, as a share of the variance of
        the informative components (drawn by `stmmr.pl.bandwidth`), and ``"bandwidth_best"``, which predicts best. With
        "spatial_3d" and sections: ``"across_sections"``, the share of the weight of neighbours that is in other
        sections (NaN if weights are not stored).

    Raises
    ------
    InputError
        If coordinates are missing, not finite or all the same, an option is out of range, or there is no expression
        to choose the bandwidth on.
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
    curve: dict[str, object] = {}
    if bandwidth is None:
        otherwise = ", or give a representation (use_rep) or a bandwidth"
        features = expression_features(adata, use_rep=use_rep, otherwise=otherwise)
        # within sections: the spot right below would otherwise dominate, and some have none
        spots = rows_called(adata)
        widest = _widest(distance, um_per_unit, spots)
        bandwidth, curve = _chosen(bandwidth_curve(features, apart, tolerance=tolerance), widest)
        length = f"{bandwidth * um_per_unit:.4g} µm" if math.isfinite(um_per_unit) else f"{bandwidth:.4g} {unit}"
        logger.info("Bandwidth chosen: %s (%.2f × the distance between %s).", length, bandwidth / distance, spots)
    kernel = Kernel(xy, float(bandwidth), tolerance)
    if adata.n_obs <= WRITTEN_AT_MOST:
        adata.obsp[keys.GRAPH] = kernel.weights()
    elif keys.GRAPH in adata.obsp:
        del adata.obsp[keys.GRAPH]  # of another bandwidth
    no_coordinates = by_array or (keys.SPATIAL not in adata.obsm and not stacked)
    parameters = {
        "use": "array" if by_array else use if stacked else "spatial",
        "coordinates": "array" if no_coordinates else use if stacked else "spatial",
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


def _widest(distance: float, um_per_unit: float, rows: str) -> float:
    """Get the largest bandwidth that may be chosen, from the distance between neighbours and the length of a unit."""
    if math.isfinite(um_per_unit):
        return max(distance, WIDEST_UM / um_per_unit)
    return distance if rows == "spots" else WIDEST_CELLS * distance


def _chosen(curve: Curve, widest: float) -> tuple[float, dict[str, object]]:
    """Get the bandwidth, and the curve behind it for the record."""
    entries = {"bandwidth_best": curve.best(), "bandwidths_tried": curve.bandwidths, "error": curve.error}
    return min(curve.choose(), widest), entries


def _positions(
    adata: AnnData, sections: pd.Categorical | None, *, stacked: bool, by_array: bool
) -> tuple[Float64, Float64]:
    """Get the positions of the graph, and those with sections moved apart."""
    if stacked:
        return stacked_coordinates(adata), planes(adata, sections)
    xy = laid_apart(array_positions(adata) if by_array else coordinates(adata), sections)
    return xy, xy


def _stacked_units(adata: AnnData) -> tuple[str, float, str]:
    """Get the name of the unit of coordinates in three dimensions, its length in µm and the source of that."""
    aligned = "align_sections" in recorded(adata)
    return ("µm", 1.0, "align_sections") if aligned else ("coordinate units", math.nan, "unknown")


def _share_across(adata: AnnData, sections: pd.Categorical) -> float:
    """Measure the share of the weight of neighbours that is in other sections."""
    if keys.GRAPH not in adata.obsp:
        return math.nan
    pairs = adata.obsp[keys.GRAPH].tocoo()
    others = pairs.row != pairs.col
    across = sections.codes[pairs.row] != sections.codes[pairs.col]
    share = float(pairs.data[across].sum() / max(pairs.data[others].sum(), 1e-12))
    if share < ACROSS_AT_LEAST and len(sections.categories) > 1:
        logger.warning(
            "Sections are too far apart in z to be neighbours: other sections have %.1g of the weight. Check that z "
            "has the unit of x and y.",
            share,
        )
    return share
