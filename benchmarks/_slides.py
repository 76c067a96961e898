"""Write a whole slide of any size, tile by tile: a pyramidal OME-TIFF with a disc of drawn tissue on glass."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

TILE = 1024
UM_PER_PX = 0.25
GLASS = (243, 241, 242)


def write_slide(path: Path, *, width: int = 100_000, height: int = 80_000, levels: int = 8) -> Path:
    """Write a slide; all tiles of glass have the same bytes, and those of tissue repeat twelve that are drawn once."""
    patterns = [_encoded(pixels) for pixels in _drawn()]
    glass = _encoded(np.full((TILE, TILE, 3), GLASS, dtype=np.uint8))
    options = {"photometric": "rgb", "tile": (TILE, TILE), "compression": "zlib", "dtype": "uint8"}
    size = {"PhysicalSizeX": UM_PER_PX, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": UM_PER_PX}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level in range(levels):
            shape = -(-height // 2**level), -(-width // 2**level), 3
            first = {"subifds": levels - 1, "metadata": {"axes": "YXS"} | size} if level == 0 else {"subfiletype": 1}
            tiff.write(_tiles(shape, patterns, glass), shape=shape, **options, **first)
    return path


def spots_on(width: int, height: int, n: int, *, seed: int = 0) -> np.ndarray:
    """Draw spots within the disc of tissue; pixels, shape (n, 2)."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.random(n)) * 0.28 * height, rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([width / 2 + radius * np.cos(angle), height / 2 + radius * np.sin(angle)])


def _tiles(shape: tuple[int, int, int], patterns: list[bytes], glass: bytes) -> Iterator[bytes]:
    """Yield the tiles of a level, row by row."""
    height, width, _ = shape
    for i in range(-(-height // TILE)):
        for j in range(-(-width // TILE)):
            x, y = (j + 0.5) * TILE - width / 2, (i + 0.5) * TILE - height / 2
            yield patterns[(7 * i + j) % len(patterns)] if np.hypot(x, y) < 0.3 * height + TILE else glass


def _drawn() -> Iterator[np.ndarray]:
    """Draw tiles of stroma with nuclei."""
    rng = np.random.default_rng(0)
    for _ in range(12):
        grain = gaussian_filter(rng.normal(size=(TILE, TILE)), 6)
        nuclei = grain > 2 * grain.std()
        pixels = np.array([225.0, 165, 205]) + 12 * np.rint(grain / grain.std())[..., None]  # few colours, small files
        pixels[nuclei] = (95, 70, 150)
        yield np.clip(pixels, 0, 255).astype(np.uint8)


def _encoded(pixels: np.ndarray) -> bytes:
    import zlib

    return zlib.compress(pixels.tobytes(), 6)
