"""Domains in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import cKDTree

from stmmr import _keys
from stmmr._validate import coordinates
from stmmr.io._library import find_library, sharpest_picture
from stmmr.pl._axes import RASTERISE_FROM, Colored, new_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_LONG_SIDE: Final = 4.5
"""Longer side of the tissue in a new figure, in inches."""
_MARGIN: Final = 0.02
"""Room around the places, as a share of the longer side of the tissue."""
_FADED: Final = 0.65
"""Opacity of the picture: H&E is as strong in colour as the domains on it."""
_ON_PICTURE: Final = 0.7
_ALONE: Final = 1.0
"""Diameter of a place over the distance between places, with and without a picture below."""


def domains(
    adata: AnnData,
    *,
    domain_key: str = _keys.DOMAIN,
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the domain of every place, over the picture of the tissue where there is one.

    Coordinates are those of the tissue, y downwards as in pictures. Places are circles as large as the distance
    between places, a little smaller over a picture. Works for any categorical column, e.g. an annotation. A scale
    bar is drawn where the scale factors have ``microns_per_pixel``.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    domain_key
        Column of ``obs``. Places without a value are light grey.
    image
        Whether to draw the picture in ``uns["spatial"]``: the one called hires, else lowres.
    library_id
        Which picture, where ``uns["spatial"]`` has several.
    alpha
        Opacity of the circles: 0.9 over a picture and 1 otherwise, if None.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("domains.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If the column, the coordinates or the library are not there, or the column has too many categories.
    """
    from matplotlib.collections import EllipseCollection

    colored = Colored(adata, domain_key)
    xy = coordinates(adata)
    library = find_library(adata, library_id)
    shown = sharpest_picture(library) if image else None
    spacing = _spacing(xy)
    diameter = spacing * (_ALONE if shown is None else _ON_PICTURE)
    low, high = _frame(xy, spacing)
    if ax is None:
        width, height = _LONG_SIDE * (high - low) / (high - low).max()
        ax = new_axes(width + colored.legend_width, height)
    if shown is not None:
        picture, scale = shown
        rows, columns = picture.shape[:2]
        ax.imshow(picture, extent=(0, columns / scale, rows / scale, 0), cmap="gray", alpha=_FADED)
    circles = EllipseCollection(
        np.full(len(xy), diameter),
        np.full(len(xy), diameter),
        np.zeros(len(xy)),
        units="xy",
        offsets=xy,
        offset_transform=ax.transData,
        facecolors=colored.of_places,
        linewidths=0,
        alpha=alpha if alpha is not None else (1 if shown is None else 0.9),
        rasterized=len(xy) >= RASTERISE_FROM,
    )
    ax.add_collection(circles, autolim=False)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    ax.set_axis_off()
    colored.add_legend(ax)
    microns_per_pixel = library.get("scalefactors", {}).get("microns_per_pixel")
    if microns_per_pixel is not None:
        _add_scale_bar(ax, float(microns_per_pixel), width=float(high[0] - low[0]))
    return ax


def _spacing(xy: NDArray[np.float64]) -> float:
    """Measure the distance between places: to the third nearest, which is the pitch of an array.

    Among cells, which lie irregularly, the nearest may all but touch; the third is about a cell away.
    """
    n_others = min(3, len(xy) - 1)
    if n_others < 1:
        return 1.0
    return float(np.median(cKDTree(xy).query(xy, k=[n_others + 1])[0])) or 1.0


def _frame(xy: NDArray[np.float64], spacing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get the corners of the tissue with a little room around it."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = spacing / 2 + _MARGIN * (high - low).max()
    return low - room, high + room


def _add_scale_bar(ax: Axes, microns_per_pixel: float, *, width: float) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten µm, at most a quarter of the width."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = width * microns_per_pixel / 4
    power = 10.0 ** np.floor(np.log10(longest))
    microns = power * max(step for step in (1, 2, 5) if step * power <= longest)
    label = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} µm"
    # below the tissue, which it would cover otherwise
    bar = AnchoredSizeBar(
        ax.transData,
        microns / microns_per_pixel,
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
