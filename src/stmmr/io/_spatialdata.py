"""SpatialData to AnnData: tables with coordinates and images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key, require_positive, unique_names
from stmmr._core.compat import layers_of, libraries_of
from stmmr._core.space import UM, spacing
from stmmr.image.library import IMAGES, SPOT, Library, scale_key, sharpest_image
from stmmr.image.registration import mapped, scale_of
from stmmr.image.slide import open_slide
from stmmr.io._element_images import Frame, choose_image, frame_of, group_by_image, small_image
from stmmr.io._elements import (
    Region,
    annotation_of,
    diameter_of,
    import_spatialdata,
    regions_of,
    table_name,
    um_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from stmmr._core.types import Float64
    from stmmr.io._element_images import Image


class FullImage(NamedTuple):
    """An image of a SpatialData object in full resolution, not read yet."""

    name: str
    element: Image
    matrix: Float64
    """From ``obsm["spatial"]``, as (x, y, 1), to pixels of the full resolution, shape (3, 3)."""

    def options(self) -> dict[str, Any]:
        """Get the options ``image`` and ``registration`` of `stmmr.run` and `stmmr.pp.histology`."""
        return {"image": open_slide(self.element, where=self.name), "registration": self.matrix}


def from_spatialdata(
    sdata: SpatialData,
    *,
    table: str | None = None,
    image: str | None = None,
    region: str | Sequence[str] | None = None,
    coordinate_system: str | None = None,
    um_per_unit: float | None = None,
    with_image: bool = True,
    with_picture: bool | None = None,
) -> AnnData:
    """Get a table of a SpatialData object, with coordinates and image in the keys of scanpy and squidpy.

    A spot, cell or bin is at the centre of its circle, polygon or label. If the element that the table annotates is
    missing, ``obsm["spatial"]`` of the table is used.

    Parameters
    ----------
    sdata
        With a table that annotates shapes or labels.
    table
        Name of the table, if there are several.
    image
        Name of the H&E image. By default the sharpest colour image under the spots; fluorescence images are ignored.
    region
        Name of the element, or several, whose rows are read. By default all that the table annotates.
    coordinate_system
        Coordinate system of spots and image. By default "global", else the only one of the element, else the one
        without a transformation.
    um_per_unit
        µm per unit of the coordinate system. By default known from a coordinate system called microns, from Visium HD
        bins or from a Xenium table.
    with_image
        Whether to look for an image; without, the coordinates are those of the coordinate system.
    with_picture
        Old name of `with_image`.

    Returns
    -------
    A copy of the table, with

    ``obsm["spatial"]``
        x and y, shape (n_obs, 2), in units of the coordinate system from the upper left corner of the image; in
        full-resolution pixels if the image is rotated, mirrored or stretched. Unchanged if it is the same.
    ``uns["spatial"][region]``
        The image, with at most 2000 pixels a side, and its scale factors, with ``spot_diameter_fullres`` and, if known,
        ``microns_per_pixel`` (µm per unit of ``obsm["spatial"]``). One entry for all regions on one image. Entries of
        the table are kept if its coordinates are the same.

    Columns and ``uns`` that `to_spatialdata` added are removed. If regions are different sections, the column of
    ``obs`` that names them is the `section_key` of `stmmr.run`.

    Raises
    ------
    InputError
        If a table, region, image, coordinate system or instance does not exist; the message lists those that do.
    """
    if with_picture is not None:
        warnings.warn("with_picture was renamed: use with_image.", FutureWarning, stacklevel=2)
        with_image = with_picture
    import_spatialdata()
    annotated = sdata.tables[table_name(sdata, table)]
    adata = annotated.copy() if region is None else _of_regions(annotated, region)
    set_positions(adata, sdata, image=image, system=coordinate_system, um_per_unit=um_per_unit, with_image=with_image)
    return adata


def image_of(
    sdata: SpatialData,
    image: str | None = None,
    *,
    table: str | None = None,
    region: str | Sequence[str] | None = None,
    coordinate_system: str | None = None,
) -> tuple[Image, Float64]:
    """Get the H&E image under the spots in full resolution, without reading it, and where the spots are on it.

    Parameters
    ----------
    sdata
        As in `from_spatialdata`.
    image, table, region, coordinate_system
        As in `from_spatialdata`.

    Returns
    -------
    The element (a DataArray, or a DataTree of several resolutions), and the 3 × 3 matrix from ``obsm["spatial"]`` of
    `from_spatialdata`, as (x, y, 1), to pixels of its full resolution; the centre of the first pixel is at 0.5, 0.5.

    Raises
    ------
    InputError
        If there is no image, or regions of the table have different ones.
    """
    import_spatialdata()
    annotated = sdata.tables[table_name(sdata, table)]
    rows = annotated if region is None else _of_regions(annotated, region)
    frames = [frame for _, frame in _frames(sdata, regions_of(sdata, rows, system=coordinate_system), image)]
    names = sorted({frame.image for frame in frames if frame.image is not None})
    if len(frames) != 1 or not names:
        advice = 'Choose a region: region="…".' if names else 'Add one to the images, or name it: image="…".'
        raise InputError(f"Expected one H&E image under the spots, found {listed(names)}. {advice}")
    return sdata.images[names[0]], frames[0].to_pixels


def set_positions(
    adata: AnnData,
    sdata: SpatialData,
    *,
    image: str | None = None,
    system: str | None = None,
    um_per_unit: float | None = None,
    with_image: bool = True,
) -> FullImage | None:
    """Set coordinates and image of a table from the elements of its object; see `from_spatialdata`.

    The full-resolution image is returned, if there is one for all spots.
    """
    if um_per_unit is not None:
        require_positive(um_per_unit, name="um_per_unit")
    regions = regions_of(sdata, adata, system=system)
    frames = _frames(sdata, regions, image, with_image=with_image)
    xy = np.empty((adata.n_obs, 2))
    for group, frame in frames:
        for region in group:
            xy[region.rows] = mapped(frame.upright, region.centres)
    libraries = _set_coordinates(adata, xy)
    if image is not None or not any(sharpest_image(library) for library in libraries.values()):
        new = {group[0].name: _library(sdata, adata, group[0], frame, um_per_unit) for group, frame in frames}
        libraries = _merged(libraries if image is None else {}, new)
    if libraries:
        adata.uns[keys.SPATIAL] = libraries
    _remove_annotation(adata, regions)
    if len(frames) != 1 or (frame := frames[0][1]).image is None:
        return None
    return FullImage(frame.image, sdata.images[frame.image], frame.to_pixels)


def take_table(
    sdata: SpatialData,
    *,
    table: str | None,
    image: str | Path | None,
    coordinate_system: str | None,
    with_image: bool,
) -> tuple[AnnData, Path | FullImage | None]:
    """Get a table with coordinates for a run, without copying its matrices, and its full-resolution image.

    If `image` is a file and not the name of an element, the file is returned.
    """
    from anndata import AnnData

    import_spatialdata()
    source = sdata.tables[table_name(sdata, table)]
    file = None if image is None or str(image) in sdata.images or not Path(image).is_file() else Path(image)
    shared = {name: dict(getattr(source, name)) for name in ("obsm", "obsp", "varm", "varp", "uns")}
    adata = AnnData(source.X, obs=source.obs.copy(), var=source.var.copy(), layers=layers_of(source), **shared)
    name = None if image is None or file is not None else str(image)
    full_image = set_positions(
        adata, sdata, image=name, system=coordinate_system, with_image=with_image and file is None
    )
    return adata, file or full_image


def _of_regions(table: AnnData, region: str | Sequence[str]) -> AnnData:
    """Copy the rows of a region, or of several."""
    names = [region] if isinstance(region, str) else [str(name) for name in region]
    annotation = annotation_of(table)
    if not annotation:
        raise InputError("Expected a table that annotates elements for region, found one that does not. Leave it out.")
    elements = table.obs[annotation["region_key"]].astype(str)
    for name in names:
        require_key(elements.unique(), name, where="the regions of the table")
    adata = table[elements.isin(names).to_numpy()].copy()
    adata.uns[keys.SPATIALDATA] = {**annotation, "region": names}
    return adata


def _frames(
    sdata: SpatialData, regions: list[Region], image: str | None, *, with_image: bool = True
) -> list[tuple[list[Region], Frame]]:
    """Group regions by the image they are on, and map each group onto it."""
    if not with_image:
        return [([region], frame_of(sdata, None, region.system)) for region in regions]
    groups = [regions] if image is not None else group_by_image(sdata, regions)
    for group in groups:
        if len({region.system for region in group}) > 1:
            raise InputError(
                f"Expected regions in one coordinate system for one image, found {listed(r.system for r in group)}. "
                'Read them one by one (region="…"), or choose one: coordinate_system="…".'
            )
    return [(group, frame_of(sdata, choose_image(sdata, group, image), group[0].system)) for group in groups]


def _set_coordinates(adata: AnnData, xy: Float64) -> dict[str, Library]:
    """Set the coordinates, and get the libraries of the table; none if they go with other coordinates."""
    own = np.asarray(adata.obsm.get(keys.SPATIAL, np.empty((adata.n_obs, 0))))
    if own.ndim == 2 and own.shape[1] >= 2 and np.allclose(own[:, :2], xy, rtol=1e-9, atol=1e-6):
        return libraries_of(adata)
    if own.size:
        logger.info("obsm['spatial'] of the table is replaced by the coordinates of its elements.")
    adata.obsm[keys.SPATIAL] = xy
    adata.uns.pop(keys.SPATIAL, None)
    return {}


def _library(sdata: SpatialData, adata: AnnData, region: Region, frame: Frame, um_per_unit: float | None) -> Library:
    """Make the entry of ``uns["spatial"]`` for a region; empty if neither image nor scale are known."""
    images: dict[str, NDArray[np.uint8]] = {}
    factors: dict[str, float] = {}
    unit = scale_of(frame.upright)  # units of obsm["spatial"] per unit of the coordinate system
    if (um := um_of(region, adata) if um_per_unit is None else um_per_unit) is not None:
        factors[UM] = um / unit
    if frame.image is not None:
        images[IMAGES[0]], scale = small_image(sdata.images[frame.image])
        factors[scale_key(IMAGES[0])] = scale * scale_of(frame.to_pixels)
        logger.info("Storing the image %r with %d × %d pixels.", frame.image, *images[IMAGES[0]].shape[1::-1])
    if not factors:
        return {}
    factors["spot_diameter_fullres"] = unit * (diameter_of(region) or SPOT * (spacing(region.centres) or 1.0))
    return Library(images=images, scalefactors=factors)


def _merged(own: dict[str, Library], new: dict[str, Library]) -> dict[str, Library]:
    """Merge the libraries of a table, which have no image, with those of its elements."""
    new = {name: library for name, library in new.items() if library}
    if not any(library["images"] for library in new.values()):
        new = dict(list(new.items())[:1])  # without images, all state the same unit
    if len(own) != 1 or len(new) != 1:
        return new or own
    ((name, old),), (added,) = own.items(), new.values()
    images = {**added["images"], **old.get("images", {})}
    factors = {**added["scalefactors"], **old.get("scalefactors", {})}
    return {name: {**old, "images": images, "scalefactors": factors}}


def _remove_annotation(adata: AnnData, regions: list[Region]) -> None:
    """Remove what `to_spatialdata` added, and warn if the table has several regions."""
    annotation = annotation_of(adata)
    if annotation.get("region_key") == keys.REGION:
        del adata.uns[keys.SPATIALDATA]
        adata.obs = adata.obs.drop(columns=[keys.REGION, keys.INSTANCE])
    elif len(regions) > 1:
        logger.warning(
            "The table annotates %d regions (%s). If they are different sections, run with section_key=%r.",
            len(regions),
            listed(region.name for region in regions),
            annotation["region_key"],
        )
    unique_names(adata)
