"""Points that any readout should cut the same way."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def blobs():
    """600 points in 6 dimensions and the one of four separate groups, of 60 to 240 points, that each is in."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(range(4), [60, 120, 180, 240]))
    return rng.normal(size=(600, 6)) + 20 * np.eye(6)[group], group
