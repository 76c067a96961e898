"""Pictures of the tissue: read from a file or checked as an array, always to uint8 RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._validate import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MAX_PIXELS: Final = 1_000_000_000
"""Largest picture that is decoded: admits 30,000 × 30,000 pixels, 3 GB as RGB."""
BLACK: Final = 16
"""Level that every channel of a masked pixel stays below; no stain is that dark."""

# what Pillow and tifffile raise on damaged files
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)


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
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected a picture at {path}, found no file. Check the path.")
    with path.open("rb") as file:
        head = file.read(8)
    try:
        if head == b"\x89PNG\r\n\x1a\n" or head.startswith(b"\xff\xd8\xff"):
            pixels = _decode(_open_by_pillow(path, head), path=path, max_pixels=max_pixels)
        elif head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
            pixels = _read_tiff(path, head, max_pixels=max_pixels)
        else:
            raise InputError(f"Expected a PNG, JPEG or TIFF picture, found another format in {path}. Convert it first.")
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"Expected a whole picture in {path}, found a damaged or truncated file ({error}). Copy it again."
        ) from error
    return check_picture(pixels, where=str(path))


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
        raise _greyscale(where)
    if array.ndim != 3 or array.shape[2] not in {3, 4} or array.size == 0:
        raise InputError(f"Expected {where} of shape (height, width, 3 or 4), RGB or RGBA, found {array.shape}.")
    picture = _over_white(_to_8_bit(array, where=where))
    _check_colour(picture, where=where)
    return picture


def is_blank(picture: NDArray[np.uint8]) -> bool:
    """Tell whether a picture is of one colour throughout, as the placeholders in some output folders are."""
    return bool((picture == picture[0, 0]).all())


def without_mask(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace a background masked in black by the lightest colour, glass; specks of black are left alone."""
    step = 1 + max(pixels.shape[:2]) // 2000
    sample = pixels[::step, ::step]
    masked = sample.max(axis=-1) < BLACK
    if masked.mean() < 0.01 or masked.all():
        return pixels
    glass = np.percentile(sample[~masked], 99, axis=0).astype(np.uint8)
    black = (pixels[..., 0] < BLACK) & (pixels[..., 1] < BLACK) & (pixels[..., 2] < BLACK)
    pixels = pixels.copy()
    pixels[black] = glass
    return pixels


def reduced(picture: NDArray[np.uint8], *, longest: int) -> tuple[NDArray[np.uint8], int]:
    """Reduce a picture by a whole number, the mean of squares of pixels, until no side exceeds `longest`.

    Returns
    -------
    The picture, and the side of the squares: 1 where it is not larger.
    """
    from PIL import Image

    step = -(-max(picture.shape[:2]) // longest)
    rows = 64 * step  # by strips: Pillow copies what it reduces
    strips = [Image.fromarray(picture[top : top + rows]).reduce(step) for top in range(0, len(picture), rows)]
    return np.concatenate([np.asarray(strip) for strip in strips]), step


def _greyscale(where: str) -> InputError:
    """Make the error about a picture without colour."""
    return InputError(
        f"Expected an H&E picture in colour in {where}, found greyscale. Give the RGB picture of the section."
    )


def _check_size(width: int, height: int, *, path: Path, max_pixels: int) -> None:
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
        _check_size(*image.size, path=path, max_pixels=max_pixels)
        if image.mode in {"1", "L", "LA", "La", "F"} or image.mode.startswith("I"):
            raise _greyscale(str(path))
        if image.mode not in {"RGB", "RGBA"}:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return np.asarray(image)


def _read_tiff(path: Path, head: bytes, *, max_pixels: int) -> NDArray[Any]:
    """Read the first series of a TIFF with the channels last."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        _check_size(sizes.get("X", 0), sizes.get("Y", 0), path=path, max_pixels=max_pixels)
        channels = next((axis for axis in "SCQ" if sizes.get(axis) in {3, 4}), None)
        if channels is None:
            raise _greyscale(str(path))
        page = series.keyframe
        # tifffile by itself decodes few compressions and colour spaces, Pillow few layouts of channels
        if page.compression in {1, 8, 32946} and page.photometric in {1, 2}:
            pixels: NDArray[Any] = np.moveaxis(series.asarray(), series.axes.index(channels), -1)
            return pixels
    return _decode(_open_by_pillow(path, head), path=path, max_pixels=max_pixels)


def _to_8_bit(array: NDArray[Any], *, where: str) -> NDArray[np.uint8]:
    """Bring every channel to 0 to 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"Expected numbers as pixels in {where}, found {array.dtype}.")
    low, high = float(array.min()), float(array.max())
    limit = 255 if array.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= limit):
        raise InputError(
            f"Expected pixels from 0 to 1, 0 to 255 or (whole numbers) 0 to 65535 in {where}, found "
            f"{low:g} to {high:g}. Scale the picture to 0 to 255."
        )
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if high <= 1 else array)
    elif high > 255:
        array = array >> 8
    return array.astype(np.uint8)


def _over_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a picture with opacity over white."""
    if picture.shape[2] == 3:
        return picture
    if (picture[..., 3] == 255).all():
        return np.ascontiguousarray(picture[..., :3])
    from PIL import Image

    image = Image.fromarray(picture)
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return np.asarray(white)


def _check_colour(picture: NDArray[np.uint8], *, where: str) -> None:
    """Refuse greys that are stored as RGB; a picture of one colour throughout is blank, not grey."""
    step = 1 + max(picture.shape[:2]) // 2000  # four million pixels tell
    sample = picture[::step, ::step]
    red, green, blue = np.moveaxis(sample, -1, 0)
    if np.array_equal(red, green) and np.array_equal(green, blue) and np.ptp(red) > 0:
        raise _greyscale(where)
