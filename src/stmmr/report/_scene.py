"""Geometry of the map: positions of spots, the image below, and the frame."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from stmmr._core import keys
from stmmr._core.compat import libraries_of
from stmmr._core.sections import graph_sections, section_codes
from stmmr._core.space import coordinates, um_per_unit, units
from stmmr.image.library import Library, find_library, sharpest_image
from stmmr.pl.layout import ALONE, ON_IMAGE, drawable, frame_of, in_rows, spot_width
from stmmr.pl.raster import PIXELS_FROM, Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from PIL.Image import Image

    from stmmr._core.types import Float32, Float64, Floats, Ints, Numbers

IMAGE_SIDE: Final = 1600
"""Pixels along the longer side of the image."""
SECTIONS_SIDE: Final = 2400
"""Pixels along the longer side of the images of a row of sections together."""
BESIDE: Final = 0.025
"""Width of what is kept of an image around its section, as a share of the largest section."""
AROUND: Final = 1.2
"""Side of the image over the longer side of the tissue: a figure is wider or higher than the tissue."""
IMAGE_BYTES: Final = 1_200_000
"""Largest size of all images in bytes; quality and then size are reduced until they fit."""
SAMPLED: Final = 20_000
"""Spots in the UMAP and in selections if the map consists of pixels."""
CIRCLES_AT_MOST: Final = 5_000
"""Spots in view that are drawn as circles; with more, moving a figure is slow without a graphics card."""
NAMES: Final = 0.08
"""Room for the names of sections above them, as a share of the height."""
NUMBERED_FROM: Final = 0.005
"""Smallest share of a section that has its name on the map."""
AMID: Final = 60
"""Spots around the one that a name is written at."""
STEPS: Final = 65_534
"""Steps of a position between the corners of its figure, 0.2 µm in 10 mm; one more is for missing positions."""


class Frame(NamedTuple):
    """Initial range of a figure."""

    low: Float64
    high: Float64
    """Corners."""

    @property
    def shape(self) -> float:
        """Width over height."""
        width, height = self.high - self.low
        return float(width / height)

    def steps(self, positions: Floats) -> list[NDArray[np.uint16]]:
        """Convert positions, shape (N, 2), to integers, x and y apart; STEPS + 1 if a position is missing."""
        share = (positions - self.low) / (self.high - self.low)
        whole = np.where(np.isfinite(share), np.rint(np.clip(share, 0, 1) * STEPS), STEPS + 1)
        return list(whole.astype("<u2").T)


@dataclass(frozen=True)
class Scene:
    """Spots, image and frame, in µm if the length of a unit is known."""

    xy: Float64
    """Shape (N, 2)."""
    points: Ints
    """Indices of the spots that are drawn one by one: all, or a sample if the map consists of pixels."""
    spacing: float
    """Distance between spots."""
    frame: Frame
    in_um: bool
    grid: Grid | None
    """Pixels, if there are very many spots."""
    nearest: Ints | None
    """The nearest pixel with spots for each pixel; see `Grid.nearest`."""
    window: tuple[Float64, Float64]
    """Corners of what is kept of an image, in the units of the coordinates, of which one has the length `unit`."""
    unit: float
    images: dict[str, dict[str, Any]]
    """Data URI ("url") and position ("x", "y", "w", "h") of the image of each section that has one, by its name, or of
    the one image ("")."""
    sections: pd.Categorical | None
    umap: Float32 | None
    """Positions of the points, shape (len(points), 2), NaN if missing; None without a UMAP."""

    @property
    def radius(self) -> float:
        """Radius of a spot."""
        return (ON_IMAGE if self.images else ALONE) * self.spacing / 2

    @property
    def order(self) -> Ints:
        """Order of the spots in the values of genes: by pixel, if there are pixels."""
        return np.arange(len(self.xy)) if self.grid is None else np.argsort(self.grid.pixel, kind="stable")

    @property
    def layout(self) -> Frame | None:
        """Initial range of the UMAP."""
        if self.umap is None:
            return None
        low, high = np.nanmin(self.umap, axis=0), np.nanmax(self.umap, axis=0)
        half = 0.55 * float((high - low).max()) or 1.0
        centre = (low + high).astype(np.float64) / 2
        return Frame(centre - half, centre + half)

    @property
    def dot(self) -> float:
        """Size of a spot in the UMAP in pixels of the screen."""
        n = 1 if self.umap is None else int(np.isfinite(self.umap).all(axis=1).sum())
        return float(np.clip(250 / n**0.5, 2, 7))


def scene_of(adata: AnnData) -> Scene:
    """Arrange the spots of one section, or of several side by side."""
    xy = coordinates(adata)
    sections = graph_sections(adata)
    libraries = libraries_of(adata)
    library = find_library(adata) if sections is None and len(libraries) == 1 else {}
    um = um_per_unit(adata, xy, library)[0] if sections is None else units(adata)[1]
    unit = um if math.isfinite(um) else 1.0
    images = {}
    if sections is not None:
        apart = in_rows(xy, sections)
        images, xy = _images_of_sections(libraries, sections, xy, apart, unit=unit), apart
    spacing = spot_width(xy)
    low, high = frame_of(xy, spacing)
    if sections is not None:
        low[1] -= NAMES * (high[1] - low[1])
    sharpest = sharpest_image(library)
    margin = (high - low).max() / 2 * AROUND - (high - low) / 2
    window = low - margin, high + margin
    if sharpest is not None and (image := embedded_image(*sharpest, *window, unit=unit)) is not None:
        images[""] = image
    low, high = low * unit, high * unit
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
        window=window,
        unit=unit,
        images=images,
        sections=sections,
        umap=None if umap is None else np.asarray(umap[points, :2], dtype=np.float32),
    )


def points_of(xy: Float64, umap: Floats | None) -> Ints:
    """Choose the spots that are drawn one by one: all, or those of the UMAP if there are too many."""
    if len(xy) <= PIXELS_FROM:
        return np.arange(len(xy))
    if umap is not None:
        laid_out = np.flatnonzero(np.isfinite(np.asarray(umap)).all(axis=1))
        if 0 < len(laid_out) <= SAMPLED:
            return laid_out
    return np.sort(np.random.default_rng(0).choice(len(xy), SAMPLED, replace=False))


def number_positions(scene: Scene, codes: Ints) -> list[tuple[int, float, float]]:
    """Find where to write the name of each domain in each section: at a spot amid spots of the same domain.

    Returns
    -------
    Code of the domain, x and y; none for a domain with fewer than `NUMBERED_FROM` of the spots of a section.
    """
    step = -(-len(codes) // SAMPLED)
    xy, codes = scene.xy[::step], codes[::step]
    sections = section_codes(scene.sections, len(scene.xy))[::step]
    distance, nearest = map(np.asarray, cKDTree(xy).query(xy, k=range(1, 1 + min(AMID, len(xy)))))
    same = np.mean((codes[nearest] == codes[:, None]) & (sections[nearest] == sections[:, None]), axis=1)
    # at the edge of the tissue, all neighbours are to one side
    aside = np.linalg.norm(xy[nearest].mean(axis=1) - xy, axis=1) / np.maximum(distance[:, -1], 1e-9)
    positions = []
    for section, code in np.unique(np.column_stack([sections, codes])[codes >= 0], axis=0):
        inside = np.flatnonzero((sections == section) & (codes == code))
        if len(inside) >= NUMBERED_FROM * np.sum(sections == section):
            best = inside[np.argmax((same - aside)[inside])]
            positions.append((int(code), float(xy[best, 0]), float(xy[best, 1])))
    return positions


def _images_of_sections(
    libraries: Mapping[str, Library], sections: pd.Categorical, xy: Float64, apart: Float64, *, unit: float
) -> dict[str, dict[str, Any]]:
    """Get the image of each section that has one, where its spots are drawn `apart` from other sections."""
    inside = {str(name): sections.codes == code for code, name in enumerate(sections.categories)}
    margin = BESIDE * np.max([np.ptp(xy[spots], axis=0) for spots in inside.values()], axis=0)
    side, images = SECTIONS_SIDE // math.ceil(math.sqrt(len(inside))), {}
    for name, spots in inside.items():
        sharpest = sharpest_image(libraries.get(name, Library()))
        low, high = xy[spots].min(axis=0) - margin, xy[spots].max(axis=0) + margin
        if sharpest is None:
            continue
        at_most = IMAGE_BYTES // len(inside)
        image = embedded_image(*sharpest, low, high, unit=unit, side=min(side, IMAGE_SIDE), at_most=at_most)
        if image is not None:
            x, y = ((apart[spots][0] - xy[spots][0]) * unit).tolist()
            images[name] = image | {"x": image["x"] + x, "y": image["y"] + y}
    return images


def embedded_image(
    pixels: Numbers,
    scale: float,
    low: Float64,
    high: Float64,
    *,
    unit: float,
    side: int = IMAGE_SIDE,
    at_most: int = IMAGE_BYTES,
) -> dict[str, Any] | None:
    """Crop an image to the frame, resize it, and encode it as a data URI; None if they do not overlap.

    The image has `scale` pixels per unit of the coordinates, in which the frame is. `unit` is the factor of positions,
    `side` the longer side in pixels, and `at_most` the size in bytes.
    """
    from PIL import Image

    size = np.array(pixels.shape[1::-1])
    start = np.clip(np.floor(low * scale), 0, size).astype(int)
    stop = np.clip(np.ceil(high * scale), 0, size).astype(int)
    if (stop <= start).any():
        return None
    crop = drawable(pixels)[start[1] : stop[1], start[0] : stop[0]]
    if crop.dtype != np.uint8:
        crop = np.rint(255 * np.clip(crop / (1 if crop.max() <= 1 else crop.max()), 0, 1)).astype(np.uint8)
    image = Image.fromarray(crop).convert("RGB")
    image.thumbnail((side, side))
    (x, y), (w, h) = (start / scale * unit).tolist(), ((stop - start) / scale * unit).tolist()
    return {"url": f"data:image/jpeg;base64,{_jpeg(image, at_most)}", "x": x, "y": y, "w": w, "h": h}


def _jpeg(image: Image, at_most: int) -> str:
    """Encode as JPEG of limited size in bytes."""
    for smaller, quality in product((1, 0.7, 0.5, 0.3), (85, 70, 50)):
        file, size = io.BytesIO(), [max(1, round(smaller * side)) for side in image.size]
        (image if smaller == 1 else image.resize((size[0], size[1]))).save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= at_most:
            break
    return base64.b64encode(file.getvalue()).decode()
