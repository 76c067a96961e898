"""Length of a unit of the coordinates, from the scale factors or the shape of the array."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from stmmr import InputError
from stmmr._core.space import rows_called, spacing, units

SQUARE = np.argwhere(np.ones((12, 15)))[:, ::-1]
HEXAGONAL = SQUARE * [2, 1] + np.column_stack([SQUARE[:, 1] % 2, 0 * SQUARE[:, 1]])


def on_array(array, xy=None):
    adata = AnnData(shape=(len(array), 0))
    adata.obs["array_col"], adata.obs["array_row"] = array.T
    adata.obs_names = [f"{col}x{row}" for col, row in array]
    if xy is not None:
        adata.obsm["spatial"] = np.asarray(xy, dtype=float)
    return adata


@pytest.mark.parametrize(("array", "um", "kind"), [(HEXAGONAL, 50, "hexagonal array"), (SQUARE, 200, "square array")])
def test_array_alone(array, um, kind):
    assert units(on_array(array)) == ("array columns", pytest.approx(um), kind)


@pytest.mark.parametrize(
    ("array", "step", "kind"),
    [(HEXAGONAL, (50, 50 * np.sqrt(3)), "hexagonal array"), (SQUARE, (200, 200), "square array")],
)
def test_pixels_of_an_array(array, step, kind):
    adata = on_array(array, array * step / 0.4)
    assert units(adata) == ("coordinate units", pytest.approx(0.4), kind)
    few = adata[np.random.default_rng(0).random(len(array)) < 0.3]
    assert units(few) == ("coordinate units", pytest.approx(0.4), kind)
    adata.uns["spatial"] = {"a": {}, "b": {"scalefactors": {"microns_per_pixel": 0.5}}}
    assert units(adata) == ("px", 0.5, "microns_per_pixel")
    adata.uns["spatial"]["b"]["scalefactors"]["microns_per_pixel"] = -1.0
    with pytest.raises(InputError, match="microns_per_pixel"):
        units(adata)


def test_scale_of_pixels_is_not_that_of_the_array():
    adata = on_array(SQUARE)
    adata.uns["spatial"] = {"a": {"scalefactors": {"microns_per_pixel": 0.5}}}
    assert units(adata) == ("array columns", pytest.approx(200), "square array")


def test_keys_of_stereopy():
    adata = AnnData(shape=(4, 0), obsm={"spatial": np.argwhere(np.ones((2, 2))) * 50.0})
    adata.uns |= {"bin_type": "bins", "bin_size": 50, "resolution": 500}
    assert units(adata) == ("coordinate units", 0.5, "Stereo-seq chip")
    adata.uns["resolution"] = 0
    assert np.isnan(units(adata)[1])
    del adata.uns["bin_type"]  # a resolution alone may be that of Leiden
    adata.uns["resolution"] = 1.0
    assert np.isnan(units(adata)[1])


@pytest.mark.parametrize(
    "array",
    [
        SQUARE * 3,  # more positions than ST v1 has, such as bins of any size
        SQUARE + [[np.nan, 0]] * len(SQUARE),
        np.full(SQUARE.shape, "A"),
        np.random.default_rng(0).permutation(SQUARE),  # not the positions of these spots
    ],
)
def test_unknown(array):
    unit, um, source = units(on_array(array, SQUARE * 100.0))
    assert (unit, source) == ("coordinate units", "unknown")
    assert np.isnan(um)
    assert np.isnan(units(on_array(SQUARE[:1], [[3.0, 4.0]]))[1])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "um", "kind"),
    [("visium_dlpfc_151673", 100 / 138, "hexagonal array"), ("st_her2_A1", 200 / 218, "square array")],
)
def test_real_arrays(name, um, kind, shared_data):
    import anndata

    _, *scale = units(anndata.read_h5ad(shared_data / f"{name}.h5ad"))
    assert scale == [pytest.approx(um, rel=0.01), kind]


@pytest.mark.parametrize(
    ("obs", "uns", "expected"),
    [
        ({}, {}, "cells"),
        ({"array_row": [0, 1], "array_col": [0, 1]}, {}, "spots"),
        ({}, {"spatial": {"a": {"images": {"hires": np.zeros((2, 2, 3), np.uint8)}}}}, "spots"),
        ({}, {"spatial": {"a": {"images": {}, "metadata": {"platform": "Xenium"}}}}, "cells"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "Slide-seq"}}}}, "spots"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "Stereo-seq"}}}}, "bins"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "Stereo-seq cells"}}}}, "cells"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "Visium HD", "bin_size_um": 8}}}}, "bins"),
        ({}, {"spatial": {"a": {"images": {"hires": 0}, "metadata": {"platform": "Visium HD cells"}}}}, "cells"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "Visium"}, "scalefactors": {"bin_size_um": 8}}}}, "bins"),
        ({}, {"spatial": {"a": {"metadata": {"platform": "ST"}}}}, "spots"),
        ({"array_row": [0, 1], "array_col": [0, 1]}, {"spatial": {"a": {"scalefactors": {"bin_size_um": 8}}}}, "bins"),
        ({}, {"bin_type": "bins"}, "bins"),
        ({}, {"bin_type": "cell_bins"}, "cells"),
        ({}, {"spatial": {"is_single": True}}, "cells"),
        ({}, {"spatial": np.zeros(3)}, "cells"),
    ],
)
def test_rows_have_the_name_of_their_platform(obs, uns, expected):
    adata = AnnData(obs=pd.DataFrame(obs, index=["a", "b"]), uns=uns)
    assert rows_called(adata) == expected


def test_spacing_against_distances_between_all_pairs():
    xy = np.random.default_rng(0).normal(size=(300, 2))
    ordered = np.sort(np.linalg.norm(xy[:, None] - xy, axis=2), axis=1)
    for nth in (1, 2):
        assert spacing(xy, nth=nth) == pytest.approx(np.median(ordered[:, nth]))
    assert spacing(xy[:2], nth=2) == pytest.approx(np.linalg.norm(xy[0] - xy[1]))
    with_height = np.column_stack([xy, 1e3 * np.arange(300)])
    assert spacing(with_height) > 1e3


def test_spacing_ignores_repeated_and_missing_locations():
    xy = SQUARE * 3.0
    odd = np.vstack([xy, xy[:100], [[np.nan, 0]]])
    assert spacing(odd) == spacing(xy) == 3
    assert spacing(odd, at_most=20) == 3
    assert spacing(np.ones((4, 2))) is None
    assert spacing(xy[:1]) is None
