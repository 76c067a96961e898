"""Axes, colours of spots and legends, shared by the figures."""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np

from stmmr._core.categories import MISSING, categories, category_colors, title_of
from stmmr._core.options import checked
from stmmr.pl.canvas import is_off_screen, literal
from stmmr.pl.raster import most_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes

    from stmmr._core.types import Bools, Float64, Ints

Options = ParamSpec("Options")
RASTERISE_FROM: Final = 20_000
"""Number of spots from which a vector file holds them as an image, as it would take minutes to open otherwise."""
LEGEND: Final[dict[str, Any]] = {
    "frameon": False,
    "fontsize": "small",
    "title_fontsize": "small",
    "loc": "upper left",
    "alignment": "left",
}
"""Look of the legends beside the axes."""
_ROWS: Final = 20
"""Largest number of entries in one column of a legend."""
_ROW_HEIGHT: Final = 0.21
"""Height of an entry, in inches."""


def drawing(function: Callable[Options, Axes]) -> Callable[Options, Axes]:
    """Check the arguments of a function that draws, never read its texts as TeX, and document what it returns."""
    checking = checked(literal(function))
    name = function.__name__
    returned = f'The axes. Save by ``ax.figure.savefig("{name}.png", dpi=200, bbox_inches="tight")``.'
    if "\nReturns\n" not in (doc := checking.__doc__ or ""):
        checking.__doc__ = doc.replace("\n\nRaises\n", f"\n\nReturns\n-------\n{returned}\n\nRaises\n")
    return checking


class Colored:
    """Colour of each spot by a categorical column of ``obs``, and the legend."""

    def __init__(self, adata: AnnData, key: str) -> None:
        """Look up the column and its colours."""
        from matplotlib.colors import to_rgba

        values = categories(adata, key)
        colors = category_colors(adata, key, values.categories)
        self.key = key
        self._colors: Float64 = np.vstack([colors, to_rgba(MISSING)])
        self._codes = np.where(values.codes < 0, len(colors), values.codes).astype(np.intp)
        # a category without spots keeps its colour but is not in the legend
        present = np.unique(values.codes[values.codes >= 0])
        self.entries: dict[str, Any] = {str(values.categories[code]): colors[code] for code in present}
        if (values.codes < 0).any():
            self.entries["missing"] = MISSING

    def subset(self, spots: Bools) -> Colored:
        """Get the colours of some spots, with the same legend."""
        part = copy(self)
        part._codes = self._codes[spots]
        return part

    def of_spots(self) -> Float64:
        """Get red, green, blue and opacity of each spot, shape (N, 4)."""
        return np.asarray(self._colors[self._codes])

    def of_pixels(self, pixel: Ints) -> Float64:
        """Colour each pixel by the most frequent category in it, shape (n_pixels, 4)."""
        return np.asarray(self._colors[most_of(pixel, self._codes)])

    def n_columns(self, height: float) -> int:
        """Get the number of columns of the legend beside axes of a height in inches."""
        rows = min(_ROWS, max(4, int((height - 0.3) / _ROW_HEIGHT)))
        return math.ceil(len(self.entries) / rows)

    def legend_width(self, height: float) -> float:
        """Get the width of the legend beside axes of a height, both in inches."""
        entries = self.n_columns(height) * (0.4 + text_width(*self.entries))
        return max(entries, 0.3 + text_width(title_of(self.key)))

    def add_legend(self, ax: Axes) -> None:
        """Add the legend to the right of the axes."""
        position = ax.get_subplotspec()
        rows = position.get_gridspec().nrows if position is not None else 1
        height = ax.get_figure(root=True).get_figheight() / rows  # type: ignore[union-attr] # axes are in one
        add_legend(ax, self.entries, title=title_of(self.key), n_columns=self.n_columns(height))


def text_width(*texts: str) -> float:
    """Estimate the width of the longest of several small texts, in inches."""
    return 0.075 * max(map(len, texts))


def add_legend(ax: Axes, entries: Mapping[str, Any], *, title: str = "", n_columns: int = 1, top: float = 1) -> None:
    """Add a legend of colours to the right of the axes, below the height `top` (1 is that of the axes)."""
    from matplotlib.lines import Line2D

    ax.legend(
        handles=[
            Line2D([], [], linestyle="", marker="o", markersize=6, color=color, label=name)
            for name, color in entries.items()
        ],
        title=title,
        bbox_to_anchor=(1, top),
        ncols=n_columns,
        handletextpad=0.2,
        **LEGEND,
    )


def new_axes(width: float, height: float) -> Axes:
    """Create a figure with one axes; sizes in inches."""
    if is_off_screen():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained").subplots()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
