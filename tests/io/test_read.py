"""One entrance: recognising what an input is."""

import logging
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import stmmr
from stmmr import InputError, RunOptions, io
from stmmr._core.space import coordinates, units
from stmmr.io._platforms import KINDS
from stmmr.pipeline.info import describe

SQUARE = "binned_outputs/square_008um"


def test_importing_it_is_cheap():
    code = "import sys, stmmr.io; print([m for m in ('anndata', 'pandas', 'scanpy', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names():
    readers = {kind.read.__name__ for kind in KINDS.values()}
    assert {"read", "recognise", *readers} <= set(io.__all__)
    assert all(hasattr(io, name) for name in io.__all__)
    assert stmmr.read is io.read


def test_old_name_of_image_of():
    with pytest.warns(FutureWarning, match="picture_of was renamed: use image_of"):
        assert io.picture_of is io.image_of
    assert "picture_of" not in io.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = io.nothing


def test_h5ad(adata, tmp_path, caplog):
    path = tmp_path / "section.h5ad"
    adata.write_h5ad(path)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        read = io.read(str(path))
    np.testing.assert_array_equal(read.X, adata.X)
    assert io.recognise(path) == io.Recognised("h5ad", path, "its name ends with .h5ad")
    assert f"Reading {path} as h5ad: its name ends with .h5ad" in caplog.text


@pytest.mark.parametrize("name", ["section.zarr", "section"])
def test_zarr(adata, write_zarr, tmp_path, name):
    write_zarr(adata, tmp_path / name)
    assert io.recognise(tmp_path / name).platform == "zarr"
    np.testing.assert_array_equal(io.read(tmp_path / name).X, adata.X)


def test_visium(section, write_run):
    run = write_run(section, inside="outs")
    found = io.recognise(run)
    assert (found.platform, found.path) == ("visium", run / "outs")
    assert "filtered_feature_bc_matrix.h5" in found.because
    assert list(io.read(run, library_id="A1").uns["spatial"]) == ["A1"]
    file = run / "outs" / "filtered_feature_bc_matrix.h5"
    assert io.recognise(file).path == file
    assert io.read(file).n_obs == io.read(run).n_obs


def test_visium_hd(bins, write_run):
    for size in (8, 16):
        run = write_run(bins, inside=f"binned_outputs/square_{size:03d}um", positions="tissue_positions.parquet")
    found = io.recognise(run)
    assert (found.platform, found.path) == ("visium_hd", run / SQUARE)
    assert io.recognise(run, bin_size=16).path == run / "binned_outputs/square_016um"
    # what was recognised can itself be read
    assert io.recognise(found.path).path == found.path
    assert list(io.read(run, library_id="B2").uns["spatial"]) == ["B2"]


def test_segmented_cells_alone(tmp_path):
    (tmp_path / "outs" / "segmented_outputs").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "outs"):
        with pytest.raises(InputError, match="Complete segmented_outputs/: it lacks"):
            io.read(path)


def test_unknown_folder_is_listed(tmp_path):
    (tmp_path / "cells.csv.gz").touch()
    (tmp_path / ".hidden").touch()
    with pytest.raises(
        InputError, match=r"\.h5ad.*\.zarr.*Visium HD.*Xenium.*CosMx.*tsv\) at .*found cells\.csv\.gz\. Give one"
    ):
        io.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("counts.csv", "found counts.csv"),
        ("section.rds", r"Convert it in R: anndataR::write_h5ad\(readRDS\('section.rds'\), 'section.h5ad'\)"),
        ("section.h5Seurat", r"Convert it in R: SeuratDisk::Convert\('section.h5Seurat', dest = 'h5ad'\)"),
        ("section.loom", r"Convert it in R: zellkonverter::writeH5AD"),
        ("counts.xlsx", r"Save each sheet as \.csv"),
    ],
)
def test_unknown_file(tmp_path, name, says):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=says):
        io.read(tmp_path / name)


def test_nothing_there(tmp_path):
    (tmp_path / "brain_section.h5ad").touch()
    with pytest.raises(FileNotFoundError, match=r"did you mean brain_section\.h5ad\?"):
        io.read(tmp_path / "brain_sction.h5ad")
    with pytest.raises(FileNotFoundError, match=r"its folder holds brain_section\.h5ad"):
        io.read(tmp_path / "xyz")
    with pytest.raises(FileNotFoundError, match="does not exist either"):
        io.read(tmp_path / "a" / "b")


def test_options_that_do_not_go_with_the_input(adata, section, write_run, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(
        InputError,
        match=r"Expected a Visium HD folder, Stereo-seq .* or a table of transcripts for bin_size, found h5ad",
    ):
        io.read(tmp_path / "a.h5ad", bin_size=8)
    with pytest.raises(InputError, match="Expected the output folder of a platform for library_id, found h5ad"):
        io.read(tmp_path / "a.h5ad", library_id="A1")
    with pytest.raises(InputError, match="Expected a table of counts for coordinates, found h5ad"):
        io.read(tmp_path / "a.h5ad", coordinates=tmp_path / "a.csv")
    run = write_run(section)
    with pytest.raises(
        InputError,
        match=r"Expected a Visium HD folder, Stereo-seq .* or a table of transcripts for bin_size, found visium",
    ):
        io.read(run, bin_size=8)
    with pytest.raises(
        InputError, match=r"Expected an .h5ad or .zarr, whose counts can stay in the file, for backed, found visium"
    ):
        io.read(run, backed=True)


@pytest.mark.parametrize("name", ["he.jpg", "slide.SVS", "morphology.ome.tif"])
def test_an_image_is_no_section(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf'image. Give the counts, and the image as image="{name}" \(--image'):
        io.read(tmp_path / name)


def test_counts_are_not_read_to_recognise(section, write_run, monkeypatch):
    run = write_run(section)
    monkeypatch.setattr("stmmr.io._visium.read_counts", None)
    assert io.recognise(run).platform == "visium"


@pytest.mark.realdata
def test_each_recognised_input_can_be_read_from_what_was_found(shared_fixtures):
    for name in FIXTURES:
        recognised = io.recognise(shared_fixtures / name)
        assert io.recognise(recognised.path).platform == recognised.platform


@pytest.mark.realdata
def test_real_visium(shared_fixtures):
    adata = io.read(shared_fixtures / "visium_v1")
    assert adata.shape == (100, 100)
    assert set(adata.obs["in_tissue"]) == {1}
    ((library, entry),) = adata.uns["spatial"].items()
    assert library == "custom"
    assert entry["images"]["hires"].shape == (2000, 2000, 3)
    # spots of one row lie 138 pixels apart
    assert entry["scalefactors"]["microns_per_pixel"] == pytest.approx(100 / 138, rel=5e-3)


@pytest.mark.realdata
def test_real_mtx(shared_fixtures):
    adata = io.read(shared_fixtures / "visium_mtx")
    assert adata.shape == (3352, 815)
    assert adata.X.sum() > 0
    assert list(adata.uns["spatial"]["visium_mtx"]["images"]) == ["lowres"]


@pytest.mark.realdata
def test_real_visium_hd(shared_fixtures, caplog):
    fine = io.read(shared_fixtures / "visium_hd")
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        coarse = io.read(shared_fixtures / "visium_hd", bin_size=16)
    assert "2053 of 2695 barcodes have no position" in caplog.text
    for adata, size in ((fine, 8), (coarse, 16)):
        assert 0 < adata.n_obs < 2695
        scalefactors = adata.uns["spatial"]["visium_hd"]["scalefactors"]
        assert scalefactors["bin_size_um"] == size
        assert scalefactors["microns_per_pixel"] == pytest.approx(0.2737613)


# shape, then µm per unit and what tells it
FIXTURES = {
    "cosmx": ((9, 8), "px", 0.12028),
    "merscope": ((8, 9), "µm", 1.0),
    "merscope_names_with_suffix": ((456, 133), "µm", 1.0),
    "merscope_with_boundaries": ((1058, 50), "µm", 1.0),
    "seqfish_text": ((118, 1774), "coordinate units", np.nan),
    "stereoseq_gem": ((36, 10631), "px", 0.5),
    "visium_cytassist_whole": ((2898, 19465), "px", 4.666922),
    "visium_hd": ((1368, 100), "px", 0.2737613),
    "visium_hd_8_16um": ((1368, 100), "px", 0.2737613),
    "visium_mtx": ((3352, 815), "px", 100 / 138),
    "visium_v1": ((100, 100), "px", 100 / 138),
    "visium_v2_probe": ((2348, 671), None, None),
    "xenium": ((36602, 248), "µm", 1.0),
    "xenium_1_with_boundaries": ((569, 27), "µm", 1.0),
}
REFUSED = {"st_text", "visium_hd_2um"}
"""Folders with a damaged file, or with a choice to make: one sentence says so."""


@pytest.mark.realdata
def test_every_fixture_is_read_with_nothing_else_given(shared_fixtures):
    assert {path.name for path in shared_fixtures.iterdir()} == FIXTURES.keys() | REFUSED
    for name in REFUSED:
        with pytest.raises(InputError, match=r"^Expected "):
            io.read(shared_fixtures / name)
    for name, (shape, unit, um) in FIXTURES.items():
        adata = io.read(shared_fixtures / name)
        assert adata.shape == shape, name
        assert (adata.X.data > 0).all(), name
        if unit is None:
            with pytest.raises(InputError, match="Expected coordinates"):
                coordinates(adata)
            continue
        xy = coordinates(adata)
        assert xy.shape == (adata.n_obs, 2)
        told_by = "microns_per_pixel" if np.isfinite(um) else "unknown"
        assert units(adata) == (unit, pytest.approx(um, rel=5e-3, nan_ok=True), told_by), name


@pytest.mark.realdata
def test_fixtures_hold_what_their_files_say(shared_fixtures):
    cosmx = io.read(shared_fixtures / "cosmx")
    np.testing.assert_allclose(cosmx["3_10"].obsm["spatial"], [[25862.7777777778, 162484.666666667]])
    assert cosmx["7_10", "ACKR4"].X.toarray() == 2
    merscope = io.read(shared_fixtures / "merscope")
    np.testing.assert_allclose(merscope["88869"].obsm["spatial"], [[12501.3060081969, 10052.7792821054]])
    assert merscope.obs.loc["88869", "fov"] == 1609
    xenium = io.read(shared_fixtures / "xenium")
    assert xenium.obs.loc["1", "transcript_counts"] == xenium["1"].X.sum() == 384
    assert xenium.obs.loc["4", "cell_area"] == pytest.approx(427.8103125)


@pytest.mark.realdata
def test_info_describes_every_fixture(shared_fixtures):
    for name, (shape, unit, _) in FIXTURES.items():
        described = describe(shared_fixtures / name, RunOptions())
        assert (next(described[rows] for rows in ("spots", "cells", "bins") if rows in described)) == str(shape[0])
        assert described["genes"] == str(shape[1])
        assert described["coordinates"].startswith(unit or "not usable")


@pytest.mark.realdata
def test_xenium_agrees_with_the_published_object(shared_fixtures, shared_data):
    theirs = ad.read_h5ad(shared_data / "xenium_mouse_brain.h5ad")
    ours = io.read(shared_fixtures / "xenium")
    assert set(ours.var_names) == set(theirs.var_names)
    np.testing.assert_array_equal(ours.obs_names, theirs.obs_names)
    np.testing.assert_allclose(ours.obsm["spatial"], theirs.obsm["spatial"])
    np.testing.assert_array_equal(ours.X.sum(axis=1), theirs.X.sum(axis=1))


# what the file or its array tells; of the others, made of cells, nothing does
H5AD_UM = {
    "st_her2_A1": 200 / 218,
    "st_her2_C2": 0.689,
    "st_her2_C3_img_unlabelled": 0.686,
    "st_her2_C4_img_unlabelled": 0.686,
    "st_mob1_img": 2.74,
    "st_mob4_img": 2.75,
    "st_synovium_RA2": 1.0,
    "st_pdac_A": 200,
    "visium_dlpfc_151508_pcs15_img": 100 / 138,
    "visium_dlpfc_151671_pcs15_img": 100 / 138,
    "visium_mouse_skin_wound_pcs_img": 0.759,
    "visium_dlpfc_151673": 100 / 138,
    "visium_dlpfc_151674": 100 / 138,
}


@pytest.mark.realdata
def test_real_h5ad(shared_data):
    paths = sorted(shared_data.glob("*.h5ad"))
    assert paths
    for path in paths:
        assert io.recognise(path).platform == "h5ad"
        adata = io.read(path, backed=True)
        assert adata.n_obs > 1
        assert adata.n_vars > 1 or "X_pca" in adata.obsm
        assert adata.obsm["spatial"].shape[0] == adata.n_obs
        assert coordinates(adata).shape == (adata.n_obs, 2)
        um = H5AD_UM.get(path.stem)
        found = units(adata)[1]
        assert found == pytest.approx(um, rel=0.01) if um else np.isnan(found), path.stem
    smallest = min(paths, key=lambda path: path.stat().st_size)
    assert io.read(smallest).obsm["spatial"].shape[1] == 2


def test_every_platform_stands_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "platforms.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    order = [next(i for i, row in enumerate(rows) if f"`{kind.read.__name__}`" in row) for kind in KINDS.values()]
    assert order == sorted(order)
