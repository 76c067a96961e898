"""Coordinates of data that have positions on an array only."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.distance import pdist

import stmmr
from stmmr._core import keys
from stmmr._core.space import coordinates


def on_array(row, column):
    return AnnData(obs=pd.DataFrame({"array_row": row, "array_col": column}, index=[f"p{i}" for i in range(len(row))]))


@pytest.mark.parametrize("shift", [0, 1])  # on some slides, even rows have odd columns
def test_hexagonal_array_has_the_shape_of_the_tissue(shift):
    tissue = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=10)
    pixels = tissue.obsm.pop("spatial")
    tissue.obs["array_col"] += shift
    np.testing.assert_allclose(pdist(coordinates(tissue)), pdist(pixels) / 100)  # 50 µm a column, 0.5 µm a pixel
    stmmr.pp.spatial_graph(tissue, bandwidth=2.0)
    step = tissue.uns["stmmr"]["spatial_graph"]
    assert step["nearest_neighbour_distance"] == pytest.approx(2)
    assert (step["coordinates"], step["unit"]) == ("array", "array columns")


def test_published_graph_keeps_the_array_as_it_is():
    tissue = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=10)
    stmmr.pp.spatial_graph(tissue, use="array", bandwidth=2.0)
    published = tissue.obsp[keys.GRAPH].copy()
    assert tissue.uns["stmmr"]["spatial_graph"]["nearest_neighbour_distance"] == pytest.approx(np.sqrt(2))
    del tissue.obsm["spatial"]
    stmmr.pp.spatial_graph(tissue, use="array", bandwidth=2.0)
    assert (tissue.obsp[keys.GRAPH] != published).nnz == 0


@pytest.mark.parametrize(
    "array",
    [
        np.argwhere(np.ones((4, 5))),
        2 * np.argwhere(np.ones((4, 5))),  # a square array of every second row and column
        np.argwhere(np.ones((4, 5))) + 0.5,
    ],
)
def test_square_array_stays_as_it_is(array):
    np.testing.assert_array_equal(coordinates(on_array(*array.T)), array[:, ::-1])


def test_missing_array_positions_are_named():
    with pytest.raises(stmmr.InputError, match=r"obs\['array_col'\].*1 of 3 spots without \(first: p1"):
        coordinates(on_array([0, np.nan, 1], [0, 2, 1]))
