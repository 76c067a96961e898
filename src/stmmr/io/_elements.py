"""Elements of a SpatialData object: where they lie, how large they are, which of them a table describes."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_extra, require_key
from stmmr._core.space import coordinates
from stmmr.image.registration import scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

GLOBAL: Final = "global"
"""The coordinate system that spatialdata puts an element in where nothing else is said."""
MICRONS: Final = frozenset({"micron", "microns", "micrometer", "micrometers", "um", "µm"})
"""Names of coordinate systems whose unit is told by them."""
BIN: Final = re.compile(r"(?:^|_)0*(\d+)um(?:_|$)")
"""Width of the bins in the names that spatialdata-io gives those of Visium HD."""
OF_XENIUM: Final = frozenset({"transcript_counts", "control_probe_counts", "cell_area", "nucleus_area"})
"""Columns of a Xenium table; its shapes are in µm before they are laid onto the pictures."""


@dataclass(frozen=True)
class Region:
    """What a table says of one element, or of places that have none."""

    name: str
    rows: NDArray[np.intp]
    """Rows of the table."""
    element: Any
    """The shapes, labels or points; None where the coordinates are those of the table."""
    system: str
    """Coordinate system of the centres."""
    centres: NDArray[np.float64]
    """Shape (rows, 2), as x, y."""


def import_spatialdata() -> ModuleType:
    """Import spatialdata without what its own imports warn about."""
    with quietly():
        require_extra("spatialdata.models", extra="spatialdata")
        return require_extra("spatialdata", extra="spatialdata")


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what the packages below spatialdata warn about, which is nothing that a user could mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_spatialdata(data: object) -> bool:
    """Tell a SpatialData object, without importing the package: who has one has imported it."""
    module = sys.modules.get("spatialdata")
    return module is not None and isinstance(data, module.SpatialData)


def table_name(sdata: Any, name: str | None) -> str:
    """Get the name of the table: the one given, or the only one there is."""
    names = sorted(sdata.tables)
    if name is not None:
        require_key(names, name, where="the tables of the SpatialData object")
        return name
    if len(names) != 1:
        advice = "Give one of them as table='…'." if names else "Counts are needed: add the table of the places."
        raise InputError(f"Expected one table in the SpatialData object, found {listed(names)}. {advice}")
    return str(names[0])


def annotation_of(adata: AnnData) -> dict[str, Any]:
    """Get what a table says about the elements it describes; empty where it says nothing."""
    return dict(adata.uns.get(keys.SPATIALDATA, {}))


def names_of(given: str | Sequence[str]) -> list[str]:
    """Get a list of names, whether one or several are given."""
    return [given] if isinstance(given, str) else [str(name) for name in given]


def regions_of(sdata: Any, adata: AnnData, *, system: str | None) -> list[Region]:
    """Find the places of a table among the elements it describes.

    Raises
    ------
    InputError
        If an element is missing, its coordinate system is, or places are not among its instances.
    """
    annotation = annotation_of(adata)
    everywhere = np.arange(adata.n_obs)
    if not annotation:
        return [_by_table(sdata, adata, "places", system=system, because="it describes no element")]
    key, ids = annotation["region_key"], adata.obs[annotation["instance_key"]].to_numpy()
    of = adata.obs[key].astype(str).to_numpy()
    names = list(dict.fromkeys(of))
    missing = [name for name in names if name not in sdata]
    if missing and len(missing) == len(names):
        because = f"{listed(names)}, which it describes, is not there"
        return [_by_table(sdata, adata, names[0], system=system, because=because)]
    if missing:
        raise InputError(
            f"Expected the elements {listed(names)}, which the table describes, found {listed(missing)} missing. "
            "Add them, or name those to read as region='…'."
        )
    return [_by_element(sdata, name, everywhere[of == name], ids[of == name], system=system) for name in names]


def _by_element(sdata: Any, name: str, rows: NDArray[np.intp], ids: NDArray[Any], *, system: str | None) -> Region:
    """Take the centres of an element's instances, in the order of the table."""
    if name in sdata.images or name in sdata.tables:
        raise InputError(f"Expected shapes, labels or points in {name!r}, found an image or a table. Name the shapes.")
    element = sdata[name]
    system = system_of(element, name, system)
    with quietly():
        centres: pd.DataFrame = import_spatialdata().get_centroids(element, coordinate_system=system).compute()
    if not centres.index.is_unique:
        raise InputError(f"Expected instances with names of their own in {name!r}, found some twice. Rename them.")
    at = centres.index.get_indexer(ids)  # type: ignore[arg-type]
    if (at < 0).any():
        lost = int((at < 0).sum())
        raise InputError(
            f"Expected every place of the table in {name!r}, found {lost} of {len(ids)} ({lost / len(ids):.0%}) that "
            f"it does not have (first: {ids[int((at < 0).argmax())]!r}; it has {listed(centres.index, at_most=3)}). "
            "Check the instance key, or keep the places that it has (spatialdata.match_table_to_element)."
        )
    return Region(name, rows, element, system, centres[["x", "y"]].to_numpy(np.float64)[at])


def _by_table(sdata: Any, adata: AnnData, name: str, *, system: str | None, because: str) -> Region:
    """Take the coordinates that a table has itself."""
    if keys.SPATIAL not in adata.obsm and keys.ARRAY_ROW not in adata.obs:
        raise InputError(
            f"Expected coordinates, found a table without: {because}, and it has no obsm['spatial']. Add the element "
            "(and uns['spatialdata_attrs'], by TableModel.parse), or the coordinates."
        )
    systems = list(sdata.coordinate_systems)
    if system is None:
        system = GLOBAL if GLOBAL in systems or len(systems) != 1 else str(systems[0])
    elif system not in systems:
        require_key(systems, system, where="the coordinate systems")
    logger.info("The coordinates are those in the table itself, taken for those of %r: %s.", system, because)
    return Region(name, np.arange(adata.n_obs), None, system, coordinates(adata))


def systems_of(element: Any) -> dict[str, Any]:
    """Get the transformations of an element by the coordinate systems that they lead to."""
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(element, get_all=True))


def system_of(element: Any, name: str, asked: str | None) -> str:
    """Decide for a coordinate system of an element: the one asked for, "global", the only one, or its own."""
    known = systems_of(element)
    if asked is not None:
        require_key(known, asked, where=f"the coordinate systems of {name!r}")
        return asked
    if GLOBAL in known or len(known) == 1:
        return GLOBAL if GLOBAL in known else next(iter(known))
    own = [system for system in known if np.allclose(matrix_to(element, system), np.eye(3))]
    if len(own) == 1:
        return own[0]
    raise InputError(
        f"Expected a coordinate system for {name!r}, found {listed(known)}. Give one as coordinate_system."
    )


def matrix_to(element: Any, system: str) -> NDArray[np.float64]:
    """Get the 3 × 3 matrix from an element's own coordinates (x, y, 1) to a coordinate system."""
    axes = ("x", "y")
    return np.asarray(systems_of(element)[system].to_affine_matrix(axes, axes), dtype=np.float64)


def diameter_of(region: Region) -> float | None:
    """Measure the mean diameter of circles, or of circles as large as polygons, in the coordinate system."""
    if not hasattr(region.element, "geometry"):
        return None
    if "radius" in region.element:
        own = 2 * float(region.element["radius"].mean())
    else:
        own = 2 * float(np.sqrt(region.element.geometry.area.mean() / np.pi))
    return own * scale_of(matrix_to(region.element, region.system)) or None


def um_of(region: Region, adata: AnnData) -> float | None:
    """Get µm per unit of the coordinate system, where something tells it.

    This is a coordinate system called microns (MERSCOPE), the name of a Visium HD bin, or a table as Xenium's, whose
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
