"""Curves behind the choices, and distributions: drawn by matplotlib, embedded in the page as SVG."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr import pl
from stmmr._core import keys
from stmmr._core.categories import MISSING, PALETTE
from stmmr._core.record import recorded
from stmmr._core.space import graph_um, rows_called
from stmmr.report._findings import FDR
from stmmr.report._layers import numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.types import Float64

N_BINS: Final = 40
SIZE: Final = (4.2, 2.7)
"""Width and height of a curve in inches: texts have their size on a phone."""
BARS: Final = "#4B8FC4"
"""Seen on white and on black, and below a line of either."""
_INK: Final = {"#000000": "currentColor", MISSING.lower(): "var(--band)"}
"""Colours that follow the page from light to dark."""
_METADATA: Final = dict.fromkeys(["Creator", "Date", "Format", "Type"])


@dataclass(frozen=True)
class Curve:
    """A figure and the sentence below it."""

    title: str
    text: str
    svg: str

    @property
    def name(self) -> str:
        """Name of a file with it."""
        return self.title.lower().replace(" ", "-")


def curves_of(adata: AnnData, failed: list[Exception]) -> list[Curve]:
    """Draw bandwidth, number of domains, training, confidence and library sizes, as far as they are known."""
    return drawn(adata, [_bandwidth, _number, _history, _confidence, _library_size], failed)


def drawn(adata: AnnData, every: Iterable[Callable[[AnnData], Curve | None]], failed: list[Exception]) -> list[Curve]:
    """Draw the figures whose results are there; an error of one is added to `failed`, and the others are drawn."""
    curves = []
    for draw in every:
        try:
            curve = draw(adata)
        except Exception as error:  # noqa: BLE001 - a page without one figure is better than none
            failed.append(error)
        else:
            curves += [] if curve is None else [curve]
    return curves


def svg_of(draw: Callable[[Axes], object], name: str, *, size: tuple[float, float] = SIZE) -> str:
    """Draw on new axes of a size in inches, and get them as an SVG element for a page: the same bytes each time.

    Texts stay texts, the background is left out, and black becomes the colour of the text around. Ids start with
    `name`, so that figures on one page have none in common.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    options = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}
    with style.context(["default", options]):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        for background in (figure.patch, axes.patch):
            background.set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=_METADATA)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</defs>", "", svg, count=1, flags=re.DOTALL)  # would hold for the whole page
    svg = re.sub(r"<svg.*?(viewBox=\"[^\"]*\").*?>", r"<svg \1 aria-hidden='true'>", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", svg)
    for color, ink in _INK.items():
        svg = svg.replace(color, ink)
    # the colour of a mark is too dark for a text at night
    return re.sub(rf'(<text style="[^"]*fill: ){PALETTE[0].lower()}', r"\1var(--accent)", svg)


def _bandwidth(adata: AnnData) -> Curve | None:
    graph = recorded(adata).get("spatial_graph", {})
    if "bandwidths_tried" not in graph:
        return None
    spots, um = rows_called(adata), graph_um(graph)
    length = f"{graph['bandwidth'] / graph['nearest_neighbour_distance']:.3g} distances between {spots}"
    if np.isfinite(um):
        length = f"{graph['bandwidth'] * um:.3g} µm"
    text = (
        f"Chosen: {length}, from the bandwidth that best predicts {spots} from their neighbours (dotted). The error is "
        "the share of the variance of the informative components that is not predicted."
    )
    return Curve("Bandwidth of the graph", text, svg_of(lambda ax: pl.bandwidth(adata, ax=ax), "bandwidth"))


def _number(adata: AnnData) -> Curve | None:
    step = recorded(adata).get("number_of_domains")
    if step is None:
        return None
    low, high = int(step["lowest"]), int(step["highest"])
    others = f" ({low}–{high}, shaded, fit almost equally well; choose with biology)" if low < high else ""
    text = f"Best number of domains: {int(step['chosen'])}{others}. A lower BIC is better; 0 is a single domain."
    return Curve("Number of domains", text, svg_of(lambda ax: pl.number_of_domains(adata, ax=ax), "number"))


def _history(adata: AnnData) -> Curve | None:
    loss = recorded(adata).get("history", {}).get("loss", ())
    if not len(loss):
        return None
    text = f"Loss over {len(loss):,} training steps: {loss[0]:.3g} at the first and {loss[-1]:.3g} at the last."
    return Curve("Training", text, svg_of(lambda ax: pl.history(adata, ax=ax), "history"))


def _confidence(adata: AnnData) -> Curve | None:
    if keys.CONFIDENCE not in adata.obs:
        return None
    values = numbers_of(adata, keys.CONFIDENCE)
    values = values[np.isfinite(values)]
    if not len(values):
        return None

    def draw(ax: Axes) -> None:
        _histogram(ax, values, np.linspace(0, 1, 21))
        ax.set(xlabel="Confidence", ylabel=rows_called(adata).capitalize())

    text = f"Median {np.median(values):.2f}; 1 where all partitions agree."
    return Curve("Confidence", text, svg_of(draw, "confidence"))


def _library_size(adata: AnnData) -> Curve | None:
    if keys.LIBRARY_SIZE not in adata.obs:
        return None
    size = numbers_of(adata, keys.LIBRARY_SIZE)
    size = size[size > 0]
    if not len(size):
        return None
    spots = rows_called(adata)
    edges = np.geomspace(size.min(), max(size.max(), 1.01 * size.min()), N_BINS + 1)

    def draw(ax: Axes) -> None:
        _histogram(ax, size, edges)
        ax.axvline(float(np.median(size)), color="black", linewidth=1.5, linestyle=":")
        ax.set(xscale="log", xlabel=f"Counts per {spots[:-1]}", ylabel=spots.capitalize())
        ticks = _round_numbers(edges)
        ax.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
        ax.set_xticks([], minor=True)

    few, many = np.percentile(size, [5, 95])
    text = f"Median {np.median(size):,.0f} (dotted); nine of ten {spots} have {few:,.0f} to {many:,.0f}."
    return Curve("Library size", text, svg_of(draw, "library-size"))


def trends_of(adata: AnnData) -> Curve | None:
    """Draw genes over pseudotime; None where `stmmr.tl.gene_trends` did not run."""
    step = recorded(adata).get("gene_trends")
    if step is None:
        return None
    table = step["table"]
    n = int((table["pval_adj"] < FDR).sum())
    text = (
        "The genes with the smallest p-values of those that peak early, midway and late along pseudotime, with bands "
        f"of {100 * float(step['confidence']):.0f} %. {n:,} of {len(table):,} genes change (false discovery rate below "
        f"{FDR:g}). Neighbouring {rows_called(adata)} are alike: use the test to rank genes, not to prove a trajectory."
    )
    trajectory = recorded(adata).get("trajectory", {})
    if trajectory:
        direction = (
            "arbitrary, as no root was given" if trajectory["root"] == "tree" else "set by the root, not inferred"
        )
        text += f" The root is in domain {trajectory['root_domain']}; the direction is {direction}."
    svg = svg_of(lambda ax: pl.gene_trends(adata, ax=ax), "trends", size=(4.4, 2.9))
    return Curve("Genes over pseudotime", text, svg)


def _histogram(ax: Axes, values: Float64, edges: Float64) -> None:
    """Count values between edges."""
    ax.stairs(*np.histogram(values, edges), fill=True, color=BARS)
    ax.spines[["top", "right"]].set_visible(False)


def _round_numbers(values: Float64) -> Float64:
    """Choose ticks for a logarithmic axis: powers of ten, with 2 and 5 times them where these are few."""
    low, high = values.min(), values.max()
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = np.outer(powers, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    return ticks
