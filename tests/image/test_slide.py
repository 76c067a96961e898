"""Slides: every way in gives the same windows, and only what is asked for is decoded."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from stmmr import InputError
from stmmr.image import slide as _slide
from stmmr.image import slide_files
from stmmr.image.slide import PixelArray, Slide, open_slide


@pytest.fixture(scope="module")
def rgb():
    """Smooth, so that reduced copies of it agree with each other."""
    y, x = np.mgrid[:700, :900]
    waves = [127 + 100 * np.sin(x / a + y / b) for a, b in ((40, 90), (70, -50), (-60, 45))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def pyramid(path, rgb, *, levels=3, tile=(256, 256), **options):
    options = {"photometric": "rgb", "tile": tile} | options
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(rgb, subifds=levels - 1, **options)
        for level in range(1, levels):
            step = 2**level
            height, width = rgb.shape[0] // step, rgb.shape[1] // step
            small = rgb[: height * step, : width * step].reshape(height, step, width, step, 3).mean((1, 3))
            tiff.write(small.astype(np.uint8), subfiletype=1, **options)
    return path


def whole(slide, level=0):
    height, width = slide.levels[level].source.size
    return slide.region(level, slice(0, height), slice(0, width))


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (256, 256)},
        {"tile": (16, 32)},
        {"tile": (256, 256), "compression": "zlib"},
        {"tile": (256, 256), "compression": "lzw"},
        {"rowsperstrip": 7},
        {},
    ],
    ids=str,
)
def test_tiff_of_every_layout_is_read_by_windows(tmp_path, rgb, options):
    tifffile.imwrite(tmp_path / "he.tif", rgb, photometric="rgb", **options)
    slide = open_slide(tmp_path / "he.tif")
    np.testing.assert_array_equal(slide.region(0, slice(90, 613), slice(250, 899)), rgb[90:613, 250:899])
    np.testing.assert_array_equal(whole(slide), rgb)


def test_channels_first_and_16_bit(tmp_path, rgb):
    deep = np.moveaxis(rgb.astype(np.uint16) * 257, -1, 0)
    tifffile.imwrite(tmp_path / "he.ome.tif", deep, photometric="rgb", planarconfig="separate", tile=(256, 256))
    np.testing.assert_array_equal(whole(open_slide(tmp_path / "he.ome.tif")), rgb)


def test_jpeg_tiles_as_scanners_write_them(tmp_path, rgb):
    pytest.importorskip("imagecodecs")
    pyramid(tmp_path / "he.tif", rgb, compression="jpeg", compressionargs={"level": 95})
    slide = open_slide(tmp_path / "he.tif")
    assert len(slide.levels) == 3
    assert np.abs(whole(slide).astype(int) - rgb).mean() < 3


@given(st.integers(-300, 900), st.integers(-300, 1100), st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_windows_are_those_of_the_mirrored_image(tmp_path_factory, rgb, top, left, extent):
    path = tmp_path_factory.getbasetemp() / "mirrored.tif"
    if not path.exists():
        tifffile.imwrite(path, rgb, photometric="rgb", tile=(128, 128))
    padded = np.pad(rgb, ((700, 700), (900, 900), (0, 0)), mode="symmetric")
    expected = padded[700 + top : 700 + top + extent, 900 + left : 900 + left + extent]
    np.testing.assert_array_equal(open_slide(path).window(0, top=top, left=left, extent=extent), expected)


def test_the_coarsest_level_that_suffices_is_chosen(tmp_path, rgb):
    slide = open_slide(pyramid(tmp_path / "he.tif", rgb))
    assert [round(level.downsample, 2) for level in slide.levels] == [1, 2, 4]
    assert [slide.level_for(downsample) for downsample in (0.3, 1, 1.9, 2, 3.9, 4, 100)] == [0, 0, 0, 1, 1, 2, 2]


def test_levels_agree_with_the_full_resolution(tmp_path, rgb):
    from stmmr.image.patches import read_patches

    centres = np.array([[450.0, 350.0], [10.0, 690.0], [700.3, 120.7]])
    options = {"sides": np.array([64.0, 300.0]), "patch_px": 32}
    by_levels = read_patches(open_slide(pyramid(tmp_path / "he.tif", rgb)), centres, **options)
    by_array = read_patches(open_slide(rgb), centres, **options)
    assert np.abs(by_levels.astype(int) - by_array).max() <= 4


def test_overview_of_a_large_image_is_its_mean_by_squares(tmp_path, rgb, monkeypatch):
    monkeypatch.setattr(_slide, "OVERVIEW_PX", 300)
    monkeypatch.setattr(_slide, "STRIP_PIXELS", 20_000)
    tifffile.imwrite(tmp_path / "he.tif", rgb, photometric="rgb", tile=(128, 128))
    overview, step = open_slide(tmp_path / "he.tif").overview
    assert (overview.shape, step) == ((234, 300, 3), 3.0)
    expected = rgb[:699].reshape(233, 3, 300, 3, 3).mean((1, 3))
    assert np.abs(overview[:233] - expected).max() <= 1
    assert open_slide(pyramid(tmp_path / "levels.tif", rgb)).overview[1] == pytest.approx(4, rel=0.01)


class Counted(PixelArray):
    """Pixels that note how often a block of them is read."""

    block = (100, 100)

    def __init__(self, pixels):
        super().__init__(pixels)
        self.reads = 0

    def read(self, rows, columns):
        self.reads += 1
        return super().read(rows, columns)


def test_blocks_are_decoded_once_and_not_kept_beyond_their_share(rgb, monkeypatch):
    source = Counted(rgb)
    slide = Slide("counted", [source])
    before = source.reads
    for _ in range(3):
        slide.region(0, slice(20, 180), slice(30, 290))
    assert source.reads == before + 6
    monkeypatch.setattr(_slide, "KEPT_BYTES", 5 * 30_000)
    whole(slide)
    assert sum(block.nbytes for block in slide._blocks.values()) <= 5 * 30_000


def test_black_mask_is_glass_in_every_window(rgb):
    masked = rgb.copy()
    masked[:, :300] = 0
    glass = np.percentile(rgb[:, 300:].reshape(-1, 3), 99, axis=0)
    np.testing.assert_allclose(
        open_slide(masked).region(0, slice(5, 9), slice(5, 9)), np.full((4, 4, 3), glass), atol=1
    )


@pytest.mark.parametrize(
    ("options", "um"),
    [
        ({"metadata": {"axes": "YXS", "PhysicalSizeX": 0.27, "PhysicalSizeXUnit": "µm"}, "ome": True}, 0.27),
        ({"metadata": {"axes": "YXS", "PhysicalSizeX": 270, "PhysicalSizeXUnit": "nm"}, "ome": True}, 0.27),
        ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),  # what programs write that do not know
        ({}, None),
    ],
)
def test_size_of_a_pixel_is_what_the_file_states(tmp_path, rgb, options, um):
    tifffile.imwrite(tmp_path / "he.tif", rgb, photometric="rgb", **options)
    assert open_slide(tmp_path / "he.tif").um_per_px == (None if um is None else pytest.approx(um))


def test_openslide_reads_the_same(tmp_path, rgb):
    pytest.importorskip("openslide")
    path = tmp_path / "he.svs"  # a tiled TIFF by its content, which openslide takes by its ending
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2):
            tiff.write(rgb[::step, ::step], photometric="rgb", tile=(256, 256), subfiletype=int(step > 1))
    slide = open_slide(path)
    assert isinstance(slide.levels[0].source, slide_files.ByOpenSlide)
    np.testing.assert_array_equal(slide.region(0, slice(100, 300), slice(600, 900)), rgb[100:300, 600:900])
    np.testing.assert_array_equal(whole(slide, 1), rgb[::2, ::2])


def test_images_of_spatialdata_are_read_by_windows(rgb):
    models = pytest.importorskip("spatialdata.models")
    image = np.moveaxis(rgb, -1, 0)
    flat = models.Image2DModel.parse(image, dims=("c", "y", "x"))
    several = models.Image2DModel.parse(image, dims=("c", "y", "x"), scale_factors=[2, 2])
    for element, n_levels in ((flat, 1), (several, 3)):
        slide = open_slide(element)
        assert len(slide.levels) == n_levels
        np.testing.assert_array_equal(whole(slide), rgb)


def test_spatialdata_image_of_other_axes_is_refused():
    xarray = pytest.importorskip("xarray")
    with pytest.raises(InputError, match="the axes c, y and x, found ZYX"):
        open_slide(xarray.DataArray(np.zeros((2, 3, 4)), dims=("z", "y", "x")))
    with pytest.raises(InputError, match="in colour in image, found greyscale"):
        open_slide(xarray.DataArray(np.zeros((1, 3, 4)), dims=("c", "y", "x")))


def test_damaged_and_foreign_files_are_one_sentence(tmp_path, rgb):
    path = pyramid(tmp_path / "he.tif", rgb, compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        whole(open_slide(path))
    (tmp_path / "he.svs").write_text("no slide")
    with pytest.raises(InputError, match="another format in"):
        open_slide(tmp_path / "he.svs")
    with pytest.raises(InputError, match="found no file"):
        open_slide(tmp_path / "nothing.tif")


def test_missing_codec_names_what_to_install(tmp_path, rgb, monkeypatch):
    pytest.importorskip("imagecodecs")
    pyramid(tmp_path / "he.tif", rgb, compression="jpeg")

    def fails(*_args, **_options):
        raise ValueError("<COMPRESSION.JPEG: 7> requires the 'imagecodecs' package")

    slide = open_slide(tmp_path / "he.tif")
    monkeypatch.setattr(tifffile.TiffPage, "decode", property(lambda _: fails))
    with pytest.raises(InputError, match=r"pip install 'stmmr-kit\[slides\]'"):
        whole(slide)


def test_greyscale_slide_is_refused(tmp_path, rgb):
    tifffile.imwrite(tmp_path / "dapi.tif", rgb[..., 0], tile=(256, 256))
    with pytest.raises(InputError, match="found greyscale"):
        open_slide(tmp_path / "dapi.tif")
