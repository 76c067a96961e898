"""Domains in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stmmr._core import keys
from stmmr.pl._axes import Colored
from stmmr.pl._tissue import draw_places

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def domains(
    adata: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the domain of every place, over the picture of the tissue where there is one.

    Coordinates are those of the tissue, y downwards as in pictures. Places are circles as large as the distance
    between places, a little smaller over a picture. 100,000 places or more are drawn as pixels: each has the domain of
    most places in it, and one without any that of the nearest, up to the distance between places away. Works for any
    categorical column, e.g. an annotation; numbers are drawn by `stmmr.pl.values`. A scale bar is drawn where the scale
    factors have ``microns_per_pixel``, or the array tells the scale (see `stmmr.pp.histology`). A background masked in
    black is shown as glass. Several sections (``section_key`` of `stmmr.pp.spatial_graph`) lie side by side, without a
    picture unless `library_id` names one.

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
        Opacity of the places: 0.9 over a picture and 1 otherwise, if None.
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
    look = Colored(adata, domain_key)
    return draw_places(adata, look, image=image, library_id=library_id, alpha=alpha, ax=ax)
