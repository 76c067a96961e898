"""Places in two dimensions of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, require_key
from stmmr.pl._axes import RASTERISE_FROM, Colored, new_axes
from stmmr.pl.raster import PIXELS_FROM, draw_pixels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_SIDE: Final = 4.0
"""Side of a new figure's axes, in inches."""
_MARGIN: Final = 0.05
"""Room around the points, as a share of their longer side."""
_QUIET: Final = "#595959"


def embedding(adata: AnnData, *, basis: str = keys.UMAP, color: str = keys.DOMAIN, ax: Axes | None = None) -> Axes:
    """Draw the first two columns of an embedding, coloured by a categorical column.

    Run :func:`stmmr.tl.umap` first, or name another `basis`. Places that have no finite position there, as those that
    `stmmr.tl.umap` did not lay out, are left out, and the figure says of how many a sample it shows. 100,000 places or
    more are pixels, each the category of most places in it.

    Parameters
    ----------
    adata
        Annotated data.
    basis
        Key of ``obsm``.
    color
        Column of ``obs``. Places without a value are light grey.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("embedding.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If a key is not there, the embedding has fewer than two columns or no finite position, or the column too many
        categories.
    """
    require_key(adata.obsm, basis, where="obsm", hint="Run stmmr.tl.umap(adata) first.")
    found = adata.obsm[basis]
    if found.ndim != 2 or found.shape[1] < 2:
        raise InputError(f"Expected obsm[{basis!r}] with two columns, found shape {found.shape}.")
    points = np.asarray(found[:, :2], dtype=np.float64)
    known = np.asarray(np.isfinite(points).all(axis=1))
    if not known.any():
        raise InputError(f"Expected finite positions in obsm[{basis!r}], found none.")
    colored = Colored(adata, color)
    if ax is None:
        ax = new_axes(_SIDE + colored.legend_width(_SIDE), _SIDE)
    _draw(ax, points[known], colored.at(known))
    if not known.all():
        said = f"a sample of {known.sum():,} of {len(known):,} places"
        ax.set_title(said, loc="left", fontsize="small", color=_QUIET)
    name = "UMAP" if basis.endswith("umap") else basis.removeprefix("X_")
    ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2", xticks=[], yticks=[], aspect="equal")
    ax.set_anchor("W")
    ax.spines[["top", "right"]].set_visible(False)
    colored.add_legend(ax)
    return ax


def _draw(ax: Axes, points: NDArray[np.float64], colored: Colored) -> None:
    """Draw points, shape (n, 2), as dots, very many as pixels, with room around them."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = _MARGIN * (high - low).max() or 1
    low, high = low - room, high + room
    if len(points) >= PIXELS_FROM:
        draw_pixels(ax, points, colored, frame=(low, high))
    else:
        # in the order of the file, neighbours in the tissue and so domains would cover each other
        order = np.random.default_rng(0).permutation(len(points))
        ax.scatter(
            points[order, 0],
            points[order, 1],
            c=colored.of_places()[order],
            s=np.clip(30_000 / len(points), 0.5, 20),
            linewidths=0,
            rasterized=len(points) >= RASTERISE_FROM,
        )
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
