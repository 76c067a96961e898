"""Images from files and arrays."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stmmr import InputError
from stmmr.image.pixels import check_image, is_blank, read_image, reduced


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)


def png(path, *, width, height, colour_type, depth, rows):
    """Write a PNG by its parts, for what Pillow cannot write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_png_is_read_as_it_is(tmp_path, rgb):
    PIL.Image.fromarray(rgb).save(tmp_path / "he.png")
    np.testing.assert_array_equal(read_image(tmp_path / "he.png"), rgb)


def test_jpeg_is_read_whatever_its_name(tmp_path):
    flat = np.full((32, 48, 3), (200, 120, 180), dtype=np.uint8)
    PIL.Image.fromarray(flat).save(tmp_path / "he.image", format="JPEG")
    image = read_image(str(tmp_path / "he.image"))
    assert image.shape == flat.shape
    assert np.abs(image.astype(int) - flat).max() <= 2


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_by_tifffile(tmp_path, rgb, compression, planar, big):
    pixels = rgb if planar == "contig" else np.moveaxis(rgb, -1, 0)
    path = tmp_path / "he.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=planar, compression=compression, bigtiff=big)
    np.testing.assert_array_equal(read_image(path), rgb)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_tiff_in_compressions_of_slide_scanners(tmp_path, rgb, compression):
    PIL.Image.fromarray(rgb).save(tmp_path / "he.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "he.tif"), rgb)


def test_tiff_pyramid_gives_the_full_resolution(tmp_path, rgb):
    with tifffile.TiffWriter(tmp_path / "he.ome.tif") as tiff:
        tiff.write(rgb, photometric="rgb", subifds=1)
        tiff.write(rgb[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "he.ome.tif"), rgb)


def test_16_bit_tiff_and_png_agree(tmp_path, rgb):
    deep = rgb.astype(np.uint16) * 256 + rgb[::-1]
    tifffile.imwrite(tmp_path / "he.tif", deep, photometric="rgb")
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    png(tmp_path / "he.png", width=40, height=30, colour_type=2, depth=16, rows=rows)
    np.testing.assert_array_equal(read_image(tmp_path / "he.tif"), rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "he.png"), rgb)


def test_transparency_is_laid_over_white(tmp_path, rgb):
    opacity = np.zeros((30, 40, 1), dtype=np.uint8)
    opacity[:10], opacity[10:20] = 255, 128
    PIL.Image.fromarray(np.concatenate([rgb, opacity], axis=2)).save(tmp_path / "he.png")
    image = read_image(tmp_path / "he.png")
    np.testing.assert_array_equal(image[:10], rgb[:10])
    np.testing.assert_allclose(image[10:20], rgb[10:20] * (128 / 255) + 255 * (127 / 255), atol=1)
    assert (image[20:] == 255).all()


def test_palette_of_colours_is_read(tmp_path):
    flat = np.zeros((8, 8, 3), dtype=np.uint8)
    flat[:4], flat[4:] = (200, 100, 150), (90, 60, 140)
    PIL.Image.fromarray(flat).quantize(4).save(tmp_path / "he.png")
    np.testing.assert_array_equal(read_image(tmp_path / "he.png"), flat)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1", "P", "RGB"])
def test_greyscale_is_refused(tmp_path, mode):
    grey = PIL.Image.linear_gradient("L")
    image = PIL.Image.fromarray(np.asarray(grey).astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    assert image.mode == mode
    image.save(tmp_path / "he.png")
    with pytest.raises(InputError, match="found greyscale"):
        read_image(tmp_path / "he.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_greyscale_tiff_is_refused(tmp_path, rgb, dtype):
    tifffile.imwrite(tmp_path / "he.tif", rgb[..., 0].astype(dtype))
    with pytest.raises(InputError, match="found greyscale"):
        read_image(tmp_path / "he.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, rgb, suffix, kept):
    path = tmp_path / f"he.{suffix}"
    PIL.Image.fromarray(np.tile(rgb, (10, 10, 1))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(8, int(len(whole) * kept))])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "he.png").write_text("no image")
    with pytest.raises(InputError, match="PNG, JPEG or TIFF"):
        read_image(tmp_path / "he.png")
    with pytest.raises(InputError, match="found no file"):
        read_image(tmp_path / "none.png")


def test_bomb_is_refused_by_its_header(tmp_path):
    # the pixels are not there: whoever decodes finds a truncated file instead
    path = png(tmp_path / "he.png", width=50_000, height=50_000, colour_type=2, depth=8, rows=b"")
    with pytest.raises(InputError, match=r"at most 1,000,000,000 pixels.*50,000 × 50,000"):
        read_image(path)
    tifffile.imwrite(tmp_path / "he.tif", np.zeros((4, 4, 3), dtype=np.uint8), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "he.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(40_000)
        tiff.pages[0].tags["ImageLength"].overwrite(40_000)
    with pytest.raises(InputError, match=r"40,000 × 40,000"):
        read_image(tmp_path / "he.tif")


def test_limits_of_pillow_neither_apply_nor_change(tmp_path, rgb, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    PIL.Image.fromarray(rgb).save(tmp_path / "he.png")
    assert read_image(tmp_path / "he.png").shape == rgb.shape
    assert PIL.Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(InputError, match="at most 1,000 pixels"):
        read_image(tmp_path / "he.png", max_pixels=1000)


@given(hnp.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 255)))
def test_arrays_of_every_depth_are_the_same_image(image):
    image[0, 0], image[0, 1] = (0, 10, 255), (255, 255, 255)  # the range, and colour
    for same in (
        image / 255,
        (image / 255).astype(np.float32),
        image.astype(np.float64),
        image.astype(np.int64),
        image.astype(np.uint16) * 256 + 77,
    ):
        np.testing.assert_array_equal(check_image(same), image)
    assert check_image(image) is image


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 5)), "greyscale"),
        (np.zeros((4, 5, 1)), "greyscale"),
        (np.zeros((3, 4, 5)), r"found \(3, 4, 5\)"),
        (np.zeros((0, 5, 3)), r"found \(0, 5, 3\)"),
        (np.full((4, 5, 3), np.nan), "found nan"),
        (np.full((4, 5, 3), -1.0), "found -1"),
        (np.full((4, 5, 3), 70_000), "found 70000"),
        (np.full((4, 5, 3), 256.0), "found 256"),
        (np.full((4, 5, 3), "x"), "found <U1"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array, found):
    with pytest.raises(InputError, match=found):
        check_image(array)


def test_blank_image_is_told_apart(rgb):
    assert is_blank(check_image(np.zeros((4, 5, 4), dtype=np.uint8)))
    assert not is_blank(rgb)


@given(st.integers(1, 256), st.integers(1, 300), st.integers(1, 50))
def test_reduced_images_fit_and_keep_their_position(height, width, longest):
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[..., 0] = np.arange(height)[:, None]
    step = -(-max(ramp.shape[:2]) // longest)
    small = reduced(ramp, step=step)
    assert max(small.shape[:2]) <= longest
    assert small.shape == (-(-height // step), -(-width // step), 3)
    assert step == 1 or max(height, width) > longest * (step - 1)  # not smaller than need be
    means = np.arange(height // step) * step + (step - 1) / 2  # of the whole squares
    np.testing.assert_allclose(small[: height // step, 0, 0], means, atol=1)


@pytest.mark.realdata
def test_slide_of_92_million_pixels(shared_data):
    image = read_image(shared_data / "st_her2_C2_he.jpg")
    assert image.shape == (9911, 9274, 3)
    assert image[100, 100].min() > 200  # glass
