"""Coordinates of spots (or cells, or bins), the distance between them, and the length of a unit in µm."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import columns_of_axes, coordinate_columns, depth_column, plain, spatial_keys
from stmmr._core.checks import InputError, listed, logger, require_positive
from stmmr._core.compat import libraries_of
from stmmr._core.parallel import threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64, Floats, Numbers

ST_STEP: Final = (200.0, 200.0)
"""µm between the spots of the first spatial arrays (Ståhl et al. 2016, doi:10.1126/science.aaf2403)."""
ST_LARGEST: Final = 35
"""Positions along the longer side of such an array (33 × 35); larger square arrays are something else, such as bins."""
ARRAY = [keys.ARRAY_COL, keys.ARRAY_ROW]  # x, y
SPOT_STEP = (50.0, 50.0 * math.sqrt(3))
"""µm of a step of ``array_col`` and ``array_row`` on Visium: spots 100 µm apart, every second column a row."""
SPOT_DIAMETER, WIDE = "spot_diameter_fullres", 0.9
"""Scale factor, and its share of the distance between neighbours from which these are bins."""
ST_SPOT: Final = re.compile(r"-?\d+(\.\d+)?[x_]-?\d+(\.\d+)?(_.*)?")
"""Names of spots of ST, with their position."""
HD_BIN: Final = re.compile(r"s_(\d{3})um_\d+_\d+")
"""Names of the bins of Visium HD, with their width."""
UM: Final = "microns_per_pixel"
"""Scale factor: µm per unit of ``obsm["spatial"]``."""
PLAUSIBLE_UM: Final = (0.5, 1000.0)
"""Distances between neighbours that occur: from bins of Stereo-seq and Visium HD to coarse arrays."""
DECIMAL_COMMA: Final = r"^(-?\d+),(\d+)$"
FEW_DEPTHS: Final = 10
"""Fewest spots of one z, on average, if z numbers sections; more values of z are those of a thick section."""
SAME_SCALE: Final = 1.02
"""Ratio of two scales up to which they count as the same."""
SAME_LOCATION: Final = 1e-12
"""Distance of one location to itself, in multiples of the largest coordinate."""
FARTHEST: Final = 1e100
"""Coordinates are smaller; squares of larger ones overflow."""
FEWEST_ON_ARRAY: Final = 10
"""Spots by whose array positions swapped coordinates are told."""
CLEARLY: Final = 3
"""How much more x has to follow the rows of the array than its columns."""
SWAPPED: Final = (
    "x follows the rows of the array and y its columns, as where Seurat 5 calls the rows of the image x. Both are "
    "swapped."
)
SAMPLE: Final = 10_000
"""Locations that the distance to neighbours is measured from; the median of as many is within a percent or two."""

PLATFORMS_OF_CELLS: Final = frozenset({"CosMx", "MERSCOPE", "seqFISH", "Stereo-seq cells", "Visium HD cells", "Xenium"})
PLATFORMS_OF_BINS: Final = frozenset({"Stereo-seq", "Visium HD"})


def rows_called(adata: AnnData) -> Literal["spots", "cells", "bins"]:
    """Name the rows of an AnnData as their platform does, in the plural, for messages.

    Readers note the platform in ``uns["spatial"]``. Rows of other data are called spots if there are array positions or
    an image, and cells otherwise.
    """
    libraries = list(libraries_of(adata).values())
    for library in libraries:
        platform = library.get("metadata", {}).get("platform")
        if platform in PLATFORMS_OF_CELLS:
            return "cells"
        if platform in PLATFORMS_OF_BINS or "bin_size_um" in library.get("scalefactors", {}):
            return "cells" if adata.uns.get(keys.BIN_TYPE) == "cell_bins" else "bins"
        if platform is not None:
            return "spots"
    if keys.BIN_TYPE in adata.uns:
        return "cells" if adata.uns[keys.BIN_TYPE] == "cell_bins" else "bins"
    on_array = {keys.ARRAY_ROW, keys.ARRAY_COL} <= set(adata.obs.columns)
    return "spots" if on_array or any(library.get("images") for library in libraries) else "cells"


def units(adata: AnnData) -> tuple[str, float, str]:
    """Get the name of the unit of the coordinates, its length in µm and the source of that (see `um_per_unit`)."""
    um, source = um_per_unit(adata, coordinates(adata), *libraries_of(adata).values())
    if keys.SPATIAL not in adata.obsm:
        return "array columns", um, source
    if source != "microns_per_pixel":
        return "coordinate units", um, source
    return "µm" if um == 1 else "px", um, source


def um_per_unit(adata: AnnData, xy: Float64, *libraries: Mapping[str, Any]) -> tuple[float, str]:
    """Get µm per unit of the coordinates, and the source of this number.

    Parameters
    ----------
    adata
        With or without array positions in ``obs``.
    xy
        Its coordinates, shape (n_obs, 2).
    libraries
        Entries of ``uns["spatial"]``.

    Returns
    -------
    The length, and the first source that has it: "microns_per_pixel" of the scale factors, if all libraries agree;
    "Stereo-seq chip", from the keys that stereopy writes (https://github.com/STOmics/SAW/issues/211); "hexagonal array"
    (Visium, spots 100 µm apart), "names of the bins" (Visium HD) or "square array" (ST v1, 200 µm). Otherwise NaN and
    "unknown".
    """
    parts = libraries if keys.SPATIAL in adata.obsm else ()
    stated = [um for library in parts if (um := library.get("scalefactors", {}).get(UM)) is not None]
    for um in stated:
        require_positive(um, name=f"{UM} of the scale factors")
    if stated and max(stated) <= SAME_SCALE * min(stated):  # libraries of other sections may differ
        return float(stated[0]), UM
    if {keys.BIN_TYPE, keys.RESOLUTION} <= adata.uns.keys() and keys.SPATIAL in adata.obsm:
        nm = adata.uns[keys.RESOLUTION]
        if isinstance(nm, int | float | np.number) and nm > 0:
            return float(nm) / 1000, "Stereo-seq chip"
    if set(ARRAY) <= set(adata.obs.columns):
        array = array_numbers(adata.obs)
        step, source = _step_of(adata, array, xy)
        if step is not None and (um := microns_per_pixel(array, xy, step=step)) is not None:
            return um, source
    return math.nan, "unknown"


def array_numbers(table: pd.DataFrame) -> Float64:
    """Get column and row on the array as numbers, shape (N, 2); NaN where they are none."""
    import pandas as pd

    numbers: Float64 = table[ARRAY].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    return numbers


def _step_of(adata: AnnData, array: Float64, xy: Float64) -> tuple[tuple[float, float] | None, str]:
    """Get the µm of a step on the array, and what tells it; None if nothing does.

    The positions of ST arrays begin at their corner; those of a crop of a larger array do not, and tissue leaves some
    free, unlike a crop of bins.
    """
    if not len(array) or not np.isfinite(array).all():
        return None, ""
    if is_hexagonal(array):
        return SPOT_STEP, "hexagonal array"
    if bins := HD_BIN.match(str(adata.obs_names[0])):
        return (float(bins[1]), float(bins[1])), "names of the bins"
    factors = [library.get("scalefactors", {}) for library in libraries_of(adata).values()]
    if stated := [size for one in factors if isinstance(size := one.get("bin_size_um"), int | float) and size > 0]:
        return (float(stated[0]), float(stated[0])), "bin_size_um"
    is_st = array.min() >= -1 and array.max() <= ST_LARGEST
    wide = [size for one in factors if isinstance(size := one.get(SPOT_DIAMETER), int | float)]
    if wide and (pitch := spacing(xy)) and max(wide) > WIDE * pitch:  # bins touch each other, spots do not
        return None, ""
    is_crop = len(array) == np.prod(np.ptp(array, axis=0) + 1) and not ST_SPOT.fullmatch(str(adata.obs_names[0]))
    return (ST_STEP, "square array") if is_st and not is_crop else (None, "")


def graph_um(graph: Mapping[str, Any]) -> float:
    """Get µm per unit of the coordinates of a spatial graph from its record; NaN if unknown."""
    um = graph["um_per_unit"]
    return math.nan if um is None else float(um)


def coordinates(adata: AnnData) -> Float64:
    """Get the coordinates of the spots, checked.

    They come from ``obsm["spatial"]``, otherwise from another place that `stored_coordinates` finds, at last from
    ``array_col`` and ``array_row`` of ``obs``. On a hexagonal array, such as that of Visium, rows are √3 columns apart:
    y is then √3 ``array_row``, so that the six neighbours of a spot are equally far.

    Returns
    -------
    Coordinates as x and y, shape (n_obs, 2); without ``obsm["spatial"]`` in steps of ``array_col``.

    Raises InputError if there are no coordinates, one is not finite, or all are the same.
    """
    xy, _, where = stored_coordinates(adata)
    if keys.SPATIAL not in adata.obsm and is_hexagonal(xy):
        xy = xy * [1, math.sqrt(3)]
    bad = ~(np.abs(xy) < FARTHEST).all(axis=1)
    if bad.any():
        raise InputError(
            f"Expected finite coordinates in {where}, found {int(bad.sum())} of {len(xy)} "
            f"{rows_called(adata)} without (first: {adata.obs_names[int(bad.argmax())]}). Remove them first."
        )
    if len(xy) > 1 and np.ptp(xy, axis=0).max() <= 1 / FARTHEST:
        raise InputError(
            f"Expected {rows_called(adata)} at different positions in {where}, found all {len(xy)} at one point "
            f"({xy[0, 0]:g}, {xy[0, 1]:g})."
        )
    return xy


def stored_coordinates(adata: AnnData) -> tuple[Float64, Float64 | None, str]:
    """Find coordinates under the names in use: x and y, shape (n_obs, 2), z if there is one, and where they are.

    The first of ``obsm["spatial"]``, another key of ``obsm`` such as ``"X_spatial"``, and two columns of ``obs`` such
    as ``x_centroid`` and ``y_centroid``. Columns of a data frame are taken by their names, in any order. Of an array
    with three columns, z is the last, or the first if that has much fewer values.

    Raises
    ------
    InputError
        If there are none, or they are no numbers.
    """
    for key, is_sure in spatial_keys(adata.obsm).items():
        if not is_sure and np.shape(adata.obsm[key])[1:] not in {(2,), (3,)}:
            continue
        return (*_numbers(adata.obsm[key], f"obsm[{key!r}]"), f"obsm[{key!r}]")
    if pair := coordinate_columns(adata.obs.columns):
        where = f"obs[{pair[0]!r}] and obs[{pair[1]!r}]"
        depth = depth_column(adata.obs.columns)
        return (*_numbers(adata.obs[[*pair, *([depth] if depth else [])]], where), where)
    raise InputError(
        "Expected coordinates in obsm['spatial'] (x, y), or array_row and array_col in obs; found obsm keys: "
        f"{listed(adata.obsm)}; obs columns: {listed(adata.obs.columns)}. Put the coordinates in "
        "adata.obsm['spatial']."
    )


def _numbers(values: Any, where: str) -> tuple[Float64, Float64 | None]:
    """Get x and y, and z if there is one, from a table or an array."""
    if hasattr(values, "columns"):
        named = columns_of_axes(values.columns)
        if named is None:
            message = "Nothing in the names of %s tells x from y (%s): they are taken in this order."
            logger.warning(message, where, listed(values.columns))
        values = values.select_dtypes("number") if named is None else values[named]
        texts = values.select_dtypes(exclude="number").columns  # also categories and text of numbers
        values = values.astype(dict.fromkeys(texts, object)).replace(DECIMAL_COMMA, r"\1.\2", regex=True)
    try:
        array = np.asarray(values.toarray() if hasattr(values, "toarray") else values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Expected numbers as coordinates in {where}, found other values ({error}).") from error
    if array.ndim != 2 or array.shape[1] < 2:
        raise InputError(f"Expected {where} with two columns (x, y), found shape {array.shape}.")
    if array.shape[1] == 2:
        return array, None
    different = [len(np.unique(column)) for column in array[:, :3].T]
    depth_first = different[0] * FEW_DEPTHS <= len(array) and different[0] * 3 < min(different[1:])
    z, first = (0, 1) if depth_first else (2, 0)
    return array[:, first : first + 2], array[:, z]


def set_coordinates(adata: AnnData, *, plain_array: bool = False) -> None:
    """Put coordinates under another name into ``obsm["spatial"]``, and log where they were; array positions stay.

    With `plain_array`, a data frame, text or an array with z in front becomes an array of numbers: x, y and, if there
    is one, z.
    """
    is_plain = isinstance(adata.obsm.get(keys.SPATIAL), np.ndarray) and adata.obsm[keys.SPATIAL].dtype.kind in "iuf"
    if keys.SPATIAL in adata.obsm and (not plain_array or (is_plain and adata.obsm[keys.SPATIAL].shape[1:] == (2,))):
        return
    xy, z, where = stored_coordinates(adata)
    if keys.ARRAY_COL not in where:
        if not is_plain:
            logger.info("Coordinates are taken from %s.", where)
        if where.startswith("obs[") and z is None and not set(ARRAY) & {*adata.obs} and is_hexagonal(xy):
            adata.obs[ARRAY] = xy.astype(np.int64)
            logger.info("They are positions on a hexagonal array.")
            return
        if where.startswith("obs[") and set(ARRAY) <= set(adata.obs.columns):
            pair = coordinate_columns(adata.obs.columns) or ()
            if swapped_by_seurat(xy, pair, array_numbers(adata.obs)):
                logger.warning(SWAPPED)
                xy = xy[:, ::-1]
        adata.obsm[keys.SPATIAL] = xy if z is None or np.ptp(z) == 0 else np.column_stack([xy, z])


def swapped_by_seurat(xy: Float64, columns: Iterable[object], array: Float64) -> bool:
    """Tell whether columns called x and y hold rows and columns of the image, as those of Seurat 5 do for Visium.

    Parameters
    ----------
    xy
        Coordinates, shape (N, 2).
    columns
        Names of their columns.
    array
        Column and row on the array, shape (N, 2).
    """
    known = np.isfinite(array).all(axis=1) & np.isfinite(xy).all(axis=1)
    if [plain(name) for name in columns] != ["x", "y"] or known.sum() < FEWEST_ON_ARRAY:
        return False
    array, xy = (values[known] - values[known].mean(axis=0) for values in (array, xy))
    (x_by_col, y_by_col), (x_by_row, y_by_row) = np.linalg.lstsq(array, xy)[0]
    return bool(min(x_by_row, y_by_col) > CLEARLY * max(abs(x_by_col), abs(y_by_row)))


def is_hexagonal(array: Float64) -> bool:
    """Check whether array positions, shape (n_obs, 2), are those of a hexagonal array.

    There, even rows have even columns only and odd rows odd ones, or the other way round.
    """
    parity = array % 2
    whole = np.isin(parity, (0, 1)).all()
    # rows of one parity only could also be every second row of a square array
    return bool(whole and np.ptp(parity[:, 1]) == 1 and np.ptp(parity.sum(axis=1) % 2) == 0)


def microns_per_pixel(array: Float64, pixels: Float64, *, step: tuple[float, float]) -> float | None:
    """Estimate the scale of the image from spots whose distances on the array are known.

    The affine map from array to pixels is fitted by least squares over all spots, so the result does not depend on
    how the image is turned or mirrored, and few spots are enough.

    Parameters
    ----------
    array
        ``array_col`` and ``array_row`` of each spot, shape (N, 2).
    pixels
        x and y of each spot, shape (N, 2).
    step
        Length of one step of ``array_col`` and one of ``array_row``, in µm.

    Returns
    -------
    µm per pixel, or None if the spots are not on such a grid.
    """
    array = array * step
    fit = np.linalg.lstsq(array - array.mean(axis=0), pixels - pixels.mean(axis=0))[0]
    longest, shortest = np.linalg.svd(fit, compute_uv=False)
    # they differ on another grid (ST v1 in a folder like that of Visium is square) and on a line
    if shortest <= 0.95 * longest:
        return None
    return float(1 / math.sqrt(longest * shortest))


def is_plausible(xy: Numbers, um_per_unit: float) -> bool:
    """Tell whether neighbours among coordinates, shape (N, 2), are as far apart as on some platform."""
    distance = spacing(xy[:, :2])
    return distance is None or PLAUSIBLE_UM[0] <= distance * um_per_unit <= PLAUSIBLE_UM[1]


def warn_implausible_scale(xy: Numbers, um_per_unit: float, *, told_by: str) -> None:
    """Warn if neighbours among coordinates, shape (N, 2), are nearer or further than on any platform."""
    distance = spacing(xy[:, :2])
    if distance is None or PLAUSIBLE_UM[0] <= distance * um_per_unit <= PLAUSIBLE_UM[1]:
        return
    logger.warning(
        "Neighbours are %.3g µm apart (median distance %.4g times %.4g µm per unit, %s), expected %g to %g µm. Check "
        "the scale, otherwise sizes in µm will be wrong.",
        distance * um_per_unit,
        distance,
        um_per_unit,
        told_by,
        *PLAUSIBLE_UM,
    )


def spacing(xy: Floats, *, nth: int = 1, at_most: int | None = SAMPLE) -> float | None:
    """Measure the median distance from a location to the `nth` nearest other one.

    Parameters
    ----------
    xy
        Coordinates, shape (N, d). Rows that are not finite are ignored, and several rows at one location count once.
    nth
        1 for the nearest. On an array, 2 gives the pitch too; for cells, the nearest of which may almost touch, it
        gives about the width of a cell.
    at_most
        Number of locations, about, to measure from, spread over all rows; None measures from every location.

    Returns
    -------
    The distance; None if there are fewer than two locations.
    """
    import pandas as pd
    from scipy.spatial import KDTree

    points = np.asarray(xy, dtype=np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    # sections in one frame can repeat a location but for the last digits
    same = SAME_LOCATION * (float(np.abs(points).max(initial=0)) or 1.0)
    points = points[~pd.DataFrame(np.round(points / same)).duplicated().to_numpy()]
    if len(points) < 2:
        return None
    measured = points if at_most is None else points[:: 1 + len(points) // at_most]
    # an unbalanced tree is built several times faster
    tree = KDTree(points, compact_nodes=False, balanced_tree=False)
    return float(np.median(tree.query(measured, k=[1 + min(nth, len(points) - 1)], workers=threads())[0]))


def array_positions(adata: AnnData) -> Float64:
    """Get column and row on the array as they are, shape (n_obs, 2)."""
    xy: Float64 = adata.obs[ARRAY].to_numpy(np.float64)
    if not np.isfinite(xy).all():
        raise InputError(
            f"Expected array_row and array_col of all {rows_called(adata)}, found missing ones. Remove them first."
        )
    return xy
