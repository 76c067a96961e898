"""Several sections in one table: no edges between them, and a shift between them is no signal."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr._core import keys
from stmmr._core.sections import centred, laid_apart, look_like_labels
from stmmr.linear.noise import local_noise, noise_map, with_equal_noise


def pair(shift=0.0):
    """Two tissues at the same coordinates, the genes of the second shifted by a log fold."""
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
    weights = both.obsp[keys.GRAPH].tocoo()
    assert (code[weights.row] == code[weights.col]).all()
    alone = both[code == 1].copy()
    stmmr.pp.spatial_graph(alone, bandwidth=graph["bandwidth"])
    block = both.obsp[keys.GRAPH][code == 1][:, code == 1]
    np.testing.assert_allclose(alone.obsp[keys.GRAPH].toarray(), block.toarray(), atol=1e-6)
    single = prepared(pair()[code == 0].copy()).uns["stmmr"]["spatial_graph"]
    assert graph["nearest_neighbour_distance"] == pytest.approx(single["nearest_neighbour_distance"])
    assert graph["bandwidth"] == pytest.approx(single["bandwidth"], rel=0.25)


def test_components_do_not_tell_sections_apart():
    both = prepared(pair(shift=0.5), section_key="section")
    scores = both.obsm[keys.COMPONENTS]
    for section in "ab":
        np.testing.assert_allclose(scores[both.obs["section"] == section].mean(axis=0), 0, atol=1e-3)


def test_domains_follow_the_tissue_not_the_section():
    both = pair(shift=0.5)
    stmmr.run(both, n_domains=4, histology=False, section_key="section", progress=False)
    known = both.obs["ground_truth"].notna()
    truth, domains = both.obs["ground_truth"][known].astype(str), both.obs[keys.DOMAIN][known]
    assert adjusted_rand_score(truth, domains) > 0.7
    assert pd.crosstab(both.obs["section"], both.obs[keys.DOMAIN]).to_numpy().min() > 0


def test_sections_far_from_each_other_change_nothing():
    near, far = pair(), pair()
    far.obsm["spatial"] = far.obsm["spatial"] + 1e4 * far.obs["section"].cat.codes.to_numpy()[:, None]
    for adata in (near, far):
        stmmr.run(adata, n_domains=4, histology=False, section_key="section", progress=False)
    for key in (keys.DOMAIN, keys.DOMAIN_REFINED):
        assert (near.obs[key] == far.obs[key]).all()


def test_one_section_is_the_same_as_none():
    with_key, without = (stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_genes=60) for _ in range(2))
    with_key.obs["section"] = "a"
    stmmr.run(with_key, n_domains=3, section_key="section", progress=False)
    stmmr.run(without, n_domains=3, progress=False)
    assert (with_key.obs[keys.DOMAIN] == without.obs[keys.DOMAIN]).all()


def test_moving_sections_apart_keeps_distances_within():
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
        (["a", None], r"a section for all cells in obs\['section'\], found 128 of 256 without one"),
        (None, r"Expected the key 'section' in obs"),
    ],
)
def test_bad_sections_raise_before_anything_is_written(section, message):
    adata = ad.AnnData(np.ones((256, 5), dtype=np.float32))
    adata.obsm["spatial"] = np.stack(np.meshgrid(range(16), range(16)), axis=-1).reshape(-1, 2).astype(float)
    if section is not None:
        adata.obs["section"] = section * 128
    for function in (stmmr.pp.expression, stmmr.pp.spatial_graph, stmmr.run):
        with pytest.raises(stmmr.InputError, match=message):
            function(adata, section_key="section")
    assert not adata.layers
    assert not adata.uns


def frames():
    xy = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20).obsm["spatial"]
    cells = np.random.default_rng(0).uniform(0, 1000, (2000, 2))
    return {"grid": xy, "cells": cells}


@pytest.mark.parametrize("kind", ["grid", "cells"])
def test_labels_are_told_from_sections(kind):
    xy = frames()[kind]
    n, rng = len(xy), np.random.default_rng(1)
    layers = pd.Categorical(pd.qcut(xy[:, 1], 5, labels=False).astype(str))
    sections = pd.Categorical(np.repeat(["a", "b"], n))
    assert look_like_labels(xy, layers)
    own_frames = np.vstack([xy, xy])  # one grid for both, one shifted, one far away
    assert not look_like_labels(own_frames, sections)
    own_frames[n:] += 0.4 * (xy[1] - xy[0]) + rng.normal(size=2)
    assert not look_like_labels(own_frames, sections)
    own_frames[n:] += [2 * np.ptp(xy[:, 0]), 0]
    assert not look_like_labels(own_frames, sections)


def messages(caplog, column, xy=None):
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=20)
    adata = adata[adata.obs["ground_truth"].notna()].copy()
    adata.obs["section"] = column(adata)
    if xy is not None:
        adata.obsm["spatial"] = xy(adata)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        stmmr.pp.spatial_graph(adata, bandwidth=100.0, section_key="section")
    return caplog.text


def test_a_column_of_labels_is_warned_of(caplog):
    text = messages(caplog, lambda adata: adata.obs["ground_truth"])
    assert "obs['section'] looks like labels instead of sections: Layer 1, Layer 2" in text


def test_a_single_section_is_warned_of(caplog):
    assert "Only one section in obs['section']: a." in messages(caplog, lambda _: "a")


def halves(adata):
    return np.where(np.arange(adata.n_obs) % 2, "a", "b")


def test_other_units_are_warned_of(caplog):
    def xy(adata):
        return adata.obsm["spatial"] * np.where(halves(adata) == "a", 1.0, 3.0)[:, None]

    text = messages(caplog, halves, xy)
    assert "Neighbours in section b are 3.0 times as far apart as in a: coordinates may be in different units" in text


def test_a_column_of_numbers_is_no_column_of_sections():
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=20)
    adata.obs["size"] = np.arange(adata.n_obs)
    message = r"the sections of the data in obs\['size'\], found \d+ different values for \d+ spots"
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.run(adata, section_key="size", progress=False)


def test_noise_of_sections_becomes_alike():
    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(range(60), range(60)), axis=-1).reshape(-1, 2).astype(float)
    codes = (xy[:, 0] >= 30).astype(int)
    signal = np.sin(xy[:, :1] / 10) * [1.0, 0.5, 0.0]
    loud = np.where(codes[:, None] == 1, [3.0, 1.0, 0.5], [1.0, 1.0, 1.0])
    noisy = (signal + loud * rng.normal(size=(len(xy), 3))).astype(np.float32)
    apart = xy + codes[:, None] * [1000, 0]
    equal = with_equal_noise(noisy, apart, codes)
    left, right = (local_noise(equal[codes == code], xy[codes == code]) for code in (0, 1))
    np.testing.assert_allclose(left, right, atol=1e-4 * np.trace(left))
    target = local_noise(noisy, apart)
    np.testing.assert_allclose(with_equal_noise(equal, apart, codes, to=target), equal, atol=1e-3)


def test_few_spots_leave_the_noise_unchanged():
    rng = np.random.default_rng(0)
    xy, features = rng.uniform(size=(3, 2)), rng.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(features @ noise_map(features, xy, np.diag([1.0, 2, 3, 4])), features, atol=1e-5)
