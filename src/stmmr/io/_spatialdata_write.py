"""From AnnData to SpatialData, and results back into the table that they came from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.compat import escaped, layers_of, libraries_of, names_in, rename_nested
from stmmr._core.record import recorded
from stmmr._core.space import coordinates, spacing
from stmmr.image.library import IMAGES, sharpest_image
from stmmr.io._elements import GLOBAL, import_spatialdata, quietly, table_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

logger = logging.getLogger("stmmr")
NAMED: Final = ("obs", "obsm", "obsp", "var", "varm", "varp", "uns", "layers")
"""Parts of a table whose names spatialdata checks."""
PLACES: Final = "places"
"""Name of the circles of a single section."""


def to_spatialdata(adata: AnnData, *, section_key: str | None = None, table: str = "table") -> SpatialData:
    """Make a SpatialData object of places, their pictures and everything that is known of them.

    Parameters
    ----------
    adata
        With coordinates; whatever else it holds goes into the table.
    section_key
        Column of obs with the section of each place, where there are several. By default that of the spatial graph.
    table
        Name of the table.

    Returns
    -------
    An object with

    the table
        A copy of `adata` with ``obs["stmmr_region"]`` and ``obs["stmmr_instance"]``, which name the element and the
        instance of each place. ``uns["spatial"]`` stays, so that squidpy draws the table alone as well.
    circles
        "places", or an element for each section by its name, in units of ``obsm["spatial"]`` and indexed by
        ``obs_names``. Their diameter is ``spot_diameter_fullres``, else the median distance to the next place.
    images
        The sharpest picture of each library of ``uns["spatial"]``.

    All lie in the coordinate system "global"; sections with pictures of their own, or without any, each in one of its
    name. `from_spatialdata` gives `adata` back.

    Raises
    ------
    InputError
        If there are no coordinates, the counts are in a file, a column is missing, or names repeat.
    """
    import_spatialdata()
    _check(adata)
    xy, libraries = coordinates(adata), libraries_of(adata)
    of = _sections(adata, section_key)
    sections = list(dict.fromkeys(of))
    names: dict[str, str] = {}
    for section in sections:
        names[section] = _valid_name(section, names.values())
    systems = names if _apart(sections, libraries) else dict.fromkeys(sections, GLOBAL)
    with quietly():
        from spatialdata import SpatialData

        shapes = {}
        for section in sections:
            rows = np.flatnonzero(of == section)
            library: dict[str, Any] = libraries.get(section) or next(iter(libraries.values()), {})
            shapes[names[section]] = _circles(xy[rows], adata.obs_names[rows], library, systems[section])
        images = _images(libraries, systems, taken=[*names.values(), table])
        annotated = _table(adata, np.array([names[section] for section in of], dtype=object))
        return SpatialData(images=images, shapes=shapes, tables={table: annotated})


def put_back(adata: AnnData, sdata: Any, *, table: str | None) -> None:
    """Write into a table of a SpatialData object what a run has added to it.

    Coordinates and pictures stay as they are there, but for ``obsm["spatial"]`` where the table has none.
    """
    name = table_name(sdata, table)
    given = sdata.tables[name]
    if given.is_view:
        given = given.copy()
        del sdata.tables[name]
        sdata.tables[name] = given
    for there, here in ((given.obs, adata.obs), (given.var, adata.var)):
        for column in here:
            if column not in there or not here[column].array.equals(there[column].array):
                there[column] = here[column].array
    for where in ("obsm", "obsp", "layers"):
        held, written = getattr(given, where), getattr(adata, where)
        for key in names_in(written):
            if key not in held or (key != keys.SPATIAL and written[key] is not held[key]):
                held[key] = written[key]
    given.uns[keys.UNS] = adata.uns[keys.UNS]


def _check(adata: AnnData) -> None:
    """Check that the table can be copied and its places be told apart."""
    if adata.isbacked or not all(_in_memory(matrix) for matrix in (adata.X, *layers_of(adata).values())):
        raise InputError("Expected counts in memory, found them in a file. Read the data without backed=True.")
    for what, names in (("place", adata.obs_names), ("gene", adata.var_names)):
        if not names.is_unique:
            raise InputError(
                f"Expected {what}s with names of their own, found {int(names.duplicated().sum())} repeated. "
                "Call adata.obs_names_make_unique() and adata.var_names_make_unique()."
            )


def _in_memory(matrix: Any) -> bool:
    from anndata.abc import CSCDataset, CSRDataset

    return not isinstance(matrix, CSRDataset | CSCDataset) and type(matrix).__module__.split(".")[0] not in (
        "h5py",
        "zarr",
    )


def _sections(adata: AnnData, section_key: str | None) -> NDArray[np.object_]:
    """Get the name of the section of each place, by default as the graph was made."""
    key = section_key or recorded(adata).get("spatial_graph", {}).get("section_key") or None
    if key is None:
        return np.full(adata.n_obs, PLACES, dtype=object)
    require_key(adata.obs.columns, key, where="obs")
    missing = int(adata.obs[key].isna().sum())
    if missing:
        raise InputError(f"Expected a section at every place in obs[{key!r}], found {missing} without. Name them.")
    return np.asarray(adata.obs[key].astype(str), dtype=object)


def _apart(sections: list[str], libraries: Mapping[str, Any]) -> bool:
    """Tell whether sections have coordinates of their own: they do, unless they lie on one picture."""
    pictured = [library for library in libraries.values() if sharpest_image(library) is not None]
    return len(sections) > 1 and len(pictured) != 1


def _valid_name(name: str, taken: Collection[str]) -> str:
    """Make a name that spatialdata allows and that no other element has."""
    from spatialdata import sanitize_name

    valid = str(sanitize_name(name))
    used = {other.lower() for other in taken}
    tries = (valid, *(f"{valid}_{number}" for number in range(1, len(used) + 2)))
    return next(each for each in tries if each.lower() not in used)


def _circles(xy: NDArray[np.float64], names: pd.Index, library: Mapping[str, Any], system: str) -> Any:
    """Make a circle of each place."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    diameter = float(library.get("scalefactors", {}).get("spot_diameter_fullres") or spacing(xy) or 1.0)
    return ShapesModel.parse(xy, geometry=0, radius=diameter / 2, index=names, transformations={system: Identity()})


def _images(libraries: Mapping[str, Any], systems: Mapping[str, str], taken: list[str]) -> dict[str, Any]:
    """Make an image of the sharpest picture of each library."""
    images: dict[str, Any] = {}
    for library_id, library in libraries.items():
        if (found := sharpest_image(library)) is None:
            continue
        system = systems.get(library_id, GLOBAL)
        if system not in systems.values():
            logger.warning("The picture of %r stays in uns['spatial'], as no section is called so.", library_id)
            continue
        images[_valid_name(f"{library_id}_{IMAGES[0]}", [*taken, *images])] = _image(*found, system)
    return images


def _image(picture: NDArray[Any], scale: float, system: str) -> Any:
    """Make an image of a picture, which lies in a coordinate system by its scale."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    pixels = np.atleast_3d(picture)
    names = {3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}.get(pixels.shape[2])
    larger = Scale([1 / scale, 1 / scale], axes=("x", "y"))
    return Image2DModel.parse(
        np.moveaxis(pixels, 2, 0), dims=("c", "y", "x"), c_coords=names, transformations={system: larger}
    )


def _table(adata: AnnData, elements: NDArray[np.object_]) -> AnnData:
    """Copy a table and say which element each place belongs to."""
    import pandas as pd
    from spatialdata import sanitize_table
    from spatialdata.models import TableModel

    annotated = adata.copy()
    annotated.uns.pop(keys.SPATIALDATA, None)
    before = {where: list(getattr(annotated, where)) for where in NAMED}
    sanitize_table(annotated)
    rename_nested(annotated, escaped)
    for where, names in before.items():
        changed = [f"{old} → {new}" for old, new in zip(names, getattr(annotated, where), strict=True) if old != new]
        if changed:
            logger.warning("Names that spatialdata does not allow are changed in %s: %s.", where, listed(changed))
    annotated.obs[keys.REGION] = pd.Categorical(elements)
    annotated.obs[keys.INSTANCE] = annotated.obs_names.to_numpy(dtype=object)
    regions = list(annotated.obs[keys.REGION].cat.categories)
    return TableModel.parse(annotated, region=regions, region_key=keys.REGION, instance_key=keys.INSTANCE)
