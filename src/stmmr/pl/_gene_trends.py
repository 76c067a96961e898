"""Genes over pseudotime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError, require_key, require_step
from stmmr._core.genes import require_list
from stmmr.pl._axes import new_axes, text_width
from stmmr.pl._palette import PALETTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

EACH: Final = 2
"""Genes that are drawn of those that peak in each third of pseudotime."""
STYLES: Final = ("-", "--", ":")


def gene_trends(adata: AnnData, *, genes: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the curves of genes over pseudotime with their confidence bands, on the scale of log1p.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.gene_trends`.
    genes
        Names of fitted genes; if None, the two surest of those that peak early, midway and late each, as the surest of
        all often rise and fall together. At most 18.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("gene_trends.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there are no curves, a gene is not among them, or there are more genes than lines to tell apart.
    """
    found = require_step(adata, "gene_trends", by="stmmr.tl.gene_trends")
    if genes is not None:
        require_list(genes)
    fitted = [str(name) for name in found["table"].index]
    shown = leading_trends(found["table"]) if genes is None else list(dict.fromkeys(genes))
    colors = [color for color in PALETTE if color != "#F0E442"][:6]  # yellow lines are lost on white
    if not 1 <= len(shown) <= len(colors) * len(STYLES):
        raise InputError(f"Expected 1 to {len(colors) * len(STYLES)} genes, found {len(shown)}.")
    for gene in shown:
        require_key(fitted, gene, where="the table of gene trends")
    time = np.asarray(found["pseudotime"])
    ax = ax or new_axes(4.5 + 0.5 + text_width(*shown), 3)
    for at, gene in enumerate(shown):
        curve, low, high = (np.log1p(found[name][fitted.index(gene)]) for name in ("curve", "low", "high"))
        color = colors[at % len(colors)]
        ax.fill_between(time, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(time, curve, color=color, linewidth=1.5, linestyle=STYLES[at // len(colors)], label=gene)
    top = max(np.log1p(found["curve"][fitted.index(gene)]).max() for gene in shown)
    ax.set(xlabel="Pseudotime", ylabel="Expression (log1p)", xlim=(time[0], time[-1]), ylim=(0, 1.15 * top))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")
    return ax


def leading_trends(table: pd.DataFrame) -> list[str]:
    """Choose genes to draw from the table of gene trends, which has the surest first; early peaks first."""
    third = np.minimum(3 * table["peak"].to_numpy(), 2).astype(int)
    shown = table.groupby(third).head(EACH).sort_values("peak", kind="stable")
    return [str(name) for name in shown.index]
