"""AnnData files and SpatialData stores."""

import logging
import os
import subprocess
import sys

import anndata as ad
import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse

from stmmr import InputError
from stmmr.datasets import simulated_tissue
from stmmr.io import read_h5ad, read_zarr
from stmmr.io._tables import write_h5ad


@pytest.fixture
def write_store(tmp_path, zarr_format, write_zarr):
    """Write the parts of a SpatialData store that hold tables and images."""

    def write(tables: dict[str, ad.AnnData]):
        path = tmp_path / "data.zarr"
        store = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        store.create_group("images")
        store.create_group("tables")
        for name, table in tables.items():
            write_zarr(table, path / "tables" / name)
        return path

    return write


def test_raw_is_left_as_it_is(adata, tmp_path):
    adata.raw = adata.copy()
    adata.X = adata.X / 2
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read.raw.X, 2 * read.X)


def test_no_genes_at_all(adata, tmp_path):
    ad.AnnData(obs=adata.obs, obsm=dict(adata.obsm)).write_h5ad(tmp_path / "a.h5ad")
    assert read_h5ad(tmp_path / "a.h5ad").shape == (6, 0)


def test_written_as_anndata_writes(adata, tmp_path):
    from anndata.tests.helpers import assert_equal

    adata.obs["text"] = ["a", "b"] * 3
    adata.X = sparse.csr_matrix(adata.X)
    adata.raw = adata.copy()
    adata.uns["nested"] = {"list": ["a", "b"], "number": 1.5, "empty": {}}
    write_h5ad(adata, tmp_path / "ours.h5ad")
    adata.write_h5ad(tmp_path / "theirs.h5ad", compression="gzip")
    ours, theirs = (ad.read_h5ad(tmp_path / name) for name in ("ours.h5ad", "theirs.h5ad"))
    assert_equal(ours, theirs)
    with h5py.File(tmp_path / "ours.h5ad") as file:
        assert file.attrs["encoding-type"] == "anndata"
        assert file["X/data"].compression == "gzip"


@pytest.mark.skipif(os.name == "nt", reason="needs limits of a process")
def test_file_that_does_not_fit_is_one_error(tmp_path):
    """HDF5 on the file itself prints hundreds of tracebacks and crashes."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from anndata import AnnData\n"
        "from stmmr.io._tables import write_h5ad\n"
        "adata = AnnData(np.random.default_rng(0).normal(size=(200, 100)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    write_h5ad(adata, Path(sys.argv[1]))\n"
        "except OSError:\n"
        "    print('one error')"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "a.h5ad")]
    out = subprocess.run(line, check=False, capture_output=True, text=True)
    assert (out.returncode, out.stdout, out.stderr) == (0, "one error\n", "")


def test_names_are_made_unique(adata, tmp_path, caplog, write_zarr):
    adata.var_names = ["Gad1", "Gad1", "Snap25"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    write_zarr(adata, tmp_path / "a.zarr")
    for read in (read_h5ad(tmp_path / "a.h5ad"), read_zarr(tmp_path / "a.zarr")):
        assert list(read.var_names) == ["Gad1", "Gad1-1", "Snap25"]
    assert caplog.text.count("1 gene names occur more than once") == 2


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_h5ad_that_is_no_hdf5(tmp_path, content):
    (tmp_path / "a.h5ad").write_bytes(content)
    with pytest.raises(InputError, match=r"Expected an AnnData file \(.h5ad\) at .*download it again"):
        read_h5ad(tmp_path / "a.h5ad")


def test_h5ad_cut_short(adata, tmp_path):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged or cut short"):
        read_h5ad(path)


def test_h5ad_with_a_damaged_part(adata, tmp_path):
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["obs/_index"]
    with pytest.raises(InputError, match="Expected an AnnData file"):
        read_h5ad(path)


@pytest.mark.parametrize("part", ["X", "layers/counts"])
def test_h5ad_with_indices_beyond_the_matrix(adata, tmp_path, part):
    path = tmp_path / "a.h5ad"
    adata.X = sparse.csr_matrix(adata.X)
    adata.layers["counts"] = adata.X.copy()
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        file[part]["indices"][0] = 2**30
    with pytest.raises(InputError, match="Expected an AnnData file"):
        read_h5ad(path)


def test_hdf5_that_is_no_anndata(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["matrix/data"] = np.arange(3)
    with pytest.raises(InputError, match=r"\(with obs and var\).*found one that holds matrix"):
        read_h5ad(tmp_path / "a.h5ad")


def test_only_table_of_a_spatialdata_store(adata, write_store, caplog):
    path = write_store({"table": adata})
    with caplog.at_level(logging.INFO, logger="stmmr"):
        read = read_zarr(path)
    np.testing.assert_array_equal(read.obsm["spatial"], adata.obsm["spatial"])
    assert "its images and shapes are not read" in caplog.text


def test_several_tables_are_named_and_one_can_be_given(adata, write_store):
    path = write_store({"square_008um": adata, "square_016um": adata[:2]})
    with pytest.raises(InputError, match=r"found square_008um, square_016um.*tables/square_008um"):
        read_zarr(path)
    assert read_zarr(path / "tables" / "square_016um").n_obs == 2


def test_spatialdata_without_tables(write_store):
    with pytest.raises(InputError, match=r"Expected one table .*found nothing"):
        read_zarr(write_store({}))


def test_zarr_that_is_no_anndata(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_group("images")
    with pytest.raises(InputError, match=r"a table of counts in the SpatialData store .*found images only"):
        read_zarr(tmp_path / "a.zarr")


def test_folder_that_is_no_zarr(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match="Expected an AnnData or SpatialData store"):
        read_zarr(tmp_path / "a.zarr")


def test_zarr_that_lacks_a_part(adata, tmp_path, write_zarr):
    path = tmp_path / "a.zarr"
    write_zarr(adata, path)
    for file in (path / "obs" / "_index").rglob("*"):
        if file.is_file():
            file.write_text("{")
    with pytest.raises(InputError, match="Expected an AnnData or SpatialData store"):
        read_zarr(path)


def test_the_reason_of_a_damaged_file_is_told_once(tmp_path):
    path = tmp_path / "a.h5ad"
    simulated_tissue(n_rows=8, n_cols=8, n_genes=5).write_h5ad(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"content that cannot be read \(OSError: (?!OSError).*It may be damaged"):
        read_h5ad(path)
