"""Read an image of the tissue from a file, or check an array: the result is always 8-bit RGB."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core.checks import InputError
from stmmr._core.untrusted import require_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import tifffile
    from numpy.typing import ArrayLike, NDArray

MAX_PIXELS: Final = 1_000_000_000
"""Largest image that is decoded: 30,000 × 30,000 pixels, 3 GB as RGB, are still read."""
DECODING_BYTES: Final = 6
"""Bytes that decoding takes for each pixel: as it is stored, and as RGB."""
GLASS_OD: Final = 0.05
"""Mean optical density below which a pixel shows glass instead of tissue."""
BLACK: Final = 16
"""Every channel of a masked pixel is below this level; no stain is that dark."""
FEWEST_LIT: Final = 1000
"""Pixels that tell fluorescence from the stain."""
DARKEST_STAIN: Final = 30
"""Median of the darkest channel below which lit pixels are those of fluorescence; stains and glass are lighter."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a PNG, JPEG or TIFF file as 8-bit RGB, shape (height, width, 3).

    The first bytes of the file tell its format. Transparency is blended with white, 16-bit channels are scaled to
    8 bit (65535 becomes 255). Of a TIFF with several resolutions, the first (full) one is read.

    Raises InputError if the file is missing, has another format, is damaged or greyscale, or has more than `max_pixels`
    by its header.
    """
    path = require_image_file(path)
    file_format = format_of(path)
    with decoding(path):
        if file_format == "other":
            raise InputError(f"Expected a PNG, JPEG or TIFF image, found another format in {path}. Convert it first.")
        read = _read_tiff if file_format == "tiff" else _read_by_pillow
        pixels = read(path, max_pixels=max_pixels)
    return check_image(pixels, where=str(path))


def require_image_file(path: str | Path) -> Path:
    """Expand a path and raise InputError if there is no such file."""
    expanded = Path(path).expanduser()
    if not expanded.is_file():
        raise InputError(f"Expected an image at {path}, found no file. Check the path.")
    return expanded


def format_of(path: Path) -> Literal["png", "jpeg", "tiff", "other"]:
    """Tell the format of an image file by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    if head == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "tiff" if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"} else "other"


@contextmanager
def decoding(path: Path | str) -> Iterator[None]:
    """Turn the errors of decoders about a damaged file into an InputError; other errors pass."""
    try:
        yield
    except (InputError, PermissionError):
        raise
    except MemoryError as error:
        raise InputError(
            f"Expected an image that fits into memory at {path}, found one that needs more. Save it at a lower "
            "resolution, or as a tiled TIFF."
        ) from error
    except Exception as error:
        if "imagecodecs" in str(error):  # tifffile names the missing package
            raise InputError(
                f"Expected a compression that can be decoded in {path}, found one that needs imagecodecs ({error}). "
                "Run: pip install 'stmmr-kit[slides]'"
            ) from error
        raise InputError(
            f"Expected a complete image in {path}, found a damaged or truncated file ({error}). Copy it again."
        ) from error


def check_image(array: ArrayLike, *, where: str = "the image") -> NDArray[np.uint8]:
    """Convert an array to 8-bit RGB, shape (height, width, 3); it is not copied if it is 8-bit RGB already.

    The array has the shape (height, width, 3 or 4), a fourth channel is opacity. For its values see `to_8_bit`. Raises
    InputError, which names the image by `where`, if shape or values are not valid, or the image is greyscale.
    """
    array = np.asarray(array)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {1, 2}):
        raise greyscale(where)
    if array.ndim != 3 or array.shape[2] not in {3, 4} or array.size == 0:
        raise InputError(f"Expected {where} of shape (height, width, 3 or 4), RGB or RGBA, found {array.shape}.")
    image = over_white(to_8_bit(array, where=where))
    require_colour(image, where=where)
    return image


def unfit(image: ArrayLike) -> str:
    """Explain why an image cannot be used as H&E, such as "greyscale"; empty if it can."""
    try:
        check_image(image)
    except InputError as error:
        return str(error).partition(", found ")[2].partition(". ")[0].rstrip(".")
    return ""


def is_blank(image: NDArray[np.generic]) -> bool:
    """Tell whether all pixels have one colour, as in the placeholders of some output folders, or there are none."""
    return image.ndim < 2 or image.size == 0 or bool((image == image[0, 0]).all())


def masked_glass(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Find the lightest colour (glass) of an image whose background is masked in black; None without such a mask."""
    masked = image.max(axis=-1) < BLACK
    if masked.mean() < 0.01 or masked.all():  # a few black specks are not a mask
        return None
    glass: NDArray[np.uint8] = np.percentile(image[~masked], 99, axis=0).astype(np.uint8)
    return glass


def without_mask(pixels: NDArray[np.uint8], glass: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Replace black pixels by the colour `glass`; None leaves them as they are."""
    if glass is None:
        return pixels
    black = (pixels[..., 0] < BLACK) & (pixels[..., 1] < BLACK) & (pixels[..., 2] < BLACK)
    if not black.any():
        return pixels
    pixels = pixels.copy()
    pixels[black] = glass
    return pixels


def reduced(image: NDArray[np.uint8], *, step: int) -> NDArray[np.uint8]:
    """Reduce an image to the means of squares of `step` × `step` pixels."""
    from PIL import Image

    if step == 1:
        return image
    rows = 64 * step  # in strips: Pillow copies what it reduces
    strips = [Image.fromarray(image[top : top + rows]).reduce(step) for top in range(0, len(image), rows)]
    return np.concatenate([np.asarray(strip) for strip in strips])


def greyscale(where: str) -> InputError:
    """Make the error about an image without colour."""
    return InputError(
        f"Expected an H&E image in colour in {where}, found greyscale. Give the RGB image of the section."
    )


def _check_size(width: int, height: int, *, path: Path, max_pixels: int) -> None:
    """Refuse an image that is too large to decode, by the size in its header."""
    if width * height > max_pixels:
        raise InputError(
            f"Expected an image of at most {max_pixels:,} pixels in {path}, found {width:,} × {height:,}. "
            "Save it at a lower resolution (0.5 µm per pixel is enough) or raise max_pixels."
        )
    require_memory(DECODING_BYTES * width * height, path, advice="Save it at a lower resolution, or as a tiled TIFF.")


def _read_by_pillow(path: Path, *, max_pixels: int) -> NDArray[np.uint8]:
    """Read a file as RGB or RGBA; of 16-bit channels, Pillow keeps the high byte.

    The class of each format is used directly: ``PIL.Image.open`` warns about or refuses images as large as ordinary
    slides, and its limit is a global of the process that a library should not change.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    readers = {"png": PngImageFile, "jpeg": JpegImageFile}
    with readers.get(format_of(path), TiffImageFile)(path) as image:
        _check_size(*image.size, path=path, max_pixels=max_pixels)
        if image.mode in {"1", "L", "LA", "La", "F"} or image.mode.startswith("I"):
            raise greyscale(str(path))
        if image.mode in {"RGB", "RGBA"}:
            return np.asarray(image)
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _read_tiff(path: Path, *, max_pixels: int) -> NDArray[np.generic]:
    """Read the first series of a TIFF, with the channels last."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        _check_size(sizes.get("X", 0), sizes.get("Y", 0), path=path, max_pixels=max_pixels)
        channels = next((axis for axis in "SCQ" if sizes.get(axis) in {3, 4}), None)
        if channels is None:
            raise greyscale(str(path))
        if decoded_by_tifffile(series.keyframe):
            return np.moveaxis(series.asarray(), series.axes.index(channels), -1)
    return _read_by_pillow(path, max_pixels=max_pixels)


def white_of(pixels: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Find the RGB of the glass, 0 to 255, in pixels of shape (…, 3): that of the lightest pixels, and nearly grey."""
    levels = np.percentile(pixels.reshape(-1, 3), 99.5, axis=0)
    # where tissue covers the whole image, the lightest colour is not glass
    red, green, blue = np.maximum(levels, max(0.85 * levels.max(), 1.0))
    return float(red), float(green), float(blue)


def optical_density(pixels: NDArray[np.uint8], white: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Get the optical density of each channel, log10 of the white of the glass over the pixel, at least 0."""
    return np.ascontiguousarray(np.moveaxis(channel_densities(pixels, white), 0, -1))


def channel_densities(pixels: NDArray[np.uint8], white: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Get the optical density of pixels, shape (…, 3), with the channel first, shape (3, …)."""
    # a table of the 256 levels is thirty times faster than logarithms of the pixels
    levels = np.maximum(np.arange(256), 1)[:, None] / np.asarray(white)
    table = np.maximum(-np.log10(levels), 0).astype(np.float32).T
    density = np.empty((3, *pixels.shape[:-1]), dtype=np.float32)
    for channel in range(3):
        np.take(table[channel], pixels[..., channel], out=density[channel], mode="clip")
    return density


def decoded_by_tifffile(page: tifffile.TiffPage) -> bool:
    """Tell whether tifffile decodes a page without imagecodecs; Pillow knows more compressions but fewer layouts."""
    return page.compression in {1, 8, 32946} and page.photometric in {1, 2}


def to_8_bit(array: NDArray[Any], *, where: str = "the image", highest: float | None = None) -> NDArray[np.uint8]:
    """Scale every channel to 0 to 255.

    Floats are taken as 0 to 1 if none is above 1, integers as 0 to 65535 if one is above 255, and everything else as 0
    to 255. Raises InputError if a value is outside its range. If the array is a part of an image, `highest` is the
    largest value of the whole image, and values outside the range are clipped.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"Expected numbers as pixels in {where}, found {array.dtype}.")
    limit = 255 if array.dtype.kind == "f" else 65535
    if highest is None:
        low, highest = float(array.min()), float(array.max())
        if not (low >= 0 and highest <= limit):
            raise InputError(
                f"Expected pixels from 0 to 1, 0 to 255 or (integers) 0 to 65535 in {where}, found "
                f"{low:g} to {highest:g}. Scale the image to 0 to 255."
            )
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if highest <= 1 else array)
    elif highest > 255:
        array = array >> 8
    return array.clip(0, 255).astype(np.uint8)


def over_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend an image with opacity over white: shape (height, width, 3 or 4) to (height, width, 3)."""
    if image.shape[2] == 3:
        return image
    if (image[..., 3] == 255).all():
        return np.ascontiguousarray(image[..., :3])
    from PIL import Image

    layer = Image.fromarray(image)
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer)
    return np.asarray(white)


def require_colour(image: NDArray[np.uint8], *, where: str) -> None:
    """Refuse grey levels stored as RGB, and fluorescence; an image of one colour is blank, not grey."""
    step = 1 + max(image.shape[:2]) // 2000  # four million pixels are enough
    sample = image[::step, ::step]
    red, green, blue = np.moveaxis(sample, -1, 0)
    if np.array_equal(red, green) and np.array_equal(green, blue) and np.ptp(red) > 0:
        raise greyscale(where)
    lit = sample[sample.max(axis=-1) >= BLACK]  # without the mask of an H&E image
    if len(lit) >= FEWEST_LIT and np.ptp(lit) > 0 and np.median(lit.min(axis=-1)) < DARKEST_STAIN:
        raise InputError(
            f"Expected an H&E image (tissue on light glass) in {where}, found a dark background, as of fluorescence. "
            "Give the H&E image of the section."
        )
