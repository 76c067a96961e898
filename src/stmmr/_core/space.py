"""How long a unit of the coordinates is, in µm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_positive

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

ST_STEP: Final = (200.0, 200.0)
"""µm between the spots of the first spatial arrays (Ståhl et al. 2016, doi:10.1126/science.aaf2403)."""
ST_LARGEST: Final = 35
"""Positions along their longer side, 33 × 35 in all; larger square arrays, such as of bins, are something else."""
ARRAY = [keys.ARRAY_COL, keys.ARRAY_ROW]  # x, y
SPOT_STEP = (50.0, 50.0 * math.sqrt(3))
"""µm of a step of ``array_col`` and ``array_row`` on Visium: spots 100 µm apart, every second column a row."""
UM: Final = "microns_per_pixel"
"""Scale factor: µm per unit of ``obsm["spatial"]``."""
PLAUSIBLE_UM: Final = (0.5, 1000.0)
"""Distances of neighbouring places that occur: bins of Stereo-seq and Visium HD up to coarse arrays."""
SAMPLE: Final = 10_000
"""Locations that the distance to neighbours is measured from; the median of as many is within a percent or two."""

PLATFORMS_OF_CELLS: Final = frozenset({"CosMx", "MERSCOPE", "seqFISH", "Stereo-seq cells", "Visium HD cells", "Xenium"})
PLATFORMS_OF_BINS: Final = frozenset({"Stereo-seq", "Visium HD"})


def rows_called(adata: AnnData) -> Literal["spots", "cells", "bins"]:
    """Name the rows of an AnnData as their platform does, in the plural, for messages.

    Readers note the platform in ``uns["spatial"]``. Other data have spots where they have array positions or an image,
    and cells otherwise.
    """
    libraries = adata.uns.get(keys.SPATIAL)
    libraries = (
        [each for each in libraries.values() if isinstance(each, Mapping)] if isinstance(libraries, Mapping) else []
    )
    for library in libraries:
        metadata, factors = library.get("metadata"), library.get("scalefactors")
        platform = metadata.get("platform") if isinstance(metadata, Mapping) else None
        if platform in PLATFORMS_OF_CELLS:
            return "cells"
        if platform in PLATFORMS_OF_BINS or (isinstance(factors, Mapping) and "bin_size_um" in factors):
            return "cells" if adata.uns.get(keys.BIN_TYPE) == "cell_bins" else "bins"
        if platform is not None:
            return "spots"
    if keys.BIN_TYPE in adata.uns:
        return "cells" if adata.uns[keys.BIN_TYPE] == "cell_bins" else "bins"
    on_array = {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(adata.obs.columns)
    return "spots" if on_array or any(library.get("images") for library in libraries) else "cells"


def units(adata: AnnData) -> tuple[str, float, str]:
    """Name the unit of the coordinates, its length in µm and what tells it (see `um_per_unit`)."""
    um, told_by = um_per_unit(adata, coordinates(adata), *adata.uns.get(keys.SPATIAL, {}).values())
    if keys.SPATIAL not in adata.obsm:
        return "array columns", um, told_by
    if told_by != "microns_per_pixel":
        return "coordinate units", um, told_by
    return "µm" if um == 1 else "px", um, told_by


def um_per_unit(adata: AnnData, xy: NDArray[np.float64], *libraries: Mapping[str, Any]) -> tuple[float, str]:
    """Get µm per unit of the coordinates, and what tells it.

    Parameters
    ----------
    adata
        Maybe with array positions in ``obs``.
    xy
        Its coordinates, shape (N, 2).
    libraries
        Entries of ``uns["spatial"]``.

    Returns
    -------
    The length, and "microns_per_pixel" where the scale factors have it; else that of the "Stereo-seq chip" in what
    stereopy wrote (https://github.com/STOmics/SAW/issues/211); else that by the array, "hexagonal array" (taken for
    Visium, spots 100 µm apart) or "square array" (ST v1, 200 µm); else NaN and "unknown".
    """
    for library in libraries if keys.SPATIAL in adata.obsm else ():
        stated = library.get("scalefactors", {}).get("microns_per_pixel") if isinstance(library, Mapping) else None
        if stated is not None:
            require_positive(stated, name="microns_per_pixel of the scale factors")
            return float(stated), "microns_per_pixel"
    if {keys.BIN_TYPE, keys.RESOLUTION} <= adata.uns.keys() and keys.SPATIAL in adata.obsm:
        nm = adata.uns[keys.RESOLUTION]
        if isinstance(nm, int | float | np.number) and nm > 0:
            return float(nm) / 1000, "Stereo-seq chip"
    if set(ARRAY) <= set(adata.obs.columns):
        import pandas as pd

        array = adata.obs[ARRAY].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        finite = np.isfinite(array).all()
        if finite and ((hexagonal := is_hexagonal(array)) or np.ptp(array, axis=0).max() < ST_LARGEST):
            found = microns_per_pixel(array, xy, step=SPOT_STEP if hexagonal else ST_STEP)
            if found is not None:
                return found, "hexagonal array" if hexagonal else "square array"
    return math.nan, "unknown"


def coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places, checked.

    ``obsm["spatial"]`` where there is one, otherwise ``array_col`` and ``array_row`` of ``obs``. On a hexagonal
    array, such as Visium's, rows lie √3 columns apart: there y is √3 ``array_row``, so that the six neighbours of
    a place are equally far.

    Returns
    -------
    Coordinates, shape (n_obs, 2), as x, y; without ``obsm["spatial"]`` in steps of ``array_col``.

    Raises
    ------
    InputError
        If there are none, one is missing, or all places lie at one point.
    """
    if keys.SPATIAL in adata.obsm:
        where = f"obsm[{keys.SPATIAL!r}]"
        xy = np.asarray(adata.obsm[keys.SPATIAL], dtype=np.float64)
    elif {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(adata.obs.columns):
        where = "obs['array_col'] and obs['array_row']"
        xy = adata.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy(dtype=np.float64)
    else:
        raise InputError(
            "Expected coordinates in obsm['spatial'] (x, y), or array_row and array_col in obs; found obsm keys: "
            f"{listed(adata.obsm)}; obs columns: {listed(adata.obs.columns)}. Put the coordinates in "
            "adata.obsm['spatial']."
        )
    if xy.ndim != 2 or xy.shape[1] < 2:
        raise InputError(f"Expected {where} with two columns (x, y), found shape {xy.shape}.")
    xy = xy[:, :2]
    if keys.SPATIAL not in adata.obsm and is_hexagonal(xy):
        xy = xy * [1, math.sqrt(3)]
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        raise InputError(
            f"Expected finite coordinates in {where}, found {int(bad.sum())} of {len(xy)} places without "
            f"(first: {adata.obs_names[int(bad.argmax())]}). Drop these places first."
        )
    if len(xy) > 1 and np.ptp(xy, axis=0).max() == 0:
        raise InputError(
            f"Expected places that lie apart in {where}, found all {len(xy)} at one point ({xy[0, 0]:g}, {xy[0, 1]:g})."
        )
    return xy


def is_hexagonal(array: NDArray[np.float64]) -> bool:
    """Tell whether array positions, shape (n_obs, 2), are those of a hexagonal array.

    There, even rows have even columns only and odd rows odd ones, or the other way round.
    """
    parity = array % 2
    whole = np.isin(parity, (0, 1)).all()
    # rows of one parity only are as well every second row of a square array
    return bool(whole and np.ptp(parity[:, 1]) == 1 and np.ptp(parity.sum(axis=1) % 2) == 0)


def microns_per_pixel(
    array: NDArray[np.float64], pixels: NDArray[np.float64], *, step: tuple[float, float]
) -> float | None:
    """Estimate the scale of the picture from places whose distances on the array are known.

    The affine map from array to pixels is fitted by least squares over all places: it does not mind how the
    picture is turned or mirrored, nor that few places are left.

    Parameters
    ----------
    array
        ``array_col`` and ``array_row`` of each place, shape (N, 2).
    pixels
        x and y of each place, shape (N, 2).
    step
        What one step of ``array_col`` and one of ``array_row`` is, in µm.

    Returns
    -------
    µm per pixel, or None where the places do not lie on such a grid.
    """
    array = array * step
    fit = np.linalg.lstsq(array - array.mean(axis=0), pixels - pixels.mean(axis=0))[0]
    longest, shortest = np.linalg.svd(fit, compute_uv=False)
    # they disagree on another grid (ST v1 in a folder like Visium's is square) and on a line
    if shortest <= 0.95 * longest:
        return None
    return float(1 / math.sqrt(longest * shortest))


def warn_implausible(adata: AnnData) -> None:
    """Warn where neighbouring places are, by the scale that is stated, nearer or further than any platform has them."""
    libraries = adata.uns.get(keys.SPATIAL, {})
    xy = adata.obsm.get(keys.SPATIAL)
    if not isinstance(libraries, Mapping) or not isinstance(xy, np.ndarray) or xy.ndim != 2 or xy.shape[1] < 2:
        return
    for name, library in libraries.items():
        um = library.get("scalefactors", {}).get(UM) if isinstance(library, Mapping) else None
        if isinstance(um, int | float) and um > 0:
            warn_implausible_scale(xy, um, told_by=f"microns_per_pixel of {name}")


def warn_implausible_scale(xy: NDArray[Any], um_per_unit: float, *, told_by: str) -> None:
    """Warn where neighbours among coordinates, shape (N, 2), are nearer or further than any platform has them."""
    distance = spacing(xy[:, :2])
    if distance is None or PLAUSIBLE_UM[0] <= distance * um_per_unit <= PLAUSIBLE_UM[1]:
        return
    logger.warning(
        "Neighbouring places lie %.3g µm apart (median distance %.4g times %.4g µm per unit, %s), expected %g to %g "
        "µm. Check the scale: sizes in µm will be wrong.",
        distance * um_per_unit,
        distance,
        um_per_unit,
        told_by,
        *PLAUSIBLE_UM,
    )


def spacing(xy: NDArray[np.floating[Any]], *, nth: int = 1, at_most: int | None = SAMPLE) -> float | None:
    """Measure the median distance from a location to the `nth` nearest other one.

    Parameters
    ----------
    xy
        Coordinates, shape (N, d). Rows that are not finite are left out, and several rows at one location count once.
    nth
        1: the nearest. 2 is the pitch of an array too, and for cells, of which the nearest may all but touch, about
        the width of a cell.
    at_most
        About how many locations to measure from, spread over all rows; None: from every one.

    Returns
    -------
    The distance; None where there are fewer than two locations.
    """
    import pandas as pd
    from scipy.spatial import KDTree

    points = np.asarray(xy, dtype=np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[~pd.DataFrame(points).duplicated().to_numpy()]
    if len(points) < 2:
        return None
    measured = points if at_most is None else points[:: 1 + len(points) // at_most]
    # an unbalanced tree is built several times faster
    tree = KDTree(points, compact_nodes=False, balanced_tree=False)
    return float(np.median(tree.query(measured, k=[1 + min(nth, len(points) - 1)], workers=-1)[0]))


def array_positions(adata: AnnData) -> NDArray[np.float64]:
    """Get column and row on the array, as they are."""
    xy: NDArray[np.float64] = adata.obs[ARRAY].to_numpy(np.float64)
    if not np.isfinite(xy).all():
        raise InputError(
            "Expected array_row and array_col at every place, found missing ones. Drop these places first."
        )
    return xy
