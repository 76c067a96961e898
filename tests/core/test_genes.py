"""Counts on disk, read gene by gene."""

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import stmmr
from stmmr._core import genes, rows


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(genes, "VALUES_AT_ONCE", 300)
    monkeypatch.setattr(rows, "CHUNK", 16)
    counts = sparse.random(70, 30, density=0.4, format="csr", random_state=0, dtype=np.float32)
    counts.data = np.ceil(5 * counts.data)
    adata = AnnData(counts)
    adata.obsm["spatial"] = np.arange(140.0).reshape(70, 2)
    adata.write_h5ad(tmp_path / "in.h5ad")
    return stmmr.read(tmp_path / "in.h5ad", backed=True)


def test_analyses_together_read_the_file_twice_and_get_the_same_values(on_disk, monkeypatch):
    expected = list(genes.gene_columns(on_disk).lognormalised())
    assert len(expected) > 2
    read = []
    whole = rows.OnDisk.__getitem__
    monkeypatch.setattr(rows.OnDisk, "__getitem__", lambda self, own: read.append(own.start) or whole(self, own))
    with genes.genes_read_once():
        for _ in range(2):
            blocks = list(genes.gene_columns(on_disk).lognormalised())
            for (names, values), (same_names, same) in zip(blocks, expected, strict=True):
                assert names == same_names
                for part in ("data", "indices", "indptr"):
                    np.testing.assert_array_equal(getattr(values, part), getattr(same, part))
    assert sorted(read) == sorted(2 * list(range(0, 70, 16)))


def test_without_room_for_a_copy_each_block_takes_a_pass(on_disk, monkeypatch):
    monkeypatch.setattr(genes, "BYTES_OF_VALUE", 2**60)
    with genes.genes_read_once():
        columns = genes.gene_columns(on_disk)
        assert columns.in_file is None
        assert len(list(columns.lognormalised())) > 2
