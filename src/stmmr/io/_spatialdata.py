"""From SpatialData to AnnData, and results back into the table that they came from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_key, require_positive, unique_names
from stmmr._core.compat import layers_of
from stmmr._core.space import spacing
from stmmr.image.library import IMAGES, SPOT, scale_key, sharpest_image
from stmmr.image.registration import mapped, scale_of
from stmmr.image.slide import open_slide
from stmmr.io._element_images import Frame, choose_image, frame_of, on_one_picture, small_picture
from stmmr.io._elements import (
    Region,
    annotation_of,
    diameter_of,
    import_spatialdata,
    names_of,
    regions_of,
    table_name,
    um_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

logger = logging.getLogger("stmmr")


class Picture(NamedTuple):
    """A picture in full, unread."""

    name: str
    element: Any
    """A DataArray, or a DataTree of several resolutions."""
    matrix: NDArray[np.float64]
    """From ``obsm["spatial"]``, as (x, y, 1), to pixels of its first level, shape (3, 3)."""

    def options(self) -> dict[str, Any]:
        """Get what `stmmr.run` and `stmmr.pp.histology` read of it: the slide and its registration."""
        return {"image": open_slide(self.element, where=self.name), "registration": self.matrix}


def from_spatialdata(
    sdata: SpatialData,
    *,
    table: str | None = None,
    image: str | None = None,
    region: str | Sequence[str] | None = None,
    coordinate_system: str | None = None,
    um_per_unit: float | None = None,
    with_picture: bool = True,
) -> AnnData:
    """Take a table out of a SpatialData object, with coordinates and picture where scanpy and squidpy look for them.

    A place lies at the centre of its circle, polygon or label. Where the element that the table describes is not
    there, ``obsm["spatial"]`` of the table counts.

    Parameters
    ----------
    sdata
        With a table that describes shapes or labels.
    table
        Name of the table, where there are several.
    image
        Name of the H&E picture. By default the sharpest picture in colour that lies under the places; images of
        fluorescence are passed over.
    region
        Name of the element, or of several, whose places are read. By default all that the table describes.
    coordinate_system
        Where the places lie beside each other and on the picture. By default "global", else the only one of the
        element, else the one that the element is in as it is.
    um_per_unit
        µm per unit of the coordinate system, where neither a coordinate system called microns, bins of Visium HD nor a
        Xenium table tell it.
    with_picture
        Whether to look for a picture at all; without, coordinates are those of the coordinate system.

    Returns
    -------
    A copy of the table. What is set:

    ``obsm["spatial"]``
        Coordinates, shape (n_obs, 2), as x, y, in units of the coordinate system from the upper left corner of the
        picture; where that is turned, mirrored or stretched there, in its full-resolution pixels. Unchanged where
        they are the same.
    ``uns["spatial"][region]``
        The picture, of at most 2000 pixels a side, its scale factors, ``spot_diameter_fullres`` and, where known,
        ``microns_per_pixel``, that is µm per unit of ``obsm["spatial"]``. One for all regions on one picture. What the
        table itself has is kept where its coordinates are the same.

    Columns and ``uns`` that `to_spatialdata` has added for the table are taken off. Of several regions, the column of
    ``obs`` that names them is the `section_key` of `stmmr.run` where they are different sections.

    Raises
    ------
    InputError
        If there is no such table, region, picture or coordinate system (the names there are said), or places of
        the table are not among the instances of their element.
    """
    import_spatialdata()
    given = sdata.tables[table_name(sdata, table)]
    adata = given.copy() if region is None else _of_regions(given, names_of(region))
    place_elements(
        adata, sdata, image=image, system=coordinate_system, um_per_unit=um_per_unit, with_picture=with_picture
    )
    return adata


def picture_of(
    sdata: SpatialData,
    image: str | None = None,
    *,
    table: str | None = None,
    region: str | Sequence[str] | None = None,
    coordinate_system: str | None = None,
) -> tuple[Any, NDArray[np.float64]]:
    """Get the H&E picture below the places in full, unread, and where they lie on it.

    Parameters
    ----------
    sdata
        As in `from_spatialdata`.
    image, table, region, coordinate_system
        As given there.

    Returns
    -------
    The element (a DataArray, or a DataTree of several resolutions) and the 3 × 3 matrix from ``obsm["spatial"]`` of
    `from_spatialdata`, as (x, y, 1), to pixels of its first level; the centre of the first pixel is at 0.5, 0.5.

    Raises
    ------
    InputError
        If there is none, or there are several for the regions of the table.
    """
    import_spatialdata()
    given = sdata.tables[table_name(sdata, table)]
    rows = given if region is None else _of_regions(given, names_of(region))
    regions = regions_of(sdata, rows, system=coordinate_system)
    groups = [regions] if image is not None else on_one_picture(sdata, regions)
    frames = [_frame(sdata, group, image) for group in groups]
    found = sorted({frame.image for frame in frames if frame.image is not None})
    if len(frames) != 1 or not found:
        raise InputError(
            f"Expected one H&E picture below the places, found {listed(found)}. "
            + ("Give region='…', one of the regions." if found else "Add one to the images, or name it as image='…'.")
        )
    return sdata.images[found[0]], frames[0].to_pixels


def place_elements(
    adata: AnnData,
    sdata: Any,
    *,
    image: str | None = None,
    system: str | None = None,
    um_per_unit: float | None = None,
    with_picture: bool = True,
) -> Picture | None:
    """Set coordinates and pictures of a table from the elements around it; see `from_spatialdata`.

    Returns
    -------
    The picture in full, where there is one for all places and it is the sharpest there is.
    """
    if um_per_unit is not None:
        require_positive(um_per_unit, name="um_per_unit")
    regions = regions_of(sdata, adata, system=system)
    if with_picture:
        groups = [regions] if image is not None else on_one_picture(sdata, regions)
        frames = [_frame(sdata, group, image) for group in groups]
    else:
        groups = [[region] for region in regions]
        frames = [frame_of(sdata, None, region.system) for region in regions]
    xy = np.empty((adata.n_obs, 2))
    for group, frame in zip(groups, frames, strict=True):
        for one in group:
            xy[one.rows] = mapped(frame.upright, one.centres)
    kept = _set_coordinates(adata, xy)
    if image is not None or not any(sharpest_image(library) for library in kept.values()):
        found = {
            group[0].name: _library(sdata, adata, group[0], frame, um_per_unit)
            for group, frame in zip(groups, frames, strict=True)
        }
        kept = _joined(kept if image is None else {}, found)
    if kept:
        adata.uns[keys.SPATIAL] = kept
    _tidy(adata, regions)
    if len(frames) != 1 or frames[0].image is None:
        return None
    return Picture(frames[0].image, sdata.images[frames[0].image], frames[0].to_pixels)


def take_table(
    sdata: Any, *, table: str | None, image: str | Path | None, coordinate_system: str | None, with_picture: bool
) -> tuple[AnnData, Path | Picture | None]:
    """Get what a run reads of a SpatialData object: its table with coordinates and picture, matrices not copied.

    Returns
    -------
    The table; and its picture in full, or the file where `image` is one and not the name of an element.
    """
    from anndata import AnnData

    import_spatialdata()
    given = sdata.tables[table_name(sdata, table)]
    file = None if image is None or str(image) in sdata.images or not Path(image).is_file() else Path(image)
    shared = {name: dict(getattr(given, name)) for name in ("obsm", "obsp", "varm", "varp", "uns")}
    adata = AnnData(given.X, obs=given.obs.copy(), var=given.var.copy(), layers=layers_of(given), **shared)
    named = None if image is None or file is not None else str(image)
    with_picture = with_picture and file is None
    picture = place_elements(adata, sdata, image=named, system=coordinate_system, with_picture=with_picture)
    return adata, file or picture


def _of_regions(table: AnnData, names: list[str]) -> AnnData:
    """Copy the places of some regions."""
    annotation = annotation_of(table)
    if not annotation:
        raise InputError("Expected a table that describes elements for region, found one that does not. Leave it out.")
    of = table.obs[annotation["region_key"]].astype(str)
    for name in names:
        require_key(of.unique(), name, where="the regions of the table")
    adata = table[of.isin(names).to_numpy()].copy()
    adata.uns[keys.SPATIALDATA] = annotation | {"region": names}
    return adata


def _frame(sdata: Any, regions: list[Region], image: str | None) -> Frame:
    """Choose the picture of regions, and how they lie on it."""
    if len({region.system for region in regions}) > 1:
        raise InputError(
            f"Expected regions in one coordinate system for one picture, found {listed(r.system for r in regions)}. "
            "Read them one by one (region='…'), or name one as coordinate_system."
        )
    return frame_of(sdata, choose_image(sdata, regions, image), regions[0].system)


def _set_coordinates(adata: AnnData, xy: NDArray[np.float64]) -> dict[str, Any]:
    """Set the coordinates, and get the pictures that the table has itself; none where its coordinates are others."""
    own = np.asarray(adata.obsm.get(keys.SPATIAL, np.empty((adata.n_obs, 0))))
    if own.ndim == 2 and own.shape[1] >= 2 and np.allclose(own[:, :2], xy, rtol=1e-9, atol=1e-6):
        return dict(adata.uns.get(keys.SPATIAL, {}))
    if own.size:
        logger.info("obsm['spatial'] of the table is replaced by the coordinates of its elements.")
    adata.obsm[keys.SPATIAL] = xy
    adata.uns.pop(keys.SPATIAL, None)
    return {}


def _library(sdata: Any, adata: AnnData, region: Region, frame: Frame, um_per_unit: float | None) -> dict[str, Any]:
    """Make the entry of ``uns["spatial"]`` of a region; empty where there is nothing to say."""
    images, factors = {}, {}
    unit = scale_of(frame.upright)  # units of obsm["spatial"] per unit of the coordinate system
    if (um := um_of(region, adata) if um_per_unit is None else um_per_unit) is not None:
        factors["microns_per_pixel"] = um / unit
    if frame.image is not None:
        small, scale = small_picture(sdata.images[frame.image])
        images[IMAGES[0]] = small
        factors[scale_key(IMAGES[0])] = scale * scale_of(frame.to_pixels)
        logger.info("The picture is the image %r, stored at %d × %d pixels.", frame.image, *small.shape[1::-1])
    if not factors:
        return {}
    diameter = diameter_of(region) or SPOT * (spacing(region.centres) or 1.0)
    return {"images": images, "scalefactors": factors | {"spot_diameter_fullres": diameter * unit}}


def _joined(kept: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Join what a table has itself, which has no picture, with what was found around it."""
    found = {name: library for name, library in found.items() if library}
    if not any(library["images"] for library in found.values()):
        found = dict(list(found.items())[:1])  # all it tells is the unit of the coordinates
    if len(kept) != 1 or len(found) != 1:
        return found or kept
    (name, old), (new,) = next(iter(kept.items())), found.values()
    return {name: {**old, **{part: {**new[part], **old.get(part, {})} for part in new}}}


def _tidy(adata: AnnData, regions: list[Region]) -> None:
    """Take off what `to_spatialdata` has added, and say how regions are told apart."""
    annotation = annotation_of(adata)
    if annotation.get("region_key") == keys.REGION:
        del adata.uns[keys.SPATIALDATA]
        adata.obs = adata.obs.drop(columns=[keys.REGION, keys.INSTANCE])
    elif len(regions) > 1:
        logger.warning(
            "The table describes %d regions (%s). Where they are different sections, give section_key=%r.",
            len(regions),
            listed(one.name for one in regions),
            annotation["region_key"],
        )
    unique_names(adata)
