"""Large products by torch are those of NumPy, up to single precision."""

import anndata as ad
import numpy as np
import pytest

import stmmr
from stmmr._core.arrays import computing_on, device, likeliest, propagated
from stmmr._core.kernel import Kernel, gaussian_weights

torch = pytest.importorskip("torch")
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)
DEVICES = ["cpu", CUDA]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("other", DEVICES)
def test_propagation(rng, other, monkeypatch):
    monkeypatch.setattr("stmmr._core.kernel.TILE", 90)
    xy, features = rng.uniform(0, 10, (300, 2)), rng.normal(size=(300, 7)).astype(np.float32)
    weights = gaussian_weights(xy, bandwidth=0.7, tolerance=0.05).toarray().astype(np.float64)
    expected = weights @ (weights @ features)
    rows = np.array([3, 50, 299])
    for where in ("numpy", other):
        with computing_on(where):
            assert device() == where
            smooth = np.empty_like(features)
            for spots, part in Kernel(xy, 0.7, 0.05).propagate(lambda spots: features[spots]):
                smooth[spots] = part
        np.testing.assert_allclose(smooth, expected, atol=1e-5)
    some = propagated(gaussian_weights(xy, bandwidth=0.7, tolerance=0.05), features, rows, device=other)
    assert some.dtype == np.float32
    np.testing.assert_allclose(some, expected[rows], atol=1e-5)
    assert device() == "numpy"


@pytest.mark.parametrize("other", DEVICES)
def test_likeliest_groups(rng, other):
    points, slopes, offsets = rng.normal(size=(400, 6)), rng.normal(size=(6, 15)), rng.normal(size=15)
    scores = (points @ slopes + offsets).reshape(400, 5, 3)
    for where in ("numpy", other):
        groups = likeliest(points.astype(np.float32), slopes, offsets, n_mixtures=5, device=where)
        assert groups.shape == (5, 400)
        best = np.take_along_axis(scores, groups.T[:, :, None], axis=2)[:, :, 0]
        np.testing.assert_allclose(best, scores.max(axis=2), atol=1e-5)


@pytest.mark.parametrize("other", DEVICES)
def test_a_run_finds_the_same_domains(other, monkeypatch):
    tissue = stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_genes=40, n_domains=3)
    del tissue.uns["spatial"]
    runs: list[ad.AnnData] = [tissue.copy(), tissue.copy()]
    stmmr.run(runs[0], n_domains=3, progress=False)
    if other == "cuda":
        stmmr.run(runs[1], n_domains=3, progress=False, accelerator="cuda")
    else:  # as without a GPU
        monkeypatch.setattr("stmmr.pipeline.run.computing_on", lambda _: computing_on("cpu"))
        stmmr.run(runs[1], n_domains=3, progress=False)
    np.testing.assert_allclose(runs[1].obsm["X_stmmr"], runs[0].obsm["X_stmmr"], atol=1e-3)
    assert (runs[1].obs["stmmr_domain"].to_numpy() == runs[0].obs["stmmr_domain"].to_numpy()).mean() > 0.98
