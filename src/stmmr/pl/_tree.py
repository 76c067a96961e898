"""Domains within domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core.checks import require_step
from stmmr.pl._axes import new_axes
from stmmr.pl._palette import category_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def domain_tree(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the tree of domains, leaves in their colours: the further to the left two meet, the more they differ.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.domain_tree`.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("domain_tree.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no tree.
    """
    from scipy.cluster import hierarchy

    tree = require_step(adata, "domain_tree", by="stmmr.tl.domain_tree")
    names = [str(name) for name in tree["domains"]]
    ax = ax or new_axes(4, 0.6 + 0.22 * len(names))
    drawn = hierarchy.dendrogram(
        np.asarray(tree["linkage"]),
        orientation="left",
        labels=names,
        ax=ax,
        color_threshold=0,
        above_threshold_color="black",
    )
    colors = category_colors(adata, tree["domain_key"], pd.Index(names))
    heights = 5 + 10 * np.arange(len(names))  # where SciPy draws leaves
    order = drawn["leaves"]
    ax.scatter(np.zeros(len(names)), heights, color=colors[order], s=40, zorder=3, clip_on=False)
    ax.set(xlabel="Distance (standard deviations within domains, Ward)")
    ax.tick_params(axis="y", length=0, pad=8)
    ax.spines[["top", "left", "right"]].set_visible(False)
    return ax
