"""The entry of ``uns["spatial"]`` that holds the pictures of a section and their scale factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.compat import libraries_of
from stmmr.image.pixels import is_blank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

PICTURES: Final = ("hires", "lowres")
"""Names of the pictures in a library, the sharpest first."""
SPOT: Final = 0.55
"""Diameter of a spot over the distance between spots, on Visium."""
FULLRES: Final = "fullres"
"""The picture in full, which is not kept: its scale factor is 1, and left out unless the coordinates were changed."""


def scale_key(picture: str) -> str:
    """Name the scale factor of a picture: its pixels per unit of the coordinates."""
    return f"tissue_{picture}_scalef"


def find_library(adata: AnnData, library_id: str | None = None) -> Mapping[str, Any]:
    """Find the library of the section.

    Parameters
    ----------
    adata
        With pictures in ``uns["spatial"]``, or without.
    library_id
        Which one, where there are several.

    Returns
    -------
    The library, with ``"images"`` and ``"scalefactors"``; empty where there is none.

    Raises
    ------
    InputError
        If there is no library of that name, or there are several and none is named.
    """
    libraries = libraries_of(adata)
    if library_id is None:
        if len(libraries) > 1:
            raise InputError(
                f"Expected library_id to name one of the libraries in uns['spatial'], found {listed(libraries)}. "
                "Give library_id='…' or, if they are of several sections, run with section_key='…' (--section-key), "
                "the column of obs that has their names."
            )
        return next(iter(libraries.values()), {})
    require_key(libraries, library_id, where="uns['spatial']")
    library: Mapping[str, Any] = libraries[library_id]
    return library


def holds_picture(library: Mapping[str, Any]) -> bool:
    """Tell whether a library has a picture that is more than a blank placeholder."""
    images = [library.get("images", {}).get(name) for name in PICTURES]
    return any(image is not None and not is_blank(np.asarray(image)) for image in images)


def sharpest_picture(library: Mapping[str, Any]) -> tuple[NDArray[Any], float] | None:
    """Get the sharpest picture that can be laid under the places, with its pixels per unit of the coordinates."""
    for name in PICTURES:
        picture = library.get("images", {}).get(name)
        scale = library.get("scalefactors", {}).get(scale_key(name))
        # some output folders hold placeholders of one colour
        if picture is not None and scale is not None and not is_blank(np.asarray(picture)):
            return np.asarray(picture), float(scale)
    return None


def store_picture(
    adata: AnnData, pixels: NDArray[np.uint8], *, scale: float, spacing: float, library_id: str | None = None
) -> None:
    """Store a small picture as hires in ``uns["spatial"]``, for figures here and in scanpy and squidpy.

    Parameters
    ----------
    adata
        Left as it is where its library has a picture already.
    pixels
        Shape (height, width, 3).
    scale
        Pixels of the picture per unit of the coordinates.
    spacing
        Distance of neighbouring places, for the diameter of a spot where the scale factors have none: scanpy
        and squidpy draw no picture without one.
    library_id
        Which library, where there are several; it is made where there is none.
    """
    library = _found_or_new(adata, library_id)
    images, factors = library.get("images", {}), library.get("scalefactors", {})
    own = images.get(PICTURES[0])
    if sharpest_picture(library) is not None or (own is not None and not is_blank(np.asarray(own))):
        return
    factors = {"spot_diameter_fullres": SPOT * spacing} | factors | {scale_key(PICTURES[0]): scale}
    library = {**library, "images": {**images, PICTURES[0]: pixels}, "scalefactors": factors}
    libraries = libraries_of(adata)
    name = library_id or next(iter(libraries), "library")
    # new dicts: those at hand may belong to the AnnData that `adata` is a view of
    adata.uns[keys.SPATIAL] = {**libraries, name: library}


def store_mask(adata: AnnData, mask: NDArray[np.bool_], *, scale: float, library_id: str | None = None) -> None:
    """Store where the picture shows tissue, beside the pictures.

    Parameters
    ----------
    adata
        Its library gets the image ``"tissue_mask"``, in place of an earlier one.
    mask
        Shape (height, width).
    scale
        Pixels of the mask per unit of the coordinates.
    library_id
        Which library, where there are several.
    """
    library = _found_or_new(adata, library_id)
    images = {**library.get("images", {}), keys.TISSUE_MASK: mask}
    factors = {**library.get("scalefactors", {}), scale_key(keys.TISSUE_MASK): scale}
    libraries = libraries_of(adata)
    name = library_id or next(iter(libraries), "library")
    adata.uns[keys.SPATIAL] = {**libraries, name: {**library, "images": images, "scalefactors": factors}}


def _found_or_new(adata: AnnData, library_id: str | None) -> Mapping[str, Any]:
    """Find a library, or start the one of that name."""
    missing = library_id is not None and library_id not in libraries_of(adata)
    return {} if missing else find_library(adata, library_id)
