"""Scatter plot of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, require_key
from stmmr._core.space import rows_called
from stmmr.pl._axes import RASTERISE_FROM, Colored, drawing_domains
from stmmr.pl.canvas import new_axes, pt2
from stmmr.pl.raster import PIXELS_FROM, draw_pixels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.types import Float64

_SIDE: Final = 4.0
"""Side of a new figure's axes, in inches."""
_MARGIN: Final = 0.05
"""Space around the points, as a share of their longer side."""
_QUIET: Final = "#595959"


@drawing_domains
def embedding(adata: AnnData, *, basis: str = keys.UMAP, color: str = keys.DOMAIN, ax: Axes | None = None) -> Axes:
    """Draw the first two columns of an embedding, coloured by a categorical column.

    Run :func:`stmmr.tl.umap` first, or name another `basis`. Spots without a finite position, such as those that
    `stmmr.tl.umap` did not lay out, are left out, and the title gives the size of the sample. From 100,000 spots on,
    pixels are drawn, each with the most frequent category in it.

    Parameters
    ----------
    adata
        Annotated data.
    basis
        Key of ``obsm``.
    color
        Column of ``obs``. Spots without a value are light grey.

    Raises
    ------
    InputError
        If a key does not exist, the embedding has fewer than two columns or no finite position, or the column too many
        categories.
    """
    require_key(adata.obsm, basis, where="obsm", hint="Run stmmr.tl.umap(adata) first.")
    values = adata.obsm[basis]
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError(f"Expected obsm[{basis!r}] with two columns, found shape {values.shape}.")
    points = np.asarray(values[:, :2], dtype=np.float64)
    known = np.asarray(np.isfinite(points).all(axis=1))
    if not known.any():
        raise InputError(f"Expected finite positions in obsm[{basis!r}], found none.")
    colored = Colored(adata, color)
    if ax is None:
        ax = new_axes(_SIDE + colored.legend_width(_SIDE), _SIDE)
    _draw(ax, points[known], colored.subset(known))
    if not known.all():
        title = f"random sample of {known.sum():,} of {len(known):,} {rows_called(adata)}"
        ax.set_title(title, loc="left", fontsize="small", color=_QUIET)
    name = "UMAP" if basis.endswith("umap") else basis.removeprefix("X_")
    ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2", xticks=[], yticks=[], aspect="equal")
    ax.set_anchor("W")
    ax.spines[["top", "right"]].set_visible(False)
    colored.add_legend(ax)
    return ax


def _draw(ax: Axes, points: Float64, colored: Colored) -> None:
    """Draw points, shape (n, 2), as dots, or as pixels if there are very many."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low).max() or 1
    low, high = low - margin, high + margin
    if len(points) >= PIXELS_FROM:
        draw_pixels(ax, points, colored, frame=(low, high))
    else:
        # in a random order, as domains would cover each other in that of the file
        order = np.random.default_rng(0).permutation(len(points))
        ax.scatter(
            points[order, 0],
            points[order, 1],
            c=colored.of_spots()[order],
            s=pt2(np.clip(30_000 / len(points), 0.5, 20)),
            linewidths=0,
            rasterized=len(points) >= RASTERISE_FROM,
        )
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
