"""Options of an export: one declaration for Python and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stmmr._core import keys
from stmmr._core.options import Checked

Target = Literal["xenium-explorer", "loupe", "qupath", "geojson", "napari", "vitessce", "csv"]
"""Tools and formats to export to."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Checked):
    """Options of `stmmr.export` and ``stmmr export``.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    domain_key: str = keys.DOMAIN
    """Column of obs with the domains, also those of others, such as an annotation."""
    um_per_pixel: float | None = None
    """µm per pixel of the full-resolution image, where the coordinates are in µm and not in pixels. Only QuPath needs
    it; 0.2125 for the images of Xenium. Coordinates of an unknown unit are then taken as µm."""
    overwrite: bool = False
    """Replace an earlier export."""
