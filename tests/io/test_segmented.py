"""Cells of Visium HD as Space Ranger 4 writes them, and what can be wrong with them."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from stmmr import InputError, io
from stmmr._core.space import rows_called
from stmmr.io import read_visium_hd_cells

GENES = ["Gad1", "Mbp"]
N = 12
H5 = "filtered_feature_cell_matrix.h5"


@pytest.fixture
def cells(new_section):
    rng = np.random.default_rng(0)
    names = [f"cellid_{i:09d}-1" for i in rng.permutation(np.arange(1, N + 1))]
    return new_section(rng.poisson(2.0, (N, 2)), names, None, GENES, ["Gene Expression"] * 2)


def outlines():
    """Rectangles w wide and h high, closed as GeoJSON wants it, with a corner twice: vertices have another mean."""
    features = []
    for i in range(1, N + 1):
        x, y, w, h = 100.0 * i, 50.0 * i, 20.0 + i, 10.0
        ring = [[x, y], [x + w, y], [x + w, y + h], [x + w, y + h], [x, y + h], [x, y]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring if i % 2 else ring[::-1]]},
                "properties": {"cell_id": i},
            }
        )
    return {"type": "FeatureCollection", "features": features}


@pytest.fixture
def write(cells, write_matrix, tmp_path):
    def write(*, geojson=None, matrix=H5, factors=None):
        folder = tmp_path / "mouse" / "outs" / "segmented_outputs"
        (folder / "spatial").mkdir(parents=True, exist_ok=True)
        write_matrix(folder / matrix, cells)
        (folder / "cell_segmentations.geojson").write_text(json.dumps(geojson or outlines()))
        scales = {"tissue_hires_scalef": 0.1, "microns_per_pixel": 0.27} if factors is None else factors
        (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(scales))
        pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "spatial" / "tissue_hires_image.png")
        return tmp_path / "mouse"

    return write


@pytest.mark.parametrize("start", ["", "outs", "outs/segmented_outputs", f"outs/segmented_outputs/{H5}"])
def test_cells(cells, write, start, tmp_path):
    path = write() / start
    assert io.recognise(path).platform == "visium_hd_cells"
    adata = io.read(path)
    assert list(adata.obs_names) == cells.barcodes
    np.testing.assert_array_equal(adata.X.toarray(), cells.counts)
    i = np.array([int(name[7:16]) for name in adata.obs_names])
    np.testing.assert_allclose(adata.obsm["spatial"], np.column_stack([100 * i + (20 + i) / 2, 50 * i + 5]))
    np.testing.assert_allclose(adata.obs["area"], (20 + i) * 10)
    entry = adata.uns["spatial"]["mouse"]
    assert entry["scalefactors"]["microns_per_pixel"] == 0.27
    assert entry["images"]["hires"].shape == (40, 30, 3)
    assert entry["metadata"]["platform"] == "Visium HD cells"
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert rows_called(io.read(tmp_path / "a.h5ad")) == "cells"


def test_matrix_market(cells, write):
    run = write(matrix="filtered_feature_cell_matrix")
    np.testing.assert_array_equal(io.read(run).X.toarray(), cells.counts)


def test_bins_go_first_and_say_where_the_cells_are(bins, write_run, write, tmp_path):
    run = write()
    made = write_run(bins, inside="outs/binned_outputs/square_008um", positions="tissue_positions.parquet")
    (made / "outs" / "binned_outputs").rename(run / "outs" / "binned_outputs")
    found = io.recognise(run)
    assert found.platform == "visium_hd"
    assert f"give {run / 'outs' / 'segmented_outputs'} for the cells in it" in found.because
    assert io.recognise(run / "outs" / "segmented_outputs").platform == "visium_hd_cells"


def test_the_largest_part_of_a_cell(write):
    shapes = outlines()
    square = shapes["features"][0]["geometry"]["coordinates"]
    speck = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
    shapes["features"][0]["geometry"] = {"type": "MultiPolygon", "coordinates": [speck, square]}
    shapes["features"][1]["geometry"]["coordinates"] = [[[7, 8], [7, 8], [7, 8]]]
    adata = io.read(write(geojson=shapes))
    np.testing.assert_allclose(adata["cellid_000000001-1"].obsm["spatial"], [[110.5, 55]])
    np.testing.assert_allclose(adata["cellid_000000002-1"].obsm["spatial"], [[7, 8]])


def test_without_scale(write, caplog):
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        io.read(write(factors={"tissue_hires_scalef": 0.1}))
    assert "does not have microns_per_pixel" in caplog.text


def test_mixed_up(write, caplog):
    shapes = outlines()
    shapes["features"] = shapes["features"][:3]
    assert io.read(write(geojson=shapes)).n_obs == 3
    assert "3 of 12 cells (25 %) have a position in cell_segmentations.geojson" in caplog.text
    for feature in shapes["features"]:
        feature["properties"]["cell_id"] += 100
    with pytest.raises(
        InputError, match=r"found none of 12: the counts have cellid_.*the positions cellid_000000101-1"
    ):
        io.read(write(geojson=shapes))


def test_missing_companions(write):
    folder = write() / "outs" / "segmented_outputs"
    (folder / "cell_segmentations.geojson").unlink()
    with pytest.raises(
        InputError, match=r"outlines of the cells \(cell_segmentations.geojson or .*found filtered_feat"
    ):
        io.read(folder)
    (folder / H5).unlink()
    with pytest.raises(InputError, match=r"Expected filtered_feature_cell_matrix.h5"):
        read_visium_hd_cells(folder)
    with pytest.raises(InputError, match=r"Complete segmented_outputs/: it lacks filtered_feature_cell_matrix.h5"):
        io.read(folder.parent)


@pytest.mark.parametrize("name", [H5, "cell_segmentations.geojson"])
def test_damaged_files(write, name, spoil):
    folder = write() / "outs" / "segmented_outputs"
    spoil(folder / name)
    with pytest.raises(InputError, match=rf"Expected (a 10x count matrix|the outlines of cells).*{name}"):
        io.read(folder)


def test_outlines_without_numbers(write):
    shapes = outlines()
    del shapes["features"][3]["properties"]["cell_id"]
    with pytest.raises(InputError, match="Expected the outlines of cells"):
        io.read(write(geojson=shapes))
