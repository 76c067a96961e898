"""AnnData to SpatialData, and results back into the table of a SpatialData object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.boundaries import outlines
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.compat import escaped, layers_of, libraries_of, names_in, rename_nested
from stmmr._core.space import coordinates, rows_called, spacing
from stmmr.image.library import IMAGES, Library, sharpest_image
from stmmr.io._elements import GLOBAL, import_spatialdata, quietly, table_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from spatialdata.models import SpatialElement
    from xarray import DataArray

    from stmmr._core.types import Float64

NAMED: Final = ("obs", "obsm", "obsp", "var", "varm", "varp", "uns", "layers")
"""Parts of a table whose names spatialdata checks."""
FEWEST_VERTICES: Final = 3
CIRCLES: Final = "spots"
"""Name of the element with the circles of a single section."""


def to_spatialdata(adata: AnnData, *, section_key: str | None = None, table: str = "table") -> SpatialData:
    """Make a SpatialData object of an AnnData, with circles for its spots and with its images.

    Parameters
    ----------
    adata
        With coordinates.
    section_key
        Column of ``obs`` with the section of each spot, if there are several. By default that of the spatial graph.
    table
        Name of the table.

    Returns
    -------
    An object with

    the table
        A copy of `adata` with ``obs["stmmr_region"]`` and ``obs["stmmr_instance"]``, the element and the instance of
        each spot. ``uns["spatial"]`` stays, so that squidpy can plot the table alone.
    circles
        "spots", or one element per section with its name, in units of ``obsm["spatial"]`` and indexed by
        ``obs_names``. Their diameter is ``spot_diameter_fullres``, else the median distance to the nearest spot.
    polygons
        "cell_boundaries", if ``obsm["cell_boundaries"]`` has the outlines of cells.
    images
        The sharpest image of each library of ``uns["spatial"]``.

    All are in the coordinate system "global". Sections with an image each, or without images, have a coordinate system
    each, with the name of the section. `from_spatialdata` gives `adata` back.

    Raises
    ------
    InputError
        If there are no coordinates, the counts are in a file, a column is missing, or names are repeated.
    """
    import_spatialdata()
    _check(adata)
    xy, libraries = coordinates(adata), libraries_of(adata)
    section_of = _sections(adata, section_key)
    sections = list(dict.fromkeys(section_of))
    names: dict[str, str] = {}
    for section in sections:
        names[section] = _valid_name(section, [*names.values(), table])
    n_images = sum(sharpest_image(library) is not None for library in libraries.values())
    # sections have their own coordinates unless all are on one image
    systems = names if len(sections) > 1 and n_images != 1 else dict.fromkeys(sections, GLOBAL)
    with quietly():
        from spatialdata import SpatialData

        shapes = {}
        for section in sections:
            rows = np.flatnonzero(section_of == section)
            library = libraries.get(section) or next(iter(libraries.values()), Library())
            shapes[names[section]] = _circles(xy[rows], adata.obs_names[rows], library, systems[section])
            if keys.BOUNDARIES in adata.obsm:
                name = keys.BOUNDARIES if len(sections) == 1 else f"{names[section]}_{keys.BOUNDARIES}"
                shapes[name] = _polygons(adata[rows], systems[section])
        images = _images(libraries, systems, taken=[*names.values(), table])
        annotated = _table(adata, np.array([names[section] for section in section_of], dtype=object))
        return SpatialData(images=images, shapes=shapes, tables={table: annotated})


def put_back(adata: AnnData, sdata: SpatialData, *, table: str | None) -> None:
    """Copy what a run added to `adata` into the table of a SpatialData object.

    Coordinates and images of the table are kept, except that ``obsm["spatial"]`` is added if the table has none.
    """
    name = table_name(sdata, table)
    target = sdata.tables[name]
    if target.is_view:
        target = target.copy()
        del sdata.tables[name]
        sdata.tables[name] = target
    for old, new in ((target.obs, adata.obs), (target.var, adata.var)):
        for column in new:
            if column not in old or not new[column].array.equals(old[column].array):
                old[column] = new[column].array
    for part in ("obsm", "obsp", "layers"):
        held, written = getattr(target, part), getattr(adata, part)
        for key in names_in(written):
            if key not in held or (key != keys.SPATIAL and written[key] is not held[key]):
                held[key] = written[key]
    target.uns |= {name: value for name, value in adata.uns.items() if name.startswith(keys.UNS)}


def _check(adata: AnnData) -> None:
    """Check that the counts are in memory and names are unique."""
    if adata.isbacked or not all(_in_memory(matrix) for matrix in (adata.X, *layers_of(adata).values())):
        raise InputError("Expected counts in memory, found them in a file. Read the data without backed=True.")
    for what, names in ((rows_called(adata), adata.obs_names), ("genes", adata.var_names)):
        if not names.is_unique:
            raise InputError(
                f"Expected {what} with unique names, found {int(names.duplicated().sum())} repeated. "
                "Call adata.obs_names_make_unique() and adata.var_names_make_unique()."
            )


def _in_memory(matrix: object) -> bool:
    from anndata.abc import CSCDataset, CSRDataset

    package = type(matrix).__module__.split(".")[0]
    return not isinstance(matrix, CSRDataset | CSCDataset) and package not in ("h5py", "zarr")


def _sections(adata: AnnData, section_key: str | None) -> NDArray[np.object_]:
    """Get the name of the section of each spot, by default that of the spatial graph."""
    from stmmr._core.sections import section_key_of

    key = section_key or section_key_of(adata)
    if key is None:
        return np.full(adata.n_obs, CIRCLES, dtype=object)
    require_key(adata.obs.columns, key, where="obs")
    missing = int(adata.obs[key].isna().sum())
    if missing:
        called = rows_called(adata)
        raise InputError(
            f"Expected a section for all {called} in obs[{key!r}], found {missing} {called} without. Fill them in."
        )
    return np.asarray(adata.obs[key].astype(str), dtype=object)


def _valid_name(name: str, taken: Collection[str]) -> str:
    """Make a name that spatialdata allows and that is not `taken`."""
    from spatialdata import sanitize_name

    valid = str(sanitize_name(name))
    used = {other.lower() for other in taken}
    candidates = (valid, *(f"{valid}_{number}" for number in range(1, len(used) + 2)))
    return next(candidate for candidate in candidates if candidate.lower() not in used)


def _circles(xy: Float64, names: pd.Index[str], library: Library, system: str) -> SpatialElement:
    """Make a circle for each spot."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    diameter = float(library.get("scalefactors", {}).get("spot_diameter_fullres") or spacing(xy) or 1.0)
    return ShapesModel.parse(xy, geometry=0, radius=diameter / 2, index=names, transformations={system: Identity()})


def _polygons(adata: AnnData, system: str) -> SpatialElement:
    """Make a polygon of the outline of each cell that has one."""
    import geopandas as gpd
    from shapely import Polygon
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    rings = {
        name: ring
        for name, ring in zip(adata.obs_names, outlines(adata.obsm[keys.BOUNDARIES]), strict=True)
        if len(ring) >= FEWEST_VERTICES
    }
    frame = gpd.GeoDataFrame(geometry=[Polygon(ring) for ring in rings.values()], index=list(rings))
    return ShapesModel.parse(frame, transformations={system: Identity()})


def _images(libraries: Mapping[str, Library], systems: Mapping[str, str], taken: list[str]) -> dict[str, DataArray]:
    """Make an image of the sharpest image of each library."""
    images: dict[str, DataArray] = {}
    for library_id, library in libraries.items():
        if (sharpest := sharpest_image(library)) is None:
            continue
        system = systems.get(library_id, GLOBAL)
        if system not in systems.values():
            logger.warning("The image of %r stays in uns['spatial']: no section has this name.", library_id)
            continue
        images[_valid_name(f"{library_id}_{IMAGES[0]}", [*taken, *images])] = _image(*sharpest, system)
    return images


def _image(pixels: NDArray[np.generic], scale: float, system: str) -> DataArray:
    """Make an image of pixels, with `scale` of them per unit of the coordinate system."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    pixels = np.atleast_3d(pixels)
    channels = {3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}.get(pixels.shape[2])
    to_system = Scale([1 / scale, 1 / scale], axes=("x", "y"))
    image: DataArray = Image2DModel.parse(
        np.moveaxis(pixels, 2, 0), dims=("c", "y", "x"), c_coords=channels, transformations={system: to_system}
    )
    return image


def _table(adata: AnnData, elements: NDArray[np.object_]) -> AnnData:
    """Copy an AnnData, and annotate the element of each spot."""
    import pandas as pd
    from spatialdata import sanitize_table
    from spatialdata.models import TableModel

    annotated = adata.copy()
    annotated.uns.pop(keys.SPATIALDATA, None)
    before = {part: list(getattr(annotated, part)) for part in NAMED}
    sanitize_table(annotated)
    rename_nested(annotated, escaped)
    for part, names in before.items():
        changed = [f"{old} → {new}" for old, new in zip(names, getattr(annotated, part), strict=True) if old != new]
        if changed:
            logger.warning("Names that spatialdata does not allow were changed in %s: %s.", part, listed(changed))
    annotated.obs[keys.REGION] = pd.Categorical(elements)
    annotated.obs[keys.INSTANCE] = annotated.obs_names.to_numpy(dtype=object)
    regions = list(annotated.obs[keys.REGION].cat.categories)
    return TableModel.parse(annotated, region=regions, region_key=keys.REGION, instance_key=keys.INSTANCE)
