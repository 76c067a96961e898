"""How the number of domains was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr._core.checks import require_step
from stmmr.pl._axes import new_axes
from stmmr.pl._palette import MISSING, PALETTE

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def number_of_domains(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the criterion over the number of domains, the number chosen and those that would do as well.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.tl.number_of_domains`.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("number_of_domains.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If the number was not chosen.
    """
    from matplotlib.ticker import MaxNLocator

    found = require_step(adata, "number_of_domains", by="stmmr.tl.number_of_domains")
    tried, criterion = np.asarray(found["tried"]), np.asarray(found["criterion"])
    chosen, low, high = (int(found[name]) for name in ("chosen", "lowest", "highest"))
    ax = ax or new_axes(5, 3)
    ax.axvspan(low - 0.5, high + 0.5, color=MISSING, alpha=0.5, linewidth=0)
    ax.plot(tried, criterion, color="black", linewidth=1.2, marker="o", markersize=3)
    ax.plot(chosen, criterion[tried == chosen][0], color=PALETTE[0], marker="o", markersize=7, linestyle="")
    label = f"{chosen} domains" + (f"\n{low} to {high} would do as well" if low < high else "")
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.25 * (top - bottom))  # room for the label, above the curve wherever that peaks
    at_left = 2 * chosen <= tried[0] + tried[-1]
    ax.annotate(
        label,
        (0 if at_left else 1, 1),
        xycoords="axes fraction",
        xytext=(4 if at_left else -4, -2),
        textcoords="offset points",
        color=PALETTE[0],
        fontsize="small",
        ha="left" if at_left else "right",
        va="top",
    )
    ax.set(xlabel="Domains", ylabel="Bayesian information criterion")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
