"""How long a unit of the coordinates is: noted in one way, and warned of where it cannot be."""

import logging

import numpy as np
import pytest
from anndata import AnnData

from stmmr import io, pl, pp
from stmmr._core.space import spacing, units
from stmmr.image.library import find_library, sharpest_image
from stmmr.io._placing import add_library, library_name


@pytest.fixture
def grid():
    adata = AnnData(np.ones((30, 3), dtype=np.float32))
    adata.obsm["spatial"] = np.argwhere(np.ones((5, 6))) * 10.0
    adata.obs["kind"] = ["a", "b"] * 15
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    return adata


def test_a_library_without_images(grid):
    add_library(grid, 0.5, "s")
    assert units(grid) == ("px", 0.5, "microns_per_pixel")
    assert units(add_library(grid, 1.0, "s")) == ("µm", 1.0, "microns_per_pixel")
    assert not pp.has_image(grid)
    assert sharpest_image(find_library(grid)) is None
    assert pl.domains(grid, domain_key="kind") is not None


def test_scanpy_and_squidpy_draw_it(grid):
    import warnings

    sc = pytest.importorskip("scanpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sq = pytest.importorskip("squidpy")
        add_library(grid, 0.5, "s")
        sq.pl.spatial_scatter(grid, color="kind", img=False)
        sq.pl.spatial_scatter(grid, color="kind", shape=None)
        sc.pl.spatial(grid, color="kind", img_key=None, show=False)


def test_a_format_that_does_not_tell(grid):
    assert "spatial" not in add_library(grid, None, "s").uns


@pytest.mark.parametrize(("um", "warns"), [(0.01, True), (0.05, False), (100, False), (101, True)])
def test_implausible_distances(grid, um, warns, caplog, tmp_path):
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        add_library(grid, um, "s")
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
    ("library_id", "stated", "prefix", "folder", "name"),
    [
        ("mine", "a", "b_", "c", "mine"),
        (None, "a", "b_", "c", "a"),
        (None, "", "b_.", "c", "b"),
        (None, "", "", "run/outs/segmented_outputs", "run"),
        (None, "", "", "run/outs/binned_outputs/square_008um", "run"),
    ],
)
def test_name_of_the_section(library_id, stated, prefix, folder, name, tmp_path):
    assert library_name(library_id, prefix, tmp_path / folder / "counts.h5", stated=stated) == name
