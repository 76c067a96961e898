"""Layers of the map: one byte for each spot, an index of a palette of 256 colours."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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

    Bytes = NDArray[np.uint8]

STEPS: Final = 254
"""Colours of a scale, and largest number of categories; two codes are for missing values and pixels without spots."""
UNKNOWN, EMPTY = 254, 255
CLEAR: Final = "#00000000"
CUT_AT: Final = 99.5
"""Percentile of the positive values of a gene from which the highest colour starts, so that outliers dim no others."""


@dataclass(frozen=True)
class Layer:
    """A column to show."""

    key: str
    title: str
    values: Float64
    """Code of the category, or the number, of each spot, shape (N,); NaN if it is missing."""
    colors: list[str]
    """Colours from the first category or the lowest number on."""
    names: list[str] | None = None
    """Names of the categories; None for numbers."""
    low: float = 0.0
    high: float = 1.0
    """Numbers of the first and the last colour."""
    is_gene: bool = False

    def codes(self, values: Float64) -> Bytes:
        """Convert values to bytes."""
        steps = values if self.names is not None else (values - self.low) / ((self.high - self.low) or 1) * (STEPS - 1)
        codes = np.rint(np.clip(np.nan_to_num(steps), 0, STEPS - 1)).astype(np.uint8)
        return np.where(np.isnan(values), np.uint8(UNKNOWN), codes)

    def pixels(self, grid: Grid, nearest: Ints) -> Bytes:
        """Get the bytes of the pixels, shape (height, width), each from the `nearest` one with spots."""
        if self.names is None:
            codes = self.codes(mean_of(grid.pixel, self.values))
        else:
            codes = most_of(grid.pixel, self.codes(self.values)).astype(np.uint8)
        return np.append(codes, np.uint8(EMPTY))[nearest]  # -1 is the last

    def description(self) -> dict[str, object]:
        """Describe the layer for the page, without its bytes."""
        scale = (
            {"low": self.low, "high": self.high} if self.names is None else {"names": self.names, "colors": self.colors}
        )
        return {"title": self.title, "gene": self.is_gene, **scale}


def palette_of(layer: Layer) -> list[str]:
    """Get a colour for each of the 256 bytes."""
    return [*layer.colors, *[MISSING] * (STEPS - len(layer.colors)), MISSING, CLEAR]


def packed(values: Bytes | NDArray[np.uint16] | str) -> str:
    """Compress by zlib and encode as base64, for DecompressionStream of browsers."""
    raw = values.encode() if isinstance(values, str) else np.ascontiguousarray(values).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def category_layer(adata: AnnData, key: str) -> Layer:
    """Make a layer of a categorical column of ``obs``."""
    column = categories(adata, key)
    codes = np.where(column.codes < 0, np.nan, column.codes.astype(np.float64))
    names = [str(name) for name in column.categories]
    return Layer(key, title_of(key), codes, hex_colors(adata, key, column.categories), names=names)


def number_layer(key: str, title: str, values: Floats, *, span: tuple[float, float]) -> Layer:
    """Make a layer of numbers, coloured over a range."""
    numbers = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    return Layer(key, title, numbers, _viridis(), low=span[0], high=span[1])


def gene_layer(name: str, values: Float32) -> Layer:
    """Make a layer of the log-normalised values of a gene."""
    expressed = values[values > 0]
    high = float(np.percentile(expressed, CUT_AT)) if expressed.size else 1.0
    return Layer(f"gene:{name}", name, values.astype(np.float64), _viridis(), high=high, is_gene=True)


def layers_of(adata: AnnData) -> list[Layer]:
    """Make the layers of a result: domains, confidence, pseudotime, branches, library sizes, patches."""
    layers = [
        category_layer(adata, key) for key in (keys.DOMAIN, keys.ALTERNATIVE, keys.DOMAIN_REFINED) if key in adata.obs
    ]
    for key in (keys.CONFIDENCE, keys.PSEUDOTIME):
        if key in adata.obs and np.isfinite(values := numbers_of(adata, key)).any():
            layers.append(number_layer(key, title_of(key), values, span=(0.0, 1.0)))
    if keys.BRANCH in adata.obs and adata.obs[keys.BRANCH].notna().any():
        layers.append(category_layer(adata, keys.BRANCH))
    if keys.LIBRARY_SIZE in adata.obs:
        size = numbers_of(adata, keys.LIBRARY_SIZE)
        high = float(np.percentile(size, CUT_AT)) or 1.0
        layers.append(number_layer(keys.LIBRARY_SIZE, "Library size", size, span=(0.0, high)))
    if keys.PATCH in adata.obs and adata.obs[keys.PATCH].nunique() > 1:
        layers.append(category_layer(adata, keys.PATCH))
    return layers


def numbers_of(adata: AnnData, key: str) -> Float64:
    """Get a column of ``obs`` as numbers, NaN if one is missing."""
    return np.asarray(pd.to_numeric(adata.obs[key], errors="coerce"), dtype=np.float64)


def _viridis() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 1, STEPS))]
