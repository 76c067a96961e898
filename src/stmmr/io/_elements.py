"""Elements of a SpatialData object: the ones that a table annotates, their positions and sizes."""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_extra, require_key
from stmmr._core.space import coordinates
from stmmr.image.registration import scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from spatialdata.models import SpatialElement
    from spatialdata.transformations import BaseTransformation

    from stmmr._core.types import Float64, Ints

GLOBAL: Final = "global"
"""The default coordinate system of spatialdata."""
MICRONS: Final = frozenset({"micron", "microns", "micrometer", "micrometers", "um", "µm"})
"""Names of coordinate systems that state their unit."""
BIN: Final = re.compile(r"(?:^|_)0*(\d+)um(?:_|$)")
"""Width of Visium HD bins in the names that spatialdata-io gives them."""
OF_XENIUM: Final = frozenset({"transcript_counts", "control_probe_counts", "cell_area", "nucleus_area"})
"""Columns of a Xenium table. Shapes of Xenium are in µm before they are mapped onto the images."""


@dataclass(frozen=True)
class Region:
    """Rows of a table that annotate the same element, or none."""

    name: str
    rows: Ints
    element: SpatialElement | None
    """Shapes, labels or points; None if the coordinates are those of the table."""
    system: str
    """Coordinate system of the centres."""
    centres: Float64
    """Shape (n_rows, 2), as x, y."""


def import_spatialdata() -> ModuleType:
    """Import spatialdata without the warnings of its own imports."""
    with quietly():
        require_extra("spatialdata.models", extra="spatialdata")
        return require_extra("spatialdata", extra="spatialdata")


@contextmanager
def quietly() -> Iterator[None]:
    """Silence warnings of spatialdata and its dependencies, which users cannot act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_spatialdata(data: object) -> bool:
    """Tell whether an object is SpatialData, without importing the package: its owner has imported it."""
    module = sys.modules.get("spatialdata")
    return module is not None and isinstance(data, module.SpatialData)


def table_name(sdata: SpatialData, name: str | None) -> str:
    """Get the name of the table: `name`, or the only one."""
    names = sorted(sdata.tables)
    if name is not None:
        require_key(names, name, where="the tables of the SpatialData object")
        return name
    if len(names) != 1:
        advice = 'Name one of them: table="…" (--table …).' if names else "Counts are needed: add a table."
        raise InputError(f"Expected one table in the SpatialData object, found {listed(names)}. {advice}")
    return str(names[0])


def annotation_of(adata: AnnData) -> dict[str, Any]:
    """Get the names of the elements that a table annotates, and of its columns for them; empty if there are none."""
    return dict(adata.uns.get(keys.SPATIALDATA, {}))


def regions_of(sdata: SpatialData, adata: AnnData, *, system: str | None) -> list[Region]:
    """Match the rows of a table to the elements that it annotates.

    Raises InputError if an element, a coordinate system or an instance is missing.
    """
    annotation = annotation_of(adata)
    if not annotation:
        return [_by_table(sdata, adata, "spots", system=system, because="it annotates no element")]
    instances = adata.obs[annotation["instance_key"]].to_numpy()
    elements = adata.obs[annotation["region_key"]].astype(str).to_numpy()
    names = list(dict.fromkeys(elements))
    missing = [name for name in names if name not in sdata]
    if missing and len(missing) == len(names):
        because = f"{listed(names)}, which it annotates, is not in the object"
        return [_by_table(sdata, adata, names[0], system=system, because=because)]
    if missing:
        raise InputError(
            f"Expected the elements {listed(names)}, which the table annotates, found {listed(missing)} missing. "
            'Add them, or name those to read: region="…".'
        )
    rows = {name: np.flatnonzero(elements == name) for name in names}
    return [_by_element(sdata, name, rows[name], instances[rows[name]], system=system) for name in names]


def _by_element(
    sdata: SpatialData, name: str, rows: Ints, instances: NDArray[np.generic], *, system: str | None
) -> Region:
    """Get the centres of the instances of an element, in the order of the table."""
    if name in sdata.images or name in sdata.tables:
        raise InputError(f"Expected shapes, labels or points in {name!r}, found an image or a table. Name the shapes.")
    element = sdata[name]
    system = _system_of(element, name, system)
    with quietly():
        centres: pd.DataFrame = import_spatialdata().get_centroids(element, coordinate_system=system).compute()
    if not centres.index.is_unique:
        raise InputError(f"Expected instances with unique names in {name!r}, found repeated ones. Rename them.")
    index = centres.index.get_indexer(instances)  # type: ignore[arg-type]
    lost = index < 0
    if lost.any():
        raise InputError(
            f"Expected every row of the table in {name!r}, found {lost.sum()} of {len(lost)} ({lost.mean():.0%}) that "
            f"it does not have (first: {instances[lost][0]!r}; it has {listed(centres.index, at_most=3)}). Check the "
            "instance key, or keep only the rows that it has (spatialdata.match_table_to_element)."
        )
    return Region(name, rows, element, system, centres[["x", "y"]].to_numpy(np.float64)[index])


def _by_table(sdata: SpatialData, adata: AnnData, name: str, *, system: str | None, because: str) -> Region:
    """Use the coordinates of the table itself."""
    if keys.SPATIAL not in adata.obsm and keys.ARRAY_ROW not in adata.obs:
        raise InputError(
            f"Expected coordinates, found a table without: {because}, and it has no obsm['spatial']. Add the element "
            "(and uns['spatialdata_attrs'], with TableModel.parse), or the coordinates."
        )
    systems = list(sdata.coordinate_systems)
    if system is None:
        system = GLOBAL if GLOBAL in systems or len(systems) != 1 else str(systems[0])
    elif system not in systems:
        require_key(systems, system, where="the coordinate systems")
    logger.info("Using the coordinates of the table itself, in the coordinate system %r: %s.", system, because)
    return Region(name, np.arange(adata.n_obs), None, system, coordinates(adata))


def systems_of(element: SpatialElement) -> dict[str, BaseTransformation]:
    """Get the coordinate systems of an element, and the transformations to them."""
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(element, get_all=True))


def _system_of(element: SpatialElement, name: str, system: str | None) -> str:
    """Choose a coordinate system of an element: `system`, "global", the only one, or the one without transformation."""
    known = systems_of(element)
    if system is not None:
        require_key(known, system, where=f"the coordinate systems of {name!r}")
        return system
    if GLOBAL in known or len(known) == 1:
        return GLOBAL if GLOBAL in known else next(iter(known))
    own = [system for system in known if np.allclose(matrix_to(element, system), np.eye(3))]
    if len(own) == 1:
        return own[0]
    raise InputError(
        f'Expected a coordinate system for {name!r}, found {listed(known)}. Choose one: coordinate_system="…" '
        "(--coordinate-system …)."
    )


def matrix_to(element: SpatialElement, system: str) -> Float64:
    """Get the 3 × 3 matrix from the intrinsic coordinates (x, y, 1) of an element to a coordinate system."""
    axes = ("x", "y")
    return np.asarray(systems_of(element)[system].to_affine_matrix(axes, axes), dtype=np.float64)


def diameter_of(region: Region) -> float | None:
    """Get the mean diameter of circles, or of circles of the area of polygons, in the coordinate system."""
    element = region.element
    if element is None or not hasattr(element, "geometry"):
        return None
    own = 2 * (element["radius"].mean() if "radius" in element else np.sqrt(element.geometry.area.mean() / np.pi))
    return float(own) * scale_of(matrix_to(element, region.system)) or None


def um_of(region: Region, adata: AnnData) -> float | None:
    """Get µm per unit of the coordinate system; None if unknown.

    It is known from a coordinate system called microns (MERSCOPE), the name of Visium HD bins, or a Xenium table, whose
    shapes are in µm.
    """
    if region.element is None:
        return 1.0 if region.system.lower() in MICRONS else None
    to_system = scale_of(matrix_to(region.element, region.system))
    for system in systems_of(region.element):
        if system.lower() in MICRONS:
            return scale_of(matrix_to(region.element, system)) / to_system
    if not hasattr(region.element, "geometry"):
        return None
    if bins := BIN.search(region.name):
        circles = "radius" in region.element
        side = 2 * region.element["radius"].mean() if circles else np.sqrt(region.element.geometry.area.mean())
        return float(bins[1]) / (float(side) * to_system)
    return 1 / to_system if set(adata.obs.columns) >= OF_XENIUM else None
