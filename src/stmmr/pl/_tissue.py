"""Domains and numbers in the tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.options import Checked, shows_options
from stmmr._core.sections import graph_sections, section_codes
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.pl._axes import RASTERISE_FROM, Colored, drawing_domains, n_lines, wrapped
from stmmr.pl.canvas import new_axes, pt
from stmmr.pl.layout import ALONE, FADED, ON_IMAGE, drawable, frame_of, in_rows, spot_width
from stmmr.pl.raster import PIXELS_FROM, Blend, draw_pixels

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.types import Float64

SIDE: Final = 4.5
"""Side of a square tissue in a new figure, in inches. Another one has the same area."""
LONGEST: Final = 9.0
"""Largest longer side, in inches."""
SAMPLED: Final = 2_000
"""Spots of a domain among which the most central one is found."""
SHORT: Final = 3
"""Letters of names that are short enough to be in the map unless it is asked for otherwise."""


class Look(Blend, Protocol):
    """Colours of spots, and their legend."""

    def of_spots(self) -> Float64:
        """Get red, green, blue and opacity of each spot, shape (N, 4)."""

    def legend_width(self, height: float, /) -> float:
        """Get the width of the legend beside axes of a height, both in inches."""

    def add_legend(self, ax: Axes) -> None:
        """Add the legend to the right of the axes."""


@dataclass(frozen=True, kw_only=True)
class TissueOptions(Checked):
    """Options of drawings of the tissue.

    Attributes
    ----------
    image
        Draw the image in ``uns["spatial"]``: the one called hires, otherwise lowres.
    library_id
        Key of ``uns["spatial"]``, if it has several images.
    alpha
        Opacity of the spots; None: 0.9 over an image and 1 otherwise.
    """

    image: bool = True
    library_id: str | None = None
    alpha: float | None = None
    ax: Axes | None = None


def placed(adata: AnnData, options: TissueOptions) -> tuple[Float64, pd.Categorical | None]:
    """Get the coordinates as they are drawn, and the sections that are side by side."""
    xy, sections = coordinates(adata), None if options.library_id else graph_sections(adata)
    if sections is None:
        return xy, None
    # names of several lines need room between the rows of sections
    return in_rows(xy, sections, lines=n_lines(*_lines(sections))), sections


def draw_spots(adata: AnnData, look: Look, options: TissueOptions) -> Axes:
    """Draw spots as circles (very many as pixels) over the image, with a scale bar; see `stmmr.pl.domains`."""
    (xy, sections), ax = placed(adata, options), options.ax
    library = find_library(adata, options.library_id) if sections is None else {}
    shown = sharpest_image(library) if options.image else None
    spacing = spot_width(xy)
    low, high = frame_of(xy, spacing)
    if ax is None:
        width, height = map_size(high - low)
        ax = new_axes(width + look.legend_width(height), height)
    if shown is not None:
        pixels, scale = shown
        rows, columns = pixels.shape[:2]
        ax.imshow(drawable(pixels), extent=(0, columns / scale, rows / scale, 0), cmap="gray", alpha=FADED)
    opacity = options.alpha if options.alpha is not None else (1 if shown is None else 0.9)
    if len(xy) >= PIXELS_FROM:
        draw_pixels(ax, xy, look, frame=(low, high), reach=spacing, alpha=opacity)
    else:
        diameter = spacing * (ALONE if shown is None else ON_IMAGE)
        _add_circles(ax, xy, look.of_spots(), diameter=diameter, alpha=opacity)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    ax.set_axis_off()
    if sections is not None:
        _name_sections(ax, xy - [0, spacing / 2], sections)
    look.add_legend(ax)
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    if math.isfinite(um):
        _add_scale_bar(ax, um, width=float(high[0] - low[0]))
    return ax


def map_size(extent: Float64) -> tuple[float, float]:
    """Get the size of a map in inches: elongated tissue is as large as a square one, so that it is no thin strip."""
    side = extent * SIDE / np.sqrt(extent.prod())
    width, height = side * min(1, LONGEST / side.max())
    return float(width), float(height)


def _add_circles(ax: Axes, xy: Float64, colors: Float64, *, diameter: float, alpha: float) -> None:
    """Draw a circle for each spot, in units of the coordinates."""
    from matplotlib.collections import EllipseCollection

    circles = EllipseCollection(
        np.full(len(xy), diameter),
        np.full(len(xy), diameter),
        np.zeros(len(xy)),
        units="xy",
        offsets=xy,
        offset_transform=ax.transData,
        facecolors=colors,
        linewidths=0,
        alpha=alpha,
        rasterized=len(xy) >= RASTERISE_FROM,
    )
    ax.add_collection(circles, autolim=False)


def _name_sections(ax: Axes, xy: Float64, sections: pd.Categorical) -> None:
    """Write the name of each section above the upper edges of its spots."""
    for code, name in enumerate(_lines(sections)):
        inside = xy[sections.codes == code]
        top = ((inside[:, 0].min() + inside[:, 0].max()) / 2, inside[:, 1].min())
        ax.annotate(
            name, top, xytext=(0, pt(4)), textcoords="offset points", ha="center", fontsize="small", clip_on=False
        )


def _lines(sections: pd.Categorical) -> list[str]:
    """Break the names of sections into lines that fit side by side."""
    columns = math.ceil(math.sqrt(len(sections.categories)))
    return [wrapped(str(name), max(48 // columns, 10)) for name in sections.categories]


def _add_scale_bar(ax: Axes, um_per_unit: float, *, width: float) -> None:
    """Draw a scale bar of 1, 2 or 5 times a power of ten µm, at most a quarter of the width."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = width * um_per_unit / 4
    power = 10.0 ** np.floor(np.log10(longest))
    microns = power * max(step for step in (1, 2, 5) if step * power <= longest)
    label = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} µm"
    # below the tissue, to not cover it
    bar = AnchoredSizeBar(
        ax.transData,
        microns / um_per_unit,
        label,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
        size_vertical=width / 200,
        fontproperties=FontProperties(size="small"),
        frameon=False,
        sep=pt(3),
    )
    ax.add_artist(bar)


@drawing_domains
@shows_options(TissueOptions)
def domains(adata: AnnData, *, domain_key: str = keys.DOMAIN, labels: bool | None = None, **options: Any) -> Axes:
    """Draw the domain of every spot, over the image of the tissue if there is one.

    Works for any categorical column, e.g. an annotation; numbers are drawn by `stmmr.pl.values`. Coordinates are those
    of the tissue, y downwards as in images. Spots are circles with the distance between spots as diameter, a little
    smaller over an image. From 100,000 spots on, pixels are drawn: each has the most frequent domain in it, and an
    empty one that of the nearest, up to the distance between spots. There is a scale bar if the scale factors have
    ``microns_per_pixel`` or the array gives the scale (see `stmmr.pp.histology`). A background masked in black is drawn
    as glass. Several sections (``section_key`` of `stmmr.pp.spatial_graph`) are side by side, without image unless
    `library_id` names one.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    domain_key
        Column of ``obs``. Spots without a value are light grey.
    labels
        Write the name of each domain into it as well. None: if names are as short as numbers, and there is one section.

    Raises
    ------
    InputError
        If the column, the coordinates or the library do not exist, or the column has too many categories.
    """
    look, chosen = Colored(adata, domain_key), TissueOptions(**options)
    ax = draw_spots(adata, look, chosen)
    xy, sections = placed(adata, chosen)
    if labels is None:
        labels = sections is None and all(len(name) <= SHORT for name in look.entries)
    if labels:
        _label(ax, xy, categories(adata, domain_key), sections)
    return ax


def _label(ax: Axes, xy: Float64, domains: pd.Categorical, sections: pd.Categorical | None) -> None:
    """Write the name of each domain (of each section) on its most central spot."""
    from matplotlib.patheffects import withStroke

    codes = section_codes(sections, len(xy))
    for section in range(codes.max() + 1):
        for code, name in enumerate(domains.categories):
            own = xy[(codes == section) & (domains.codes == code)]
            if len(own):
                x, y = central(own)
                outline = [withStroke(linewidth=pt(2.5), foreground="white")]
                text = ax.text(x, y, wrapped(str(name), 16), ha="center", va="center", fontsize="small", zorder=6)
                text.set(fontweight="bold", path_effects=outline)


def central(xy: Float64) -> Float64:
    """Find the most central of several points, shape (N, 2): the one whose nearest eighth of them is nearest.

    Of many points, a sample is taken.
    """
    from scipy.spatial import cKDTree

    points = xy[:: 1 + len(xy) // SAMPLED]
    distance = np.ravel(cKDTree(points).query(points, k=[1 + len(points) // 8])[0])
    return np.asarray(points[distance.argmin()])
