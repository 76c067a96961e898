"""Counts that stay on disk: the same domains, a result that opens, and nothing large in memory."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmmr
from helpers import run_main
from stmmr._core import kernel, keys, rows
from stmmr.pipeline import sources

OPTIONS = ("--n-domains", 4, "--no-genes", "--no-report", "--no-progress")


@pytest.fixture(scope="module")
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=24, n_cols=24, n_domains=4, n_genes=200)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 100)
    monkeypatch.setattr(kernel, "TILE", 120)


def write_h5ad(adata, folder):
    adata.write_h5ad(folder / "in.h5ad")
    return folder / "in.h5ad"


def write_zarr(adata, folder):
    adata.write_zarr(folder / "in.zarr")
    return folder / "in.zarr"


@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
@pytest.mark.parametrize(
    ("write", "result"),
    [(write_h5ad, "result.h5ad"), pytest.param(write_zarr, "result.zarr", marks=pytest.mark.nightly)],
)
def test_on_disk_as_in_memory(tissue, tmp_path, write, result):
    source = write(tissue, tmp_path)
    for mode in ("memory", "disk"):
        assert run_main("run", source, "-o", tmp_path / mode, "--mode", mode, *OPTIONS) == 0
        assert json.loads((tmp_path / mode / "run.json").read_text())["stmmr"]["mode"] == mode
    tables = [pd.read_csv(tmp_path / mode / "domains.csv", index_col=0) for mode in ("memory", "disk")]
    assert (tables[0]["domain"] == tables[1]["domain"]).mean() > 0.99
    written = (ad.read_h5ad if result.endswith("h5ad") else ad.read_zarr)(tmp_path / "disk" / result)
    assert (written.X != tissue.X).nnz == 0
    assert written.obs_names.tolist() == tissue.obs_names.tolist()
    assert {keys.EMBEDDING, keys.COMPONENTS, "spatial"} <= set(written.obsm)
    assert (written.obs[keys.DOMAIN].astype(str) == tables[1]["domain"].astype(str)).all()
    assert keys.LOGNORM not in written.layers
    assert list(written.uns["spatial"]) == ["simulated"]


def test_auto_goes_by_size(tissue, tmp_path, monkeypatch, caplog):
    source = write_h5ad(tissue, tmp_path)
    with caplog.at_level("INFO", logger="stmmr"):
        assert not sources.stays_on_disk(source, "auto")
        monkeypatch.setattr(sources, "IN_MEMORY_AT_MOST", 1000)
        assert sources.stays_on_disk(source, "auto")
    assert "read into memory: about" in caplog.text
    assert "read from disk in chunks" in caplog.text
    with pytest.raises(stmmr.InputError, match="auto, memory, disk"):
        sources.stays_on_disk(source, "ram")


def test_other_inputs_are_read_into_memory(shared_fixtures, tmp_path, capsys):
    assert not sources.stays_on_disk(shared_fixtures / "visium_v1", "auto")
    assert run_main("run", shared_fixtures / "visium_v1", "-o", tmp_path / "out", "--mode", "disk") == 1
    assert "can stay in the file, for backed, found visium" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_wide_arrays_go_to_a_file_beyond_a_size(tissue, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "IN_MEMORY_AT_MOST", 1000)
    adata, other = tissue.copy(), tissue.copy()
    with rows.scratch_folder(tmp_path):
        stmmr.run(adata, n_domains=4, histology=False, progress=False)
    assert isinstance(adata.obsm[keys.COMPONENTS].base, np.memmap)
    assert not list(tmp_path.iterdir())
    adata.write_h5ad(tmp_path / "out.h5ad")
    monkeypatch.undo()
    stmmr.run(other, n_domains=4, histology=False, progress=False)
    assert (adata.obs[keys.DOMAIN] == other.obs[keys.DOMAIN]).mean() > 0.99


def test_room_is_asked_for_before_it_is_written_to(tissue, tmp_path, monkeypatch, capsys):
    import shutil

    source = write_h5ad(tissue, tmp_path)
    free = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert run_main("run", source, "-o", tmp_path / "out", "--mode", "disk", *OPTIONS) == 1
    assert "found the disk or your quota full" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "out", ".out.unfinished"}  # domains come first
    assert not list((tmp_path / "out").glob("result*"))
