"""CosMx flat files, old and new, and what can be wrong with them."""

import logging

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io, pp
from stmmr.io import read_cosmx
from stmmr.io._flat import CHUNK_VALUES

GENES = ["AATK", "ABL1", "NEGR1", "CD3E"]
CORNERS = {1: (10_000.0, 2_000.0), 2: (14_256.0, 2_000.0)}
EACH = 25


@pytest.fixture
def flat():
    """Metadata and counts of two fields of view, the rows in different orders."""
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"fov": np.repeat([1, 2], EACH), "cell_ID": np.tile(np.arange(1, EACH + 1), 2)})
    local = rng.integers(0, 4256, (2 * EACH, 2))
    corners = np.array([CORNERS[fov] for fov in cells["fov"]])
    cells["Area"] = rng.integers(100, 9000, 2 * EACH)
    cells[["CenterX_local_px", "CenterY_local_px"]] = local
    # y goes down in a field of view and up in the section
    cells[["CenterX_global_px", "CenterY_global_px"]] = local * [1, -1] + [0, 4256] + corners
    counts = cells[["fov", "cell_ID"]].copy()
    counts[[*GENES, "NegPrb1", "Negative02", "SystemControl3"]] = rng.poisson(3, (2 * EACH, 7))
    outside = pd.DataFrame(999, index=[0, 1], columns=counts.columns).assign(fov=[1, 2], cell_ID=0)
    return cells, pd.concat([outside, counts.sample(frac=1, random_state=0)], ignore_index=True)


@pytest.fixture
def write(tmp_path):
    def write(flat, *, prefix="lung_", packed="", fields=None, folder="run"):
        cells, counts = flat
        run = tmp_path / folder
        run.mkdir(exist_ok=True)
        tables = {"exprMat": counts, "metadata": cells, "fov_positions": fields}
        for name, table in tables.items():
            if table is not None:
                table.to_csv(run / f"{prefix}{name}_file.csv{packed}", index=False)
        return run

    return write


def positions(*columns, in_mm=0.00012028):
    table = pd.DataFrame({"FOV": list(CORNERS)} | dict(zip(("x_global_px", "y_global_px"), zip(*CORNERS.values()))))  # noqa: B905
    table[["x_global_mm", "y_global_mm"]] = table[["x_global_px", "y_global_px"]] * [in_mm, -in_mm]
    return table[["FOV", *columns]]


def assert_holds(adata, flat):
    cells, counts = flat
    keys = ["fov", "cell_ID"]
    both = cells.merge(counts, on=keys).set_index(cells["cell_ID"].astype(str) + "_" + cells["fov"].astype(str))
    both = both.loc[adata.obs_names]
    assert list(adata.var_names) == GENES
    np.testing.assert_array_equal(adata.X.toarray(), both[GENES])
    np.testing.assert_allclose(adata.obsm["spatial"], both[["CenterX_global_px", "CenterY_global_px"]])
    np.testing.assert_array_equal(adata.obs["Area"], both["Area"])
    assert adata.obs["fov"].dtype == "category"
    assert list(adata.obs["fov"]) == list(both["fov"].astype(str))


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("prefix", ["lung_", ""])
def test_stitched_section(flat, write, packed, prefix, caplog, tmp_path):
    run = write(flat, packed=packed, prefix=prefix)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(run)
    assert_holds(adata, flat)
    assert adata.n_obs == 2 * EACH
    assert "3 negative probes and controls dropped (NegPrb1, Negative02, SystemControl3)" in caplog.text
    assert "2 rows of counts outside of cells dropped (cell_ID 0)" in caplog.text
    assert "assumed to be 0.12028 µm, as on later instruments" in caplog.text
    ((library, entry),) = adata.uns["spatial"].items()
    assert library == (prefix.strip("_") or "run")
    assert entry["scalefactors"]["microns_per_pixel"] == 0.12028
    assert io.recognise(run / f"{prefix}exprMat_file.csv{packed}").platform == "cosmx"
    adata.write_h5ad(tmp_path / "a.h5ad")
    pp.spatial_graph(adata, section_key="fov", bandwidth=1.0)
    first = (adata.obs["fov"] == "1").to_numpy()
    assert adata.obsp["stmmr_weights"][first][:, ~first].nnz == 0


def test_fields_of_the_prototype_are_wider(flat, write, caplog):
    cells, counts = flat
    cells.loc[0, "CenterX_local_px"] = 5_400
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(write((cells, counts)))
    assert adata.uns["spatial"]["lung"]["scalefactors"]["microns_per_pixel"] == 0.18
    assert "assumed to be 0.18 µm, as on the prototype: fields are wider than 4256 px" in caplog.text
    mine = read_cosmx(write((cells, counts)), microns_per_pixel=0.169)
    assert mine.uns["spatial"]["lung"]["scalefactors"]["microns_per_pixel"] == 0.169
    with pytest.raises(InputError, match="microns_per_pixel to be a positive number"):
        read_cosmx(write((cells, counts)), microns_per_pixel=0)


def test_scale_that_the_fields_tell(flat, write):
    fields = positions("x_global_px", "y_global_px", "x_global_mm", "y_global_mm", in_mm=0.00017)
    adata = io.read(write(flat, fields=fields))
    assert adata.uns["spatial"]["lung"]["scalefactors"]["microns_per_pixel"] == pytest.approx(0.17)


def test_stitched_by_the_fields_of_view(flat, write):
    cells, counts = flat
    local = cells.drop(columns=["CenterX_global_px", "CenterY_global_px"])
    with pytest.raises(InputError, match=r"Expected …_fov_positions_file.csv beside .*within 2 fields of view"):
        io.read(write((local, counts)))
    adata = io.read(write((local, counts), fields=positions("x_global_px", "y_global_px")))
    assert_holds(adata, flat)
    one = io.read(write((local[local["fov"] == 2], counts[counts["fov"] == 2]), folder="one"))
    rows = cells.set_index(cells["cell_ID"].astype(str) + "_2")[EACH:].loc[one.obs_names]
    np.testing.assert_array_equal(one.obsm["spatial"], rows[["CenterX_local_px", "CenterY_local_px"]])
    with pytest.raises(InputError, match="found none for 2"):
        io.read(write((local, counts), fields=positions("x_global_px", "y_global_px")[:1]))
    with pytest.raises(InputError, match="Expected the columns fov, x_global_px"):
        io.read(write((local, counts), fields=positions()))


def test_large_tables_are_read_in_chunks(flat, write, monkeypatch):
    run = write(flat)
    monkeypatch.setattr("stmmr.io._flat.CHUNK_VALUES", 60)
    assert CHUNK_VALUES > 60
    assert_holds(io.read(run), flat)


def test_missing_metadata(flat, write):
    run = write(flat)
    (run / "lung_metadata_file.csv").unlink()
    with pytest.raises(InputError, match=r"positions of the cells \(lung_metadata_file.csv or .*found lung_exprMat"):
        io.read(run)
    (run / "lung_exprMat_file.csv").unlink()
    with pytest.raises(InputError, match=r"Expected …_exprMat_file.csv in .*found nothing"):
        read_cosmx(run)


def test_files_of_two_samples(flat, write):
    run = write(flat)
    write(flat, prefix="liver_")
    with pytest.raises(InputError, match=r"Expected one exprMat_file.csv.*liver_.*lung_.*of one sample itself"):
        io.read_cosmx(run)
    assert list(io.read(run).obs["section"].cat.categories) == ["liver", "lung"]
    assert list(io.read(run / "liver_exprMat_file.csv").uns["spatial"]) == ["liver"]


def test_cells_of_another_section(flat, write, caplog):
    cells, counts = flat
    assert io.read(write((cells[:10], counts))).n_obs == 10
    assert "10 of 50 cells (20 %) have a position in lung_metadata_file.csv" in caplog.text
    with pytest.raises(InputError, match=r"found none of 50: the counts have .*_1, .*the positions 1_81, 2_81, 3_81"):
        io.read(write((cells.assign(fov=cells["fov"] + 80), counts)))


@pytest.mark.parametrize("column", ["fov", "cell_ID"])
def test_columns_missing(flat, write, column):
    cells, counts = flat
    for tables in ((cells.drop(columns=column), counts), (cells, counts.drop(columns=column))):
        with pytest.raises(InputError, match="Expected the columns fov, cell_ID in"):
            io.read(write(tables))
    few = cells.drop(columns=["CenterX_global_px", "CenterX_local_px"])
    with pytest.raises(InputError, match="Expected the columns CenterX_global_px, CenterY_global_px or CenterX_local"):
        io.read(write((few, counts)))


@pytest.mark.parametrize("name", ["exprMat", "metadata"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_damaged_files(flat, write, name, packed, spoil):
    run = write(flat, packed=packed)
    path = run / f"lung_{name}_file.csv{packed}"
    if not packed and path.stat().st_size % 2:
        path.write_bytes(path.read_bytes() + b"\n")
    spoil(path)
    try:
        adata = io.read(run)
    except InputError as error:
        assert "Expected" in str(error)
    else:  # plain text may end at a row's end
        assert adata.n_obs < 2 * EACH


def test_counts_that_are_no_numbers(flat, write):
    cells, counts = flat
    counts["AATK"] = "high"
    with pytest.raises(InputError, match=r"Expected a table of counts at .*could not convert string to float"):
        io.read(write((cells, counts)))


def test_metadata_that_is_no_number(flat, write):
    cells, counts = flat
    with pytest.raises(InputError, match="found 48 repeated names"):
        io.read(write((cells.assign(cell_ID="c_1_1"), counts)))


def test_rows_longer_than_the_header(flat, write):
    run = write(flat)
    lines = (run / "lung_exprMat_file.csv").read_text().splitlines()
    (run / "lung_exprMat_file.csv").write_text("\n".join([lines[0], *(line + ",1,1" for line in lines[1:])]))
    with pytest.raises(InputError, match="11 fields in a row under 9 names"):
        io.read(run)
