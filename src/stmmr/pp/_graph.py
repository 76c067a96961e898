"""The spatial graph: who is near whom, and how much it counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmmr import _keys
from stmmr._record import record
from stmmr._validate import InputError, coordinates, require_choice, require_positive

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Coordinates = Literal["spatial", "array"]


def spatial_graph(
    adata: AnnData,
    *,
    bandwidth: float | None = None,
    use: Coordinates = "spatial",
    tolerance: float = 4e-5,
) -> None:
    r"""Weight neighbours by a Gaussian kernel of their distance.

    :math:`A \propto \exp(-D^2/2l^2) + \mathrm{Id}`, rows scaled to sum 1, pairs left out where the kernel is below
    `tolerance`. Memory grows with the number of neighbours, not with N².

    Parameters
    ----------
    adata
        Places with coordinates.
    bandwidth
        l, in the units of the coordinates used. ``None``: one median nearest-neighbour distance.
    use
        "spatial" (``obsm["spatial"]``; where there is none, the array, with its rows √3 columns apart if it is
        hexagonal) or "array" (``obs["array_col"]``, ``obs["array_row"]`` as they are: the units of the published
        model; falls back to "spatial" where there are none, as published).
    tolerance
        Kernel value at which the graph is cut; 4e-5 is 4.5 bandwidths.

    Returns
    -------
    None. Sets:

    ``obsp["stmmr_weights"]``
        float32 CSR, rows sum to 1.
    ``uns["stmmr"]["spatial_graph"]``
        parameters, the bandwidth and median nearest-neighbour distance, and their units.

    Raises
    ------
    InputError
        If coordinates are missing, not finite or all the same, or an option is out of range.
    """
    require_choice(use, ("spatial", "array"), name="use")
    if not 0 < tolerance < 1:
        raise InputError(f"Expected tolerance between 0 and 1, found {tolerance!r}.")
    has_array = {_keys.ARRAY_ROW, _keys.ARRAY_COL} <= set(adata.obs.columns)
    by_array = use == "array" and has_array
    xy = adata.obs[[_keys.ARRAY_COL, _keys.ARRAY_ROW]].to_numpy(np.float64) if by_array else coordinates(adata)
    if not np.isfinite(xy).all():
        raise InputError(
            "Expected array_row and array_col at every place, found missing ones. Drop these places first."
        )
    distance = nearest_neighbour_distance(xy)
    if bandwidth is None:
        bandwidth = distance
    require_positive(bandwidth, name="bandwidth")
    adata.obsp[_keys.GRAPH] = gaussian_weights(xy, bandwidth=bandwidth, tolerance=tolerance)
    unit, um_per_unit = ("array steps", math.nan) if by_array else units(adata)
    parameters = {
        "coordinates": "array" if by_array or _keys.SPATIAL not in adata.obsm else "spatial",
        "bandwidth": float(bandwidth),
        "nearest_neighbour_distance": distance,
        "unit": unit,
        "um_per_unit": um_per_unit,
        "tolerance": tolerance,
        "mean_neighbours": adata.obsp[_keys.GRAPH].nnz / adata.n_obs - 1,
    }
    record(adata, spatial_graph=parameters)


def units(adata: AnnData) -> tuple[str, float]:
    """Name the unit of the coordinates and its length in µm (NaN where nothing tells it)."""
    if _keys.SPATIAL not in adata.obsm and _keys.ARRAY_COL in adata.obs:
        return "array columns", math.nan
    for library in adata.uns.get(_keys.SPATIAL, {}).values():
        scale = library.get("scalefactors", {}).get("microns_per_pixel") if isinstance(library, dict) else None
        if scale:
            return "px", float(scale)
    return "coordinate units", math.nan


def nearest_neighbour_distance(xy: NDArray[np.float64]) -> float:
    """Take the median distance of a place to the nearest place elsewhere."""
    if len(xy) < 2:
        raise InputError(f"Expected at least two places, found {len(xy)}.")
    places = np.unique(xy, axis=0)
    distance, _ = cKDTree(places).query(places, k=[2])
    return float(np.median(distance))


def gaussian_weights(xy: NDArray[np.float64], *, bandwidth: float, tolerance: float) -> sparse.csr_matrix[Any]:
    """Compute A as CSR, shape (n_obs, n_obs)."""
    tree = cKDTree(xy)
    radius = bandwidth * math.sqrt(-2 * math.log(tolerance))
    pairs = tree.query_pairs(radius, output_type="ndarray")  # (n_pairs, 2), each once
    squared = ((xy[pairs[:, 0]] - xy[pairs[:, 1]]) ** 2).sum(axis=1)
    kernel = np.exp(-squared / (2 * bandwidth**2))
    n = len(xy)
    upper = sparse.coo_matrix((kernel, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    weights = sparse.csr_matrix(upper + upper.T + 2 * sparse.identity(n))
    rows = np.asarray(weights.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / rows) @ weights, dtype=np.float32)
