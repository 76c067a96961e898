"""Pseudotime in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import require_key
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates
from stmmr.pl._values import values

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


def trajectory(
    adata: AnnData,
    *,
    cmap: str | Colormap = "viridis",
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the pseudotime of every place in the tissue, its root as a star; light grey where it does not lead.

    Drawn as `stmmr.pl.values` draws numbers. The root is not marked where sections lie side by side. Branches are
    drawn by ``stmmr.pl.domains(adata, domain_key="stmmr_branch")``.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.trajectory`.
    cmap
        Colour map of matplotlib.
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
    The axes. Save by ``ax.figure.savefig("trajectory.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no pseudotime.
    """
    require_key(adata.obs.columns, keys.PSEUDOTIME, where="obs", hint="Run stmmr.tl.trajectory(adata) first.")
    ax = values(adata, keys.PSEUDOTIME, cmap=cmap, image=image, library_id=library_id, alpha=alpha, ax=ax)
    root = recorded(adata).get("trajectory", {}).get("root_place")
    at = np.flatnonzero(adata.obs_names == root)
    if len(at) and graph_sections(adata) is None:
        x, y = coordinates(adata)[at[0]]
        ax.plot(x, y, marker="*", markersize=13, color="white", markeredgecolor="black", linestyle="", zorder=5)
    return ax
