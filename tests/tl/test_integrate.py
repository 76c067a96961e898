"""Harmony mixes sections in the embedding, in a key of its own."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from stmmr import InputError, tl
from stmmr._core import keys


def shifted():
    import anndata as ad

    rng = np.random.default_rng(0)
    layer, section = np.repeat([0, 1, 0, 1], 150), np.repeat([0, 1], 300)
    adata = ad.AnnData(np.zeros((600, 1), dtype=np.float32))
    adata.obs = pd.DataFrame({"layer": layer.astype(str), "section": section.astype(str)}, index=adata.obs_names)
    z = rng.normal(size=(600, 3)) + 8 * layer[:, None] * [1, 0, 0] + 2.5 * section[:, None] * [0, 1, 0]
    adata.obsm[keys.EMBEDDING] = z.astype(np.float32)
    return adata


def mixed(adata, key):
    near = cKDTree(adata.obsm[key]).query(adata.obsm[key], k=16)[1][:, 1:]
    of = [adata.obs[column].to_numpy() for column in ("section", "layer")]
    return [(values[near] != values[:, None]).mean() for values in of]


def test_sections_mix_and_layers_do_not():
    adata = shifted()
    before = adata.obsm[keys.EMBEDDING].copy()
    pytest.importorskip("harmonypy")
    tl.integrate(adata, "section")
    (apart, _), (together, wrong) = (mixed(adata, key) for key in (keys.EMBEDDING, keys.HARMONY))
    assert together > apart + 0.2
    assert wrong < 0.02
    np.testing.assert_array_equal(adata.obsm[keys.EMBEDDING], before)
    assert adata.obsm[keys.HARMONY].dtype == np.float32
    assert adata.uns["stmmr"]["integrate"]["section_key"] == "section"


def test_the_sections_of_the_graph_are_taken():
    pytest.importorskip("harmonypy")
    adata = shifted()
    adata.uns["stmmr"] = {"spatial_graph": {"section_key": "section"}}
    tl.integrate(adata, key_added="X_other")
    assert adata.obsm["X_other"].shape == (600, 3)


def test_what_cannot_be_integrated_is_said(monkeypatch):
    adata = shifted()
    with pytest.raises(InputError, match="several sections, found a spatial graph without"):
        tl.integrate(adata)
    adata.obs["one"] = "a"
    with pytest.raises(InputError, match=r"two sections or more in obs\['one'\], found a\."):
        tl.integrate(adata, "one")
    adata.obs["gaps"] = pd.Series(["a", None] * 300, index=adata.obs_names)
    with pytest.raises(InputError, match=r"a section for all cells in obs\['gaps'\], found 300 of 600 without"):
        tl.integrate(adata, "gaps")
    with pytest.raises(InputError, match="Expected the key 'X_none' in obsm"):
        tl.integrate(adata, "section", use_rep="X_none")
    monkeypatch.setitem(sys.modules, "harmonypy", None)
    with pytest.raises(ImportError, match=r"pip install 'stmmr-kit\[integration\]'"):
        tl.integrate(adata, "section")
