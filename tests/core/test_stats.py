"""Correction of p-values: against scipy, and against the definition."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from stmmr._core.stats import fdr_bh


@pytest.fixture
def pval():
    return np.random.default_rng(0).beta(0.3, 1, size=(4, 3, 50))


def test_against_scipy_along_the_last_axis(pval):
    np.testing.assert_array_equal(fdr_bh(pval), false_discovery_control(pval, axis=-1))


def test_against_the_definition():
    pval = np.array([0.04, 0.01, 0.5, 0.03])
    # p times the number of tests over its rank, and never more than that of a larger p
    np.testing.assert_allclose(fdr_bh(pval), [0.04 * 4 / 3, 0.04, 0.5, 0.04 * 4 / 3])


def test_nan_stays_and_does_not_count(pval):
    with_nan = np.insert(pval[0, 0], [0, 7], np.nan)
    adjusted = fdr_bh(with_nan)
    assert np.flatnonzero(np.isnan(adjusted)).tolist() == [0, 8]
    np.testing.assert_array_equal(adjusted[~np.isnan(adjusted)], false_discovery_control(pval[0, 0]))
    assert np.isnan(fdr_bh(np.full(3, np.nan))).all()
