"""Every method on an AnnData: names, keys, what is recorded, and bad input."""

from typing import get_args

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr import InputError
from stmmr.tl._domains import Method, domains

METHODS = get_args(Method)
each_method = pytest.mark.parametrize("method", METHODS)


def with_embedding(points):
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"spot{i}" for i in range(len(points))]))
    adata.obsm["X_stmmr"] = np.asarray(points, dtype=np.float32)
    return adata


@pytest.fixture
def tissue(blobs):
    return with_embedding(blobs[0])


@each_method
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e9])
def test_names_separate_groups_from_largest_to_smallest_at_any_scale(method, whiten, scale, blobs):
    adata = with_embedding(blobs[0] * scale)
    domains(adata, 4, method=method, whiten=whiten)
    found = adata.obs["stmmr_domain"]
    assert list(found.cat.categories) == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(4 - found.cat.codes, blobs[1] + 1)


@each_method
def test_same_seed_same_domains_and_a_file_keeps_what_was_chosen(method, tmp_path):
    adata = with_embedding(np.random.default_rng(0).normal(size=(300, 5)))
    domains(adata, 5, method=method, random_state=3)
    domains(adata, 5, method=method, random_state=3, key_added="again")
    assert (adata.obs["again"] == adata.obs["stmmr_domain"]).all()
    own = {"gaussian_mixture": {"covariance"}, "leiden": {"resolution"}}.get(method, set())
    common = {"n_domains", "method", "use_rep", "whiten", "n_components", "random_state", "key_added"}
    assert set(adata.uns["stmmr"]["domains"]) == common | own
    adata.write_h5ad(tmp_path / "a.h5ad")
    chosen = ad.read_h5ad(tmp_path / "a.h5ad").uns["stmmr"]["domains"]
    assert (chosen["method"], chosen["n_domains"]) == (method, 5)


def test_leiden_names_as_many_domains_as_it_finds(tissue):
    domains(tissue, method="leiden", resolution=0.05)
    assert list(tissue.obs["stmmr_domain"].cat.categories) == ["1", "2", "3", "4"]
    assert tissue.uns["stmmr"]["domains"]["n_domains"] == 4


def in_four_spots():
    """Make points in four spots only, and nearly in two."""
    return with_embedding(np.repeat([[0, 0], [0, 1e-4], [1, 0], [1, 1e-4]], [60, 40, 60, 40], axis=0))


def test_another_number_of_domains_than_requested_is_said_once(caplog):
    adata = in_four_spots()
    domains(adata, 3, method="leiden", whiten=False)
    assert set(adata.obs["stmmr_domain"].cat.categories) == set(adata.obs["stmmr_domain"]) == {"1", "2", "3", "4"}
    assert adata.uns["stmmr"]["domains"]["n_domains"] == 4
    (record,) = caplog.records
    assert record.message == "Found 4 domains instead of the requested 3."


@pytest.mark.parametrize("n_domains", [3, 4])
def test_mixtures_give_as_many_domains_as_requested(n_domains):
    adata = in_four_spots()
    domains(adata, n_domains, whiten=False)
    assert adata.obs["stmmr_domain"].nunique() == n_domains


@each_method
def test_one_domain_of_anything(method):
    for points in (np.ones((30, 2)), np.eye(3), np.zeros((1, 2)), np.repeat(np.eye(3), 20, axis=0)):
        adata = with_embedding(points)
        domains(adata, 1, method=method)
        assert set(adata.obs["stmmr_domain"]) == {"1"}


@each_method
def test_no_more_domains_than_different_spots(method):
    # of many components, where whitening sets equal spots apart by round-off
    adata = with_embedding(np.repeat(np.random.default_rng(0).normal(size=(6, 20)), 30, axis=0))
    domains(adata, 6, method=method)
    assert adjusted_rand_score(np.repeat(range(6), 30), adata.obs["stmmr_domain"]) == 1
    with pytest.raises(InputError, match=r"at most 6 domains, the number of different spots, found 7"):
        domains(adata, 7, method=method)


@each_method
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite(tissue, method, bad):
    tissue.obsm["X_stmmr"][3, 2] = bad
    with pytest.raises(InputError, match=r"finite values in obsm\['X_stmmr'\].* in 1 cells"):
        domains(tissue, 4, method=method)
    assert "stmmr_domain" not in tissue.obs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_domains": 4, "method": "louvain"}, "one of gaussian_mixture, kmeans, leiden, agglomerative"),
        ({"n_domains": 4, "covariance": "spherical"}, "tied, full, diag"),
        ({}, "Expected n_domains and no resolution with method='gaussian_mixture'"),
        ({"n_domains": 4, "resolution": 1, "method": "kmeans"}, "no resolution with method='kmeans'"),
        ({"method": "leiden"}, "either n_domains or resolution"),
        ({"n_domains": 4, "resolution": 1, "method": "leiden"}, "either n_domains or resolution"),
        ({"n_domains": 4, "n_components": 0}, "n_components to be a positive"),
        ({"n_domains": 4, "use_rep": "X_pca"}, "'X_pca' in obsm.*Fit a model first"),
        ({"n_domains": 0}, "n_domains to be a positive whole number"),
    ],
)
def test_bad_options(tissue, options, message):
    with pytest.raises(InputError, match=message):
        domains(tissue, **options)


def test_pieces_of_tissue_and_lone_spots_have_domains():
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    adata.obsm["spatial"] = adata.obsm["spatial"].astype(float)
    adata.obsm["spatial"][:70] += 1e6
    adata.obsm["spatial"][-3:] -= [[1e7], [2e7], [3e7]]
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.StMMR(adata, use_histology=False, steps=3).fit(progress=False)
    for method in METHODS:
        domains(adata, 3, method=method)
        assert list(adata.obs["stmmr_domain"].value_counts().index) == ["1", "2", "3"]
        assert adata.obs["stmmr_domain"].notna().all()
