"""How long a unit of the coordinates is: noted in one way, and warned of where it cannot be."""

import logging

import numpy as np
import pytest
from anndata import AnnData

from stmmr import io, pl, pp
from stmmr._core.space import spacing, units
from stmmr.image.library import find_library, sharpest_picture
from stmmr.io._placing import name_library, set_scale


@pytest.fixture
def grid():
    adata = AnnData(np.ones((30, 3), dtype=np.float32))
    adata.obsm["spatial"] = np.argwhere(np.ones((5, 6))) * 10.0
    adata.obs["kind"] = ["a", "b"] * 15
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    return adata


def test_a_library_without_pictures(grid):
    set_scale(grid, 0.5, library="s")
    assert units(grid) == ("px", 0.5, "microns_per_pixel")
    assert units(set_scale(grid, 1.0, library="s")) == ("µm", 1.0, "microns_per_pixel")
    assert not pp.has_picture(grid)
    assert sharpest_picture(find_library(grid)) is None
    assert pl.domains(grid, domain_key="kind") is not None


def test_scanpy_and_squidpy_draw_it(grid):
    import warnings

    sc = pytest.importorskip("scanpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sq = pytest.importorskip("squidpy")
        set_scale(grid, 0.5, library="s")
        sq.pl.spatial_scatter(grid, color="kind", img=False)
        sq.pl.spatial_scatter(grid, color="kind", shape=None)
        sc.pl.spatial(grid, color="kind", img_key=None, show=False)


def test_a_format_that_does_not_tell(grid):
    assert "spatial" not in set_scale(grid, None, library="s").uns


@pytest.mark.parametrize(("um", "warns"), [(0.01, True), (0.05, False), (100, False), (101, True)])
def test_implausible_distances(grid, um, warns, caplog, tmp_path):
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        set_scale(grid, um, library="s")
    assert ("Neighbours are" in caplog.text) == warns
    caplog.clear()
    grid.write_h5ad(tmp_path / "a.h5ad")
    for backed in (False, True):
        caplog.clear()
        io.read(tmp_path / "a.h5ad", backed=backed)
        assert (f"median distance 10 times {um:.4g} µm per unit, microns_per_pixel of s" in caplog.text) == warns


def test_spacing():
    xy = np.argwhere(np.ones((200, 200))) * 3.0
    assert spacing(xy) == 3
    assert spacing(np.vstack([xy, [[np.nan, 0]]])) == 3
    assert spacing(np.zeros((4, 2))) is None
    assert spacing(np.zeros((1, 2))) is None


@pytest.mark.parametrize(
    ("given", "said", "prefix", "folder", "name"),
    [
        ("mine", "a", "b_", "c", "mine"),
        (None, "a", "b_", "c", "a"),
        (None, "", "b_.", "c", "b"),
        (None, "", "", "run/outs/segmented_outputs", "run"),
        (None, "", "", "run/outs/binned_outputs/square_008um", "run"),
    ],
)
def test_name_of_the_section(given, said, prefix, folder, name, tmp_path):
    assert name_library(given, said=said, prefix=prefix, folder=tmp_path / folder) == name
