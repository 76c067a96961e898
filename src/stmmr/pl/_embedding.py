"""Places in two dimensions of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr import _keys
from stmmr._validate import InputError, require_key
from stmmr.pl._axes import RASTERISE_FROM, Colored, new_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_SIDE: Final = 4.0
"""Side of a new figure's axes, in inches."""


def embedding(adata: AnnData, *, basis: str = _keys.UMAP, color: str = _keys.DOMAIN, ax: Axes | None = None) -> Axes:
    """Draw the first two columns of an embedding, coloured by a categorical column.

    Run :func:`stmmr.tl.umap` first, or name another `basis`.

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
        If a key is not there, the embedding has fewer than two columns, or the column too many categories.
    """
    require_key(adata.obsm, basis, where="obsm", hint="Run stmmr.tl.umap(adata) first.")
    points = np.asarray(adata.obsm[basis])
    if points.ndim != 2 or points.shape[1] < 2:
        raise InputError(f"Expected obsm[{basis!r}] with two columns, found shape {points.shape}.")
    colored = Colored(adata, color)
    if ax is None:
        ax = new_axes(_SIDE + colored.legend_width(_SIDE), _SIDE)
    # in the order of the file, neighbours in the tissue and so domains would cover each other
    order = np.random.default_rng(0).permutation(len(points))
    ax.scatter(
        points[order, 0],
        points[order, 1],
        c=colored.of_places[order],
        s=np.clip(30_000 / max(len(points), 1), 0.5, 20),
        linewidths=0,
        rasterized=len(points) >= RASTERISE_FROM,
    )
    name = "UMAP" if basis.endswith("umap") else basis.removeprefix("X_")
    ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2", xticks=[], yticks=[], aspect="equal")
    ax.set_anchor("W")
    ax.spines[["top", "right"]].set_visible(False)
    colored.add_legend(ax)
    return ax
