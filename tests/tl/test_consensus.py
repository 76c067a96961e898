"""Consensus: against scikit-learn, planted partitions, and on the simulated tissue."""

import tracemalloc

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr._core import keys
from stmmr._core.kernel import kernel_of
from stmmr._core.order import tissue_order, without_counts
from stmmr.tl._points import embedding_at
from stmmr.tl._vote import adjusted_rand, matched, vote


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
    labels, share, agreement = vote(np.array(noisy, dtype=np.int8), 4, random_state=0)
    assert adjusted_rand_score(labels, truth) > 0.98 > np.mean([adjusted_rand_score(p, truth) for p in noisy])
    assert 0.7 < share.mean() < 0.85
    assert agreement == pytest.approx(np.mean([adjusted_rand_score(p, labels) for p in noisy]))


def test_no_vote_removes_a_group():
    """The small group is elsewhere in each partition, so that every spot of it is outvoted."""
    truth = np.repeat([0, 1], 50)
    partitions = np.tile(truth, (9, 1))
    for i in range(9):
        partitions[i, 10 * i : 10 * i + 5] = 2
    labels, share, _ = vote(partitions.astype(np.int8), 3, random_state=0)
    assert set(labels) == {0, 1, 2}
    assert (share > 0).all()


def test_as_many_domains_as_requested(tissue):
    other = tissue[:60].copy()
    for n_domains in (2, 7, 30):
        stmmr.tl.consensus(other, n_domains, use_rep=keys.EMBEDDING, n_partitions=5, scales=(1.0,), variance_scales=())
        assert other.obs[keys.DOMAIN].nunique() == n_domains


def test_partitions_that_agree_are_sure():
    labels, share, agreement = vote(np.tile([0, 1, 1, 0, 2], (7, 1)).astype(np.int8), 3, random_state=0)
    assert labels.tolist() == [0, 1, 1, 0, 2]
    assert (share == 1).all()
    assert agreement == 1


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
    vote(np.array(partitions[:2])[:, :100], 4, random_state=0)  # what is imported first
    tracemalloc.start()
    labels, share, _ = vote(partitions, 4, random_state=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * n
    assert (labels == np.arange(n) % 4).mean() > 0.9
    assert share.max() <= 1
