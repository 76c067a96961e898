"""The curves behind what was chosen from the data, each with a sentence that says what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import PALETTE
from stmmr._core.checks import require_extra
from stmmr._core.record import recorded
from stmmr.pl._trajectory import leading_trends
from stmmr.report._figures import STYLE
from stmmr.report._findings import FDR
from stmmr.report._layers import numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

MARK: Final = "#D55E00"
"""Colour of what was chosen; seen on white and on black."""
PALE: Final = "#F0E442"
"""Yellow lines are lost on white."""
BAND: Final = "#8A8A8A"
N_BINS: Final = 40


@dataclass(frozen=True)
class Curve:
    """A small figure and what it says."""

    title: str
    text: str
    plot: Any


def curves_of(adata: AnnData) -> list[Curve]:
    """Draw what there is of: bandwidth, number of domains, training, confidence, library sizes."""
    every: list[Callable[[AnnData], Curve | None]] = [_bandwidth, _number, _history, _confidence, _library_size]
    return [curve for draw in every if (curve := draw(adata)) is not None]


def _bandwidth(adata: AnnData) -> Curve | None:
    graph = recorded(adata).get("spatial_graph", {})
    if "bandwidths_tried" not in graph:
        return None
    um = float(graph["um_per_unit"] if graph["um_per_unit"] is not None else np.nan)
    unit = um if np.isfinite(um) else 1 / graph["nearest_neighbour_distance"]
    tried, chosen = np.asarray(graph["bandwidths_tried"]) * unit, float(graph["bandwidth"] * unit)
    error, spread = np.asarray(graph["error"]), np.asarray(graph["standard_error"])
    named = "Bandwidth (µm)" if np.isfinite(um) else "Bandwidth (distances between places)"
    plot = _axes(named, "Prediction error", x_axis_type="log", ticks=_round_numbers(tried))
    plot.varea(tried, error - spread, error + spread, fill_color=BAND, fill_alpha=0.25)
    _line(plot, tried, error)
    _span(plot, float((error + spread)[error.argmin()]))
    _mark(plot, chosen, float(np.interp(np.log(chosen), np.log(tried), error)))
    length = f"{chosen:.3g}" + (" µm" if np.isfinite(um) else " distances between places")
    text = (
        f"{length}: the smallest bandwidth that predicts places from their neighbours within one standard "
        "error (dotted) "
        "of the best one. The error is in variances of the noise."
    )
    return Curve("Bandwidth of the graph", text, plot)


def _number(adata: AnnData) -> Curve | None:
    found = recorded(adata).get("number_of_domains")
    if found is None:
        return None
    tried, criterion = np.asarray(found["tried"]), np.asarray(found["criterion"])
    chosen, low, high = (int(found[name]) for name in ("chosen", "lowest", "highest"))
    plot = _axes("Domains", "Information criterion (BIC)")
    box = require_extra("bokeh.models", extra="report").BoxAnnotation
    plot.add_layout(box(left=low - 0.5, right=high + 0.5, fill_color=BAND, fill_alpha=0.25, line_color=None))
    _line(plot, tried, criterion)
    _mark(plot, chosen, float(criterion[tried == chosen][0]))
    would = f"; {low} to {high} would do as well (shaded)" if low < high else ""
    text = f"{chosen} domains stand out{would}. Higher is better; 0 is a single domain."
    return Curve("Number of domains", text, plot)


def _history(adata: AnnData) -> Curve | None:
    steps = recorded(adata).get("history", {})
    terms = {name: np.asarray(values, dtype=np.float64) for name, values in steps.items() if len(values)}
    if not terms:
        return None
    names = sorted(terms, key=lambda name: name != "loss")
    if names[0] == "loss" and len(names) == 2:
        names = names[:1]  # the only term is the loss itself
    single = len(names) == 1
    plot = _axes("Step", "Loss" if single else "Loss over its range")
    for color, name in zip([None, *PALETTE], names, strict=False):
        values = np.where(np.isfinite(terms[name]), terms[name], np.nan)
        label = {} if single else {"legend_label": name}
        _line(
            plot, np.arange(1, len(values) + 1), values if single else _over_range(values), color, dots=False, **label
        )
    said = "; ".join(f"{name} {terms[name][0]:.3g} to {terms[name][-1]:.3g}" for name in names)
    return Curve("Training", f"First to last of {len(terms[names[0]]):,} steps: {said}.", plot)


def _confidence(adata: AnnData) -> Curve | None:
    if keys.CONFIDENCE not in adata.obs:
        return None
    values = numbers_of(adata, keys.CONFIDENCE)
    if not np.isfinite(values).any():
        return None
    plot = _histogram(values[np.isfinite(values)], "Confidence", edges=np.linspace(0, 1, 21))
    text = f"Median {np.nanmedian(values):.2f}; 1 where all partitions agree."
    return Curve("Confidence", text, plot)


def _library_size(adata: AnnData) -> Curve | None:
    if keys.LIBRARY_SIZE not in adata.obs:
        return None
    size = numbers_of(adata, keys.LIBRARY_SIZE)
    size = size[size > 0]
    if not len(size):
        return None
    low, high = np.log10([size.min(), max(size.max(), 1.01 * size.min())])
    edges = np.logspace(low, high, N_BINS + 1)
    plot = _histogram(size, "Counts at a place", edges=edges, ticks=_round_numbers(edges), x_axis_type="log")
    few, many = np.percentile(size, [5, 95])
    _span(plot, float(np.median(size)), dimension="height")
    text = f"Median {np.median(size):,.0f} (dotted); nine of ten places have {few:,.0f} to {many:,.0f}."
    return Curve("Library size", text, plot)


def trends_of(adata: AnnData) -> Curve | None:
    """Draw genes over pseudotime; None where `stmmr.tl.gene_trends` did not run."""
    found = recorded(adata).get("gene_trends")
    if found is None:
        return None
    table, time = found["table"], np.asarray(found["pseudotime"])
    plot = _axes("Pseudotime", "Expression (log1p)")
    plot.height = 330
    colors = [color for color in PALETTE if color != PALE]
    models, items = require_extra("bokeh.models", extra="report"), []
    names = table.index.astype(str).tolist()
    for gene, color in zip(leading_trends(table), colors, strict=False):
        at = names.index(gene)
        curve, low, high = (
            np.log1p(np.asarray(found[name][at], dtype=np.float64)) for name in ("curve", "low", "high")
        )
        band = plot.varea(time, low, high, fill_color=color, fill_alpha=0.2)
        line = plot.line(time, curve, line_color=color, line_width=2)
        items.append((str(gene), [line, band]))
    plot.add_layout(models.Legend(items=items, border_line_color=None, background_fill_alpha=0, padding=0), "right")
    plot.y_range.start = 0
    n = int((table["pval_adj"] < FDR).sum())
    step = recorded(adata).get("trajectory", {})
    root = f", which starts in domain {step['root_domain']}" if step else ""
    text = (
        f"Of the genes that peak early, midway and late along pseudotime{root}, those that change most surely, with "
        f"bands of {100 * float(found['confidence']):.0f} %. {n:,} of {len(table):,} genes change (false discovery "
        f"rate below {FDR:g}); neighbouring places are alike, so that this ranks genes rather than proves a trajectory."
    )
    return Curve("Genes over pseudotime", text, plot)


def _axes(x: str, y: str, *, ticks: NDArray[np.float64] | None = None, **options: Any) -> Any:
    """Make a small figure of the width of what it is put in."""
    figure = require_extra("bokeh.plotting", extra="report").figure
    plot = figure(
        height=230,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        x_axis_label=x,
        y_axis_label=y,
        **options,
    )
    plot.xgrid.visible = False
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    if ticks is not None:
        plot.xaxis.ticker = [float(tick) for tick in ticks]
        plot.xaxis.major_label_overrides = {float(tick): f"{tick:,.10g}" for tick in ticks}
    return plot


def _round_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find ticks for a logarithmic axis: powers of ten, with 2 and 5 times them where these are few."""
    low, high = values.min(), values.max()
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = np.outer(powers, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    return ticks


def _histogram(values: NDArray[np.float64], x: str, *, edges: NDArray[np.float64], **options: Any) -> Any:
    """Draw how many places have which value."""
    counts, edges = np.histogram(values, edges)
    plot = _axes(x, "Places", **options)
    bars = plot.quad(left=edges[:-1], right=edges[1:], bottom=0, top=counts, fill_color=PALETTE[4], line_color=None)
    bars.name = "bars"
    plot.y_range.start = 0
    return plot


def _line(
    plot: Any, x: NDArray[Any], y: NDArray[np.float64], color: str | None = None, *, dots: bool = True, **label: Any
) -> None:
    """Draw a curve; without a colour, in that of the text, which the page sets."""
    options = {"name": "ink" if color is None else "curve"}
    plot.line(x, y, line_color=color or BAND, line_width=2, **options, **label)
    if dots:
        _add_values(plot, plot.scatter(x, y, size=6, color=color or BAND, **options))


def _add_values(plot: Any, dots: Any) -> None:
    """Say the value of a dot below the pointer."""
    models = require_extra("bokeh.models", extra="report")
    x, y = plot.xaxis[0].axis_label, plot.yaxis[0].axis_label
    tooltips = f'<div class="tip" style="{STYLE}">{x}: @x{{0.[00]}}\n{y}: @y{{0.[000]}}</div>'
    plot.add_tools(models.HoverTool(renderers=[dots], tooltips=tooltips))


def _mark(plot: Any, x: float, y: float) -> None:
    plot.scatter([x], [y], size=12, fill_color=MARK, line_color=None)


def _span(plot: Any, at: float, *, dimension: str = "width") -> None:
    span = require_extra("bokeh.models", extra="report").Span
    plot.add_layout(span(location=at, dimension=dimension, line_color=BAND, line_dash="dotted", line_width=2))


def _over_range(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, span = (finite.min(), np.ptp(finite)) if finite.size else (0.0, 0.0)
    return (values - low) / (span or 1.0)
