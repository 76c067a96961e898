"""A second partition: planted groups of partitions, and what consensus keeps of them."""

import anndata as ad
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr._core import keys
from stmmr.tl._alternatives import second_answer
from stmmr.tl._vote import vote

N = 600


def planted(truths, copies, *, noise=0.1, seed=0):
    """Make noisy copies of partitions into three groups, each with names of its own."""
    rng = np.random.default_rng(seed)
    partitions = []
    for truth, n_copies in zip(truths, copies, strict=True):
        for _ in range(n_copies):
            partition = np.where(rng.random(N) < noise, rng.integers(0, 3, N), truth)
            partitions.append(rng.permutation(3)[partition])
    return np.array(partitions, dtype=np.int8)


STRIPES, BLOCKS = np.arange(N) % 3, np.arange(N) * 3 // N


@pytest.mark.parametrize("copies", [(14, 6), (10, 10), (15, 5)])
def test_second_group_of_partitions_is_found(copies):
    partitions = planted([STRIPES, BLOCKS], copies)
    labels = vote(partitions, 3, weights=np.ones(len(partitions)), random_state=0)[0]
    other, support = second_answer(partitions, labels, 3, weights=np.ones(len(partitions)), random_state=0)
    main, second = (STRIPES, BLOCKS) if adjusted_rand_score(labels, STRIPES) > 0.5 else (BLOCKS, STRIPES)
    assert adjusted_rand_score(labels, main) > 0.7  # two groups of one size blur the vote
    assert adjusted_rand_score(other.labels, second) > 0.95
    assert sorted([support, other.support]) == pytest.approx(sorted(n / 20 for n in copies))
    assert other.similarity == pytest.approx(adjusted_rand_score(labels, other.labels))


@pytest.mark.parametrize("copies", [(20, 0), (18, 2), (1, 0)])
def test_single_answer_or_few_strays_give_none(copies):
    partitions = planted([STRIPES, BLOCKS], copies)
    labels = vote(partitions, 3, weights=np.ones(len(partitions)), random_state=0)[0]
    assert second_answer(partitions, labels, 3, weights=np.ones(len(partitions)), random_state=0)[0] is None


def ambiguous():
    """Four corners of a rectangle that is as long as wide: two domains split it in either direction."""
    rng = np.random.default_rng(0)
    corners = np.repeat([[0, 0], [0, 8], [8, 0], [8, 8]], 50, axis=0)
    adata = ad.AnnData(obsm={"X_pca": (corners + rng.normal(size=corners.shape)).astype(np.float32)})
    adata.obsm["spatial"] = rng.random((200, 2))
    return adata


def test_consensus_keeps_the_second_answer_and_a_clear_one_removes_it():
    adata = ambiguous()
    stmmr.tl.consensus(adata, 2, use_rep="X_pca")
    table = stmmr.tl.alternatives(adata)
    assert list(table.index) == [keys.DOMAIN, keys.ALTERNATIVE]
    assert table["support"].sum() == pytest.approx(1)
    assert table["similarity"].iloc[1] < 0.1
    assert 80 <= table["n_spots"].iloc[1] <= 100  # names follow the domains with which they share most
    assert set(adata.obs[keys.ALTERNATIVE].cat.categories) == {"1", "2"}
    stmmr.tl.consensus(adata, 4, use_rep="X_pca")
    assert keys.ALTERNATIVE not in adata.obs
    assert list(stmmr.tl.alternatives(adata).index) == [keys.DOMAIN]


def test_second_answer_follows_names_and_goes_with_a_merge():
    adata = ambiguous()
    stmmr.tl.consensus(adata, 2, use_rep="X_pca")
    before = adata.obs[keys.ALTERNATIVE].astype(str)
    stmmr.tl.rename_domains(adata, {"1": "cortex", "2": "1"})
    assert (adata.obs[keys.ALTERNATIVE] == before.map({"1": "cortex", "2": "1"})).all()
    assert stmmr.tl.alternatives(adata)["n_spots"].iloc[1] <= 100
    stmmr.tl.merge_domains(adata, {"all": ["1", "cortex"]})
    assert keys.ALTERNATIVE not in adata.obs


def test_other_domains_remove_the_second_answer():
    adata = ambiguous()
    stmmr.tl.consensus(adata, 2, use_rep="X_pca")
    stmmr.tl.domains(adata, 2, use_rep="X_pca")
    assert keys.ALTERNATIVE not in adata.obs
    with pytest.raises(stmmr.InputError, match=r"Run stmmr\.tl\.consensus first"):
        stmmr.tl.alternatives(adata)


def test_merged_domains_have_no_support_and_no_second_answer():
    adata = ambiguous()
    stmmr.tl.consensus(adata, 2, use_rep="X_pca")
    stmmr.tl.merge_domains(adata, {"all": ["1", "2"]})
    table = stmmr.tl.alternatives(adata)
    assert list(table.index) == [keys.DOMAIN]
    assert table["support"].isna().all()
