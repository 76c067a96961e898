"""Rank sums from sparse values: against SciPy, gene by gene and domain by domain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import mannwhitneyu

from stmmr._core.borders import contacts, neighboring_domains
from stmmr.tl import _rank_sums
from stmmr.tl._rank_sums import rank_sums


def compared(values, codes, other, domain):
    """Compare by SciPy: z by its p-value, and the area under the curve."""
    inside, outside = values[codes == domain], values[np.isin(codes, np.flatnonzero(other[domain]))]
    if np.ptp(np.concatenate([inside, outside])) == 0:
        return 1.0, 0.5
    test = mannwhitneyu(inside, outside, method="asymptotic", use_continuity=False)
    return test.pvalue, test.statistic / (len(inside) * len(outside))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 40))
def test_agrees_with_scipy(seed, n_domains, cells_at_once):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.concatenate([np.arange(n_domains), rng.integers(0, n_domains, 40)]))
    dense = rng.poisson(rng.uniform(0, 3, 6), (len(codes), 6)) * rng.choice([0.5, 1.0], (len(codes), 1))
    dense[:, 5] = 2.0
    dense[:, 4] = 0
    rest = ~np.eye(n_domains, dtype=bool)
    some = rest & (rng.random(rest.shape) < 0.6)
    some[0, 1] = True
    kept = _rank_sums._CELLS_AT_ONCE
    try:
        _rank_sums._CELLS_AT_ONCE = cells_at_once
        found = rank_sums(sparse.csc_matrix(dense), codes, [some, rest])
    finally:
        _rank_sums._CELLS_AT_ONCE = kept
    for other, result in zip([some, rest], found, strict=True):
        for domain in range(n_domains):
            if not other[domain].any():
                assert np.isnan(result.z[domain]).all()
                assert np.isnan(result.auc[domain]).all()
                continue
            for gene in range(6):
                pval, auc = compared(dense[:, gene], codes, other, domain)
                z = result.z[domain, gene]
                assert result.auc[domain, gene] == pytest.approx(auc)
                assert 2 * _rank_sums_sf(abs(z)) == pytest.approx(pval, abs=1e-12)
                assert np.sign(z) == pytest.approx(np.sign(np.round(auc - 0.5, 12)))


def _rank_sums_sf(z):
    from scipy.stats import norm

    return norm.sf(z)


def test_domains_that_touch_are_neighbours():
    column, row = (some.ravel() for some in np.meshgrid(np.arange(24), np.arange(10)))
    xy, codes = np.column_stack([column, row]).astype(float), column // 6  # four bands
    contact = contacts(xy, codes, np.zeros(240, dtype=int), n_domains=4, n_neighbors=12)
    assert contact.sum() == 240 * 12
    found = neighboring_domains(contact, np.bincount(codes), min_contact=0.5)
    assert np.array_equal(found, np.abs(np.subtract.outer(range(4), range(4))) == 1)
    apart = contacts(xy, codes, column // 12, n_domains=4, n_neighbors=12)
    assert apart[1, 2] == apart[2, 1] == 0
    codes[codes == 3] = -1
    assert contacts(xy, codes, np.zeros(240, dtype=int), n_domains=4, n_neighbors=12)[3].sum() == 0


def test_at_most_three_neighbours_and_at_least_one():
    contact = np.array([[99, 9, 8, 7, 6], [9, 99, 1, 0, 0], [8, 1, 99, 0, 0], [7, 0, 0, 99, 0], [0, 0, 0, 0, 99]])
    n_of = np.full(5, 10)
    found = neighboring_domains(contact, n_of, min_contact=0.5)
    assert found[0].tolist() == [False, True, True, True, False]
    strict = neighboring_domains(contact, n_of, min_contact=5)
    assert strict.sum(axis=1).tolist() == [1, 1, 1, 1, 0]  # the one with most contacts, if any
    assert strict[0, 1]
