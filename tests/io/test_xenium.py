"""Xenium folders as Onboard Analysis 1 to 3 writes them, and what can be wrong with them."""

import logging

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr.io import read_xenium

H5 = "cell_feature_matrix.h5"
GENES = ["Gad1", "Slc17a7", "Mbp", "NegControlProbe_00042", "BLANK_0069"]
TYPES = ["Gene Expression"] * 3 + ["Negative Control Probe", "Blank Codeword"]
N = 30


@pytest.fixture
def cells(new_section):
    rng = np.random.default_rng(0)
    names = [f"aaaa{chr(97 + i % 16)}{chr(97 + i // 16)}gk-1" for i in range(N)]
    positions = pd.DataFrame(
        {
            "cell_id": names,
            "x_centroid": rng.uniform(0, 100, N),
            "y_centroid": rng.uniform(0, 50, N),
            "transcript_counts": rng.poisson(80, N),
            "cell_area": rng.uniform(20, 90, N),
        }
    )
    order = [names[i] for i in rng.permutation(N)]
    return new_section(rng.poisson(2.0, (N, len(GENES))), order, positions, GENES, TYPES)


@pytest.fixture
def write(tmp_path, write_matrix):
    def write(cells, *, matrix=H5, table="cells.parquet", prefix="", inside=""):
        folder = tmp_path / "brain" / inside
        folder.mkdir(parents=True, exist_ok=True)
        write_matrix(folder / (prefix + matrix), cells)
        path = folder / (prefix + table)
        if table.endswith(".parquet"):
            cells.positions.to_parquet(path)
        else:
            cells.positions.to_csv(path, index=False)
        return tmp_path / "brain"

    return write


def assert_holds(adata, cells):
    table = cells.positions.set_index("cell_id").loc[adata.obs_names]
    rows = [cells.barcodes.index(name) for name in adata.obs_names]
    assert list(adata.var_names) == GENES[:3]
    np.testing.assert_array_equal(adata.X.toarray(), cells.counts[rows, :3])
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(adata.obsm["spatial"], table[["x_centroid", "y_centroid"]])
    np.testing.assert_array_equal(adata.obs["transcript_counts"], table["transcript_counts"])
    np.testing.assert_allclose(adata.obs["cell_area"], table["cell_area"])


@pytest.mark.parametrize("table", ["cells.parquet", "cells.csv.gz", "cells.csv"])
@pytest.mark.parametrize("matrix", [H5, "cell_feature_matrix"])
def test_every_layout_gives_the_same_section(cells, write, matrix, table, caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(write(cells, matrix=matrix, table=table))
    assert_holds(adata, cells)
    assert adata.n_obs == N
    assert "2 features that are no genes dropped (Blank Codeword, Negative Control Probe)" in caplog.text
    assert adata.uns["spatial"]["brain"]["scalefactors"]["microns_per_pixel"] == 1
    adata.write_h5ad(tmp_path / "a.h5ad")


@pytest.mark.parametrize("start", ["", "outs", f"outs/GSM1_{H5}"])
def test_folder_above_and_names_with_a_sample(cells, write, start):
    path = write(cells, inside="outs", prefix="GSM1_") / start
    assert io.recognise(path).platform == "xenium"
    adata = io.read(path)
    assert_holds(adata, cells)
    assert list(adata.uns["spatial"]) == ["GSM1"]


def test_numbers_and_bytes_as_names(cells, write):
    cells.barcodes = [str(i) for i in range(N)]
    cells.positions["cell_id"] = range(N)
    assert list(read_xenium(write(cells, table="cells.csv.gz")).obs_names) == cells.barcodes
    cells.positions["cell_id"] = [name.encode() for name in cells.barcodes]
    assert list(read_xenium(write(cells)).obs_names) == cells.barcodes


def test_missing_companions(cells, write):
    run = write(cells)
    (run / "cells.parquet").unlink()
    with pytest.raises(
        InputError, match=r"positions of the cells \(cells.parquet or cells.csv.gz\) beside .*found cell_"
    ):
        io.read(run)
    (run / H5).unlink()
    (run / "cell_feature_matrix.zarr.zip").touch()
    with pytest.raises(InputError, match=r"Expected .*cell_feature_matrix.zarr.zip"):
        read_xenium(run)
    (run / "cell_feature_matrix.zarr.zip").unlink()
    with pytest.raises(InputError, match=r"Expected cell_feature_matrix.h5.*found "):
        read_xenium(run)


def test_cells_of_another_run(cells, write, caplog):
    run = write(cells)
    some = cells.positions.iloc[:12]
    some.to_parquet(run / "cells.parquet")
    adata = io.read(run)
    assert_holds(adata, cells)
    assert "12 of 30 cells (40 %) have a position in cells.parquet" in caplog.text
    cells.positions.assign(cell_id=[f"b{i}" for i in range(N)]).to_parquet(run / "cells.parquet")
    with pytest.raises(InputError, match=r"found none of 30: the counts have aaaa.*the positions b0, b1"):
        io.read(run)


def test_a_cell_twice_and_a_column_missing(cells, write):
    run = write(cells, table="cells.csv")
    pd.concat([cells.positions, cells.positions[:2]]).to_csv(run / "cells.csv", index=False)
    with pytest.raises(InputError, match=r"found 2 repeated names \(first: aaaa"):
        io.read(run)
    cells.positions.drop(columns="y_centroid").to_csv(run / "cells.csv", index=False)
    with pytest.raises(InputError, match="Expected the columns x_centroid, y_centroid"):
        io.read(run)
    cells.positions.drop(columns="cell_id").to_csv(run / "cells.csv", index=False)
    with pytest.raises(InputError, match="Expected the column cell_id"):
        io.read(run)


@pytest.mark.parametrize("table", ["cells.parquet", "cells.csv.gz"])
def test_damaged_cells(cells, write, table, spoil):
    run = write(cells, table=table)
    spoil(run / table)
    with pytest.raises(InputError, match=f"Expected a table .*{table}"):
        io.read(run)


def test_damaged_counts(cells, write, spoil):
    run = write(cells)
    spoil(run / H5)
    with pytest.raises(InputError, match="Expected a 10x count matrix"):
        io.read(run)
