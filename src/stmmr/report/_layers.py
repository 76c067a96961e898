"""Layers of the map: one byte for each spot, an index of a palette of 256 colours."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING, categories, hex_colors, title_of
from stmmr._core.rows import CHUNK, slices
from stmmr.pl.raster import mean_of, most_of
from stmmr.report._annotations import annotation_keys, same_partition

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import Float64, Floats, Ints
    from stmmr.pl.raster import Grid

    Bytes = NDArray[np.uint8]

STEPS: Final = 254
"""Colours of a scale, and largest number of categories; two codes are for missing values and pixels without spots."""
UNKNOWN, EMPTY = 254, 255
CLEAR: Final = "#00000000"
CUT_AT: Final = 99.5
"""Percentile from which the highest colour starts, so that outliers dim no others."""


@dataclass(frozen=True)
class Layer:
    """A column to show."""

    key: str
    title: str
    values: Floats
    """Code of the category, or the number, of each spot, shape (N,); NaN if it is missing."""
    colors: list[str]
    """Colours from the first category or the lowest number on."""
    names: list[str] | None = None
    """Names of the categories; None for numbers."""
    low: float = 0.0
    high: float = 1.0
    """Numbers of the first and the last colour."""

    def codes(self, values: Floats) -> Bytes:
        """Convert values to bytes."""
        codes = np.empty(len(values), dtype=np.uint8)
        for rows in slices(len(values), CHUNK):
            steps = values[rows]
            if self.names is None:
                steps = (steps - self.low) / ((self.high - self.low) or 1) * (STEPS - 1)
            codes[rows] = np.rint(np.clip(np.nan_to_num(steps), 0, STEPS - 1)).astype(np.uint8)
            codes[rows][np.isnan(steps)] = UNKNOWN
        return codes

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
        return {"title": self.title, "gene": False, "domains": self.key in (keys.DOMAIN, keys.DOMAIN_REFINED), **scale}


def palette_of(layer: Layer) -> list[str]:
    """Get a colour for each of the 256 bytes."""
    return [*layer.colors, *[MISSING] * (STEPS - len(layer.colors)), MISSING, CLEAR]


def scale_colors() -> list[str]:
    """Get a colour for each of the 256 bytes of numbers."""
    return [*_viridis(), MISSING, CLEAR]


def packed(values: NDArray[Any] | str) -> str:
    """Compress by zlib and encode as base64, for DecompressionStream of browsers."""
    raw = values.encode() if isinstance(values, str) else np.ascontiguousarray(values).tobytes()
    return base64.b64encode(zlib.compress(raw, 6)).decode()


def category_layer(adata: AnnData, key: str) -> Layer:
    """Make a layer of a categorical column of ``obs``."""
    column = categories(adata, key, fractions=True)  # sections may be depths
    codes = np.where(column.codes < 0, np.float32(np.nan), column.codes.astype(np.float32))
    names = [str(name) for name in column.categories]
    return Layer(key, title_of(key), codes, hex_colors(adata, key, column.categories), names=names)


def number_layer(key: str, title: str, values: Floats, *, span: tuple[float, float]) -> Layer:
    """Make a layer of numbers, coloured over a range."""
    numbers = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    return Layer(key, title, numbers, _viridis(), low=span[0], high=span[1])


def layers_of(adata: AnnData) -> list[Layer]:
    """Make the layers of a result, as far as they differ between spots: domains, annotations, confidence, others."""
    layers = [category_layer(adata, keys.DOMAIN)]
    if keys.ALTERNATIVE in adata.obs:
        layers.append(category_layer(adata, keys.ALTERNATIVE))
    if keys.DOMAIN_REFINED in adata.obs and not same_partition(
        categories(adata, keys.DOMAIN).codes, categories(adata, keys.DOMAIN_REFINED).codes
    ):
        layers.append(category_layer(adata, keys.DOMAIN_REFINED))
    layers += [category_layer(adata, key) for key in annotation_keys(adata)]
    for key in (keys.CONFIDENCE, keys.PSEUDOTIME):
        if key in adata.obs and np.isfinite(values := numbers_of(adata, key)).any():
            layers.append(number_layer(key, title_of(key), values, span=(0.0, 1.0)))
    layers += [category_layer(adata, key) for key in (keys.BRANCH, keys.PATCH) if _n_names(adata, key) > 1]
    if keys.LIBRARY_SIZE in adata.obs:
        size = numbers_of(adata, keys.LIBRARY_SIZE)
        high = float(np.percentile(size, CUT_AT)) or 1.0
        layers.append(number_layer(keys.LIBRARY_SIZE, "Library size", size, span=(0.0, high)))
    return layers


def _n_names(adata: AnnData, key: str) -> int:
    """Count the names in a column of ``obs``."""
    return int(adata.obs[key].nunique()) if key in adata.obs else 0


def numbers_of(adata: AnnData, key: str) -> Float64:
    """Get a column of ``obs`` as numbers, NaN if one is missing."""
    return np.asarray(pd.to_numeric(adata.obs[key], errors="coerce"), dtype=np.float64)


def _viridis() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 1, STEPS))]
