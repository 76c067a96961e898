"""Spots over the tissue of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import require_key, require_step
from stmmr.image.library import find_library, scale_key
from stmmr.pl._axes import Colored, drawing
from stmmr.pl._tissue import TissueOptions, draw_spots, map_size
from stmmr.pl.canvas import new_axes, pt

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_OUTLINE: Final = "#222222"
_TISSUE: Final = "#EBDCE8"


@drawing
def registration(adata: AnnData, *, library_id: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw spots over the whole image with the outline of its tissue, to check that they match.

    Parameters
    ----------
    adata
        After `stmmr.pp.histology`.
    library_id
        Key of ``uns["spatial"]``, if it has several images; for the image of a section, its spots are drawn.

    Returns
    -------
    The axes. Spots are coloured by the content of their patch, ``obs["stmmr_patch"]``; the line is the edge of the
    tissue.

    Raises
    ------
    InputError
        If `stmmr.pp.histology` did not run.
    """
    hint = "Run stmmr.pp.histology(adata) first."
    require_key(adata.obs.columns, keys.PATCH, where="obs", hint=hint)
    library = find_library(adata, library_id)
    step = require_step(adata, "histology", by="stmmr.pp.histology")
    if "sections" in step:
        adata = adata[adata.obs[step["section_key"]].astype(str) == library_id]
    require_key(library.get("images", {}), keys.TISSUE_MASK, where="the images of uns['spatial']", hint=hint)
    mask = np.asarray(library["images"][keys.TISSUE_MASK])
    scale = library["scalefactors"][scale_key(keys.TISSUE_MASK)]
    look, (rows, columns) = Colored(adata, keys.PATCH), mask.shape
    if ax is None:
        width, height = map_size(np.array([columns, rows], dtype=np.float64))
        ax = new_axes(width + look.legend_width(height), height)
    # for an image that was read from elsewhere, only the mask is stored
    stored = bool(step.get("image_is_stored", step.get("picture_is_stored")))
    draw_spots(adata, look, TissueOptions(image=stored, library_id=library_id, ax=ax))
    if mask.any() and not mask.all():
        x, y = (np.arange(columns) + 0.5) / scale, (np.arange(rows) + 0.5) / scale
        if not stored:
            ax.contourf(x, y, mask, levels=[0.5, 1], colors=_TISSUE, zorder=0)
        ax.contour(x, y, mask, levels=[0.5], colors=_OUTLINE, linewidths=pt(0.8))
    ax.set(xlim=(0, columns / scale), ylim=(rows / scale, 0))
    return ax
