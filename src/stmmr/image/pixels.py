"""Pictures of the tissue: read from a file or checked as an array, always to uint8 RGB."""

from __future__ import annotations

import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

MAX_PIXELS: Final = 1_000_000_000
"""Largest picture that is decoded: admits 30,000 × 30,000 pixels, 3 GB as RGB."""
GLASS_OD: Final = 0.05
"""Mean optical density below which a pixel shows glass rather than tissue."""
BLACK: Final = 16
"""Level that every channel of a masked pixel stays below; no stain is that dark."""

# what Pillow, tifffile and imagecodecs raise on damaged files
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError, struct.error, zlib.error)


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a PNG, JPEG or TIFF picture as 8-bit RGB.

    Transparency is laid over white, 16-bit channels are brought to 8 bit (65535 becomes 255). Of a TIFF with
    several resolutions the first, full one is read.

    Parameters
    ----------
    path
        File, recognised by its first bytes.
    max_pixels
        Larger pictures are refused by their header, before anything is decoded.

    Returns
    -------
    Picture, shape (height, width, 3), uint8.

    Raises
    ------
    InputError
        If there is no such file, it is none of these formats, damaged, greyscale or larger than `max_pixels`.
    """
    path = require_picture(path)
    kind, head = format_of(path), _head(path)
    with decoding(path):
        if kind in {"png", "jpeg"}:
            pixels = _decode(_open_by_pillow(path, head), path=path, max_pixels=max_pixels)
        elif kind == "tiff":
            pixels = _read_tiff(path, head, max_pixels=max_pixels)
        else:
            raise InputError(f"Expected a PNG, JPEG or TIFF picture, found another format in {path}. Convert it first.")
    return check_picture(pixels, where=str(path))


def require_picture(path: str | Path) -> Path:
    """Check that there is a file.

    Raises
    ------
    InputError
        If there is none.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise InputError(f"Expected a picture at {path}, found no file. Check the path.")
    return found


def format_of(path: Path) -> Literal["png", "jpeg", "tiff", "other"]:
    """Tell the format of a picture by its first bytes."""
    head = _head(path)
    if head == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "tiff" if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"} else "other"


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what decoders raise about a damaged file into an InputError.

    Raises
    ------
    InputError
        For every error but those that say nothing about the file's content.
    """
    try:
        yield
    except (InputError, PermissionError):
        raise
    except _DAMAGED as error:
        if "imagecodecs" in str(error):  # tifffile names the package that lacks
            raise InputError(
                f"Expected a compression that can be decoded in {path}, found one that needs imagecodecs ({error}). "
                "Run: pip install 'stmmr-kit[slides]'"
            ) from error
        raise InputError(
            f"Expected a whole picture in {path}, found a damaged or truncated file ({error}). Copy it again."
        ) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def check_picture(array: Any, *, where: str = "the picture") -> NDArray[np.uint8]:
    """Bring a picture that is an array already to 8-bit RGB.

    Parameters
    ----------
    array
        Shape (height, width, 3) or (height, width, 4), the fourth channel opacity. Floats count as 0 to 1
        where none is larger than 1, whole numbers as 0 to 65535 where one is larger than 255, everything else
        as 0 to 255.
    where
        How messages name the picture.

    Returns
    -------
    Picture, shape (height, width, 3), uint8; not copied where it is that already.

    Raises
    ------
    InputError
        If the array has another shape, values outside these ranges, or is greyscale.
    """
    array = np.asarray(array)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {1, 2}):
        raise greyscale(where)
    if array.ndim != 3 or array.shape[2] not in {3, 4} or array.size == 0:
        raise InputError(f"Expected {where} of shape (height, width, 3 or 4), RGB or RGBA, found {array.shape}.")
    picture = over_white(to_8_bit(array, where=where))
    require_colour(picture, where=where)
    return picture


def is_blank(picture: NDArray[np.uint8]) -> bool:
    """Tell whether a picture is of one colour throughout, as the placeholders in some output folders are."""
    return bool((picture == picture[0, 0]).all())


def masked_glass(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Find the lightest colour, glass, of a picture whose background is masked in black; None where it is not."""
    masked = picture.max(axis=-1) < BLACK
    if masked.mean() < 0.01 or masked.all():  # specks of black are left alone
        return None
    glass: NDArray[np.uint8] = np.percentile(picture[~masked], 99, axis=0).astype(np.uint8)
    return glass


def without_mask(pixels: NDArray[np.uint8], glass: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Replace a background masked in black by glass; as it is without one."""
    if glass is None:
        return pixels
    black = (pixels[..., 0] < BLACK) & (pixels[..., 1] < BLACK) & (pixels[..., 2] < BLACK)
    if not black.any():
        return pixels
    pixels = pixels.copy()
    pixels[black] = glass
    return pixels


def reduced(picture: NDArray[np.uint8], *, step: int) -> NDArray[np.uint8]:
    """Reduce a picture by a whole number, to the means of squares of that many pixels a side."""
    from PIL import Image

    if step == 1:
        return picture
    rows = 64 * step  # by strips: Pillow copies what it reduces
    strips = [Image.fromarray(picture[top : top + rows]).reduce(step) for top in range(0, len(picture), rows)]
    return np.concatenate([np.asarray(strip) for strip in strips])


def greyscale(where: str) -> InputError:
    """Make the error about a picture without colour."""
    return InputError(
        f"Expected an H&E picture in colour in {where}, found greyscale. Give the RGB picture of the section."
    )


def check_size(width: int, height: int, *, path: Path, max_pixels: int) -> None:
    """Refuse a picture that is too large to decode, by what its header says."""
    if width * height > max_pixels:
        raise InputError(
            f"Expected a picture of at most {max_pixels:,} pixels in {path}, found {width:,} × {height:,}. "
            "Save it at a lower resolution (0.5 µm per pixel is plenty) or raise max_pixels."
        )


def _open_by_pillow(path: Path, head: bytes) -> Image:
    """Open a file without decoding its pixels.

    The formats are opened by their own classes: ``PIL.Image.open`` warns about or refuses pictures as large
    as ordinary slides, and its limit is a global of the process that is not ours to change.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    if head.startswith(b"\x89PNG"):
        return PngImageFile(path)
    if head.startswith(b"\xff\xd8"):
        return JpegImageFile(path)
    return TiffImageFile(path)


def _decode(image: Image, *, path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an opened file to RGB or RGBA; Pillow keeps the high byte of 16-bit channels."""
    with image:
        check_size(*image.size, path=path, max_pixels=max_pixels)
        if image.mode in {"1", "L", "LA", "La", "F"} or image.mode.startswith("I"):
            raise greyscale(str(path))
        if image.mode not in {"RGB", "RGBA"}:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return np.asarray(image)


def _read_tiff(path: Path, head: bytes, *, max_pixels: int) -> NDArray[Any]:
    """Read the first series of a TIFF with the channels last."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        check_size(sizes.get("X", 0), sizes.get("Y", 0), path=path, max_pixels=max_pixels)
        channels = next((axis for axis in "SCQ" if sizes.get(axis) in {3, 4}), None)
        if channels is None:
            raise greyscale(str(path))
        page = series.keyframe
        if decoded_by_tifffile(page):
            pixels: NDArray[Any] = np.moveaxis(series.asarray(), series.axes.index(channels), -1)
            return pixels
    return _decode(_open_by_pillow(path, head), path=path, max_pixels=max_pixels)


def white_of(pixels: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Find the colour of the glass in pixels, shape (…, 3): the lightest ones, and nearly grey."""
    levels = np.percentile(pixels.reshape(-1, 3), 99.5, axis=0)
    # where the tissue leaves no gap, its own lightest colour is no white
    red, green, blue = np.maximum(levels, max(0.85 * levels.max(), 1.0))
    return float(red), float(green), float(blue)


def optical_density(pixels: NDArray[np.uint8], white: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Get the optical density of each channel, log10 of the white of the glass over the pixel, at least 0."""
    # by a table of the 256 levels: thirty times faster
    levels = np.maximum(np.arange(256), 1)[:, None] / np.asarray(white)
    table = np.maximum(-np.log10(levels), 0).astype(np.float32)
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], axis=-1)


def decoded_by_tifffile(page: Any) -> bool:
    """Tell whether tifffile decodes a page without another package; Pillow knows more compressions, fewer layouts."""
    return page.compression in {1, 8, 32946} and page.photometric in {1, 2}


def to_8_bit(array: NDArray[Any], *, where: str = "the picture", highest: float | None = None) -> NDArray[np.uint8]:
    """Bring every channel to 0 to 255.

    Parameters
    ----------
    array
        Any shape. Floats count as 0 to 1 where none is larger than 1, whole numbers as 0 to 65535 where one is larger
        than 255, everything else as 0 to 255.
    where
        How messages name the picture.
    highest
        Largest value of the whole picture, where this is a part of it; values beyond that range are cut off.

    Raises
    ------
    InputError
        If it has other values.
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
                f"Expected pixels from 0 to 1, 0 to 255 or (whole numbers) 0 to 65535 in {where}, found "
                f"{low:g} to {highest:g}. Scale the picture to 0 to 255."
            )
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if highest <= 1 else array)
    elif highest > 255:
        array = array >> 8
    return array.clip(0, 255).astype(np.uint8)


def over_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a picture with opacity over white, shape (height, width, 3 or 4) to (height, width, 3)."""
    if picture.shape[2] == 3:
        return picture
    if (picture[..., 3] == 255).all():
        return np.ascontiguousarray(picture[..., :3])
    from PIL import Image

    image = Image.fromarray(picture)
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return np.asarray(white)


def require_colour(picture: NDArray[np.uint8], *, where: str) -> None:
    """Refuse greys that are stored as RGB; a picture of one colour throughout is blank, not grey."""
    step = 1 + max(picture.shape[:2]) // 2000  # four million pixels tell
    sample = picture[::step, ::step]
    red, green, blue = np.moveaxis(sample, -1, 0)
    if np.array_equal(red, green) and np.array_equal(green, blue) and np.ptp(red) > 0:
        raise greyscale(where)
