import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from stmmr._core import counts
from stmmr._core.pca import feature_pca


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(900, 40)) @ rng.normal(size=(40, 40)) + 100).astype(np.float32)


def signed(scores):
    return scores * np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])


@pytest.mark.parametrize("n", [5, 35])
def test_same_as_in_one_piece(features, monkeypatch, tmp_path, n):
    monkeypatch.setattr("stmmr._core.pca.CHUNK", 64)
    monkeypatch.setattr("stmmr.linear.noise.CHUNK", 64)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    pca = feature_pca(mapped, n_components=n)
    reference = PCA(n, svd_solver="full").fit(features.astype(np.float64))
    expected = reference.transform(features)
    np.testing.assert_allclose(signed(pca.project(mapped)), signed(expected), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(pca.share, reference.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(pca.axes.T @ pca.axes, np.eye(n), atol=1e-8)


def test_no_more_components_than_there_are(features):
    assert feature_pca(features[:40]).axes.shape == (40, 10)  # four spots for each
    assert feature_pca(features).axes.shape == (40, 40)
    few = features[:, [0] * 39 + [1]]
    assert feature_pca(few).axes.shape == (40, 2)


def test_features_that_do_not_vary():
    pca = feature_pca(np.ones((20, 3), dtype=np.float32))
    assert not pca.project(np.ones((20, 3), dtype=np.float32)).any()
    assert np.isfinite(pca.share).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.6])
def test_products_of_genes_one_by_one_have_the_bits_of_those_by_linear_algebra(monkeypatch, share):
    values = sparse.random(5000, 60, share, format="csr", random_state=0)
    values.data = np.rint(1e6 * values.data)
    products = []
    for below in (0, 1):
        monkeypatch.setattr(counts, "SPARSE_BELOW", below)
        products.append(np.triu(counts._products_of_genes(values.copy())))
    assert np.array_equal(*products)
    assert np.array_equal(products[0], np.triu((values.T @ values).toarray()))
