"""A count matrix of 10x by itself, of genes or of probes."""

import logging

import h5py
import numpy as np
import pytest

from stmmr import InputError, io
from stmmr._core.space import coordinates

PROBES = "raw_probe_bc_matrix.h5"


@pytest.fixture
def probes(section, write_matrix, tmp_path):
    """Five probes of three genes, the last probe filtered out; half of the places in tissue."""
    section.types = ["Gene Expression"] * 5
    path = tmp_path / "alone" / PROBES
    path.parent.mkdir()
    write_matrix(path, section)
    genes = ["Gad1", "Mbp", "Gad1", "Snap25", "Mbp"]
    with h5py.File(path, "a") as file:
        features = file["matrix/features"]
        features["gene_id"] = np.array([f"ENS{gene}" for gene in genes], dtype="S")
        features["gene_name"] = np.array(genes, dtype="S")
        features["filtered_probes"] = np.array([True, True, True, True, False])
        file["matrix/filtered_barcodes"] = np.arange(len(section.barcodes)) % 2 == 0
    return path


def test_counts_alone(section, write_matrix, tmp_path, caplog):
    write_matrix(tmp_path / "mine.h5", section)
    for path in (tmp_path / "mine.h5",):
        found = io.recognise(path)
        assert found.platform == "10x_h5"
        assert "without positions" in found.because
        adata = io.read(path)
    np.testing.assert_array_equal(adata.X.toarray(), section.counts[:, :4])
    assert "holds counts but no positions. Put Space Ranger's folder spatial/ beside it" in caplog.text
    with pytest.raises(InputError, match="Expected coordinates"):
        coordinates(adata)


@pytest.mark.parametrize("start", ["", PROBES])
def test_probes_are_summed_to_genes(probes, section, start, caplog):
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(probes.parent / start)
    inside = section.counts[::2]
    assert list(adata.obs_names) == section.barcodes[::2]
    assert list(adata.var_names) == ["Gad1", "Mbp", "Snap25"]
    assert list(adata.var["gene_ids"]) == ["ENSGad1", "ENSMbp", "ENSSnap25"]
    expected = np.column_stack([inside[:, 0] + inside[:, 2], inside[:, 1], inside[:, 3]])
    np.testing.assert_array_equal(adata.X.toarray(), expected)
    assert adata.X.dtype == np.float32
    assert "Counts of 4 probes summed to 3 genes; 1 probes dropped that Space Ranger filters out" in caplog.text
    assert "40 barcodes outside the tissue dropped, 40 kept" in caplog.text


def test_probes_with_positions(probes, section, write_run, tmp_path):
    run = write_run(section)
    (run / "filtered_feature_bc_matrix.h5").unlink()
    probes.rename(run / PROBES)
    adata = io.read(run)
    assert io.recognise(run).platform == "visium"
    assert set(adata.obs["in_tissue"]) == {1}
    assert adata.obsm["spatial"].shape == (adata.n_obs, 2)


def test_not_of_10x(tmp_path, spoil, section, write_matrix):
    write_matrix(tmp_path / "a.h5", section)
    spoil(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"Expected a 10x count matrix at"):
        io.read(tmp_path / "a.h5")
