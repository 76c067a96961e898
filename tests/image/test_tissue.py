"""Where the tissue is, whether spots lie on it, and which patches are of no use."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stmmr.image.tissue import TURNS, patch_flags, patch_quality, share_by_turn, tissue_mask

WHITE = np.array([245.0, 245.0, 245.0])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_tissue_is_found_with_its_gaps_and_without_specks(rng):
    image = np.full((300, 400, 3), 244, dtype=np.uint8)
    image[50:250, 100:300] = (200, 120, 180)
    image[120:126, 150:156] = 244  # a lumen of 6 µm
    image[10, 10] = (120, 60, 120)  # dust
    mask = tissue_mask(image, um_per_px=1.0)
    assert mask[80:220, 130:270].all()
    assert not mask[:20].any()
    assert not mask[:, 340:].any()


def test_white_of_any_lamp_is_glass():
    image = np.full((200, 200, 3), (228, 221, 210), dtype=np.uint8)
    assert not tissue_mask(image, um_per_px=2.0).any()


@pytest.mark.parametrize("name", TURNS)
def test_the_way_the_image_was_turned_is_found(rng, name):
    """The mask is that of a lopsided tissue, turned; only the same turn takes the spots back on it."""
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:40, 10:50] = True
    mask[40:55, 10:20] = True
    spots = np.argwhere(mask)[:, ::-1] + 0.5
    turned = {
        "unchanged": mask,
        "mirrored left to right": mask[:, ::-1],
        "mirrored upside down": mask[::-1],
        "turned by 180°": mask[::-1, ::-1],
        "turned by 90° clockwise": np.rot90(mask, -1),
        "turned by 90° counterclockwise": np.rot90(mask),
        "mirrored along its diagonal": mask.T,
        "mirrored along its other diagonal": mask[::-1, ::-1].T,
    }[name]
    shares = share_by_turn(turned, spots)
    assert shares[name] == 1
    assert max(share for other, share in shares.items() if other != name) < 0.95


def test_blurred_and_empty_patches_are_flagged(rng):
    grain = gaussian_filter(rng.normal(size=(40, 64, 64)), (0, 1, 1))
    patches = np.clip(150 + 400 * grain, 0, 240)[..., None].repeat(3, axis=-1)
    patches[3] = gaussian_filter(patches[3], (6, 6, 0))
    patches[7] = 245
    quality = patch_quality(patches.astype(np.uint8), white=WHITE)
    inside = np.ones(40, dtype=bool)
    inside[9] = False
    found = patch_flags(quality, inside=inside)
    assert [found[i] for i in (3, 7, 9)] == ["blurred", "background", "outside"]
    assert (np.delete(np.asarray(found), [3, 7, 9]) == "tissue").all()


def test_faint_stain_is_not_blurred(rng):
    grain = gaussian_filter(rng.normal(size=(20, 64, 64)), (0, 1, 1))
    patches = 150 + 300 * grain
    patches[:5] = 200 + 60 * grain[:5]
    patches = np.clip(patches, 0, 255)[..., None].repeat(3, axis=-1).astype(np.uint8)
    assert (np.asarray(patch_flags(patch_quality(patches, white=WHITE), inside=np.ones(20, bool))) == "tissue").all()


def test_nothing_is_called_blurred_where_sharpness_is_unknown():
    quality = np.array([[0.1, np.nan], [0.95, np.nan]], dtype=np.float32)
    assert list(patch_flags(quality, inside=np.ones(2, bool))) == ["tissue", "background"]
