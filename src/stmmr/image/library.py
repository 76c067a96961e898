"""The entry of ``uns["spatial"]`` that holds the images of a section and their scale factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.compat import libraries_of, unescaped
from stmmr.image.pixels import is_blank, unfit

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

IMAGES: Final = ("hires", "lowres")
"""Names of the images that Space Ranger and stmmr write, the one with the highest resolution first."""
SPOT: Final = 0.55
"""Diameter of a spot divided by the distance between spots, on Visium."""
FULLRES: Final = "fullres"
"""The full-resolution image, which is not stored; its scale factor is 1, or written if coordinates were changed."""


class Library(TypedDict, total=False):
    """An entry of ``uns["spatial"]``, as scanpy and squidpy know it."""

    images: Mapping[str, NDArray[np.generic]]
    scalefactors: Mapping[str, float]
    metadata: Mapping[str, object]


def scale_key(image: str) -> str:
    """Name the scale factor of an image: its pixels per unit of the coordinates."""
    return f"tissue_{image}_scalef"


def image_names(library: Library) -> list[str]:
    """Name the images of a library: hires and lowres, then others with a scale factor, such as downscaled_fullres."""
    images, factors = library.get("images", {}), library.get("scalefactors", {})
    others = [name for name in images if name not in IMAGES and scale_key(name) in factors]
    return [*(name for name in IMAGES if name in images), *(name for name in others if np.ndim(images[name]) == 3)]


def find_library(adata: AnnData, library_id: str | None = None) -> Library:
    """Find the library of a section by its name, or the only one; empty if ``uns["spatial"]`` has none.

    Raises InputError if there is no library of that name, or there are several and `library_id` is None.
    """
    libraries: Mapping[str, Library] = libraries_of(adata)
    if library_id is None:
        if len(libraries) > 1 and not any(map(holds_image, libraries.values())):
            return Library()
        if len(libraries) > 1:
            raise InputError(
                f"Expected library_id to name one of the libraries in uns['spatial'], found {listed(libraries)}. "
                "Give library_id='…' or, if they belong to several sections, section_key='…' (--section-key), the "
                "column of obs with their names."
            )
        return next(iter(libraries.values()), Library())
    require_key(libraries, library_id, where="uns['spatial']")
    return libraries[library_id]


def holds_image(library: Library) -> bool:
    """Tell whether a library has an H&E image that is not a blank placeholder."""
    images = (_usable(library, name) for name in image_names(library))
    return any(image is not None and not unfit(image) for image in images)


def unfit_images(library: Library) -> dict[str, str]:
    """Get the images of a library that cannot be used as H&E, with the reason."""
    images = {name: image for name in image_names(library) if (image := _usable(library, name)) is not None}
    return {name: reason for name, image in images.items() if (reason := unfit(image))}


def sharpest_image(library: Library) -> tuple[NDArray[np.generic], float] | None:
    """Get the image with the highest resolution that has a scale factor, and its pixels per unit of the coordinates."""
    for name in image_names(library):
        image, scale = _usable(library, name), library.get("scalefactors", {}).get(scale_key(name))
        if image is not None and scale is not None:
            return image, float(scale)
    return None


def store_image(
    adata: AnnData, pixels: NDArray[np.uint8], *, scale: float, spacing: float, library_id: str | None = None
) -> None:
    """Store a small image, shape (height, width, 3), as hires in ``uns["spatial"]``, for figures.

    A library that has an image already stays as it is. `scale` is in pixels per unit of the coordinates. The distance
    of neighbouring spots, `spacing`, gives their diameter if the scale factors have none: scanpy and squidpy draw no
    image without it.
    """
    library = _library_or_new(adata, library_id)
    if sharpest_image(library) is not None or _usable(library, IMAGES[0]) is not None:
        return
    default = {"spot_diameter_fullres": SPOT * spacing}
    _put(adata, IMAGES[0], pixels, scale=scale, library_id=library_id, default=default)


def store_mask(adata: AnnData, mask: NDArray[np.bool_], *, scale: float, library_id: str | None = None) -> None:
    """Store the tissue mask, shape (height, width), with its pixels per unit, as ``images["tissue_mask"]``."""
    _put(adata, keys.TISSUE_MASK, mask, scale=scale, library_id=library_id)


def _put(
    adata: AnnData,
    name: str,
    pixels: NDArray[np.generic],
    *,
    scale: float,
    library_id: str | None,
    default: Mapping[str, float] | None = None,
) -> None:
    """Put an image and its scale factor into a library, with default values of other scale factors."""
    library, libraries = _library_or_new(adata, library_id), libraries_of(adata)
    # new dicts: the present ones may belong to the AnnData that `adata` is a view of
    new = {
        **library,
        "images": {**library.get("images", {}), name: pixels},
        "scalefactors": {**(default or {}), **library.get("scalefactors", {}), scale_key(name): scale},
    }
    adata.uns[keys.SPATIAL] = {**_others(adata), **libraries, library_id or next(iter(libraries), "library"): new}


def _others(adata: AnnData) -> dict[str, object]:
    """Get what ``uns["spatial"]`` holds besides libraries of the spots; nothing if it is no mapping of libraries."""
    content = adata.uns.get(keys.SPATIAL)
    if not isinstance(content, Mapping) or {"images", "scalefactors"} & content.keys():
        return {}
    return {unescaped(str(name)): value for name, value in content.items()}


def _library_or_new(adata: AnnData, library_id: str | None) -> Library:
    """Find a library, or start an empty one of that name."""
    missing = library_id is not None and library_id not in libraries_of(adata)
    return {} if missing else find_library(adata, library_id)


def _usable(library: Library, name: str) -> NDArray[np.generic] | None:
    """Get an image of a library; None if it is missing or, as in some output folders, a placeholder of one colour."""
    image = library.get("images", {}).get(name)
    if image is None or is_blank(np.asarray(image)):
        return None
    return np.asarray(image)
