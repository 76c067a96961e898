"""Numbers in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pandas as pd

from stmmr._core.checks import InputError, listed, require_key
from stmmr._core.compat import names_in
from stmmr._core.genes import close_names, gene_values
from stmmr.pl._axes import add_legend, text_width, title_of
from stmmr.pl._palette import MISSING
from stmmr.pl._raster import mean_of
from stmmr.pl._tissue import draw_places

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import NDArray


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
