"""The view in two dimensions: its key, its seed, small data, and what it leaves alone."""

import numpy as np
import pytest
from anndata import AnnData

from stmmr import InputError
from stmmr.tl._umap import umap


@pytest.fixture
def two_groups():
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((60, 3), dtype=np.float32))
    adata.obsm["X_stmmr"] = (rng.normal(size=(60, 8)) + np.repeat([0, 30], 30)[:, None]).astype(np.float32)
    return adata


def test_groups_lie_apart_and_the_seed_fixes_the_layout(two_groups):
    umap(two_groups)
    layout = two_groups.obsm["X_stmmr_umap"]
    assert layout.shape == (60, 2)
    assert layout.dtype == np.float32
    first, second = layout[:30], layout[30:]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (first, second))
    umap(two_groups, key_added="again")
    np.testing.assert_array_equal(two_groups.obsm["again"], layout)


def test_touches_nothing_else(two_groups):
    two_groups.uns["neighbors"] = {"mine": 1}
    before = two_groups.obsm["X_stmmr"].copy()
    umap(two_groups)
    assert dict(two_groups.uns) == {"neighbors": {"mine": 1}}
    assert set(two_groups.obsm) == {"X_stmmr", "X_stmmr_umap"}
    assert not two_groups.obsp
    np.testing.assert_array_equal(two_groups.obsm["X_stmmr"], before)


@pytest.mark.parametrize("shape", [(5, 2), (12, 30), (40, 64), (30, 1)])
def test_few_places_and_any_width(shape):
    adata = AnnData(np.zeros((shape[0], 1), dtype=np.float32))
    adata.obsm["X_stmmr"] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    umap(adata)
    assert np.isfinite(adata.obsm["X_stmmr_umap"]).all()


def test_equal_places_still_get_a_finite_layout(two_groups):
    two_groups.obsm["X_stmmr"][:] = 1
    umap(two_groups)
    assert np.isfinite(two_groups.obsm["X_stmmr_umap"]).all()


def test_refuses_what_has_no_embedding_or_too_few_places(two_groups):
    with pytest.raises(InputError, match="at least 5 places for a UMAP, found 4"):
        umap(two_groups[:4].copy())
    two_groups.obsm["X_stmmr"][3, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        umap(two_groups)
    del two_groups.obsm["X_stmmr"]
    with pytest.raises(InputError, match=r"'X_stmmr' in obsm.*fit"):
        umap(two_groups)
