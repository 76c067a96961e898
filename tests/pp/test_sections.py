"""Several sections in one table: nothing passes from one to another, and a shift between them is no signal."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr import _keys
from stmmr.pp._sections import centred, laid_apart


def pair(shift=0.0):
    """Two tissues one upon the other, the genes of the second shifted by a log fold."""
    parts = []
    for seed in range(2):
        part = stmmr.datasets.simulated_tissue(n_rows=26, n_cols=26, n_domains=4, n_genes=200, random_state=7)
        del part.uns["spatial"]
        rng = np.random.default_rng(seed)
        fold = np.exp(shift * np.random.default_rng(5).normal(size=part.n_vars)) if seed else np.ones(part.n_vars)
        part.X = rng.poisson(part.X.toarray() * fold).astype(np.float32)
        parts.append(part)
    return ad.concat(parts, label="section", keys=["a", "b"], index_unique="-")


def prepared(adata, **options):
    stmmr.pp.expression(adata, **options)
    stmmr.pp.spatial_graph(adata, **options)
    return adata


def test_graph_is_that_of_each_section_alone():
    both = prepared(pair(), section_key="section")
    graph = both.uns["stmmr"]["spatial_graph"]
    code = both.obs["section"].cat.codes.to_numpy()
    weights = both.obsp[_keys.GRAPH].tocoo()
    assert (code[weights.row] == code[weights.col]).all()
    one = both[code == 1].copy()
    stmmr.pp.spatial_graph(one, bandwidth=graph["bandwidth"])
    alone = both.obsp[_keys.GRAPH][code == 1][:, code == 1]
    np.testing.assert_allclose(one.obsp[_keys.GRAPH].toarray(), alone.toarray(), atol=1e-6)
    single = prepared(pair()[code == 0].copy()).uns["stmmr"]["spatial_graph"]
    assert graph["nearest_neighbour_distance"] == pytest.approx(single["nearest_neighbour_distance"])
    assert graph["bandwidth"] == pytest.approx(single["bandwidth"], rel=0.25)


def test_components_do_not_tell_sections_apart():
    both = prepared(pair(shift=0.5), section_key="section")
    scores = both.obsm[_keys.COMPONENTS]
    for section in "ab":
        np.testing.assert_allclose(scores[both.obs["section"] == section].mean(axis=0), 0, atol=1e-3)


def test_domains_follow_the_tissue_not_the_section():
    both = pair(shift=0.5)
    stmmr.run(both, n_domains=4, histology=False, section_key="section", progress=False)
    known = both.obs["ground_truth"].notna()
    truth, found = both.obs["ground_truth"][known].astype(str), both.obs[_keys.DOMAIN][known]
    assert adjusted_rand_score(truth, found) > 0.7
    assert pd.crosstab(both.obs["section"], both.obs[_keys.DOMAIN]).to_numpy().min() > 0


def test_sections_far_from_each_other_change_nothing():
    one, other = pair(), pair()
    other.obsm["spatial"] = other.obsm["spatial"] + 1e4 * other.obs["section"].cat.codes.to_numpy()[:, None]
    for adata in (one, other):
        stmmr.run(adata, n_domains=4, histology=False, section_key="section", progress=False)
    for key in (_keys.DOMAIN, _keys.DOMAIN_REFINED):
        assert (one.obs[key] == other.obs[key]).all()


def test_one_section_is_as_none():
    one, other = (stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_genes=60) for _ in range(2))
    one.obs["section"] = "a"
    stmmr.run(one, n_domains=3, section_key="section", progress=False)
    stmmr.run(other, n_domains=3, progress=False)
    assert (one.obs[_keys.DOMAIN] == other.obs[_keys.DOMAIN]).all()


def test_laying_apart_keeps_distances_within():
    xy = np.random.default_rng(0).normal(size=(40, 2))
    sections = pd.Categorical(np.repeat(["x", "y", "z", "w"], 10))
    moved = laid_apart(xy, sections)
    for name in sections.categories:
        own = sections == name
        np.testing.assert_allclose(moved[own] - moved[own][0], xy[own] - xy[own][0], atol=1e-9)
    assert laid_apart(xy, None) is xy
    assert centred(xy, None) is xy


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (["a", None], r"section at every place in obs\['section'\], found 128 of 256 without one"),
        (None, r"Expected the key 'section' in obs"),
    ],
)
def test_bad_sections_are_said_before_anything_is_written(section, message):
    adata = ad.AnnData(np.ones((256, 5), dtype=np.float32))
    adata.obsm["spatial"] = np.stack(np.meshgrid(range(16), range(16)), axis=-1).reshape(-1, 2).astype(float)
    if section is not None:
        adata.obs["section"] = section * 128
    for function in (stmmr.pp.expression, stmmr.pp.spatial_graph, stmmr.run):
        with pytest.raises(stmmr.InputError, match=message):
            function(adata, section_key="section")
    assert not adata.layers
    assert not adata.uns
