"""Where raw counts are found, what is offered where they are not, and which values are no counts."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from stmmr import InputError, pp
from stmmr._core.raw import matrices_with_counts, raw_counts


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.5, 2, 100), (60, 100)).astype(np.float32)


def lognorm(counts):
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)


def data(x, **layers):
    return ad.AnnData(sparse.csr_matrix(x), layers={name: sparse.csr_matrix(value) for name, value in layers.items()})


def in_raw(counts, *, genes=100):
    adata = data(lognorm(counts))
    adata.raw = data(counts)
    return adata[:, :genes].copy()


OFFERED = {
    "raw": lambda c: in_raw(c),
    "raw_counts": lambda c: data(lognorm(c), raw_counts=c),
    "X": lambda c: data(c, counts=lognorm(c)),
}


@pytest.mark.parametrize("name", OFFERED)
def test_where_counts_are_is_offered_and_taken(counts, name):
    adata = OFFERED[name](counts)
    with pytest.raises(InputError, match=rf'Whole numbers are in {name}: use layer="{name}" \(--layer {name}\)'):
        pp.expression(adata)
    assert matrices_with_counts(adata) == [name]
    pp.expression(adata, layer=name)
    np.testing.assert_array_equal(adata.obs["stmmr_library_size"], counts.sum(axis=1))
    assert adata.uns["stmmr"]["expression"]["layer"] == name


def test_raw_of_more_genes(counts):
    adata = in_raw(counts, genes=40)
    np.testing.assert_array_equal(raw_counts(adata, "raw")[1].toarray(), counts[:, :40])


def test_no_raw(counts):
    with pytest.raises(InputError, match=r'Expected counts in raw, found none there.*layer="X"'):
        raw_counts(data(counts), "raw")


def test_nothing_in_x(counts):
    adata = ad.AnnData(obs=data(counts).obs, var=data(counts).var, layers={"umi": sparse.csr_matrix(counts)})
    with pytest.raises(InputError, match=r'found nothing there. Whole numbers are in umi: use layer="umi"'):
        raw_counts(adata, None)


CORRECTED = {
    "SoupX": lambda c, rng: np.where(c > 0, c * rng.uniform(0.8, 1, c.shape), 0),
    "rounding": lambda c, rng: c + (c > 0) * 1e-5,
}
NORMALISED = {
    "log": lambda c: lognorm(c),
    "CPM": lambda c: c / c.sum(axis=1, keepdims=True) * 1e6,
    "root": np.sqrt,
    "few values": lambda c: np.where(np.arange(100) < 4, lognorm(c), 0),
}


@pytest.mark.parametrize("name", CORRECTED)
def test_corrected_counts_are_taken(counts, name, caplog):
    x = CORRECTED[name](counts, np.random.default_rng(1)).astype(np.float32)
    pp.expression(data(x))
    assert ("as SoupX and SpotClean leave them" in caplog.text) == (name == "SoupX")


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_values_are_not(counts, name):
    with pytest.raises(InputError, match="found fractions"):
        pp.expression(data(NORMALISED[name](counts).astype(np.float32)))
