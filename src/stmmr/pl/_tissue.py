"""Places in the tissue: what the figures of categories and of numbers share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core.checks import InputError
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.image.pixels import check_image, masked_glass, without_mask
from stmmr.pl._axes import RASTERISE_FROM, new_axes
from stmmr.pl._raster import PIXELS_FROM, Blend, draw_pixels

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

LONG_SIDE: Final = 4.5
"""Longer side of the tissue in a new figure, in inches."""
_MARGIN: Final = 0.02
"""Room around the places, as a share of the longer side of the tissue."""
_BETWEEN: Final = 0.15
"""Room between sections, over the largest of them."""
FADED: Final = 0.65
"""Opacity of the picture: H&E is as strong in colour as the places on it."""
ON_PICTURE: Final = 0.7
ALONE: Final = 1.0
"""Diameter of a place over the distance between places, with and without a picture below."""
_MEASURED_AT_MOST: Final = 10_000
"""Places whose distance to others is measured; the median of as many is within a percent or two."""


class Look(Blend, Protocol):
    """What places look like, and what explains it."""

    def of_places(self) -> NDArray[np.float64]:
        """Red, green, blue and opacity of each place, shape (N, 4)."""

    def legend_width(self, height: float, /) -> float:
        """Width to keep for the explanation beside axes of a height; both in inches."""

    def add_legend(self, ax: Axes) -> None:
        """Put the explanation to the right of the axes."""


def draw_places(
    adata: AnnData, look: Look, *, image: bool, library_id: str | None, alpha: float | None, ax: Axes | None
) -> Axes:
    """Draw places as circles, very many as pixels, over the picture where there is one; with a bar of the scale.

    Parameters
    ----------
    adata
        With coordinates.
    look
        Colours and legend.
    image, library_id, alpha, ax
        As in `stmmr.pl.domains`.
    """
    xy = coordinates(adata)
    sections = None if library_id else graph_sections(adata)
    if sections is not None:
        xy = in_rows(xy, sections)
    library = find_library(adata, library_id) if sections is None else {}
    shown = sharpest_image(library) if image else None
    spacing = spacing_of(xy)
    low, high = frame_of(xy, spacing)
    if ax is None:
        width, height = LONG_SIDE * (high - low) / (high - low).max()
        ax = new_axes(width + look.legend_width(height), height)
    if shown is not None:
        picture, scale = shown
        rows, columns = picture.shape[:2]
        ax.imshow(drawable(picture), extent=(0, columns / scale, rows / scale, 0), cmap="gray", alpha=FADED)
    opacity = alpha if alpha is not None else (1 if shown is None else 0.9)
    if len(xy) >= PIXELS_FROM:
        draw_pixels(ax, xy, look, frame=(low, high), reach=spacing, alpha=opacity)
    else:
        diameter = spacing * (ALONE if shown is None else ON_PICTURE)
        _add_circles(ax, xy, look.of_places(), diameter=diameter, alpha=opacity)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    ax.set_axis_off()
    if sections is not None:
        _name_sections(ax, xy, sections)
    look.add_legend(ax)
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    if math.isfinite(um):
        _add_scale_bar(ax, um, width=float(high[0] - low[0]))
    return ax


def _add_circles(
    ax: Axes, xy: NDArray[np.float64], colors: NDArray[np.float64], *, diameter: float, alpha: float
) -> None:
    """Draw a circle at each place, in units of the coordinates."""
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


def in_rows(xy: NDArray[np.float64], sections: pd.Categorical) -> NDArray[np.float64]:
    """Lay sections side by side in rows, about as many as columns; coordinates of shape (N, 2)."""
    n = len(sections.categories)
    columns = math.ceil(math.sqrt(n))
    xy = xy.copy()
    for code in range(n):
        own = xy[sections.codes == code]
        xy[sections.codes == code] -= (own.min(axis=0) + own.max(axis=0)) / 2
    row, column = np.divmod(sections.codes, columns)
    return np.asarray(xy + np.column_stack([column, row]) * np.ptp(xy, axis=0) * (1 + _BETWEEN))


def _name_sections(ax: Axes, xy: NDArray[np.float64], sections: pd.Categorical) -> None:
    """Write the name of each section above it."""
    for code, name in enumerate(sections.categories):
        own = xy[sections.codes == code]
        at = ((own[:, 0].min() + own[:, 0].max()) / 2, own[:, 1].min())
        ax.annotate(
            str(name), at, xytext=(0, 4), textcoords="offset points", ha="center", fontsize="small", clip_on=False
        )


def spacing_of(xy: NDArray[np.float64]) -> float:
    """Measure the distance between places: to the second nearest, which is the pitch of an array.

    Among cells, which lie irregularly, the nearest may all but touch; the second is about a cell away.
    """
    n_others = min(2, len(xy) - 1)
    if n_others < 1:
        return 1.0
    some = xy[:: math.ceil(len(xy) / _MEASURED_AT_MOST)]
    return float(np.median(cKDTree(xy).query(some, k=[n_others + 1], workers=-1)[0])) or 1.0


def frame_of(xy: NDArray[np.float64], spacing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get the corners of the tissue with a little room around it."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = spacing / 2 + _MARGIN * (high - low).max()
    return low - room, high + room


def drawable(picture: NDArray[Any]) -> NDArray[Any]:
    """Show a background masked in black as glass; what is no H&E picture, e.g. a greyscale one, as it is."""
    try:
        pixels = check_image(picture)
        return without_mask(pixels, masked_glass(pixels))
    except InputError:
        return picture


def _add_scale_bar(ax: Axes, um_per_unit: float, *, width: float) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten µm, at most a quarter of the width."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = width * um_per_unit / 4
    power = 10.0 ** np.floor(np.log10(longest))
    microns = power * max(step for step in (1, 2, 5) if step * power <= longest)
    label = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} µm"
    # below the tissue, which it would cover otherwise
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
        sep=3,
    )
    ax.add_artist(bar)
