"""What the figures share: the canvas, the colours of the places, the legend."""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.categories import MISSING, categories, category_colors, title_of
from stmmr.pl.raster import most_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

RASTERISE_FROM: Final = 20_000
"""Places from which on a vector file holds them as a picture: it would take minutes to open otherwise."""
_ROWS: Final = 20
"""Entries in one column of a legend, at most."""
_ROW_HEIGHT: Final = 0.21
"""Height of an entry, in inches."""


class Colored:
    """The colour of each place by a column of ``obs``, and the legend that explains it."""

    def __init__(self, adata: AnnData, key: str) -> None:
        """Look up the column and its colours."""
        from matplotlib.colors import to_rgba

        values = categories(adata, key)
        colors = category_colors(adata, key, values.categories)
        self.key = key
        self._colors: NDArray[np.float64] = np.vstack([colors, to_rgba(MISSING)])
        self._codes = np.where(values.codes < 0, len(colors), values.codes).astype(np.intp)
        # a category may have lost its last place; it keeps its colour and leaves the legend
        present = np.unique(values.codes[values.codes >= 0])
        self.entries: dict[str, Any] = {str(values.categories[code]): colors[code] for code in present}
        if (values.codes < 0).any():
            self.entries["missing"] = MISSING

    def at(self, places: NDArray[np.bool_]) -> Colored:
        """Get the colours of some places, with the same legend."""
        some = copy(self)
        some._codes = self._codes[places]
        return some

    def of_places(self) -> NDArray[np.float64]:
        """Red, green, blue and opacity of each place, shape (N, 4)."""
        return np.asarray(self._colors[self._codes])

    def of_pixels(self, pixel: NDArray[np.intp]) -> NDArray[np.float64]:
        """Colour each pixel, shape (n_pixels, 4), by the category of most places in it, the first of equals."""
        return np.asarray(self._colors[most_of(pixel, self._codes)])

    def n_columns(self, height: float) -> int:
        """Columns of the legend beside axes of a height in inches."""
        rows = min(_ROWS, max(4, int((height - 0.3) / _ROW_HEIGHT)))
        return math.ceil(len(self.entries) / rows)

    def legend_width(self, height: float) -> float:
        """Width to keep for the legend beside axes of a height; both in inches."""
        entries = self.n_columns(height) * (0.4 + text_width(*self.entries))
        return max(entries, 0.3 + text_width(title_of(self.key)))

    def add_legend(self, ax: Axes) -> None:
        """Put the legend to the right of the axes."""
        place = ax.get_subplotspec()
        rows = place.get_gridspec().nrows if place is not None else 1
        height = ax.get_figure(root=True).get_figheight() / rows  # type: ignore[union-attr] # axes are in one
        add_legend(ax, self.entries, title=title_of(self.key), n_columns=self.n_columns(height))


def text_width(*texts: str) -> float:
    """Estimate the width of the longest of some small texts, in inches."""
    return 0.075 * max(map(len, texts))


def add_legend(ax: Axes, entries: Mapping[str, Any], *, title: str = "", n_columns: int = 1, top: float = 1) -> None:
    """Explain colours to the right of the axes, from the height `top` (1 is that of the axes) downwards."""
    from matplotlib.lines import Line2D

    ax.legend(
        handles=[
            Line2D([], [], linestyle="", marker="o", markersize=6, color=color, label=name)
            for name, color in entries.items()
        ],
        title=title,
        loc="upper left",
        bbox_to_anchor=(1, top),
        ncols=n_columns,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
        handletextpad=0.2,
    )


def new_axes(width: float, height: float) -> Axes:
    """Make a figure with one axes; sizes in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
