"""The H&E image at full resolution: JPEG files beside the page, at resolutions that halve, of which it loads a few."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core.checks import logger
from stmmr._core.files import TILE_FILES
from stmmr._core.folders import Kind, publish_folder, remove
from stmmr.image.registration import inverse, mapped, scaling
from stmmr.image.sections import WHOLE, registered_images
from stmmr.report._scene import IMAGE_SIDE, scene_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray
    from PIL.Image import Image

    from stmmr.image.registered import Registered
    from stmmr.image.sections import Images, Registrations
    from stmmr.image.slide import Slide
    from stmmr.report._scene import Scene

TILE: Final = 512
"""Side of a tile in pixels."""
QUALITY: Final = 85
MANIFEST: Final = "tiles.json"
KIND: Final = Kind("tiles of an image", MANIFEST, frozenset({"levels", "step"}), TILE_FILES)
WHITE: Final = (255, 255, 255)


def tiles_folder(page: Path) -> Path:
    """Get the folder with the tiles of a page."""
    return page.with_name(f"{page.stem}_tiles")


def tiles_written(page: Path) -> dict[str, Any] | None:
    """Get the description of the tiles that are beside a page; None if there are none."""
    folder = tiles_folder(page)
    if not KIND.marks(folder):
        return None
    description: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return description | {"folder": folder.name}


def write_tiles(
    adata: AnnData,
    page: Path,
    image: Images | Literal["full"],
    *,
    registration: Registrations = None,
    um_per_pixel: float | None = None,
) -> None:
    """Write the image of a section as tiles beside a page, unless the page itself holds all of its pixels.

    Parameters
    ----------
    adata
        With coordinates.
    page
        HTML file.
    image
        H&E image as `stmmr.pp.histology` takes it; "full" or None for the largest one in ``uns["spatial"]``.
    registration
        Affine map from coordinates to pixels of the image.
    um_per_pixel
        µm per unit of the coordinates, where the data do not tell.

    Raises
    ------
    InputError
        If there is no image, or it does not fit the spots.
    """
    scene, target = scene_of(adata), tiles_folder(page)
    if scene.sections is not None:
        logger.warning("No image is written at full resolution: the page holds smaller ones of its several sections.")
        return remove(target, KIND)
    stored = isinstance(image, str) and image == "full"
    registered = registered_images(
        adata, None if stored else image, registration=registration, um_per_pixel=um_per_pixel
    )[WHOLE]
    pyramid = Pyramid(registered, scene)
    if max(pyramid.size) <= IMAGE_SIDE:
        logger.info("The page holds the image at its full resolution, %d × %d pixels.", *pyramid.size)
        return remove(target, KIND)
    logger.info("Writing the image, %d × %d pixels, as tiles to %s.", *pyramid.size, target.name)
    with publish_folder(target, KIND, overwrite=True) as folder:
        pyramid.write(folder)
        (folder / MANIFEST).write_text(json.dumps(pyramid.description), encoding="utf-8")
    return None


class Pyramid:
    """The part of an image around the tissue, in the axes of the coordinates, at resolutions that halve."""

    def __init__(self, registered: Registered, scene: Scene) -> None:
        self.slide, matrix, scale = registered.slide, registered.matrix, registered.scale
        height, width = self.slide.size
        corners = mapped(inverse(matrix), np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64))
        low, high = np.maximum(scene.window[0], corners.min(axis=0)), np.minimum(scene.window[1], corners.max(axis=0))
        # whole pixels of the slide, so that an image that is not turned is copied
        first = mapped(inverse(matrix), np.floor(mapped(matrix, low[None])))
        self.size = tuple(int(n) for n in np.maximum(np.round((high - first[0]) * scale), 1))
        self.sizes = [self.size]
        while max(self.sizes[0]) > TILE:
            self.sizes.insert(0, (-(-self.sizes[0][0] // 2), -(-self.sizes[0][1] // 2)))
        self._to_slide = matrix @ _moved(first[0]) @ scaling(1 / scale)
        (x, y), step = (first[0] * scene.unit).tolist(), scene.unit / scale
        self.description = {"tile": TILE, "levels": len(self.sizes), "sizes": self.sizes, "x": x, "y": y, "step": step}

    def write(self, folder: Path) -> None:
        """Write all tiles, ``level/column_row.jpg``, from the coarsest level 0 on."""
        for level in range(len(self.sizes)):
            (folder / str(level)).mkdir()
        self._tile(folder, 0, 0, 0)

    def _tile(self, folder: Path, level: int, column: int, row: int) -> Image:
        """Write a tile and those of finer levels that it is made of."""
        from PIL import Image

        x, y = column * TILE, row * TILE
        if level == len(self.sizes) - 1:
            tile = _window(self.slide, self._to_slide @ _moved((x, y)), self._extent(level, x, y, TILE))
        else:
            finer = Image.new("RGB", self._extent(level + 1, 2 * x, 2 * y, 2 * TILE), WHITE)
            for j in range(-(-finer.height // TILE)):
                for i in range(-(-finer.width // TILE)):
                    finer.paste(self._tile(folder, level + 1, 2 * column + i, 2 * row + j), (i * TILE, j * TILE))
            tile = finer.reduce(2)
        tile.save(folder / str(level) / f"{column}_{row}.jpg", quality=QUALITY)
        return tile

    def _extent(self, level: int, x: int, y: int, side: int) -> tuple[int, int]:
        width, height = self.sizes[level]
        return min(side, width - x), min(side, height - y)


def _moved(offset: Any) -> NDArray[np.float64]:
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix


def _window(slide: Slide, back: NDArray[np.float64], size: tuple[int, int]) -> Image:
    """Resample a window; `back` maps its pixels to those of the slide, outside of which it is white."""
    from PIL import Image

    (w, h), (height, width) = size, slide.size
    corners = mapped(back, np.array([[0, 0], [w, 0], [0, h], [w, h]], np.float64))
    start = np.clip(np.floor(corners.min(axis=0) + 1e-6) - 1, 0, (width, height)).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (width, height)).astype(int)
    if (stop <= start).any():
        return Image.new("RGB", size, WHITE)
    pixels = Image.fromarray(slide.region(0, slice(start[1], stop[1]), slice(start[0], stop[0])))
    matrix = tuple((_moved(-start) @ back)[:2].ravel())
    return pixels.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=WHITE)
