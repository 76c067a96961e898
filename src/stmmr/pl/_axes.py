"""Axes, colours of spots and legends, shared by the figures."""

from __future__ import annotations

import difflib
import inspect
import math
import textwrap
from collections.abc import Iterable, Mapping
from copy import copy
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np

from stmmr._core.categories import MISSING, categories, category_colors, title_of
from stmmr._core.checks import InputError, did_you_mean, listed
from stmmr._core.files import atomic_write
from stmmr._core.options import checked, option_names, shows_options
from stmmr.pl.canvas import ColoredOptions, FigureOptions, fit_height, pt, save_figure, style, styled
from stmmr.pl.raster import most_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
NAME: Final = 39
"""Letters of a line of a name in a legend."""
NARROW: Final = 4.5
"""Width of a figure in inches, below which lines of names are shorter."""
_FEW_COLORS: Final = 40
"""Colours up to which a colour map is one of categories, such as "tab10"."""
_ROWS: Final = 20
"""Largest number of entries in one column of a legend."""
_ROW_HEIGHT: Final = 0.21
"""Height of an entry, in inches."""


def drawing(function: Callable[Options, Any]) -> Callable[..., Any]:
    """Make a function that draws a public figure: check its arguments, draw with the theme, save and show.

    A function that draws on axes of the caller leaves their look as it is.
    """
    return _drawing(function, FigureOptions)


def drawing_domains(function: Callable[Options, Any]) -> Callable[..., Any]:
    """Make a function that draws a public figure with the colours of domains, as `drawing`."""
    return _drawing(function, ColoredOptions)


def _drawing(function: Callable[Options, Any], kind: type[FigureOptions]) -> Callable[..., Any]:
    checking = checked(function)
    added = [name for name in option_names(kind) if name not in inspect.signature(checking).parameters]

    @wraps(checking)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        options = kind(**{name: kwargs.pop(name) for name in added if name in kwargs})
        with styled(options, new=kwargs.get("ax") is None) as current:
            axes = checking(*args, **kwargs)
            if options.width is not None:
                for figure in current.new:
                    fit_height(figure)
        _finish((axes[0] if isinstance(axes, list) else axes).get_figure(root=True), options)
        return None if options.show else axes

    returned = "\n\nReturns\n-------\nThe axes; None with ``show=True``.\n\nRaises\n"
    if "\nReturns\n" not in (doc := drawn.__doc__ or ""):
        drawn.__doc__ = doc.replace("\n\nRaises\n", returned)
    return shows_options(kind)(drawn)


def _finish(figure: Figure, options: FigureOptions) -> None:
    """Save and show a figure as its options ask for."""
    if options.save is not None:
        with atomic_write(Path(options.save).expanduser()) as new:
            save_figure(figure, new, exact=options.width is not None)
    if options.show:
        import matplotlib.pyplot as plt

        plt.show()


def colors_of(adata: AnnData, key: str, names: pd.Index) -> Float64:
    """Get one colour for each category: of the palette of the figure, otherwise those of every figure, shape (n, 4).

    Raises InputError if the palette has too few colours, or one that matplotlib does not know.
    """
    import matplotlib as mpl
    from matplotlib.colors import is_color_like, to_rgba_array

    palette: Any = style().palette
    if palette is None:
        return category_colors(adata, key, names)
    if isinstance(palette, str):
        if palette not in mpl.colormaps:
            hint = did_you_mean(difflib.get_close_matches(palette, list(mpl.colormaps), n=1))
            raise InputError(f"Expected palette to be the name of a colour map of matplotlib, found {palette!r}.{hint}")
        cmap = mpl.colormaps[palette]
        # maps of few colours, such as "tab10", as they are; others evenly
        own = list(cmap(range(cmap.N) if cmap.N <= _FEW_COLORS else np.linspace(0, 1, len(names))))
    elif isinstance(palette, Mapping):
        named = {str(name): color for name, color in palette.items()}
        if missing := [str(name) for name in names if str(name) not in named]:
            raise InputError(f"Expected a colour for each category in palette, found none for {listed(missing)}.")
        own = [named[str(name)] for name in names]
    elif isinstance(palette, Iterable):
        own = list(palette)
    else:
        raise InputError(f"Expected palette to be a name, a list or a mapping of colours, found {palette!r}.")
    if wrong := [color for color in own if not is_color_like(color)]:
        raise InputError(f"Expected colours in palette, found {wrong[0]!r}.")
    if len(own) < len(names):
        raise InputError(f"Expected at least {len(names)} colours in palette, one for each category, found {len(own)}.")
    return np.asarray(to_rgba_array(own[: len(names)]))


class Colored:
    """Colour of each spot by a categorical column of ``obs``, and the legend."""

    def __init__(self, adata: AnnData, key: str) -> None:
        """Look up the column and its colours."""
        from matplotlib.colors import to_rgba

        values = categories(adata, key)
        colors = colors_of(adata, key, values.categories)
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
        entries = self.n_columns(height) * (0.4 + text_width(*(wrapped(name, NAME) for name in self.entries)))
        return max(entries, 0.3 + text_width(title_of(self.key)))

    def add_legend(self, ax: Axes) -> None:
        """Add the legend to the right of the axes."""
        position = ax.get_subplotspec()
        rows = position.get_gridspec().nrows if position is not None else 1
        height = ax.get_figure(root=True).get_figheight() / rows / pt(1)  # type: ignore[union-attr] # axes are in one
        add_legend(ax, self.entries, title=title_of(self.key), n_columns=self.n_columns(height))


def text_width(*texts: str) -> float:
    """Estimate the width of the longest line of several small texts, in inches."""
    return 0.075 * max(len(line) for text in texts for line in (text.splitlines() or [""]))


def wrapped(name: str, width: int) -> str:
    """Break a name into lines of at most so many letters; in a figure of one column, of two thirds of them."""
    width = width if (style().width or NARROW) >= NARROW else max(width * 2 // 3, 8)
    return textwrap.fill(name, width, break_long_words=False) or name


def n_lines(*names: str) -> int:
    """Count the lines of the highest of several names."""
    return 1 + max(name.count("\n") for name in names)


def add_legend(ax: Axes, entries: Mapping[str, Any], *, title: str = "", n_columns: int = 1, top: float = 1) -> None:
    """Add a legend of colours to the right of the axes, below the height `top` (1 is that of the axes)."""
    from matplotlib.lines import Line2D

    ax.legend(
        handles=[
            Line2D([], [], linestyle="", marker="o", markersize=pt(6), color=color, label=wrapped(name, NAME))
            for name, color in entries.items()
        ],
        title=title,
        bbox_to_anchor=(1, top),
        ncols=n_columns,
        handletextpad=0.2,
        **LEGEND,
    )
