"""Stereo-seq files as geftools writes them, and what can be wrong with them."""

import logging

import h5py
import numpy as np
import pytest
from anndata import AnnData

from stmmr import InputError, io
from stmmr._core.space import rows_called, units
from stmmr.io import read_stereoseq

GENES = ["Gad1", "Mbp", "Snap25"]
ORIGIN = (4_000, 7_000)


@pytest.fixture
def spots():
    """x, y, gene and count of single spots of the chip, from the corner of what was captured."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(0, 400, (3_000, 2)), rng.integers(0, len(GENES), 3_000)]), rng.integers(
        1, 5, 3_000
    )


def binned(spots, size):
    """Count by bin and gene, as a dictionary, which knows nothing of how files are laid out."""
    table: dict[tuple[int, int, int], int] = {}
    for (x, y, gene), count in zip(*spots, strict=True):
        key = (int(x) // size, int(y) // size, int(gene))
        table[key] = table.get(key, 0) + int(count)
    return table


@pytest.fixture
def write_bins(spots, tmp_path):
    def write(*sizes, name="SS1.tissue.gef", resolution=500, version=2, in_spots=False):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for size in sizes:
                rows = sorted(binned(spots, size).items(), key=lambda row: (row[0][2], row[0]))
                factor = size if in_spots else 1
                values = np.array(
                    [(x * factor, y * factor, count) for (x, y, _), count in rows],
                    dtype=[("x", "<i4"), ("y", "<i4"), ("count", "u1" if size < 50 else "<u2")],
                )
                n = np.bincount([gene for (_, _, gene), _ in rows], minlength=len(GENES))
                kind = [("gene", "S64")] if version < 4 else [("geneID", "S64"), ("geneName", "S64")]
                genes = np.zeros(len(GENES), dtype=[*kind, ("offset", "<u4"), ("count", "<u4")])
                for field, _ in kind:
                    genes[field] = [f"ENS{g}" if field == "geneID" else g for g in GENES]
                genes["offset"], genes["count"] = np.cumsum(n) - n, n
                expression = file.create_dataset(f"geneExp/bin{size}/expression", data=values)
                expression.attrs["minX"], expression.attrs["minY"] = (np.array([v], "<i4") for v in ORIGIN)
                if resolution is not None:
                    expression.attrs["resolution"] = np.array([resolution], "<u4")
                file[f"geneExp/bin{size}/gene"] = genes
        return path

    return write


@pytest.fixture
def write_cells(tmp_path):
    def write(*, name="SS1.cellbin.gef", resolution=500):
        rng = np.random.default_rng(1)
        counts = rng.poisson(1.0, (12, len(GENES)))
        counts[3] = 0
        n = (counts > 0).sum(axis=1)
        cells = np.zeros(
            12, [(f, "<u4") for f in ("id", "x", "y", "offset")] + [(f, "<u2") for f in ("geneCount", "area")]
        )
        cells["id"], cells["x"], cells["y"] = np.arange(12) + 7, *rng.integers(0, 300, (2, 12))
        cells["offset"], cells["geneCount"], cells["area"] = np.cumsum(n) - n, n, 100
        values = np.zeros(n.sum(), [("geneID", "<u4"), ("count", "<u2")])
        values["geneID"], values["count"] = np.nonzero(counts)[1], counts[counts > 0]
        genes = np.zeros(len(GENES), [("geneName", "S64"), ("offset", "<u4")])
        genes["geneName"] = GENES
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["resolution"] = np.array([resolution], "<u4")
            for part, content in (("cell", cells), ("gene", genes), ("cellExp", values)):
                file[f"cellBin/{part}"] = content
        return tmp_path / name, counts, cells

    return write


def assert_holds(adata, spots, size):
    expected = binned(spots, size)
    found = {}
    corners = np.rint((adata.obsm["spatial"] - ORIGIN - size / 2) / size).astype(int)
    coo = adata.X.tocoo()
    for row, gene, count in zip(coo.row, coo.col, coo.data, strict=True):
        found[(*map(int, corners[row]), int(gene))] = int(count)
    assert found == expected
    assert list(adata.var_names) == GENES


@pytest.mark.parametrize("size", [1, 20, 50])
@pytest.mark.parametrize("in_spots", [False, True])
@pytest.mark.parametrize("version", [2, 4])
def test_bins(spots, write_bins, size, in_spots, version):
    adata = io.read(write_bins(size, in_spots=in_spots, version=version), bin_size=size)
    assert_holds(adata, spots, size)
    assert adata.uns["spatial"]["SS1"]["scalefactors"]["microns_per_pixel"] == 0.5
    assert ("gene_ids" in adata.var) == (version == 4)
    assert rows_called(adata) == "bins"
    corner = [int(part) for part in adata.obs_names[0].split("_")]
    np.testing.assert_allclose(adata.obsm["spatial"][0], np.array(corner) + size / 2)


@pytest.mark.parametrize(("there", "wanted", "read"), [((1, 20, 50), None, 50), ((1, 20), None, 20), ((1, 50), 1, 1)])
def test_choice_of_bins(spots, write_bins, there, wanted, read, caplog):
    path = write_bins(*there)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(path, bin_size=wanted)
    assert_holds(adata, spots, read)
    assert f"(bin{read})" in caplog.text


def test_bins_that_are_not_there(write_bins):
    with pytest.raises(InputError, match=r"Expected bins of 50 spots in .*, or smaller ones that make them, found 20"):
        io.read(write_bins(20), bin_size=50)


@pytest.mark.parametrize(("there", "wanted", "made"), [((1,), None, 50), ((1, 20), 100, 100), ((1, 20), 30, 30)])
@pytest.mark.parametrize("in_spots", [False, True])
def test_bins_made_of_smaller_ones(spots, write_bins, there, wanted, made, in_spots):
    assert_holds(io.read(write_bins(*there, in_spots=in_spots), bin_size=wanted), spots, made)


def test_bins_under_the_tissue_go_first(write_bins, write_cells, tmp_path):
    cells, _, _ = write_cells()
    assert io.recognise(tmp_path).path == cells
    raw = write_bins(1, name="SS1.raw.gef")
    assert io.recognise(tmp_path).path == cells
    tissue = write_bins(20, name="outs/feature_expression/SS1.tissue.gef")
    assert io.recognise(tmp_path / "outs").path == tissue
    for path in (cells, raw):
        path.unlink()
    assert io.recognise(tmp_path).path == tissue
    write_bins(20, name="outs/feature_expression/SS2.tissue.gef")
    with pytest.raises(InputError, match=r"Expected one .gef in .*SS1.tissue.gef.*SS2"):
        io.recognise(tmp_path)


def test_cells(write_cells, tmp_path):
    path, counts, cells = write_cells(resolution=715)
    adata = io.read(path)
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    np.testing.assert_array_equal(adata.obsm["spatial"], np.column_stack([cells["x"], cells["y"]]))
    assert list(adata.obs_names) == [str(i) for i in cells["id"]]
    assert set(adata.obs["area"]) == {100}
    assert adata.uns["spatial"]["SS1"]["scalefactors"]["microns_per_pixel"] == pytest.approx(0.715)
    with pytest.raises(InputError, match=r"Expected a .gef with bins for bin_size, found cells"):
        io.read(path, bin_size=50)
    assert adata.uns["spatial"]["SS1"]["metadata"] == {"platform": "Stereo-seq cells"}
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert rows_called(io.read(tmp_path / "a.h5ad")) == "cells"


@pytest.mark.parametrize("resolution", [None, 0])
def test_without_resolution_the_scale_is_unknown(write_bins, resolution, caplog):
    adata = io.read(write_bins(50, resolution=resolution))
    assert "scale in µm unknown" in caplog.text
    library = adata.uns["spatial"]["SS1"]
    assert "microns_per_pixel" not in library["scalefactors"]
    assert library["metadata"] == {"platform": "Stereo-seq"}
    assert units(adata)[1:] == (pytest.approx(np.nan, nan_ok=True), "unknown")


def test_implausible_resolution(write_bins, caplog):
    io.read(write_bins(50, resolution=500_000))
    assert "Neighbours are 2.5e+04 µm apart" in caplog.text


def test_damaged_files(write_bins, spoil):
    path = write_bins(50)
    spoil(path)
    with pytest.raises(InputError, match=r"Expected a Stereo-seq file \(.gef\) at"):
        io.read(path)


@pytest.mark.parametrize("change", [{"count": 9}, {"count": -1}])
def test_bins_that_do_not_add_up(write_bins, change):
    path = write_bins(50)
    with h5py.File(path, "a") as file:
        genes = file["geneExp/bin50/gene"][:]
        genes["count"][0] += np.array(change["count"]).astype("<u4")
        file["geneExp/bin50/gene"][:] = genes
    with pytest.raises(InputError, match="Expected a Stereo-seq file"):
        io.read(path)


@pytest.mark.parametrize(("part", "field"), [("cell", "geneCount"), ("cell", "offset"), ("cellExp", "geneID")])
def test_cells_that_do_not_add_up(write_cells, part, field):
    path, _, _ = write_cells()
    with h5py.File(path, "a") as file:
        values = file[f"cellBin/{part}"][:]
        values[field][2] = 60_000
        file[f"cellBin/{part}"][:] = values
    with pytest.raises(InputError, match="Expected a Stereo-seq file"):
        io.read(path)


def test_other_hdf5(tmp_path):
    AnnData(np.ones((3, 2))).write_h5ad(tmp_path / "a.gef")
    with pytest.raises(InputError, match=r"\(with geneExp or cellBin\).*holds X, layers"):
        io.read(tmp_path / "a.gef")
    with pytest.raises(InputError, match=r"Expected a .gef file in .*found nothing"):
        (tmp_path / "a.gef").unlink()
        read_stereoseq(tmp_path)
