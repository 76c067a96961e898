"""What the map is made of: where spots lie, the picture below, and the frame around."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stmmr._core import keys
from stmmr._core.compat import libraries_of
from stmmr._core.sections import graph_sections
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.pl.layout import ALONE, ON_IMAGE, drawable, frame_of, in_rows, spot_width
from stmmr.pl.raster import PIXELS_FROM, Grid

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import Float32, Float64, Floats, Ints, Numbers

PICTURE_SIDE: Final = 1600
"""Pixels along the longer side of the picture."""
PICTURE_BYTES: Final = 1_200_000
"""Size of the picture at most; its quality is lowered until it fits."""
SAMPLED: Final = 20_000
"""Spots that the UMAP and selections show where the map is of pixels."""
NARROWEST, WIDEST = 0.8, 1.6
"""Width of the map over its height."""
CIRCLES_AT_MOST: Final = 5_000
"""Spots in view that are drawn as circles: of more, moving a figure would not be fluid without a graphics card."""
STEPS: Final = 65_534
"""Steps of a position between the corners of its figure, 0.2 µm in 10 mm; one more is for spots without one."""


class Frame(NamedTuple):
    """What a figure shows at first."""

    low: Float64
    high: Float64
    """Corners."""

    @property
    def aspect(self) -> float:
        """Width over height."""
        width, height = self.high - self.low
        return float(width / height)

    def steps(self, positions: Floats) -> list[NDArray[np.uint16]]:
        """Write positions, shape (N, 2), as whole numbers, x and y apart; STEPS + 1 where there is none."""
        share = (positions - self.low) / (self.high - self.low)
        whole = np.where(np.isfinite(share), np.rint(np.clip(share, 0, 1) * STEPS), STEPS + 1)
        return list(whole.astype("<u2").T)


@dataclass(frozen=True)
class Scene:
    """Spots and what lies around them, in µm where the length of a unit is known."""

    xy: Float64
    """Shape (N, 2)."""
    points: Ints
    """Spots that are drawn one by one: all, or a sample where the map is of pixels."""
    spacing: float
    """Distance between spots."""
    frame: Frame
    in_um: bool
    grid: Grid | None
    """Pixels, for many spots."""
    nearest: Ints | None
    """The pixel with spots that is nearest to each; see `Grid.nearest`."""
    picture: dict[str, Any] | None
    """Its data URI ("url") and where it lies ("x", "y", "w", "h")."""
    sections: pd.Categorical | None
    umap: Float32 | None
    """Positions of the points, shape (len(points), 2), NaN where there is none; None where no spot has one."""

    @property
    def radius(self) -> float:
        """Radius of a spot."""
        return (ALONE if self.picture is None else ON_IMAGE) * self.spacing / 2

    @property
    def layout(self) -> Frame | None:
        """What the figure of the UMAP shows."""
        if self.umap is None:
            return None
        low, high = np.nanmin(self.umap, axis=0), np.nanmax(self.umap, axis=0)
        room = 0.55 * float((high - low).max()) or 1.0
        centre = (low + high).astype(np.float64) / 2
        return Frame(centre - room, centre + room)

    @property
    def dot(self) -> float:
        """Size of a spot in the UMAP, in pixels of the screen."""
        n = 1 if self.umap is None else int(np.isfinite(self.umap).all(axis=1).sum())
        return float(np.clip(250 / n**0.5, 2, 7))


def scene_of(adata: AnnData) -> Scene:
    """Lay out the spots of one section, or of several side by side."""
    xy = coordinates(adata)
    sections = graph_sections(adata)
    libraries = libraries_of(adata)
    library = find_library(adata) if sections is None and len(libraries) == 1 else {}
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    unit = um if math.isfinite(um) else 1.0
    if sections is not None:
        xy = in_rows(xy, sections)
    spacing = spot_width(xy)
    low, high = frame_of(xy, spacing)
    found = sharpest_image(library)
    picture = None if found is None else shown_picture(found[0], found[1], low=low, high=high, unit=unit)
    low, high = fitted(low * unit, high * unit)
    umap = adata.obsm.get(keys.UMAP)
    if umap is not None and not np.isfinite(umap).all(axis=1).any():
        umap = None
    points = points_of(xy, umap)
    grid = Grid(xy * unit, (low, high)) if len(xy) > PIXELS_FROM else None
    return Scene(
        xy=xy * unit,
        points=points,
        spacing=spacing * unit,
        frame=Frame(low, high),
        in_um=math.isfinite(um),
        grid=grid,
        nearest=None if grid is None else grid.nearest(spacing * unit),
        picture=picture,
        sections=sections,
        umap=None if umap is None else np.asarray(umap[points, :2], dtype=np.float32),
    )


def points_of(xy: Float64, umap: Any) -> Ints:
    """Choose the spots that are drawn one by one: where there are too many, those that the UMAP laid out."""
    if len(xy) <= PIXELS_FROM:
        return np.arange(len(xy))
    if umap is not None:
        laid_out = np.flatnonzero(np.isfinite(np.asarray(umap)).all(axis=1))
        if 0 < len(laid_out) <= SAMPLED:
            return laid_out
    return np.sort(np.random.default_rng(0).choice(len(xy), SAMPLED, replace=False))


def fitted(low: Float64, high: Float64) -> tuple[Float64, Float64]:
    """Widen a frame until it is neither too narrow nor too wide for a screen."""
    width, height = high - low
    wanted = np.array([max(width, NARROWEST * height), max(height, width / WIDEST)])
    more = (wanted - (high - low)) / 2
    return low - more, high + more


def shown_picture(pixels: Numbers, scale: float, *, low: Float64, high: Float64, unit: float) -> dict[str, Any] | None:
    """Cut the picture to the frame, make it small, and write it as a data URI; None where they do not meet.

    Parameters
    ----------
    pixels
        Shape (height, width, channels).
    scale
        Pixels per unit of the coordinates.
    low, high
        Corners of the frame, in those units.
    unit
        What positions are multiplied with.
    """
    from PIL import Image

    size = np.array(pixels.shape[1::-1])
    start = np.clip(np.floor(low * scale), 0, size).astype(int)
    stop = np.clip(np.ceil(high * scale), 0, size).astype(int)
    if (stop <= start).any():
        return None
    cut = drawable(pixels)[start[1] : stop[1], start[0] : stop[0]]
    if cut.dtype != np.uint8:
        cut = np.rint(255 * np.clip(cut / (1 if cut.max() <= 1 else cut.max()), 0, 1)).astype(np.uint8)
    image = Image.fromarray(cut).convert("RGB")
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    (x, y), (w, h) = start / scale * unit, (stop - start) / scale * unit
    return {"url": f"data:image/jpeg;base64,{_jpeg(image)}", "x": x, "y": y, "w": w, "h": h}


def _jpeg(image: Any) -> str:
    """Write as JPEG, small enough."""
    for quality in (85, 70, 50):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= PICTURE_BYTES:
            break
    return base64.b64encode(file.getvalue()).decode()
