"""Curves behind choices: bandwidth, number of domains, training; and the tree of domains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core.categories import MISSING, PALETTE
from stmmr._core.checks import InputError, require_step
from stmmr._core.record import recorded
from stmmr._core.space import graph_um, rows_called
from stmmr.pl._axes import LEGEND, colors_of, drawing, drawing_domains
from stmmr.pl.canvas import new_axes, pt, pt2

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.types import Float64


@drawing
def bandwidth(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the error of predicting spots from their neighbours at each bandwidth, and the chosen bandwidth.

    The dotted line is at the bandwidth that predicts best. The chosen one is smaller where that is below the distance
    between spots, and larger where it is above. Bandwidths are in µm if the length of a unit of the coordinates is
    known, otherwise in distances between spots.

    Parameters
    ----------
    adata
        After `stmmr.pp.spatial_graph` with a bandwidth that was chosen.

    Raises
    ------
    InputError
        If there is no graph, or its bandwidth was set by the user.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    graph = recorded(adata).get("spatial_graph", {})
    if "bandwidths_tried" not in graph:
        instead = "no spatial graph"
        if "bandwidth" in graph:
            instead = f"one set by the user ({graph['bandwidth']:.4g} {graph['unit']})"
        raise InputError(
            "Expected a bandwidth chosen from the data in uns['stmmr']['spatial_graph'], found "
            f"{instead}. Choose it by stmmr.pp.spatial_graph(adata)."
        )
    um = graph_um(graph)
    in_um = math.isfinite(um)
    unit = um if in_um else 1 / graph["nearest_neighbour_distance"]
    tried, chosen = np.asarray(graph["bandwidths_tried"]) * unit, float(graph["bandwidth"] * unit)
    error = np.asarray(graph["error"])
    height = float(np.interp(np.log(chosen), np.log(tried), error))
    ax = ax or new_axes(5, 3)
    ax.plot(tried, error, color="black", linewidth=pt(1.2), marker="o", markersize=pt(3))
    ax.axvline(float(graph["bandwidth_best"] * unit), color="black", linewidth=pt(0.8), linestyle=":")
    ax.plot(chosen, height, color=PALETTE[0], marker="o", markersize=pt(7), linestyle="")
    label = f"chosen: {chosen:.3g}" + (" µm" if in_um else "")
    # at the top, as the curve is low there
    top = ax.get_xaxis_transform()
    ax.text(chosen, 0.98, f"  {label}", transform=top, va="top", color=PALETTE[0], fontsize="small")
    ax.set(
        xscale="log",
        xlabel="Bandwidth (µm)" if in_um else f"Bandwidth (distances between {rows_called(adata)})",
        ylabel="Prediction error\n(share of the variance)",
    )
    ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)) if in_um else LogLocator(2))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.spines[["top", "right"]].set_visible(False)
    return ax


@drawing
def number_of_domains(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the Bayesian information criterion (BIC) of each number of domains: the lower, the better.

    The BIC is relative to that of a single domain. The dot is the best number; numbers in the grey band fit almost
    equally well.

    Parameters
    ----------
    adata
        After `stmmr.tl.number_of_domains`.

    Raises
    ------
    InputError
        If `stmmr.tl.number_of_domains` did not run.
    """
    from matplotlib.ticker import MaxNLocator

    step = require_step(adata, "number_of_domains", by="stmmr.tl.number_of_domains")
    tried, bic = np.asarray(step["tried"]), -np.asarray(step["criterion"])
    chosen, low, high = (int(step[name]) for name in ("chosen", "lowest", "highest"))
    ax = ax or new_axes(5, 3)
    ax.axvspan(low - 0.5, high + 0.5, color=MISSING, alpha=0.5, linewidth=0)
    ax.plot(tried, bic, color="black", linewidth=pt(1.2), marker="o", markersize=pt(3))
    ax.plot(chosen, bic[tried == chosen][0], color=PALETTE[0], marker="o", markersize=pt(7), linestyle="")
    label = f"{chosen} domains" + (f"\n{low}–{high} fit almost equally well" if low < high else "")
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom - 0.25 * (top - bottom), top)  # room for the label below the curve
    at_left = 2 * chosen <= tried[0] + tried[-1]
    ax.annotate(
        label,
        (0 if at_left else 1, 0),
        xycoords="axes fraction",
        xytext=(pt(4 if at_left else -4), pt(2)),
        textcoords="offset points",
        color=PALETTE[0],
        fontsize="small",
        ha="left" if at_left else "right",
        va="bottom",
    )
    ax.set(xlabel="Number of domains", ylabel="BIC, relative to one domain\n(the lower, the better)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


@drawing
def history(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw each term of the loss over the training steps.

    Terms differ by orders of magnitude and some may be negative. Therefore each is scaled from its lowest (0) to its
    highest value (1), and the legend has its first and last value. A single term is not scaled.

    Parameters
    ----------
    adata
        With ``uns["stmmr"]["history"]``, the value of each term in every step.

    Raises
    ------
    InputError
        If the model was not trained.
    """
    from matplotlib.ticker import MaxNLocator

    steps = recorded(adata).get("history", {})
    terms = {name: np.asarray(values, dtype=np.float64) for name, values in steps.items() if len(values)}
    if not terms:
        raise InputError(
            "Expected the training history in uns['stmmr']['history'], found none. The default preset trains nothing. "
            'Run stmmr.run(adata, preset="paper") (--preset paper), or request denoised expression.'
        )
    ax = ax or new_axes(6, 3)
    names = sorted(terms, key=lambda name: name != "loss")
    if names[0] == "loss" and len(names) == 2:
        names = names[:1]  # a single term equals the loss
    single = len(names) == 1
    for color, name in zip(["black", *PALETTE], names, strict=False):
        values = terms[name]
        ax.plot(
            np.arange(1, len(values) + 1),
            np.where(np.isfinite(values), values, np.nan) if single else _over_range(values),
            label=f"{name}  {values[0]:.3g} → {values[-1]:.3g}",
            color=color,
            linewidth=pt(2 if name == "loss" and not single else 1.2),
            marker="o" if len(values) == 1 else None,
        )
    ax.set(xlabel="Step", ylabel="Loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    if not single:
        ax.set(ylabel="Loss over its range", ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
        ax.legend(title="First → last value", bbox_to_anchor=(1, 1), **LEGEND)
    return ax


def _over_range(values: Float64) -> Float64:
    """Scale values from 0 (lowest) to 1 (highest); constant values become 0, those that are not finite NaN."""
    finite = values[np.isfinite(values)]
    low, span = (finite.min(), np.ptp(finite)) if finite.size else (0.0, 0.0)
    return np.where(np.isfinite(values), (values - low) / (span or 1.0), np.nan)


@drawing_domains
def domain_tree(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the tree of domains: the further left two domains join, the more they differ.

    Parameters
    ----------
    adata
        After `stmmr.tl.domain_tree`.

    Raises
    ------
    InputError
        If there is no tree.
    """
    from scipy.cluster import hierarchy

    tree = require_step(adata, "domain_tree", by="stmmr.tl.domain_tree")
    names = [str(name) for name in tree["domains"]]
    ax = ax or new_axes(4, 0.75 + 0.22 * len(names))
    dendrogram = hierarchy.dendrogram(
        np.asarray(tree["linkage"]),
        orientation="left",
        labels=names,
        ax=ax,
        color_threshold=0,
        above_threshold_color="black",
    )
    for lines in ax.collections:
        lines.set(linewidth=pt(1.2))
    colors = colors_of(adata, tree["domain_key"], pd.Index(names))
    heights = 5 + 10 * np.arange(len(names))  # where SciPy draws the leaves
    ax.scatter(np.zeros(len(names)), heights, color=colors[dendrogram["leaves"]], s=pt2(40), zorder=3, clip_on=False)
    ax.set(xlabel="Distance by Ward\n(s.d. within domains)")
    ax.tick_params(axis="y", length=0, pad=pt(8), labelsize="medium")
    ax.spines[["top", "left", "right"]].set_visible(False)
    return ax
