"""What every export reads of an AnnData: domains, colours, sections, names and areas of the spots."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stmmr._core import keys
from stmmr._core.boundaries import outlines
from stmmr._core.categories import categories, hex_colors
from stmmr._core.checks import InputError, logger
from stmmr._core.compat import libraries_of
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, rows_called, spacing, units
from stmmr.image.library import FULLRES, Library, holds_image, scale_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Bools, Float64, Numbers


@dataclass(frozen=True, kw_only=True)
class Content:
    """An AnnData with domains, as exports read it."""

    adata: AnnData
    domain_key: str
    um_per_pixel: float | None = None
    """µm per pixel of the full-resolution image, where the user gives it."""

    @cached_property
    def domains(self) -> pd.Categorical:
        """Domain of each spot.

        Raises InputError if there are none.
        """
        domains = categories(self.adata, self.domain_key, hint="Run stmmr.run(adata) first, or name another column.")
        if (domains.codes < 0).all():
            raise InputError(f"Expected domains in obs[{self.domain_key!r}], found none. Run stmmr.run(adata) first.")
        return domains

    @cached_property
    def texts(self) -> Numbers:
        """Name of the domain of each spot; empty without."""
        names = np.array([*map(str, self.domains.categories), ""], dtype=object)
        return np.asarray(names[self.domains.codes])

    @cached_property
    def colors(self) -> dict[str, str]:
        """Colour of each domain, as "#0072b2"."""
        names = self.domains.categories
        return dict(zip(map(str, names), hex_colors(self.adata, self.domain_key, names), strict=True))

    @cached_property
    def xy(self) -> Float64:
        """Coordinates, shape (n_obs, 2)."""
        return coordinates(self.adata)

    @cached_property
    def rows(self) -> str:
        """What the rows are: spots, cells or bins."""
        return rows_called(self.adata)

    @cached_property
    def section_names(self) -> list[str]:
        """Names of the sections; one empty name without."""
        sections = graph_sections(self.adata)
        return [""] if sections is None else list(map(str, sections.categories))

    def sections(self) -> Iterator[tuple[str, str, Bools]]:
        """Get name and end of the file name of each section, and which spots it has; one without name otherwise."""
        sections, taken = graph_sections(self.adata), set()
        for code, name in enumerate(self.section_names):
            end = re.sub(r"[^\w.-]+", "_", f"_{name}") if name else ""
            end += f"_{code + 1}" if end.lower() in taken else ""
            taken.add(end.lower())
            yield name, end, np.ones(self.adata.n_obs, dtype=bool) if sections is None else sections.codes == code

    def original_names(self, section: str, spots: Bools) -> list[str]:
        """Get the names of spots before sections were joined, which adds the name of the section where names clash."""
        return [str(name).removesuffix(f"-{section}" if section else "") for name in self.adata.obs_names[spots]]

    def pixels_per_unit(self, section: str) -> float:
        """Get pixels of the full-resolution image per unit of the coordinates.

        Raises InputError if neither the data nor the user tell.
        """
        libraries: Mapping[str, Library] = libraries_of(self.adata)
        library = libraries.get(section) or next(iter(libraries.values()), Library())
        factor = library.get("scalefactors", {}).get(scale_key(FULLRES))
        unit, um, _ = units(self.adata)
        if self.um_per_pixel is not None and not math.isnan(um):
            return um / self.um_per_pixel
        if factor is not None:
            return float(factor)
        if unit == "px" or (unit == "coordinate units" and holds_image(library)):
            return 1.0
        if self.um_per_pixel is not None:
            logger.info("The unit of the coordinates is unknown; they are taken as µm.")
            return 1 / self.um_per_pixel
        advice = "Give the µm per pixel of the image, which for Xenium are um_per_pixel=0.2125 (--um-per-pixel 0.2125)."
        if math.isnan(um):
            advice = (
                "If the coordinates are in µm, give stmmr export the µm per pixel of the image: um_per_pixel=0.5 "
                "(--um-per-pixel 0.5). Otherwise repeat stmmr run with the µm of a unit, by its option of this name."
            )
        raise InputError(
            "Expected coordinates in pixels of the full-resolution image, found "
            f"{unit if not math.isnan(um) else 'an unknown unit'} and no scale of an image. {advice}"
        )

    def areas(self, spots: Bools) -> Numbers:
        """Get the area of each spot as a polygon of shapely: its outline, where there is one, a circle, or a square."""
        import shapely

        xy = self.xy[spots]
        step = spacing(xy, nth=2) or 1.0
        if self.rows == "bins":
            half = step / 2
            return np.asarray(shapely.box(*(xy - half).T, *(xy + half).T))
        diameters = [
            diameter
            for library in libraries_of(self.adata).values()
            if (diameter := library.get("scalefactors", {}).get("spot_diameter_fullres"))
        ]
        diameter = float(diameters[0]) if diameters and self.rows == "spots" else step
        areas = np.asarray(shapely.buffer(shapely.points(xy), diameter / 2, quad_segs=4))
        if keys.BOUNDARIES in self.adata.obsm:
            for row, outline in enumerate(outlines(self.adata.obsm[keys.BOUNDARIES][spots])):
                if len(outline) > 2:
                    areas[row] = shapely.make_valid(shapely.Polygon(outline))
        return areas
