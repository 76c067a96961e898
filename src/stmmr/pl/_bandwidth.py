"""How the bandwidth of the spatial graph was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr._core.checks import InputError
from stmmr._core.record import recorded
from stmmr.pl._axes import new_axes
from stmmr.pl._palette import MISSING, PALETTE

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def bandwidth(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw how well each bandwidth of the graph predicts places from their neighbours, and which one was chosen.

    The dotted line is one standard error above the smallest error; the smallest bandwidth below it is chosen.
    Bandwidths are in µm where the length of a unit of the coordinates is known, otherwise in distances between places.

    Parameters
    ----------
    adata
        Annotated data after `stmmr.pp.spatial_graph` without a given bandwidth.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("bandwidth.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no graph, or its bandwidth was given.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    graph = recorded(adata).get("spatial_graph", {})
    if "bandwidths_tried" not in graph:
        found = "no spatial graph"
        if "bandwidth" in graph:
            found = f"one that was given ({graph['bandwidth']:.4g} {graph['unit']})"
        raise InputError(
            "Expected the bandwidths that were tried in uns['stmmr']['spatial_graph'], found "
            f"{found}. Let the data choose it: stmmr.pp.spatial_graph(adata)."
        )
    in_um = bool(np.isfinite(graph["um_per_unit"]))
    unit = graph["um_per_unit"] if in_um else 1 / graph["nearest_neighbour_distance"]
    tried, chosen = np.asarray(graph["bandwidths_tried"]) * unit, float(graph["bandwidth"] * unit)
    error, spread = np.asarray(graph["error"]), np.asarray(graph["standard_error"])
    height = float(np.interp(np.log(chosen), np.log(tried), error))
    ax = ax or new_axes(5, 3)
    ax.fill_between(tried, error - spread, error + spread, color=MISSING, alpha=0.5, linewidth=0)
    ax.plot(tried, error, color="black", linewidth=1.2, marker="o", markersize=3)
    ax.axhline((error + spread)[error.argmin()], color="black", linewidth=0.8, linestyle=":")
    ax.plot(chosen, height, color=PALETTE[0], marker="o", markersize=7, linestyle="")
    label = f"chosen: {chosen:.3g}" + (" µm" if in_um else "")
    ax.annotate(label, (chosen, height), xytext=(4, 8), textcoords="offset points", color=PALETTE[0], fontsize="small")
    ax.set(
        xscale="log",
        xlabel="Bandwidth (µm)" if in_um else "Bandwidth (distances between places)",
        ylabel="Error of the prediction\n(variances of the noise)",
    )
    ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)) if in_um else LogLocator(2))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.spines[["top", "right"]].set_visible(False)
    return ax
