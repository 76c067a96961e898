"""The entry of ``uns["spatial"]`` that holds the pictures of a section and their scale factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stmmr import _keys
from stmmr._validate import InputError, listed, require_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

PICTURES: Final = ("hires", "lowres")
"""Names of the pictures in a library, the sharpest first."""


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
    libraries = adata.uns.get(_keys.SPATIAL, {})
    if library_id is None:
        if len(libraries) > 1:
            raise InputError(
                f"Expected library_id to name one of the libraries in uns['spatial'], found {listed(libraries)}. "
                "Give library_id='…', or process the sections one by one."
            )
        return next(iter(libraries.values()), {})
    require_key(libraries, library_id, where="uns['spatial']")
    library: Mapping[str, Any] = libraries[library_id]
    return library
