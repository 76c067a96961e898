"""Features of the image: invariances, what they measure, and every image that cannot be used."""

import logging
import subprocess
import sys
from dataclasses import dataclass
from textwrap import dedent

import anndata as ad
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmmr import InputError, pp
from stmmr.datasets import simulated_tissue
from stmmr.encoders import Encoder, HEEncoder
from stmmr.image.patches import read_patches
from stmmr.image.slide import open_slide
from stmmr.pp._histology import has_image, histology

GLASS = (240, 238, 239)
NUCLEUS = (75, 50, 140)
STROMA = (230, 160, 205)


@pytest.fixture(scope="module")
def tissue():
    return simulated_tissue(n_rows=14, n_cols=14, n_genes=10)


@pytest.fixture(scope="module")
def image(tissue):
    return tissue.uns["spatial"]["simulated"]["images"]["hires"]


@pytest.fixture(scope="module")
def xy(tissue):
    """Coordinates in pixels of the image."""
    return tissue.obsm["spatial"] * tissue.uns["spatial"]["simulated"]["scalefactors"]["tissue_hires_scalef"]


@pytest.fixture
def own(tissue):
    """A copy whose library the test may damage."""
    return tissue.copy()


def spots(xy):
    return ad.AnnData(np.zeros((len(xy), 1), dtype=np.float32), obsm={"spatial": np.asarray(xy, dtype=float)})


def features(image, xy, *, um_per_pixel=4.0, **options):
    adata = spots(xy)
    histology(adata, image=np.ascontiguousarray(image), um_per_pixel=um_per_pixel, **options)
    return adata.obsm["X_histology"]


def named(adata, name):
    names = list(adata.uns["stmmr"]["histology"]["feature_names"])
    return adata.obsm["X_histology"][:, names.index(name)]


def test_writes_the_documented_keys(tissue):
    before = tissue.copy()
    adata = histology(tissue, copy=True)
    record = adata.uns["stmmr"]["histology"]
    assert "X_histology" not in tissue.obsm
    assert histology(adata) is None
    histology(adata, key_added="X_he")
    np.testing.assert_array_equal(adata.obsm["X_he"], adata.obsm["X_histology"])
    assert adata.obsm["X_histology"].dtype == np.float32
    assert adata.obsm["X_histology"].shape == (tissue.n_obs, len(record["feature_names"]))
    assert np.isfinite(adata.obsm["X_histology"]).all()
    assert (adata.X != before.X).nnz == 0
    assert record["image"] == "hires"
    assert record["um_per_pixel"] == pytest.approx(4.0)
    assert record["scale_from"] == "microns_per_pixel"


def test_record_survives_the_file(own, tmp_path):
    histology(own)
    own.write_h5ad(tmp_path / "a.h5ad")
    record, read = own.uns["stmmr"]["histology"], ad.read_h5ad(tmp_path / "a.h5ad").uns["stmmr"]["histology"]
    assert set(read) == set(record)
    assert list(read["feature_names"]) == list(record["feature_names"])


@pytest.mark.parametrize("turn", ["rot90", "rot180", "rot270", "mirror"])
def test_turned_image_gives_the_same_features(image, xy, turn):
    """Up to rounding of pixels, and a nucleus that falls just inside or outside a window."""
    height, width = image.shape[:2]
    x, y = xy.T
    turned, turned_xy = {
        "rot90": (np.rot90(image), np.column_stack([y, width - x])),
        "rot180": (image[::-1, ::-1], np.column_stack([width - x, height - y])),
        "rot270": (np.rot90(image, 3), np.column_stack([height - y, x])),
        "mirror": (image[:, ::-1], np.column_stack([width - x, y])),
    }[turn]
    expected, found = features(image, xy), features(turned, turned_xy)
    difference = np.abs(found - expected) / expected.std(axis=0)
    assert difference.max() < 0.25
    assert np.median(difference) < 0.002


def test_cropped_image_gives_the_same_features(image, xy):
    reach = 120 / 4 + 10  # half the largest window
    x, y = xy.T
    left, top = 30, 17
    height, width = image.shape[:2]
    cropped = image[top : height - 9, left : width - 21]
    safe = (x > left + reach) & (y > top + reach) & (x < width - 21 - reach) & (y < height - 9 - reach)
    assert safe.sum() > 50
    expected = features(image, xy[safe])
    np.testing.assert_array_equal(features(cropped, xy[safe] - [left, top]), expected)


def test_order_of_spots_does_not_matter(image, xy):
    order = np.random.default_rng(0).permutation(len(xy))
    # rounding of sums that run over another batch
    np.testing.assert_allclose(features(image, xy[order]), features(image, xy)[order], rtol=1e-4, atol=1e-6)


def test_full_resolution_and_reduced_image_agree(image, xy):
    """The same windows in µm, from an image of twice the pixels."""
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    fine = features(large, xy, image_scale=2.0)
    expected = features(image, xy)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(fine.T, expected.T, strict=True)]
    assert min(correlation) > 0.95


@pytest.mark.parametrize("white", [160, 200, 245])
def test_glass_has_no_nuclei(white):
    glass = np.random.default_rng(0).normal(white, 2, (200, 200, 3)).clip(0, 255).astype(np.uint8)
    adata = spots(np.random.default_rng(1).uniform(60, 140, (40, 2)))
    histology(adata, image=glass, um_per_pixel=1.0, encoder=HEEncoder(diameters_um=(60.0, 110.0)))
    for diameter in (60, 110):
        assert named(adata, f"nuclei_{diameter}um").max() == 0
        assert named(adata, f"nuclei_share_{diameter}um").max() == 0
        assert named(adata, f"glass_{diameter}um").min() > 0.99


@pytest.mark.parametrize("pitch", [10, 12, 20, 30])
def test_nuclei_are_counted(pitch):
    """A lattice of discs: as many nuclei per area as were drawn, and their share of the area."""
    radius = 4
    y, x = np.mgrid[:420, :420]
    discs = np.hypot(x % pitch - pitch / 2, y % pitch - pitch / 2) <= radius
    image = np.full((420, 420, 3), STROMA, dtype=np.uint8)
    image[discs] = NUCLEUS
    image[:30] = GLASS
    adata = spots(np.random.default_rng(0).uniform(150, 270, (30, 2)))
    histology(adata, image=image, um_per_pixel=1.0, encoder=HEEncoder((60.0, 120.0), white=GLASS))
    per_1000_um2 = 1000 / pitch**2  # a nucleus per cell of the lattice
    np.testing.assert_allclose(named(adata, "nuclei_120um").mean(), per_1000_um2, rtol=0.1)
    np.testing.assert_allclose(named(adata, "nuclei_share_120um").mean(), discs.mean(), rtol=0.2)


def test_blobs_too_faint_for_nuclei_are_not_counted(image, xy):
    adata = spots(xy)
    histology(adata, image=image, um_per_pixel=1.0, encoder=HEEncoder((60.0,), nucleus_od=3.0))
    assert named(adata, "nuclei_60um").max() == 0


def test_nuclei_are_counted_only_where_they_are_resolved(image, xy):
    for um_per_pixel, resolved in ((4.0, 0), (1.0, 2)):
        adata = spots(xy)
        histology(adata, image=image, um_per_pixel=um_per_pixel)
        names = adata.uns["stmmr"]["histology"]["feature_names"]
        assert sum(name.startswith("nuclei_") and "share" not in name for name in names) == resolved


@pytest.mark.parametrize("direction", ["none", "down", "diagonal"])
def test_fibres_are_aligned_and_grain_is_not(direction):
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:200, :200]
    stripes = rng.integers(0, 60, 400)
    texture = {"none": rng.integers(0, 60, (200, 200)), "down": stripes[column], "diagonal": stripes[row + column]}
    adata = spots(rng.uniform(60, 140, (20, 2)))
    image = (np.array(STROMA) - texture[direction][..., None]).astype(np.uint8)
    histology(adata, image=image, um_per_pixel=1.0, encoder=HEEncoder((100.0,), white=GLASS))
    alignment = named(adata, "fibre_alignment_100um")
    assert alignment.max() < 0.2 if direction == "none" else alignment.min() > 0.9


def test_black_mask_counts_as_glass(image, xy):
    glass = np.percentile(image.reshape(-1, 3), 99, axis=0).astype(np.uint8)
    corner, white_corner = image.copy(), image.copy()
    corner[:, :70], white_corner[:, :70] = 0, glass
    difference = np.abs(features(corner, xy) - features(white_corner, xy))
    assert (difference <= 0.05 * features(white_corner, xy).std(axis=0)).all()


@given(
    st.floats(20, 60),
    st.floats(20, 60),
    st.floats(5, 30),
    st.sampled_from([8, 16, 32]),
)
def test_patches_sample_the_image_at_their_pixels(x, y, side, patch_px):
    """A ramp is reproduced by any symmetric filter: its value at the centre of every pixel of the patch."""
    ramp = np.full((80, 80, 3), 50, dtype=np.uint8)  # nowhere as black as a mask
    ramp[..., 0], ramp[..., 1] = 2 * np.arange(80) + 1, (2 * np.arange(80) + 1)[:, None]
    patch = read_patches(open_slide(ramp), np.array([[x, y]]), sides=np.array([side]), patch_px=patch_px)[0, 0]
    steps = ((np.arange(patch_px) + 0.5) / patch_px - 0.5) * side
    assert np.abs(patch[..., 0] - 2 * (x + steps)).max() <= 1.5
    assert np.abs(patch[..., 1] - 2 * (y + steps)[:, None]).max() <= 1.5


@pytest.mark.parametrize("side", [9.0, 40.0, 163.0])
def test_patches_are_what_the_whole_image_resampled_would_be(image, side):
    x, y = 130.3, 140.8
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    whole = PIL.Image.fromarray(image).resize((16, 16), PIL.Image.Resampling.BILINEAR, box=box)
    patch = read_patches(open_slide(image), np.array([[x, y]]), sides=np.array([side]), patch_px=16)[0, 0]
    assert np.abs(patch.astype(int) - np.asarray(whole)).max() <= 4


def test_patches_beyond_the_border_are_mirrored(image):
    padded = np.pad(image, ((200, 200), (200, 200), (0, 0)), mode="symmetric")
    height, width = image.shape[:2]
    centres = np.array([[0, 0], [width, 5.5], [-40, height + 30], [width / 2, -1]], dtype=float)
    options = {"sides": np.array([33.0, 120.0]), "patch_px": 16}
    expected = read_patches(open_slide(padded), centres + 200, **options)
    np.testing.assert_array_equal(read_patches(open_slide(image), centres, **options), expected)


def test_um_per_pixel_by_argument_array_or_neighbours(own, caplog):
    def told(**options):
        histology(own, **options)
        record = own.uns["stmmr"]["histology"]
        return record["scale_from"], pytest.approx(record["um_per_pixel"])

    assert told(um_per_pixel=1.0) == ("um_per_pixel", 8.0)
    del own.uns["spatial"]["simulated"]["scalefactors"]["microns_per_pixel"]
    assert told() == ("hexagonal array", 4.0)  # the simulated spots are 100 µm apart, as on Visium
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    del own.obs["array_row"]
    assert told() == ("nearest neighbours", 4.0)
    assert "Give um_per_pixel" in caplog.text


def test_spots_on_a_square_array_are_200_um_apart(image):
    column, row = np.meshgrid(np.arange(8), np.arange(6))
    adata = spots(np.column_stack([column.ravel(), row.ravel()]) * 20.0 + 50)
    adata.obs["array_col"], adata.obs["array_row"] = column.ravel() + 3, row.ravel() + 5
    adata.obs_names = [f"{x}x{y}" for x, y in zip(column.ravel() + 3, row.ravel() + 5, strict=True)]  # as those of ST
    histology(adata, image=image)
    record = adata.uns["stmmr"]["histology"]
    assert (record["scale_from"], record["um_per_pixel"]) == ("square array", pytest.approx(10.0))


@dataclass
class MeanColour:
    """The smallest encoder."""

    name: str = "mean colour"
    diameters_um: tuple[float, ...] = (100.0,)
    patch_px: int = 8
    feature_names: tuple[str, ...] = ("red", "green", "blue")

    def fit(self, sample, *, um_per_px):
        assert sample.shape[1:] == (1, 8, 8, 3)
        return self

    def __call__(self, patches):
        return patches.mean(axis=(1, 2, 3)).astype(np.float32)


def test_another_encoder_is_one_class(image, xy):
    encoder: Encoder = MeanColour()
    found = features(image, xy, encoder=encoder)
    x, y = xy[0]
    expected = image[round(y - 12.5) : round(y + 12.5), round(x - 12.5) : round(x + 12.5)].mean(axis=(0, 1))
    np.testing.assert_allclose(found[0], expected, rtol=0.03)


def test_encoder_with_the_wrong_number_of_features_is_refused(image, xy):
    with pytest.raises(ValueError, match="shape"):
        features(image, xy, encoder=MeanColour(feature_names=("red",)))


def test_encoder_must_be_fitted():
    with pytest.raises(RuntimeError, match="call fit first"):
        HEEncoder()(np.zeros((1, 3, 64, 64, 3), dtype=np.uint8))


def test_fitted_encoder_treats_a_second_image_alike(image, xy):
    """White and threshold that are given are kept, whatever the image shows."""
    encoder = HEEncoder(white=(250.0, 250.0, 250.0), nucleus_od=0.3)
    some = features(image, xy[:20], encoder=encoder)
    np.testing.assert_allclose(features(image, xy, encoder=encoder)[:20], some, rtol=1e-4, atol=1e-6)


def test_blank_hires_gives_way_to_lowres(own, caplog):
    library = own.uns["spatial"]["simulated"]
    library["images"]["lowres"] = library["images"]["hires"]
    library["scalefactors"]["tissue_lowres_scalef"] = library["scalefactors"]["tissue_hires_scalef"]
    library["images"]["hires"] = np.zeros((50, 50, 4), dtype=np.uint8)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        histology(own)
    assert "hires image is blank" in caplog.text
    assert own.uns["stmmr"]["histology"]["image"] == "lowres"
    assert has_image(own)
    own.uns["spatial"]["simulated"]["images"]["lowres"] = np.ones((50, 50, 3))
    assert not has_image(own)
    with pytest.raises(InputError, match="a blank hires and lowres image"):
        histology(own)


def test_images_of_other_depths_give_the_same_features(own):
    library = own.uns["spatial"]["simulated"]
    image = library["images"]["hires"]
    expected = histology(own, copy=True).obsm["X_histology"]
    opaque = np.full((*image.shape[:2], 1), 255, dtype=np.uint8)
    deep = image.astype(np.uint16) * 257
    for same in ((image / 255).astype(np.float32), np.concatenate([image, opaque], axis=2), deep):
        library["images"]["hires"] = same
        np.testing.assert_array_equal(histology(own, copy=True).obsm["X_histology"], expected)


def test_old_name_of_has_image_still_works():
    with pytest.warns(FutureWarning, match="use has_image"):
        old = pp.has_picture
    assert old is has_image
    assert "has_picture" not in pp.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pp.nothing


def test_images_and_the_default_encoder_need_no_torch():
    code = """
        import sys
        import pkgutil, stmmr.datasets, stmmr.encoders, stmmr.image, stmmr.pp
        for module in pkgutil.iter_modules(stmmr.image.__path__, "stmmr.image."):
            __import__(module.name)
        stmmr.encoders.encoders()
        adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_genes=10)
        stmmr.pp.histology(adata, stain="macenko", progress=False)
        print([m for m in ("torch", "transformers", "timm", "huggingface_hub") if m in sys.modules])
    """
    out = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_image_is_refused(own, xy):
    del own.uns["spatial"]["simulated"]["images"]["hires"]
    assert not has_image(own)
    with pytest.raises(InputError, match=r"found nothing.*image='he.jpg'"):
        histology(own)
    with pytest.raises(InputError, match="hires or lowres image"):
        histology(spots(xy))


def test_image_without_scale_factor_is_refused(own):
    del own.uns["spatial"]["simulated"]["scalefactors"]["tissue_hires_scalef"]
    with pytest.raises(InputError, match=r"tissue_hires_scalef.*found spot_diameter_fullres"):
        histology(own)


def test_greyscale_image_is_refused(own):
    images = own.uns["spatial"]["simulated"]["images"]
    images["hires"] = images["hires"][..., 0]
    with pytest.raises(InputError, match=r"hires image of uns.*found greyscale.*RGB image"):
        histology(own)


def test_library_is_chosen_or_named(own):
    own.uns["spatial"]["other"] = {}
    with pytest.raises(InputError, match=r"found simulated, other.*library_id"):
        histology(own)
    with pytest.raises(InputError, match="Did you mean 'simulated'"):
        histology(own, library_id="simulatd")
    histology(own, library_id="simulated")


def test_image_that_does_not_cover_the_spots_is_refused(own, image, xy):
    outside = int((xy[:, 0] >= 150).sum())
    with pytest.raises(InputError, match=rf"150 × {len(image)} pixels.*{outside} of {len(xy)} outside"):
        features(image[:, :150], xy)
    own.uns["spatial"]["simulated"]["scalefactors"]["tissue_hires_scalef"] *= 2
    with pytest.raises(InputError, match=r"outside.*scale factors"):
        histology(own)
    assert "X_histology" not in own.obsm
    assert "stmmr" not in own.uns


def test_few_spots_beyond_the_border_are_tolerated(image, xy, caplog):
    moved = xy.copy()
    moved[0] = [-3, 20]
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        found = features(image, moved)
    assert f"1 of {len(xy)} cells lie outside" in caplog.text
    assert np.isfinite(found).all()


def test_spots_in_a_corner_are_pointed_out(image, xy, caplog):
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        features(image, xy / 40, um_per_pixel=20)
    assert "in one corner" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_scale": 0.0}, "image_scale"),
        ({"image_scale": np.nan}, "image_scale"),
        ({"um_per_pixel": -1.0}, "um_per_pixel"),
        ({"um_per_pixel": 0.001}, "240 µm are 240,000 pixels"),
    ],
)
def test_impossible_scales_are_refused(image, xy, options, message):
    with pytest.raises(InputError, match=message):
        features(image, xy, **options)


def test_spots_without_pixel_coordinates_are_refused(own, image):
    del own.obsm["spatial"]
    with pytest.raises(InputError, match="Expected the key 'spatial' in obsm"):
        histology(own, image=image)


def test_single_spot_needs_the_size_of_a_pixel(image, xy):
    adata = spots(xy[:1])
    with pytest.raises(InputError, match="Give um_per_pixel"):
        histology(adata, image=image)
    histology(adata, image=image, um_per_pixel=4.0)
    assert np.isfinite(adata.obsm["X_histology"]).all()


def test_features_of_the_user_are_not_replaced_silently(own, caplog):
    own.obsm["X_histology"] = np.zeros((own.n_obs, 2))
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        histology(own)
    assert "was replaced" in caplog.text
    caplog.clear()
    histology(own)  # our own result from before
    assert not caplog.text


def test_image_from_a_file(image, xy, tmp_path):
    PIL.Image.fromarray(image).save(tmp_path / "he.png")
    adata = spots(xy)
    histology(adata, image=tmp_path / "he.png", um_per_pixel=4.0)
    assert adata.uns["stmmr"]["histology"]["image"] == "he.png"
    np.testing.assert_array_equal(adata.obsm["X_histology"], features(image, xy))


def test_given_image_is_stored_small_for_figures(image, xy, monkeypatch):
    from stmmr.pl import domains

    monkeypatch.setattr("stmmr.image.slide.OVERVIEW_PX", 200)
    adata = spots(xy * 2)
    adata.obs["stmmr_domain"] = "1"
    histology(adata, image=image, image_scale=0.5, um_per_pixel=2.0)
    (library,) = adata.uns["spatial"].values()
    stored, factors = library["images"]["hires"], library["scalefactors"]
    step = round(0.5 / factors["tissue_hires_scalef"])
    assert stored.dtype == np.uint8
    assert step > 1
    assert stored.shape == (*(-(-side // step) for side in image.shape[:2]), 3)
    np.testing.assert_allclose(stored[3, 5], image[3 * step : 4 * step, 5 * step : 6 * step].mean((0, 1)), atol=1)
    assert 0 < factors["spot_diameter_fullres"] < 2 * np.hypot(*(xy[1] - xy[0]))
    (drawn,) = domains(adata).images
    np.testing.assert_allclose(drawn.get_extent()[1:3], np.array(image.shape[1::-1]) * 2, rtol=0.02)
    assert adata.uns["stmmr"]["histology"]["image_shape"] == list(image.shape)  # what was read is the given one

    histology(adata, image=image[::-1], image_scale=0.5, um_per_pixel=2.0)
    assert next(iter(adata.uns["spatial"].values()))["images"]["hires"] is stored
    histology(adata, um_per_pixel=2.0)
    assert adata.uns["stmmr"]["histology"]["image"] == "hires"
    assert adata.uns["stmmr"]["histology"]["image_shape"] == list(stored.shape)


def test_given_image_goes_beside_what_the_library_holds(own, image):
    scale = own.uns["spatial"]["simulated"]["scalefactors"]["tissue_hires_scalef"]
    histology(own, image=image, image_scale=scale)
    assert own.uns["spatial"]["simulated"]["images"]["hires"] is not image  # there was one
    without = own.uns["spatial"]["simulated"] | {"images": {"hires": np.zeros((5, 5, 3), dtype=np.uint8)}}
    own.uns["spatial"] = {"simulated": without}
    histology(own, image=image, image_scale=scale)
    library = own.uns["spatial"]["simulated"]
    np.testing.assert_array_equal(library["images"]["hires"], image)
    assert library["scalefactors"] == without["scalefactors"]
    assert not without["images"]["hires"].any()


@pytest.mark.realdata
def test_hires_image_with_a_black_mask_tells_cancer_apart(shared_data):
    """A linear probe under cross-validation; the mean colour alone reaches 0.8."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    adata = ad.read_h5ad(shared_data / "st_her2_A1.h5ad")
    histology(adata)
    assert np.isfinite(adata.obsm["X_histology"]).all()
    known = adata.obs["ground_truth"].notna().to_numpy()
    cancer = adata.obs["ground_truth"].isin(["invasive cancer", "cancer in situ"]).to_numpy()[known]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(probe, adata.obsm["X_histology"][known], cancer, cv=folds, scoring="balanced_accuracy")
    assert scores.mean() > 0.85


@pytest.mark.realdata
def test_full_resolution_image(shared_data):
    adata = ad.read_h5ad(shared_data / "st_her2_C2.h5ad")
    histology(adata, image=shared_data / "st_her2_C2_he.jpg")
    assert np.isfinite(adata.obsm["X_histology"]).all()
    assert 1 < np.median(named(adata, "nuclei_120um")) < 20  # per 1000 µm² of tumour


@pytest.mark.realdata
def test_lowres_image_shows_the_white_matter(shared_data):
    adata = ad.read_h5ad(shared_data / "visium_dlpfc_151673.h5ad")
    adata = adata[adata.obs["ground_truth"].notna()].copy()
    histology(adata)
    eosin, white_matter = named(adata, "eosin_240um"), adata.obs["ground_truth"] == "WM"
    assert np.median(eosin[white_matter]) > 1.3 * np.median(eosin[~white_matter])
