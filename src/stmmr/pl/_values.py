"""Numbers in the tissue, such as the values of genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import pandas as pd

from stmmr._core.categories import MISSING, title_of
from stmmr._core.checks import InputError, did_you_mean, listed, require_key
from stmmr._core.compat import names_in
from stmmr._core.genes import close_names, gene_values
from stmmr._core.options import shows_options
from stmmr.pl._axes import add_legend, drawing, text_width
from stmmr.pl._tissue import TissueOptions, draw_spots, map_size, placed
from stmmr.pl.canvas import new_grid, pt, style
from stmmr.pl.layout import frame_of, spot_width
from stmmr.pl.raster import mean_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from stmmr._core.types import Float64, Ints

_PANEL: Final = 1.6
"""Least width of a map among others, in inches."""
_SHORT: Final = 12
"""Letters of a name that is written above its colour bar; longer ones are above the map."""


@drawing
@shows_options(TissueOptions)
def values(
    adata: AnnData,
    key: str | Sequence[str],
    *,
    layer: str | None = None,
    cmap: str | Colormap = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    ncols: int = 3,
    **options: Any,
) -> Axes | list[Axes]:
    """Draw a number for every spot, such as the values of a gene, over the image of the tissue if there is one.

    Drawn as categories by `stmmr.pl.domains`; from 100,000 spots on, a pixel shows the mean of its spots.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    key
        Column of ``obs`` with numbers, otherwise a gene; or a list of these, for a grid of maps. Spots without a finite
        number are light grey.
    layer
        Layer to take a gene from; None: its log-normalised values, computed from the counts if `stmmr.pp.expression`
        left none.
    vmin
        Value of its lowest colour; None: the smallest.
    vmax
        Value of its highest colour; None: the largest.
    ncols
        Largest number of maps side by side.

    Returns
    -------
    The axes, or a list of them for a list of keys; the colour bar is inside them (``ax.child_axes``).

    Raises
    ------
    InputError
        If there is no such column or gene (the message suggests similar names), layer or library, there are no
        coordinates, or no number is finite.
    """
    chosen = TissueOptions(**options)
    scaled = partial(_Scaled, adata, layer=layer, cmap=cmap, vmin=vmin, vmax=vmax)
    if isinstance(key, str):
        return draw_spots(adata, scaled(key), chosen)
    looks = [scaled(name) for name in key]
    if not looks or chosen.ax is not None:
        found = "axes for one" if looks else "an empty list"
        raise InputError(f"Expected names of genes or columns, for maps in a figure of their own, found {found}.")
    xy, _ = placed(adata, chosen)
    low, high = frame_of(xy, spot_width(xy))
    width, height = map_size(high - low)
    if (inches := style().width) is not None:
        ncols = min(ncols, max(1, int(inches / _PANEL)))
    panels = new_grid(len(looks), width + looks[0].legend_width(height), height, n_cols=ncols)
    return [draw_spots(adata, look, replace(chosen, ax=ax)) for look, ax in zip(looks, panels, strict=True)]


def _numbers(adata: AnnData, key: str, layer: str | None) -> tuple[str, Float64]:
    """Get the numbers of a column of ``obs``, otherwise of a gene, and their name for messages."""
    if layer is not None:
        require_key(names_in(adata.layers), layer, where="layers")
    elif key in adata.obs.columns:
        where = f"obs[{key!r}]"
        column = adata.obs[key]
        if pd.api.types.is_numeric_dtype(column):
            return where, column.to_numpy(np.float64, na_value=np.nan)
        raise InputError(
            f"Expected numbers in {where}, found {column.dtype}. Draw categories with "
            f"stmmr.pl.domains(adata, domain_key={key!r})."
        )
    elif key not in adata.var_names:
        _raise_unknown(adata, key)
    return f"the values of the gene {key!r}", gene_values(adata, key, layer=layer)


def _raise_unknown(adata: AnnData, key: str) -> NoReturn:
    """Raise an error: there is neither a column nor a gene of this name."""
    columns, genes = adata.obs.columns.astype(str).tolist(), adata.var_names.astype(str).tolist()
    hint = did_you_mean(close_names(key, [*columns, *genes]))
    raise InputError(
        f"Expected the key {key!r} in obs or among the {adata.n_vars} genes, found neither; obs has {listed(columns)}."
        f"{hint}"
    )


class _Scaled:
    """Colour of each spot by a number, and the colour bar."""

    def __init__(
        self,
        adata: AnnData,
        key: str,
        *,
        layer: str | None = None,
        cmap: str | Colormap,
        vmin: float | None,
        vmax: float | None,
    ) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        where, numbers = _numbers(adata, key, layer)
        known = np.isfinite(numbers)
        if not known.any():
            raise InputError(f"Expected finite numbers in {where}, found none.")
        low = numbers[known].min() if vmin is None else vmin
        high = numbers[known].max() if vmax is None else vmax
        if low > high:
            raise InputError(f"Expected vmin to be at most vmax, found {low:g} and {high:g} for {where}.")
        self.key = key
        self.scale = ScalarMappable(Normalize(low, high), cmap)
        self.any_missing = not known.all()
        self._numbers = np.where(known, numbers, np.nan)

    def of_spots(self) -> Float64:
        """Get red, green, blue and opacity of each spot, shape (N, 4)."""
        return self._colors(self._numbers)

    def of_pixels(self, pixel: Ints) -> Float64:
        """Colour each pixel by the mean of the finite numbers in it, shape (n_pixels, 4)."""
        return self._colors(mean_of(pixel, self._numbers))

    def _colors(self, numbers: Float64) -> Float64:
        """Colour numbers, NaN in grey, shape (n, 4)."""
        from matplotlib.colors import to_rgba

        colors = np.asarray(self.scale.to_rgba(np.nan_to_num(numbers)))
        colors[np.isnan(numbers)] = to_rgba(MISSING)
        return colors

    def legend_width(self, _height: float) -> float:
        """Get the width of the colour bar in inches."""
        title = title_of(self.key)
        return 0.4 + text_width("" if len(title) > _SHORT else title, "missing")

    def add_legend(self, ax: Axes) -> None:
        """Add the colour bar to the right of the axes."""
        from matplotlib.ticker import MaxNLocator

        beside = ax.inset_axes((1.04, 0.55, 0.035, 0.38))
        bar = ax.figure.colorbar(self.scale, cax=beside, ticks=MaxNLocator(4))
        bar.outline.set_visible(False)
        beside.tick_params(labelsize="small", length=2)
        title = title_of(self.key)
        if len(title) > _SHORT:
            ax.set_title(title, fontsize="small", loc="left")
        else:
            beside.set_title(title, fontsize="small", loc="left", pad=pt(9))
        if self.any_missing:
            add_legend(ax, {"missing": MISSING}, top=0.5)
