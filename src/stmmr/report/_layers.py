"""What the map can show at each spot: one byte a spot, of a palette of 256."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING, categories, hex_colors, title_of
from stmmr.pl.raster import mean_of, most_of

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import Float32, Float64, Floats, Ints
    from stmmr.pl.raster import Grid

STEPS: Final = 254
"""Steps of a number, and categories at most; two codes remain for what is missing and for pixels without spots."""
UNKNOWN, EMPTY = 254, 255
CLEAR: Final = "#00000000"
CUT_AT: Final = 99.5
"""Percentile of the values above 0 of a gene that the highest colour starts at: a few spots would dim all others."""


@dataclass(frozen=True)
class Layer:
    """A column to show."""

    key: str
    title: str
    values: Float64
    """Code of the category, or the number, of each spot, shape (N,); NaN where it is missing."""
    colors: list[str]
    """Colours from the first category or the lowest number on."""
    names: list[str] | None = None
    """Names of the categories; None for numbers."""
    low: float = 0.0
    high: float = 1.0
    """Numbers of the first and the last colour."""
    is_gene: bool = False

    def codes(self, values: Float64) -> NDArray[np.uint8]:
        """Bring values to bytes."""
        steps = values if self.names is not None else (values - self.low) / ((self.high - self.low) or 1) * (STEPS - 1)
        bytes_ = np.rint(np.clip(np.nan_to_num(steps), 0, STEPS - 1)).astype(np.uint8)
        return np.where(np.isnan(values), np.uint8(UNKNOWN), bytes_)

    def pixels(self, grid: Grid, nearest: Ints) -> NDArray[np.uint8]:
        """Get the bytes of the pixels, shape (height, width), each that of the `nearest` one with spots."""
        if self.names is None:
            found = self.codes(mean_of(grid.pixel, self.values))
        else:
            found = most_of(grid.pixel, self.codes(self.values)).astype(np.uint8)
        return np.append(found, np.uint8(EMPTY))[nearest]  # -1 is the last

    def description(self) -> dict[str, Any]:
        """Say what the page has to know of it, besides its bytes."""
        found: dict[str, Any] = {"title": self.title, "gene": self.is_gene}
        if self.names is None:
            return found | {"low": self.low, "high": self.high}
        return found | {"names": self.names, "colors": self.colors}


def palette_of(layer: Layer) -> list[str]:
    """Get a colour for each of the 256 bytes."""
    return [*layer.colors, *[MISSING] * (STEPS - len(layer.colors)), MISSING, CLEAR]


def packed(bytes_: NDArray[np.uint8] | NDArray[np.uint16] | str) -> str:
    """Compress (zlib) and write as base64, as browsers read by DecompressionStream."""
    raw = bytes_.encode() if isinstance(bytes_, str) else np.ascontiguousarray(bytes_).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def category_layer(adata: AnnData, key: str) -> Layer:
    """Take a categorical column of ``obs``."""
    column = categories(adata, key)
    colors = hex_colors(adata, key, column.categories)
    codes = np.where(column.codes < 0, np.nan, column.codes.astype(np.float64))
    return Layer(key, title_of(key), codes, colors, names=[str(name) for name in column.categories])


def number_layer(key: str, title: str, values: Floats, *, span: tuple[float, float] | None = None) -> Layer:
    """Take numbers, coloured over their own range or `span`."""
    numbers = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    low, high = span or (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    return Layer(key, title, numbers, _viridis(), low=low, high=high)


def gene_layer(name: str, values: Float32) -> Layer:
    """Take log-normalised values of a gene."""
    expressed = values[values > 0]
    high = float(np.percentile(expressed, CUT_AT)) if expressed.size else 1.0
    return Layer(f"gene:{name}", name, values.astype(np.float64), _viridis(), high=high, is_gene=True)


def layers_of(adata: AnnData) -> list[Layer]:
    """Take all that a run leaves at the spots: domains, how sure they are, pseudotime."""
    found = [category_layer(adata, key) for key in (keys.DOMAIN, keys.DOMAIN_REFINED) if key in adata.obs]
    for key, title in ((keys.CONFIDENCE, "Confidence"), (keys.PSEUDOTIME, "Pseudotime")):
        if key in adata.obs and np.isfinite(values := numbers_of(adata, key)).any():
            found.append(number_layer(key, title, values, span=(0.0, 1.0)))
    if keys.BRANCH in adata.obs and adata.obs[keys.BRANCH].notna().any():
        found.append(category_layer(adata, keys.BRANCH))
    if keys.LIBRARY_SIZE in adata.obs:
        size = numbers_of(adata, keys.LIBRARY_SIZE)
        high = float(np.percentile(size, CUT_AT)) or 1.0
        found.append(number_layer(keys.LIBRARY_SIZE, "Library size", size, span=(0.0, high)))
    if keys.PATCH in adata.obs and adata.obs[keys.PATCH].nunique() > 1:
        found.append(category_layer(adata, keys.PATCH))
    return found


def numbers_of(adata: AnnData, key: str) -> Float64:
    """Get a column of numbers, NaN where one is missing."""
    return np.asarray(pd.to_numeric(adata.obs[key], errors="coerce"), dtype=np.float64)


def _viridis() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 1, STEPS))]
