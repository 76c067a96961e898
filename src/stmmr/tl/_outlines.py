"""Outlines of domains, as polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError
from stmmr._core.options import checked
from stmmr._core.sections import graph_sections, section_codes, sections_of
from stmmr._core.space import ARRAY, coordinates, spacing, units

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64, Numbers

ON_ARRAY: Final = 0.75
"""Reach on an array, in distances between spots: the corners of hexagons and squares are 0.58 and 0.71 away."""
AMONG_CELLS: Final = 2.0
"""Reach elsewhere, as the distances between cells vary."""
GRID: Final = 1e-4
"""Corners are rounded to about this share of the distance between spots, so that neighbouring outlines fit."""


@checked
def domain_outlines(
    adata: AnnData, *, domain_key: str = keys.DOMAIN, section_key: str | None = None, reach: float | None = None
) -> pd.DataFrame:
    """Compute the outline of every domain as polygons.

    A spot stands for the area that is nearer to it than to any other spot of its section (its Voronoi cell), up to the
    distance `reach`. The outline of a domain is the union of these areas. Outlines of different domains therefore share
    their borders and do not overlap. Where the tissue has a hole wider than twice the reach, the outline has one too.

    Parameters
    ----------
    adata
        With coordinates and domains. Spots without a domain have no outline.
    section_key
        Column of ``obs`` with the section of each spot; None: that of the spatial graph.
    reach
        Largest distance from a spot to the outline, in distances between spots. None: 0.75 for spots and bins on an
        array, 2 for cells.

    Returns
    -------
    A row for each domain (of each section, where there are several), with the columns

    ``section``
        Where there are several sections.
    ``domain``, ``n_obs``
        Name of the domain and its number of spots.
    ``area_mm2``
        Area in mm²; NaN if the length of a unit of the coordinates is unknown.
    ``outline``
        Polygon or MultiPolygon of shapely, in the coordinates of ``obsm["spatial"]``.

    ``geopandas.GeoDataFrame(table, geometry="outline")`` makes a GeoDataFrame of it.

    Raises
    ------
    InputError
        If there are no coordinates or no domains.
    """
    import pandas as pd
    from shapely import area, set_precision, union_all

    xy, domains = coordinates(adata), categories(adata, domain_key)
    if (domains.codes < 0).all():
        raise InputError(f"Expected domains in obs[{domain_key!r}], found none. Run stmmr.run(adata) first.")
    sections = sections_of(adata, section_key) if section_key else graph_sections(adata)
    names = ["section"] if sections is None else list(sections.categories)
    codes = section_codes(sections, len(xy))
    reach = reach or (ON_ARRAY if set(ARRAY) <= set(adata.obs.columns) else AMONG_CELLS)
    distance = max(spacing(xy[codes == code], nth=2) or 1.0 for code in range(len(names)))
    grid = 10.0 ** np.floor(np.log10(distance * GRID))
    mm2 = (units(adata)[1] / 1000) ** 2
    rows: list[dict[str, Any]] = []
    for code, section in enumerate(names):
        inside = codes == code
        areas, of_spot = areas_around(xy[inside], reach * distance)
        areas = set_precision(areas, grid)
        for domain, name in enumerate(domains.categories):
            own = of_spot[domains.codes[inside] == domain]
            if len(own):
                outline = union_all(areas[np.unique(own)], grid_size=grid)
                facts = {"domain": str(name), "n_obs": len(own), "area_mm2": float(area(outline)) * mm2}
                rows.append({"section": str(section)} | facts | {"outline": outline})
    table = pd.DataFrame(rows)
    return table if sections is not None else table.drop(columns="section")


def areas_around(xy: Float64, reach: float) -> tuple[Numbers, Numbers]:
    """Divide the plane among points, shape (N, 2): to each what is nearest to it, up to a distance.

    Returns
    -------
    Polygons, one for each location; and the index of the polygon of each point, shape (N,).
    """
    import shapely
    from scipy.spatial import Voronoi

    points, of_point = np.unique(xy, axis=0, return_inverse=True)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    # four points far away, so that the area of each point is bounded
    far = 4 * (np.ptp(points, axis=0).max() + 4 * reach) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    cells = Voronoi(np.vstack([points - centre, far]))
    corners = [cells.regions[region] for region in cells.point_region[: len(points)]]
    ring = np.repeat(np.arange(len(points)), [len(each) for each in corners])
    where = cells.vertices[np.concatenate(corners)] + centre
    areas = shapely.polygons(shapely.linearrings(where, indices=ring))
    far_off = np.unique(ring[np.hypot(*(where - points[ring]).T) > reach])
    areas[far_off] = shapely.intersection(
        areas[far_off], shapely.buffer(shapely.points(points[far_off]), reach, quad_segs=8)
    )
    return areas, of_point.ravel()
