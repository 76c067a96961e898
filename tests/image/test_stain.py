"""Stain normalisation against images made of known stains."""

import numpy as np
import pytest

from stmmr import InputError
from stmmr.image.stain import REFERENCE_HIGHEST, REFERENCE_STAINS, REFERENCE_WHITE, find_stains


def stained(rng, stains, *, white, strength=(1.0, 1.0), shape=(200, 200)):
    """An image of known stains: the concentrations, and the pixels by the law of Beer and Lambert."""
    nuclei = rng.random(shape) < 0.3
    haematoxylin = np.where(nuclei, rng.uniform(0.8, 1.6, shape), rng.uniform(0, 0.05, shape))
    eosin = np.where(nuclei, rng.uniform(0, 0.05, shape), rng.uniform(0.3, 0.9, shape))
    concentrations = np.stack([haematoxylin, eosin], axis=-1)
    od = (concentrations * strength) @ np.asarray(stains)
    return concentrations, np.clip(np.rint(white * np.exp(-od)), 0, 255).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def unit(rows):
    rows = np.asarray(rows, dtype=float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_stains_are_found(rng):
    true = unit([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    _, image = stained(rng, true, white=240.0)
    found = find_stains(image, white=(240.0, 240.0, 240.0))
    assert (np.sum(unit(found.colours) * true, axis=1) > np.cos(np.radians(5))).all()


def test_two_stainings_of_one_tissue_come_out_alike(rng):
    one = unit([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    other = unit([[0.55, 0.75, 0.36], [0.20, 0.95, 0.25]])
    state = rng.bit_generator.state
    _, first = stained(rng, one, white=240.0)
    rng.bit_generator.state = state
    _, second = stained(rng, other, white=225.0, strength=(0.7, 1.2))
    before = np.abs(first.astype(int) - second).mean()
    white = [(w, w, w) for w in (240.0, 225.0)]
    both = [find_stains(p, white=w).normalised(p).astype(int) for p, w in zip((first, second), white, strict=True)]
    assert np.abs(both[0] - both[1]).mean() < before / 4


def test_the_reference_itself_stays_as_it_is(rng):
    concentrations, _ = stained(rng, REFERENCE_STAINS, white=REFERENCE_WHITE)
    concentrations *= np.asarray(REFERENCE_HIGHEST) / np.percentile(concentrations.reshape(-1, 2), 99, axis=0)
    od = concentrations @ np.asarray(REFERENCE_STAINS)
    image = np.rint(REFERENCE_WHITE * np.exp(-od)).astype(np.uint8)
    same = find_stains(image, white=(REFERENCE_WHITE,) * 3).normalised(image)
    assert np.abs(same.astype(int) - image).mean() < 6


def test_glass_is_refused():
    with pytest.raises(InputError, match="stained by haematoxylin and eosin"):
        find_stains(np.full((50, 50, 3), 240, dtype=np.uint8), white=(240.0, 240.0, 240.0))
