"""One entrance: recognising what an input is."""

import logging
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest

import stmmr
from stmmr import InputError, io

SQUARE = "binned_outputs/square_008um"


def test_importing_it_is_cheap():
    code = "import sys, stmmr.io; print([m for m in ('anndata', 'pandas', 'scanpy', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names():
    assert {"read", "recognise", "read_h5ad", "read_zarr", "read_visium", "read_visium_hd"} <= set(io.__all__)
    assert all(hasattr(io, name) for name in io.__all__)
    assert stmmr.read is io.read


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
        with pytest.raises(InputError, match="segmented_outputs/ are not read: give a folder that has binned"):
            io.read(path)


def test_unknown_folder_is_listed(tmp_path):
    (tmp_path / "cells.csv.gz").touch()
    (tmp_path / ".hidden").touch()
    with pytest.raises(InputError, match=r"\.h5ad.*\.zarr.*Visium.*Visium HD.*found cells\.csv\.gz\. Give one"):
        io.read(tmp_path)


@pytest.mark.parametrize("name", ["counts.csv", "section.rds"])
def test_unknown_file(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"found {name}"):
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
    with pytest.raises(InputError, match="Expected a Visium HD folder for bin_size, found h5ad"):
        io.read(tmp_path / "a.h5ad", bin_size=8)
    with pytest.raises(InputError, match="Expected a vendor's folder for library_id, found h5ad"):
        io.read(tmp_path / "a.h5ad", library_id="A1")
    with pytest.raises(InputError, match="Expected a Visium HD folder for bin_size, found visium"):
        io.read(write_run(section), bin_size=8)


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


@pytest.mark.realdata
def test_real_folders_that_cannot_be_read(shared_fixtures):
    with pytest.raises(InputError, match="found counts of probes"):
        io.read(shared_fixtures / "visium_v2_probe")
    for name in ("xenium", "cosmx", "merscope"):
        with pytest.raises(InputError, match="Give one of these"):
            io.read(shared_fixtures / name)


@pytest.mark.realdata
def test_real_h5ad(shared_data):
    paths = sorted(shared_data.glob("*.h5ad"))
    assert paths
    for path in paths:
        assert io.recognise(path).platform == "h5ad"
        adata = ad.read_h5ad(path, backed="r")
        assert min(adata.shape) > 1
        assert adata.obsm["spatial"].shape[0] == adata.n_obs
        adata.file.close()
    smallest = min(paths, key=lambda path: path.stat().st_size)
    assert io.read(smallest).obsm["spatial"].shape[1] == 2
