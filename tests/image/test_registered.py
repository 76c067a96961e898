"""Images given to `stmmr.pp.histology`: registered by any affine map, from any source, checked against the spots."""

import logging

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tifffile

from stmmr import InputError, pl
from stmmr.datasets import simulated_tissue
from stmmr.image.registration import XENIUM_UM_PER_PX
from stmmr.pp import histology


@pytest.fixture(scope="module")
def tissue():
    adata = simulated_tissue(n_rows=14, n_cols=14, n_genes=10)
    scale = adata.uns["spatial"]["simulated"]["scalefactors"]["tissue_hires_scalef"]
    adata.obsm["spatial"] = adata.obsm["spatial"] * scale  # pixels of the image
    return adata


@pytest.fixture(scope="module")
def image(tissue):
    return tissue.uns["spatial"]["simulated"]["images"]["hires"]


@pytest.fixture
def bare(tissue):
    """The spots without an image."""
    adata = tissue.copy()
    del adata.uns["spatial"]
    adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    return adata


def turned(image, degrees):
    """The image turned about its centre on a larger canvas, and the map from its pixels to those of the new one."""
    whole = PIL.Image.fromarray(image)
    new = whole.rotate(degrees, PIL.Image.Resampling.BICUBIC, expand=True, fillcolor=(244, 242, 243))
    angle = np.radians(degrees)
    a, b = np.cos(angle), np.sin(angle)
    linear = np.array([[a, b], [-b, a]])
    shift = np.array(new.size) / 2 - linear @ (np.array(whole.size) / 2)
    return np.asarray(new), np.block([[linear, shift[:, None]], [np.zeros((1, 2)), np.ones((1, 1))]])


@pytest.mark.parametrize("degrees", [30, 117])
def test_turned_image_with_its_registration_gives_the_same_features(bare, image, degrees):
    """But for the resampling: within a tenth of the spread of a feature, in the median."""
    new, matrix = turned(image, degrees)
    expected, found = bare.copy(), bare.copy()
    histology(expected, image=image, um_per_pixel=4.0)
    histology(found, image=new, registration=matrix, um_per_pixel=4.0)
    names = expected.uns["stmmr"]["histology"]["feature_names"]
    spread = expected.obsm["X_histology"].std(axis=0)
    difference = np.abs(found.obsm["X_histology"] - expected.obsm["X_histology"]) / spread
    kept = [i for i, name in enumerate(names) if not name.startswith("fine_texture")]  # what resampling takes away
    assert np.median(difference[:, kept]) < 0.1
    assert found.uns["stmmr"]["histology"]["um_per_pixel"] == pytest.approx(4.0)


def test_turned_image_is_stored_as_the_spots_lie(bare, image):
    new, matrix = turned(image, 30)
    histology(bare, image=new, registration=matrix, um_per_pixel=4.0)
    (library,) = bare.uns["spatial"].values()
    stored, scale = library["images"]["hires"], library["scalefactors"]["tissue_hires_scalef"]
    mask = library["images"]["tissue_mask"]
    assert mask.shape == stored.shape[:2]
    at = np.floor(bare.obsm["spatial"] * scale).astype(int)
    there = np.floor(bare.obsm["spatial"]).astype(int)
    difference = stored[at[:, 1], at[:, 0]].astype(int) - image[there[:, 1], there[:, 0]]
    assert np.median(np.abs(difference)) < 12


def test_alignment_file_of_xenium(bare, image, tmp_path):
    """Coordinates in µm, an image of 2 µm per pixel turned by 90°, and the file that Xenium Explorer would write."""
    new, matrix = turned(image, 90)
    expected, um = bare.copy(), bare.copy()
    histology(expected, image=new, registration=matrix, um_per_pixel=2.0)
    um.obsm["spatial"] = um.obsm["spatial"] * 2.0
    to_morphology = np.diag([2 / XENIUM_UM_PER_PX, 2 / XENIUM_UM_PER_PX, 1.0]) @ np.linalg.inv(matrix)
    pd.DataFrame(to_morphology).to_csv(tmp_path / "a_he_imagealignment.csv", header=False, index=False)
    histology(um, image=new, registration=tmp_path / "a_he_imagealignment.csv", um_per_pixel=1.0)
    np.testing.assert_allclose(um.obsm["X_histology"], expected.obsm["X_histology"], atol=1e-3)


def test_pyramid_array_and_image_of_spatialdata_agree(bare, image, tmp_path):
    models = pytest.importorskip("spatialdata.models")
    tifffile.imwrite(tmp_path / "he.tif", image, photometric="rgb", tile=(128, 128), compression="zlib")
    element = models.Image2DModel.parse(np.moveaxis(image, -1, 0), dims=("c", "y", "x"))
    rows = []
    for source in (image, tmp_path / "he.tif", element):
        adata = bare.copy()
        histology(adata, image=source, um_per_pixel=4.0)
        rows.append(adata.obsm["X_histology"])
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_size_of_a_pixel_by_the_file_where_nothing_else_tells(bare, image, tmp_path, caplog):
    path = tmp_path / "he.tif"
    tifffile.imwrite(path, image, photometric="rgb", resolution=(2500, 2500), resolutionunit="CENTIMETER")
    histology(bare, image=path)
    record = bare.uns["stmmr"]["histology"]
    assert (record["um_per_pixel"], record["scale_from"]) == (pytest.approx(4.0), "image")
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        histology(bare, image=path, um_per_pixel=9.0)
    assert "states pixels of 4 µm, but by the coordinates they have 9 µm" in caplog.text


@pytest.mark.parametrize(
    ("turn", "said"),
    [(np.s_[:, ::-1], "Mirrored left to right"), (np.s_[::-1, ::-1], "Turned by 180°"), (np.s_[:, :], "")],
)
def test_a_image_that_lies_otherwise_is_noticed(image, turn, said, caplog):
    """Of a lopsided tissue: its right part is cut off, glass."""
    lopsided = image.copy()
    lopsided[:, image.shape[1] // 2 :] = 244
    lopsided[: image.shape[0] // 3] = 244
    adata = simulated_tissue(n_rows=14, n_cols=14, n_genes=10)
    library = adata.uns["spatial"]["simulated"]
    xy = adata.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]
    on_tissue = (xy[:, 0] < image.shape[1] // 2 - 5) & (xy[:, 1] > image.shape[0] // 3 + 5)
    adata = adata[on_tissue].copy()
    library["images"]["hires"] = np.ascontiguousarray(lopsided[turn])
    adata.uns["spatial"] = {"simulated": library}
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        histology(adata)
    assert (said in caplog.text) if said else not caplog.text
    assert (adata.uns["stmmr"]["histology"]["on_tissue"] > 0.95) is (not said)


def test_blurred_and_empty_patches_are_flagged_and_kept(bare, image, tmp_path):
    from scipy.ndimage import gaussian_filter

    worse = image.copy()
    height, width = image.shape[:2]
    worse[: height // 3] = gaussian_filter(image, (5, 5, 0))[: height // 3]
    worse[:, : width // 4] = 244
    histology(bare, image=worse, um_per_pixel=1.0)
    x, y = bare.obsm["spatial"].T
    flag = bare.obs["stmmr_patch"]
    inner = np.s_[(x > width / 4 + 40) & (y < height / 3 - 40)]
    assert (flag[x < width / 4 - 40] == "background").all()
    assert (flag[inner] == "blurred").mean() > 0.8
    assert (flag[(x > width / 4 + 40) & (y > height / 3 + 40)] == "tissue").mean() > 0.95
    assert np.isfinite(bare.obsm["X_histology"]).all()


def test_registration_is_drawn_with_the_image_that_was_read(tissue, image):
    adata = tissue.copy()
    library = adata.uns["spatial"]["simulated"]
    library["scalefactors"] = {**library["scalefactors"], "tissue_hires_scalef": 1.0}
    histology(adata, um_per_pixel=4.0)
    ax = pl.registration(adata)
    assert len(ax.images) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["tissue"]
    assert ax.get_xlim() == (0, image.shape[1])
    histology(adata, image=np.ascontiguousarray(image[:, ::-1]), um_per_pixel=4.0)
    assert not pl.registration(adata).images  # the stored image is another one
    with pytest.raises(InputError, match=r"Run stmmr\.pp\.histology\(adata\) first"):
        pl.registration(tissue)


def test_stain_normalisation_by_name(bare, image):
    plain, normalised = bare.copy(), bare.copy()
    histology(plain, image=image, um_per_pixel=4.0)
    histology(normalised, image=image, um_per_pixel=4.0, stain="macenko")
    assert not np.allclose(plain.obsm["X_histology"], normalised.obsm["X_histology"])
    assert normalised.uns["stmmr"]["histology"]["stain"] == "macenko"
    with pytest.raises(InputError, match="Expected stain to be one of macenko"):
        histology(bare, image=image, um_per_pixel=4.0, stain="reinhart")


class Wide:
    """An encoder of 80 features that counts the patches it sees."""

    name = "wide"
    diameters_um = (60.0,)
    patch_px = 16
    feature_names = [f"f{i}" for i in range(80)]  # noqa: RUF012
    fingerprint = "1"

    def __init__(self):
        self.seen = 0

    def fit(self, sample, *, um_per_px):
        return self

    def __call__(self, patches):
        self.seen += len(patches)
        flat = patches.reshape(len(patches), -1).astype(np.float32)
        return np.stack([flat[:, i :: i + 7].mean(axis=1) for i in range(80)], axis=1)


def test_wide_features_become_their_principal_components(bare, image):
    from sklearn.decomposition import PCA

    narrow, wide = bare.copy(), bare.copy()
    histology(narrow, image=image, um_per_pixel=4.0, encoder=Wide(), n_components=20)
    histology(wide, image=image, um_per_pixel=4.0, encoder=Wide(), n_components=0)
    assert wide.obsm["X_histology"].shape[1] == 80
    expected = PCA(20).fit_transform(wide.obsm["X_histology"].astype(np.float64))
    np.testing.assert_allclose(np.abs(narrow.obsm["X_histology"]), np.abs(expected), atol=1e-2)
    assert narrow.uns["stmmr"]["histology"]["feature_names"][:2] == ["pc1", "pc2"]


def test_features_on_disk_are_those_of_the_same_image_and_spots(bare, image, tmp_path):
    first, again, other = bare.copy(), bare[::-1].copy(), bare.copy()
    options = {"um_per_pixel": 4.0, "n_components": 0, "cache": tmp_path / "features"}
    encoder = Wide()
    histology(first, image=image, encoder=encoder, **options)
    assert encoder.seen == first.n_obs
    histology(again, image=image, encoder=encoder, **options)
    assert encoder.seen == first.n_obs  # the order of the spots does not matter
    np.testing.assert_array_equal(again.obsm["X_histology"][::-1], first.obsm["X_histology"])
    assert list(again.obs["stmmr_patch"])[::-1] == list(first.obs["stmmr_patch"])
    histology(other, image=np.ascontiguousarray(image[::-1]), encoder=encoder, **options)
    assert encoder.seen == 2 * first.n_obs
    histology(other, image=image, encoder=encoder, stain="macenko", **options)
    assert encoder.seen == 3 * first.n_obs


def test_a_scale_that_no_platform_has_is_warned_of(bare, image, caplog):
    with caplog.at_level(logging.WARNING, logger="stmmr"), pytest.raises(InputError, match="smaller than the image"):
        histology(bare, image=image, um_per_pixel=0.001)
    assert "Check the scale, otherwise sizes in µm will be wrong" in caplog.text


def test_registration_without_a_image_is_refused(tissue):
    with pytest.raises(InputError, match="found the registration alone"):
        histology(tissue, registration=np.eye(3), copy=True)


def test_run_says_what_is_wrong_with_the_image_before_the_first_step(tissue, tmp_path):
    from stmmr import run

    (tmp_path / "he.jpg").write_text("no image")
    for options, message in (
        ({"image": tmp_path / "he.jpg"}, "another format"),
        ({"image": tmp_path / "none.jpg"}, "found no file"),
        ({"registration": np.eye(3), "histology": False}, "found none. Give image"),
        ({"encoder": "phikn"}, "Did you mean 'phikon'"),
    ):
        adata = tissue.copy()
        with pytest.raises(InputError, match=message):
            run(adata, n_domains=3, progress=False, **options)
        assert not adata.layers
