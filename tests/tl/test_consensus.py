"""Consensus: against scikit-learn, planted partitions, and on the simulated tissue."""

import tracemalloc

import anndata as ad
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr._core import keys
from stmmr._core.kernel import kernel_of
from stmmr._core.order import tissue_order, without_counts
from stmmr.tl._consensus import plausibility
from stmmr.tl._mixture import TiedMixture, fit_tied
from stmmr.tl._points import embedding_at
from stmmr.tl._vote import adjusted_rand, matched, vote

MEANS = np.array([[[6.0, 0], [0, 6]], [[3, 2], [2, 3]]])
"""Of the groups of two mixtures, the second of which fits worse."""


@pytest.fixture(scope="module")
def tissue():
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_domains=4, n_genes=200)
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.pp.histology(adata, progress=False)
    stmmr.StMMR(adata, steps=2).fit(progress=False)
    return adata


def test_adjusted_rand_is_scikit_learns():
    partitions = np.random.default_rng(0).integers(0, 5, size=(6, 300))
    partitions[1] = (partitions[0] + 1) % 5  # the same by other names
    partitions[2] = 0  # one group
    mine = adjusted_rand(partitions, 5)
    truth = [[adjusted_rand_score(a, b) for b in partitions] for a in partitions]
    np.testing.assert_allclose(mine, truth, atol=1e-12)


def test_matching_undoes_renaming():
    labels = np.random.default_rng(0).integers(0, 6, 500)
    renamed = np.array([3, 5, 0, 1, 4, 2])[labels]
    np.testing.assert_array_equal(matched(renamed, labels, 6)[renamed], labels)


def test_vote_finds_what_noisy_partitions_share():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    noisy = []
    for _ in range(15):
        partition = np.where(rng.random(2000) < 0.3, rng.integers(0, 4, 2000), truth)
        noisy.append(rng.permutation(4)[partition])
    labels, share, agreement = vote(np.array(noisy, dtype=np.int8), 4, weights=np.ones(len(noisy)), random_state=0)
    assert adjusted_rand_score(labels, truth) > 0.98 > np.mean([adjusted_rand_score(p, truth) for p in noisy])
    assert 0.7 < share.mean() < 0.85
    assert agreement == pytest.approx(np.mean([adjusted_rand_score(p, labels) for p in noisy]))


def test_no_vote_removes_a_group():
    """The small group is elsewhere in each partition, so that every spot of it is outvoted."""
    truth = np.repeat([0, 1], 50)
    partitions = np.tile(truth, (9, 1))
    for i in range(9):
        partitions[i, 10 * i : 10 * i + 5] = 2
    labels, share, _ = vote(partitions.astype(np.int8), 3, weights=np.ones(len(partitions)), random_state=0)
    assert set(labels) == {0, 1, 2}
    assert (share > 0).all()


def test_as_many_domains_as_requested(tissue):
    other = tissue[:60].copy()
    for n_domains in (2, 7, 30):
        stmmr.tl.consensus(other, n_domains, use_rep=keys.EMBEDDING, n_partitions=5, scales=(1.0,), variance_scales=())
        assert other.obs[keys.DOMAIN].nunique() == n_domains


def test_partitions_that_agree_are_sure():
    partitions = np.tile([0, 1, 1, 0, 2], (7, 1)).astype(np.int8)
    labels, share, agreement = vote(partitions, 3, weights=np.arange(1.0, 8.0), random_state=0)
    assert labels.tolist() == [0, 1, 1, 0, 2]
    assert share.max() <= 1
    np.testing.assert_allclose(share, 1)
    assert agreement == pytest.approx(1)


def test_a_partition_of_weight_two_votes_like_two():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    partitions = np.array([np.where(rng.random(300) < 0.4, rng.integers(0, 3, 300), truth) for _ in range(6)], np.int8)
    times = [1, 2, 1, 3, 1, 1]
    one = vote(partitions, 3, weights=np.array(times, float), random_state=0)
    other = vote(np.repeat(partitions, times, axis=0), 3, weights=np.ones(sum(times)), random_state=0)
    for mine, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, expected)


def test_mixtures_that_fit_worse_count_less():
    """The reference is the standard error of the mean difference over the points, of which a quarter is independent."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 2)) + 6 * np.eye(2)[np.repeat([0, 1], 200)]
    right, wrong = (TiedMixture(weights_=np.array([0.5, 0.5]), means_=means, covariances_=np.eye(2)) for means in MEANS)
    weights = plausibility([right, wrong, right], points, n=100, random_state=0)
    density = [np.log(np.mean([multivariate_normal(m).pdf(points) for m in means], axis=0)) for means in MEANS]
    difference = density[0] - density[1]
    z = difference.mean() / (difference.std() / np.sqrt(100))
    np.testing.assert_allclose(weights, np.array([1, np.exp(-z / 2), 1]) / (2 + np.exp(-z / 2)))


def test_a_mixture_that_parts_a_few_spots_from_all_others_does_not_lead():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 2))
    points[:20] += [5, 0]
    points[20:] += np.where(rng.random(380) < 0.5, 1.2, -1.2)[:, None] * [0, 1]
    starts = [np.eye(2)[group.astype(int)] for group in (np.arange(400) < 20, points[:, 1] > 0)]
    small, even = (fit_tied(points, start, regularisation=0.01) for start in starts)
    assert small.score_samples(points).mean() > even.score_samples(points).mean()
    of_small, of_even = plausibility([small, even], points, n=400, random_state=0)
    assert of_even > of_small


def test_broad_domains_are_not_divided_where_that_fits_far_worse():
    adata = stmmr.datasets.simulated_tissue(n_rows=45, n_cols=45, n_domains=3, random_state=0)
    del adata.uns[keys.SPATIAL]
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.StMMR(adata).fit(progress=False)
    stmmr.tl.consensus(adata, 3)
    labelled = adata.obs["ground_truth"].notna()
    assert adjusted_rand_score(adata.obs["ground_truth"][labelled], adata.obs[keys.DOMAIN][labelled]) > 0.95


def test_consensus_on_the_tissue(tissue):
    stmmr.tl.consensus(tissue, 4)
    truth = tissue.obs["ground_truth"].cat.codes  # -1 without a label
    assert adjusted_rand_score(truth, tissue.obs[keys.DOMAIN]) > 0.5
    assert tissue.obs[keys.CONFIDENCE].between(0, 1, inclusive="right").all()
    first = tissue.obs[keys.DOMAIN].copy()
    stmmr.tl.consensus(tissue, 4, random_state=1)
    assert adjusted_rand_score(first, tissue.obs[keys.DOMAIN]) > 0.75
    stmmr.tl.consensus(tissue, 4)
    assert (first == tissue.obs[keys.DOMAIN]).all()


def test_embedding_at_the_graphs_own_bandwidth_is_the_embedding(tissue):
    order = tissue_order(tissue)
    arranged = without_counts(tissue, order)
    embedding = embedding_at(arranged, kernel_of(arranged))
    np.testing.assert_allclose(embedding, tissue.obsm[keys.EMBEDDING][order], atol=1e-4)


def test_training_of_the_decoder_leaves_the_domains(tissue):
    other = tissue.copy()
    stmmr.StMMR(other, steps=30).fit(progress=False)
    np.testing.assert_array_equal(other.obsm[keys.EMBEDDING], tissue.obsm[keys.EMBEDDING])


def test_any_embedding_at_its_own_scale_only():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    adata = ad.AnnData(shape=(300, 0), obsm={"X_own": rng.normal(size=(300, 4)) + 6 * np.eye(4)[truth]})
    stmmr.tl.consensus(adata, 3, use_rep="X_own", n_partitions=5)
    assert adjusted_rand_score(truth, adata.obs[keys.DOMAIN]) == 1
    assert adata.uns["stmmr"]["consensus"]["scales"] == [1.0]


@pytest.mark.parametrize(
    ("n_domains", "options", "message"),
    [
        (0, {}, "positive whole number"),
        (200, {}, "1 to 127"),
        (3, {"scales": (0.5, 2.0)}, "scales to contain 1"),
        (3, {"n_partitions": 0}, "n_partitions"),
        (3, {"use_rep": "X_nothing"}, "X_nothing"),
    ],
)
def test_bad_options(tissue, n_domains, options, message):
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.tl.consensus(tissue, n_domains, **options)


def test_one_domain(tissue):
    other = tissue.copy()
    stmmr.tl.consensus(other, 1, n_partitions=3)
    assert (other.obs[keys.DOMAIN] == "1").all()


def test_a_vote_takes_few_bytes_of_each_spot():
    n, rng = 100_000, np.random.default_rng(0)
    partitions = [np.where(rng.random(n) < 0.1, 0, np.arange(n) % 4).astype(np.int8) for _ in range(4)]
    vote(np.array(partitions[:2])[:, :100], 4, weights=np.ones(2), random_state=0)  # what is imported first
    tracemalloc.start()
    labels, share, _ = vote(partitions, 4, weights=np.ones(4), random_state=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * n
    assert (labels == np.arange(n) % 4).mean() > 0.9
    assert share.max() <= 1
