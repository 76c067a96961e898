"""MERSCOPE regions as the instrument writes them, and what can be wrong with them."""

import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr.io import read_merscope

GENES = ["PDK4", "CD4", "Blanka"]
N = 20


@pytest.fixture
def region():
    rng = np.random.default_rng(0)
    names = [str(110883424764611924400221639916314253469 + i) for i in range(N)]
    counts = pd.DataFrame(rng.poisson(2, (N, 5)), columns=[*GENES, "Blank-1", "Blank-42"])
    counts.insert(0, "cell", names)
    cells = pd.DataFrame({"": names, "fov": 1, "volume": rng.uniform(100, 900, N)})
    cells[["center_x", "center_y"]] = rng.uniform(0, 200, (N, 2))
    return counts.sample(frac=1, random_state=0), cells


@pytest.fixture
def write(tmp_path):
    def write(region, *, prefix="", packed=""):
        counts, cells = region
        counts.to_csv(tmp_path / f"{prefix}cell_by_gene.csv{packed}", index=False)
        cells.to_csv(tmp_path / f"{prefix}cell_metadata.csv{packed}", index=False)
        return tmp_path

    return write


def assert_holds(adata, region):
    counts, cells = (table.set_index(table.columns[0]) for table in region)
    assert list(adata.var_names) == GENES
    np.testing.assert_array_equal(adata.X.toarray(), counts.loc[adata.obs_names, GENES])
    np.testing.assert_allclose(adata.obsm["spatial"], cells.loc[adata.obs_names, ["center_x", "center_y"]])
    np.testing.assert_allclose(adata.obs["volume"], cells.loc[adata.obs_names, "volume"])


@pytest.mark.parametrize("prefix", ["", "ovarian_p2s2_"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_region(region, write, prefix, packed, caplog, tmp_path):
    run = write(region, prefix=prefix, packed=packed)
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(run)
    assert_holds(adata, region)
    assert adata.n_obs == N
    assert "2 blanks dropped (Blank-1, Blank-42)" in caplog.text
    ((library, entry),) = adata.uns["spatial"].items()
    assert entry["scalefactors"]["microns_per_pixel"] == 1
    assert library == prefix.strip("_") or not prefix
    assert io.recognise(run / f"{prefix}cell_by_gene.csv{packed}").platform == "merscope"
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_names_in_a_column_of_their_own(region, write):
    counts, cells = region
    cells = cells.rename(columns={"": "EntityID"})
    cells.insert(0, "", range(N))
    assert_holds(io.read(write((counts, cells))), (counts, cells.drop(columns="")))


def test_missing_metadata(region, write):
    run = write(region, prefix="a_")
    (run / "a_cell_metadata.csv").unlink()
    with pytest.raises(InputError, match=r"\(a_cell_metadata.csv\) beside .*found a_cell_by"):
        io.read(run)
    with pytest.raises(InputError, match=r"Expected cell_by_gene.csv in .*found nothing"):
        (run / "a_cell_by_gene.csv").unlink()
        read_merscope(run)


def test_cells_without_counts_and_counts_without_cell(region, write, caplog):
    counts, cells = region
    cells.loc[3, "center_x"] = np.nan
    adata = io.read(write((counts[:15], cells[:12])))
    assert_holds(adata, region)
    assert adata.n_obs < 12
    assert f"{adata.n_obs} of 15 cells" in caplog.text
    with pytest.raises(InputError, match="found none of 20: the counts have"):
        io.read(write((counts.assign(cell=range(N)), cells)))


@pytest.mark.parametrize("name", ["cell_by_gene", "cell_metadata"])
def test_damaged_files(region, write, name, spoil):
    run = write(region, packed=".gz")
    spoil(run / f"{name}.csv.gz")
    with pytest.raises(InputError, match=rf"Expected a table.*{name}"):
        io.read(run)


@pytest.mark.parametrize("end", [-3, -30])
def test_counts_cut_within_a_row(region, write, end):
    run = write(region)
    path = run / "cell_by_gene.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:end]]))
    with pytest.raises(InputError, match=r"row 20 is incomplete|could not convert"):
        io.read(run)


def test_rows_with_too_many_fields(region, write):
    run = write(region)
    with (run / "cell_by_gene.csv").open("a") as file:
        file.write("1,2,3,4,5,6,7,8\n")
    with pytest.raises(InputError, match="Expected a table of counts"):
        io.read(run)


def test_blanks_only(region, write):
    counts, cells = region
    with pytest.raises(InputError, match=r"found only blanks \(Blank-1\)"):
        io.read(write((counts[["cell", "Blank-1"]], cells)))


def test_folder_above_the_only_region(region, write, tmp_path):
    run = write(region)
    (tmp_path / "region_0").mkdir()
    for name in ("cell_by_gene.csv", "cell_metadata.csv"):
        (run / name).rename(run / "region_0" / name)
    assert_holds(io.read(run), region)
    shutil.copytree(run / "region_0", run / "region_1")
    assert list(io.read(run).obs["section"].cat.categories) == ["region_0", "region_1"]
