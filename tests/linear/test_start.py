"""The linear embedding."""

import numpy as np
from threadpoolctl import threadpool_limits

from stmmr.linear.start import Affine, LinearStart


def test_same_bits_with_any_number_of_threads():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9000, 50)).astype(np.float32)
    start = LinearStart([Affine(rng.normal(size=(50, 15)), rng.normal(size=15))], [1.0])
    embeddings = []
    for n in (1, 2):
        with threadpool_limits(n):
            embeddings.append(start.embed([features]))
    assert np.array_equal(*embeddings)
