"""The order of the tissue."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from stmmr._core import keys
from stmmr._core.order import in_tissue_order, tissue_order


@pytest.fixture
def adata():
    """Twelve spots, of which two pairs lie at one position each."""
    rng = np.random.default_rng(0)
    xy = rng.integers(0, 3, size=(12, 2)).astype(float)
    xy[1], xy[5] = xy[0], xy[4]
    obs = pd.DataFrame({"size": np.arange(12.0)}, index=[f"s{i}" for i in rng.permutation(12)])
    return ad.AnnData(sparse.csr_matrix(np.ones((12, 3))), obs=obs, obsm={keys.SPATIAL: xy})


@pytest.mark.parametrize("where", ["spatial", "array", "names"])
def test_order_is_that_of_the_spots_and_not_of_the_rows(adata, where):
    if where == "array":
        adata.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]] = adata.obsm[keys.SPATIAL].astype(int)
    if where != "spatial":
        del adata.obsm[keys.SPATIAL]
    names = adata.obs_names[tissue_order(adata)]
    for seed in range(5):
        other = adata[np.random.default_rng(seed).permutation(12)].copy()
        assert list(other.obs_names[tissue_order(other)]) == list(names)


def test_a_step_writes_to_the_rows_that_it_read(adata):
    @in_tissue_order
    def step(adata, *, factor):
        assert (tissue_order(adata) == np.arange(adata.n_obs)).all()
        adata.obs["twice"] = adata.obs["size"] * factor
        adata.obs["name"] = pd.Categorical(adata.obs_names)
        adata.obsm["sizes"] = adata.obs[["size"]].to_numpy()
        adata.obsm["frame"] = pd.DataFrame({"size": adata.obs["size"]})
        sizes = adata.obs["size"].to_numpy()
        adata.obsp["products"] = sparse.csr_matrix(np.outer(sizes, sizes))
        adata.uns["list"] = [1]
        adata.var["known"] = True
        del adata.obsm["left"], adata.obsp["left"], adata.uns["left"]
        return factor

    adata.obsm["left"], adata.obsp["left"], adata.uns["left"] = np.zeros((12, 1)), np.eye(12), 1
    adata.obsp["stays"] = np.eye(12)
    before = adata.copy()
    assert step(adata, factor=2) == 2
    size = before.obs["size"].to_numpy()
    np.testing.assert_array_equal(adata.obs["twice"], 2 * size)
    assert list(adata.obs["name"]) == list(adata.obs_names) == list(before.obs_names)
    np.testing.assert_array_equal(adata.obsm["sizes"].ravel(), size)
    np.testing.assert_array_equal(adata.obsm["frame"]["size"], size)
    np.testing.assert_array_equal(adata.obsp["products"].toarray(), np.outer(size, size))
    np.testing.assert_array_equal(adata.obsp["stays"], np.eye(12))
    np.testing.assert_array_equal(adata.obsm[keys.SPATIAL], before.obsm[keys.SPATIAL])
    assert "left" not in adata.obsm and "left" not in adata.obsp and "left" not in adata.uns
    assert adata.uns["list"] == [1]
    assert adata.var["known"].all()
