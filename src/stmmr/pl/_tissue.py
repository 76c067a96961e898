"""Domains and numbers in the tissue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING, title_of
from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.compat import names_in
from stmmr._core.genes import close_names, gene_values
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.pl._axes import RASTERISE_FROM, Colored, add_legend, new_axes, text_width
from stmmr.pl.layout import ALONE, FADED, ON_PICTURE, drawable, frame_of, in_rows, spot_width
from stmmr.pl.raster import PIXELS_FROM, Blend, draw_pixels, mean_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import NDArray

LONG_SIDE: Final = 4.5
"""Longer side of the tissue in a new figure, in inches."""


class Look(Blend, Protocol):
    """What places look like, and what explains it."""

    def of_places(self) -> NDArray[np.float64]:
        """Red, green, blue and opacity of each place, shape (N, 4)."""

    def legend_width(self, height: float, /) -> float:
        """Width to keep for the explanation beside axes of a height; both in inches."""

    def add_legend(self, ax: Axes) -> None:
        """Put the explanation to the right of the axes."""


def draw_places(
    adata: AnnData, look: Look, *, image: bool, library_id: str | None, alpha: float | None, ax: Axes | None
) -> Axes:
    """Draw places as circles, very many as pixels, over the picture where there is one; with a bar of the scale.

    Parameters
    ----------
    adata
        With coordinates.
    look
        Colours and legend.
    image, library_id, alpha, ax
        As in `stmmr.pl.domains`.
    """
    xy = coordinates(adata)
    sections = None if library_id else graph_sections(adata)
    if sections is not None:
        xy = in_rows(xy, sections)
    library = find_library(adata, library_id) if sections is None else {}
    shown = sharpest_image(library) if image else None
    spacing = spot_width(xy)
    low, high = frame_of(xy, spacing)
    if ax is None:
        width, height = LONG_SIDE * (high - low) / (high - low).max()
        ax = new_axes(width + look.legend_width(height), height)
    if shown is not None:
        picture, scale = shown
        rows, columns = picture.shape[:2]
        ax.imshow(drawable(picture), extent=(0, columns / scale, rows / scale, 0), cmap="gray", alpha=FADED)
    opacity = alpha if alpha is not None else (1 if shown is None else 0.9)
    if len(xy) >= PIXELS_FROM:
        draw_pixels(ax, xy, look, frame=(low, high), reach=spacing, alpha=opacity)
    else:
        diameter = spacing * (ALONE if shown is None else ON_PICTURE)
        _add_circles(ax, xy, look.of_places(), diameter=diameter, alpha=opacity)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    ax.set_axis_off()
    if sections is not None:
        _name_sections(ax, xy, sections)
    look.add_legend(ax)
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    if math.isfinite(um):
        _add_scale_bar(ax, um, width=float(high[0] - low[0]))
    return ax


def _add_circles(
    ax: Axes, xy: NDArray[np.float64], colors: NDArray[np.float64], *, diameter: float, alpha: float
) -> None:
    """Draw a circle at each place, in units of the coordinates."""
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


def _name_sections(ax: Axes, xy: NDArray[np.float64], sections: pd.Categorical) -> None:
    """Write the name of each section above it."""
    for code, name in enumerate(sections.categories):
        own = xy[sections.codes == code]
        at = ((own[:, 0].min() + own[:, 0].max()) / 2, own[:, 1].min())
        ax.annotate(
            str(name), at, xytext=(0, 4), textcoords="offset points", ha="center", fontsize="small", clip_on=False
        )


def _add_scale_bar(ax: Axes, um_per_unit: float, *, width: float) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten µm, at most a quarter of the width."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = width * um_per_unit / 4
    power = 10.0 ** np.floor(np.log10(longest))
    microns = power * max(step for step in (1, 2, 5) if step * power <= longest)
    label = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} µm"
    # below the tissue, which it would cover otherwise
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


def domains(
    adata: AnnData,
    *,
    domain_key: str = keys.DOMAIN,
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the domain of every place, over the picture of the tissue where there is one.

    Coordinates are those of the tissue, y downwards as in pictures. Places are circles as large as the distance
    between places, a little smaller over a picture. 100,000 places or more are drawn as pixels: each has the domain of
    most places in it, and one without any that of the nearest, up to the distance between places away. Works for any
    categorical column, e.g. an annotation; numbers are drawn by `stmmr.pl.values`. A scale bar is drawn where the scale
    factors have ``microns_per_pixel``, or the array tells the scale (see `stmmr.pp.histology`). A background masked in
    black is shown as glass. Several sections (``section_key`` of `stmmr.pp.spatial_graph`) lie side by side, without a
    picture unless `library_id` names one.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    domain_key
        Column of ``obs``. Places without a value are light grey.
    image
        Whether to draw the picture in ``uns["spatial"]``: the one called hires, else lowres.
    library_id
        Which picture, where ``uns["spatial"]`` has several.
    alpha
        Opacity of the places: 0.9 over a picture and 1 otherwise, if None.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("domains.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If the column, the coordinates or the library are not there, or the column has too many categories.
    """
    look = Colored(adata, domain_key)
    return draw_places(adata, look, image=image, library_id=library_id, alpha=alpha, ax=ax)


def values(
    adata: AnnData,
    key: str,
    *,
    layer: str | None = None,
    cmap: str | Colormap = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    image: bool = True,
    library_id: str | None = None,
    alpha: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a number of every place, such as the values of a gene, over the picture of the tissue where there is one.

    As `stmmr.pl.domains` draws categories; of 100,000 places or more, a pixel shows the mean of those in it.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    key
        Column of ``obs`` with numbers, otherwise a gene. Places without a finite number are light grey.
    layer
        Layer to take a gene from; None: its log-normalised values, computed from the counts where
        `stmmr.pp.expression` left none.
    cmap
        Colour map of matplotlib.
    vmin
        Value of its lowest colour; the smallest there is if None.
    vmax
        Value of its highest colour; the largest there is if None.
    image
        Whether to draw the picture in ``uns["spatial"]``: the one called hires, else lowres.
    library_id
        Which picture, where ``uns["spatial"]`` has several.
    alpha
        Opacity of the places: 0.9 over a picture and 1 otherwise, if None.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes; the colour bar is inside them (``ax.child_axes``). Save by
    ``ax.figure.savefig("values.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no such column or gene (names the closest), layer or library, there are no coordinates, or no number
        is finite.
    """
    look = _Scaled(adata, key, layer=layer, cmap=cmap, vmin=vmin, vmax=vmax)
    return draw_places(adata, look, image=image, library_id=library_id, alpha=alpha, ax=ax)


def _numbers(adata: AnnData, key: str, layer: str | None) -> tuple[str, NDArray[np.float64]]:
    """Get the numbers of a column of ``obs``, otherwise of a gene, and what messages call them."""
    if layer is not None:
        require_key(names_in(adata.layers), layer, where="layers")
    elif key in adata.obs.columns:
        where = f"obs[{key!r}]"
        column = adata.obs[key]
        if pd.api.types.is_numeric_dtype(column):
            return where, column.to_numpy(np.float64, na_value=np.nan)
        raise InputError(
            f"Expected numbers in {where}, found {column.dtype}. Categories are drawn by "
            f"stmmr.pl.domains(adata, domain_key={key!r})."
        )
    elif key not in adata.var_names:
        _neither(adata, key)
    return f"the values of the gene {key!r}", gene_values(adata, key, layer=layer)


def _neither(adata: AnnData, key: str) -> NoReturn:
    """Say that there is neither a column nor a gene of this name."""
    columns, genes = adata.obs.columns.astype(str).tolist(), adata.var_names.astype(str).tolist()
    close = close_names(key, [*columns, *genes])
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InputError(
        f"Expected the key {key!r} in obs or among the {adata.n_vars} genes, found neither; obs has {listed(columns)}."
        f"{hint}"
    )


class _Scaled:
    """The colour of each place by a number, and the bar that explains it."""

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

    def of_places(self) -> NDArray[np.float64]:
        """Red, green, blue and opacity of each place, shape (N, 4)."""
        return self._colors(self._numbers)

    def of_pixels(self, pixel: NDArray[np.intp]) -> NDArray[np.float64]:
        """Colour each pixel, shape (n_pixels, 4), by the mean of the numbers known in it."""
        return self._colors(mean_of(pixel, self._numbers))

    def _colors(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Colour numbers, grey where one is NaN; shape (n, 4)."""
        from matplotlib.colors import to_rgba

        colors = np.asarray(self.scale.to_rgba(np.nan_to_num(numbers)))
        colors[np.isnan(numbers)] = to_rgba(MISSING)
        return colors

    def legend_width(self, _height: float) -> float:
        """Width to keep for the bar, in inches."""
        return 0.4 + text_width(title_of(self.key), "missing")

    def add_legend(self, ax: Axes) -> None:
        """Put the bar to the right of the axes."""
        from matplotlib.ticker import MaxNLocator

        beside = ax.inset_axes((1.04, 0.55, 0.035, 0.38))
        bar = ax.figure.colorbar(self.scale, cax=beside, ticks=MaxNLocator(4))
        bar.outline.set_visible(False)
        beside.tick_params(labelsize="small", length=2)
        beside.set_title(title_of(self.key), fontsize="small", loc="left", pad=9)
        if self.any_missing:
            add_legend(ax, {"missing": MISSING}, top=0.5)
