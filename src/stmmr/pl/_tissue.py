"""Domains and numbers in the tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING, title_of
from stmmr._core.checks import InputError, did_you_mean, listed, require_key
from stmmr._core.compat import names_in
from stmmr._core.genes import close_names, gene_values
from stmmr._core.options import Checked, shows_options
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.pl._axes import RASTERISE_FROM, Colored, add_legend, drawing, new_axes, text_width
from stmmr.pl.layout import ALONE, FADED, ON_IMAGE, drawable, frame_of, in_rows, spot_width
from stmmr.pl.raster import PIXELS_FROM, Blend, draw_pixels, mean_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from stmmr._core.types import Float64, Ints

LONG_SIDE: Final = 4.5
"""Longer side of the tissue in a new figure, in inches."""


class Look(Blend, Protocol):
    """Colours of spots, and their legend."""

    def of_spots(self) -> Float64:
        """Get red, green, blue and opacity of each spot, shape (N, 4)."""

    def legend_width(self, height: float, /) -> float:
        """Get the width of the legend beside axes of a height, both in inches."""

    def add_legend(self, ax: Axes) -> None:
        """Add the legend to the right of the axes."""


@dataclass(frozen=True, kw_only=True)
class TissueOptions(Checked):
    """Options of drawings of the tissue.

    Attributes
    ----------
    image
        Draw the image in ``uns["spatial"]``: the one called hires, otherwise lowres.
    library_id
        Key of ``uns["spatial"]``, if it has several images.
    alpha
        Opacity of the spots; None: 0.9 over an image and 1 otherwise.
    """

    image: bool = True
    library_id: str | None = None
    alpha: float | None = None
    ax: Axes | None = None


def draw_spots(adata: AnnData, look: Look, options: TissueOptions) -> Axes:
    """Draw spots as circles (very many as pixels) over the image, with a scale bar; see `stmmr.pl.domains`."""
    xy, ax = coordinates(adata), options.ax
    sections = None if options.library_id else graph_sections(adata)
    if sections is not None:
        xy = in_rows(xy, sections)
    library = find_library(adata, options.library_id) if sections is None else {}
    shown = sharpest_image(library) if options.image else None
    spacing = spot_width(xy)
    low, high = frame_of(xy, spacing)
    if ax is None:
        width, height = LONG_SIDE * (high - low) / (high - low).max()
        ax = new_axes(width + look.legend_width(height), height)
    if shown is not None:
        pixels, scale = shown
        rows, columns = pixels.shape[:2]
        ax.imshow(drawable(pixels), extent=(0, columns / scale, rows / scale, 0), cmap="gray", alpha=FADED)
    opacity = options.alpha if options.alpha is not None else (1 if shown is None else 0.9)
    if len(xy) >= PIXELS_FROM:
        draw_pixels(ax, xy, look, frame=(low, high), reach=spacing, alpha=opacity)
    else:
        diameter = spacing * (ALONE if shown is None else ON_IMAGE)
        _add_circles(ax, xy, look.of_spots(), diameter=diameter, alpha=opacity)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    ax.set_axis_off()
    if sections is not None:
        _name_sections(ax, xy, sections)
    look.add_legend(ax)
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    if math.isfinite(um):
        _add_scale_bar(ax, um, width=float(high[0] - low[0]))
    return ax


def _add_circles(ax: Axes, xy: Float64, colors: Float64, *, diameter: float, alpha: float) -> None:
    """Draw a circle for each spot, in units of the coordinates."""
    from matplotlib.collections import EllipseCollection

    circles = EllipseCollection(
        np.full(len(xy), diameter),
        np.full(len(xy), diameter),
        np.zeros(len(xy)),
        units="xy",
        offsets=xy,
        offset_transform=ax.transData,
        facecolors=colors,
        linewidths=0,
        alpha=alpha,
        rasterized=len(xy) >= RASTERISE_FROM,
    )
    ax.add_collection(circles, autolim=False)


def _name_sections(ax: Axes, xy: Float64, sections: pd.Categorical) -> None:
    """Write the name of each section above it."""
    for code, name in enumerate(sections.categories):
        inside = xy[sections.codes == code]
        top = ((inside[:, 0].min() + inside[:, 0].max()) / 2, inside[:, 1].min())
        ax.annotate(
            str(name), top, xytext=(0, 4), textcoords="offset points", ha="center", fontsize="small", clip_on=False
        )


def _add_scale_bar(ax: Axes, um_per_unit: float, *, width: float) -> None:
    """Draw a scale bar of 1, 2 or 5 times a power of ten µm, at most a quarter of the width."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = width * um_per_unit / 4
    power = 10.0 ** np.floor(np.log10(longest))
    microns = power * max(step for step in (1, 2, 5) if step * power <= longest)
    label = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} µm"
    # below the tissue, to not cover it
    bar = AnchoredSizeBar(
        ax.transData,
        microns / um_per_unit,
        label,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
        size_vertical=width / 200,
        fontproperties=FontProperties(size="small"),
        frameon=False,
        sep=3,
    )
    ax.add_artist(bar)


@drawing
@shows_options(TissueOptions)
def domains(adata: AnnData, *, domain_key: str = keys.DOMAIN, **options: Any) -> Axes:
    """Draw the domain of every spot, over the image of the tissue if there is one.

    Works for any categorical column, e.g. an annotation; numbers are drawn by `stmmr.pl.values`. Coordinates are those
    of the tissue, y downwards as in images. Spots are circles with the distance between spots as diameter, a little
    smaller over an image. From 100,000 spots on, pixels are drawn: each has the most frequent domain in it, and an
    empty one that of the nearest, up to the distance between spots. There is a scale bar if the scale factors have
    ``microns_per_pixel`` or the array gives the scale (see `stmmr.pp.histology`). A background masked in black is drawn
    as glass. Several sections (``section_key`` of `stmmr.pp.spatial_graph`) are side by side, without image unless
    `library_id` names one.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    domain_key
        Column of ``obs``. Spots without a value are light grey.

    Raises
    ------
    InputError
        If the column, the coordinates or the library do not exist, or the column has too many categories.
    """
    return draw_spots(adata, Colored(adata, domain_key), TissueOptions(**options))


@drawing
@shows_options(TissueOptions)
def values(
    adata: AnnData,
    key: str,
    *,
    layer: str | None = None,
    cmap: str | Colormap = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    **options: Any,
) -> Axes:
    """Draw a number for every spot, such as the values of a gene, over the image of the tissue if there is one.

    Drawn as categories by `stmmr.pl.domains`; from 100,000 spots on, a pixel shows the mean of its spots.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    key
        Column of ``obs`` with numbers, otherwise a gene. Spots without a finite number are light grey.
    layer
        Layer to take a gene from; None: its log-normalised values, computed from the counts if `stmmr.pp.expression`
        left none.
    vmin
        Value of its lowest colour; None: the smallest.
    vmax
        Value of its highest colour; None: the largest.

    Returns
    -------
    The axes; the colour bar is inside them (``ax.child_axes``). Save by
    ``ax.figure.savefig("values.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no such column or gene (the message suggests similar names), layer or library, there are no
        coordinates, or no number is finite.
    """
    look = _Scaled(adata, key, layer=layer, cmap=cmap, vmin=vmin, vmax=vmax)
    return draw_spots(adata, look, TissueOptions(**options))


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
        return 0.4 + text_width(title_of(self.key), "missing")

    def add_legend(self, ax: Axes) -> None:
        """Add the colour bar to the right of the axes."""
        from matplotlib.ticker import MaxNLocator

        beside = ax.inset_axes((1.04, 0.55, 0.035, 0.38))
        bar = ax.figure.colorbar(self.scale, cax=beside, ticks=MaxNLocator(4))
        bar.outline.set_visible(False)
        beside.tick_params(labelsize="small", length=2)
        beside.set_title(title_of(self.key), fontsize="small", loc="left", pad=9)
        if self.any_missing:
            add_legend(ax, {"missing": MISSING}, top=0.5)
