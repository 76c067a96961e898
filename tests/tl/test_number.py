"""The number of domains: on planted groups, against scikit-learn's criterion, on tissue, and bad input."""

import logging

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import stmmr
from stmmr._core.kernel import Kernel, independent_spots
from stmmr.tl import consensus, domains, number_of_domains
from stmmr.tl._number import compare, likelihoods, n_independent, split
from stmmr.tl._readouts import fit_from_kmeans


def with_points(points, **options):
    return ad.AnnData(shape=(len(points), 0), obsm={"X_own": np.asarray(points, dtype=np.float32)}, **options)


def found(adata):
    return adata.uns["stmmr"]["number_of_domains"]


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_finds_as_many_as_were_planted(k):
    rng = np.random.default_rng(k)
    points = rng.normal(size=(800, 6)) + 6 * rng.normal(size=(k, 6))[rng.integers(0, k, 800)]
    adata = with_points(points)
    number_of_domains(adata, use_rep="X_own", at_most=12)
    assert (found(adata)["chosen"], found(adata)["lowest"], found(adata)["highest"]) == (k, k, k)
    assert found(adata)["independent_spots"] == 800


def test_criterion_is_scikit_learns_up_to_a_constant():
    points = np.random.default_rng(0).normal(size=(300, 4)) * [1, 2, 3, 4]
    mixtures = [GaussianMixture(k, covariance_type="tied", random_state=0).fit(points) for k in (1, 2, 3)]
    likelihood = np.array([m.score_samples(points) for m in mixtures])
    criterion, errors = compare(likelihood, 300, width=4)
    expected = -np.array([m.bic(points) for m in mixtures])
    np.testing.assert_allclose(criterion, expected - expected[0])
    assert errors[criterion.argmax()] == 0
    assert (errors >= 0).all()


def test_standard_error_is_that_of_the_difference():
    rng = np.random.default_rng(0)
    likelihood = rng.normal(size=(2, 2000)) * 3
    n = 50
    _, errors = compare(likelihood, n, width=0)
    means = [2 * n * likelihood[:, rng.choice(2000, n)].mean(axis=1) for _ in range(4000)]
    spread = np.std(np.subtract(*np.transpose(means)))
    behind = abs(2 * n * np.subtract(*likelihood.mean(axis=1)) + np.log(n))
    assert max(errors) == pytest.approx(behind / spread, rel=0.05)


def test_independent_spots_are_the_degrees_of_freedom_of_the_smoother():
    xy = np.random.default_rng(0).uniform(0, 30, size=(700, 2))
    kernel = Kernel(xy, 1.0, 4e-5)
    twice = kernel.weights().toarray() @ kernel.weights().toarray()
    assert independent_spots(kernel) == pytest.approx((twice**2).sum(), rel=0.05)
    assert independent_spots(kernel._replace(bandwidth=1e-6)) == pytest.approx(700, rel=1e-6)


def test_auto_takes_it(caplog):
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_domains=4, n_genes=200)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        stmmr.run(adata, histology=False, progress=False)
    step = found(adata)
    assert 3 <= step["chosen"] <= 5
    assert step["lowest"] <= step["chosen"] <= step["highest"]
    assert adata.obs["stmmr_domain"].nunique() == step["chosen"] == adata.uns["stmmr"]["consensus"]["n_domains"]
    assert f"Best number of domains: {step['chosen']}" in caplog.text
    domains(adata, "auto", method="kmeans", key_added="again")
    assert adata.obs["again"].nunique() == step["chosen"]


def test_same_seed_same_curve_and_a_file_keeps_it(tmp_path, blobs):
    adata = with_points(blobs[0])
    number_of_domains(adata, use_rep="X_own", at_most=6)
    first = found(adata)
    number_of_domains(adata, use_rep="X_own", at_most=6)
    np.testing.assert_array_equal(found(adata)["criterion"], first["criterion"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    kept = ad.read_h5ad(tmp_path / "a.h5ad").uns["stmmr"]["number_of_domains"]
    np.testing.assert_array_equal(kept["tried"], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    "points",
    [
        np.ones((30, 3)),
        np.repeat(np.eye(3), 20, axis=0),
        np.eye(2),
        np.zeros((1, 2)),
        np.c_[np.arange(40) % 2, [7] * 40],
    ],
)
def test_tissue_that_holds_little(points):
    adata = with_points(points)
    consensus(adata, "auto", use_rep="X_own", n_partitions=3)
    assert found(adata)["highest"] <= len(np.unique(points, axis=0))
    assert np.isfinite(found(adata)["criterion"]).all()
    assert adata.obs["stmmr_domain"].notna().all()


def test_gives_up_far_behind_the_best(blobs):
    adata = with_points(blobs[0])
    number_of_domains(adata, use_rep="X_own", at_most=50)
    assert found(adata)["chosen"] == 4
    assert len(found(adata)["tried"]) == len(found(adata)["criterion"]) < 30


def test_says_when_there_may_be_more(blobs, caplog):
    number_of_domains(with_points(blobs[0]), use_rep="X_own", at_most=3)
    assert "Try more with at_most" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_most": 0}, "at_most to be a positive"),
        ({"n_init": 0}, "n_init to be a positive"),
        ({"use_rep": "X_nothing"}, "'X_nothing' in obsm"),
    ],
)
def test_bad_options(blobs, options, message):
    with pytest.raises(stmmr.InputError, match=message):
        number_of_domains(with_points(blobs[0]), **({"use_rep": "X_own"} | options))


def test_refuses_what_is_not_finite(blobs):
    adata = with_points(blobs[0])
    adata.obsm["X_own"][5, 1] = np.nan
    with pytest.raises(stmmr.InputError, match="finite values"):
        number_of_domains(adata, use_rep="X_own")


def test_refuses_other_words_for_a_number(blobs):
    adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_genes=20)
    with pytest.raises(stmmr.InputError, match="n_domains to be a positive whole number or 'auto', found 'many'"):
        stmmr.run(adata, n_domains="many", progress=False)


def test_more_domains_are_no_less_likely():
    points = np.random.default_rng(0).normal(size=(600, 8)) ** 3
    mean = likelihoods(points, 12, 600, n_init=1, random_state=0).mean(axis=1)
    assert (np.diff(mean) > -1e-3).all()


def test_split_divides_the_group_that_is_two():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(900, 3)) + 8 * np.eye(3)[np.repeat(range(3), 300)]
    two = fit_from_kmeans(points, 2, random_state=np.random.RandomState(0))
    groups = split(two, points).predict(points)
    assert adjusted_rand_score(np.repeat(range(3), 300), groups) > 0.99


def test_of_numbers_that_gain_the_same_the_smallest_is_chosen(monkeypatch):
    points = np.random.default_rng(0).normal(size=(60, 2))
    gains = [0.0, 50.0, 95.2, 100.0, 97.0]
    monkeypatch.setattr("stmmr.tl._number.compare", lambda *_, **__: (np.array(gains), np.array([9.0, 3, 0.1, 0, 0.2])))
    adata = with_points(points)
    number_of_domains(adata, use_rep="X_own", at_most=5, n_init=1)
    assert (found(adata)["chosen"], found(adata)["lowest"], found(adata)["highest"]) == (3, 3, 5)


def test_starts_that_lead_after_a_few_iterations_give_the_curve_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 4)) + 3 * rng.normal(size=(5, 4))[rng.integers(5, size=300)]
    short = likelihoods(points, 7, 300, n_init=6, random_state=0)
    monkeypatch.setattr("stmmr.tl._number.FIRST", 300)
    monkeypatch.setattr("stmmr.tl._number.LEADING", 6)
    np.testing.assert_allclose(short, likelihoods(points, 7, 300, n_init=6, random_state=0), atol=0.02)


def test_chosen_number_is_in_the_range(monkeypatch):
    gains, errors = np.array([0.0, 50.0, 96.0, 100.0]), np.array([9.0, 3, 1.5, 0])
    monkeypatch.setattr("stmmr.tl._number.compare", lambda *_, **__: (gains, errors))
    adata = with_points(np.random.default_rng(0).normal(size=(60, 2)))
    number_of_domains(adata, use_rep="X_own", at_most=4, n_init=1)
    assert (found(adata)["chosen"], found(adata)["lowest"], found(adata)["highest"]) == (3, 3, 4)


def test_independent_spots_of_a_large_tissue_are_estimated_from_windows(monkeypatch):
    kernel = Kernel(np.random.default_rng(0).uniform(0, 100, size=(10_000, 2)), 1.5, 4e-5)
    every = n_independent(kernel)
    monkeypatch.setattr("stmmr.linear.bandwidth.SPOTS_AT_MOST", 4_000)
    assert n_independent(kernel) == pytest.approx(every, rel=0.25)
