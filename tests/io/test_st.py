"""Arrays of the first kind: a table of counts, one of spots, and what can be wrong with them."""

import gzip
import logging

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr._core.space import rows_called, units
from stmmr.io import read_st

GENES = ["Gad1", "Mbp", "Snap25", "FASN"]
PITCH = 290.0


@pytest.fixture
def array():
    """Counts by spot, and positions of the spots in the image: rotated, 290 pixels apart."""
    rng = np.random.default_rng(0)
    xy = np.array([(x, y) for x in range(3, 13) for y in range(5, 14)])
    spots = pd.DataFrame(xy, columns=["x", "y"])
    adjusted = xy + rng.uniform(-0.02, 0.02, xy.shape)
    spots[["new_x", "new_y"]] = np.round(adjusted, 3)
    turn = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    spots[["pixel_x", "pixel_y"]] = xy @ turn * PITCH + 1000
    names = [f"{x}x{y}" for x, y in xy]
    counts = pd.DataFrame(rng.poisson(2.0, (len(xy), len(GENES))), index=names, columns=GENES)
    return counts.sample(frac=1, random_state=1), spots


@pytest.fixture
def write(tmp_path):
    def write(counts, spots=None, *, name="ST_mob1_stdata.tsv.gz", spot_name="spot_data-selection-ST_mob1.tsv"):
        counts.to_csv(tmp_path / name, sep="\t")
        if spots is not None:
            spots.to_csv(tmp_path / spot_name, sep="\t", index=False)
        return tmp_path

    return write


def assert_holds(adata, counts, spots):
    np.testing.assert_array_equal(adata.X.toarray(), counts.loc[adata.obs_names, list(adata.var_names)])
    at = spots.set_axis(spots["x"].astype(str) + "x" + spots["y"].astype(str)).loc[adata.obs_names]
    np.testing.assert_array_equal(adata.obs[["array_col", "array_row"]], at[["x", "y"]])
    np.testing.assert_allclose(adata.obsm["spatial"], at[["pixel_x", "pixel_y"]])


@pytest.mark.parametrize("transposed", [False, True])
def test_counts_and_spots(array, write, transposed, tmp_path):
    counts, spots = array
    folder = write(counts.T if transposed else counts, spots)
    found = io.recognise(folder)
    assert (found.platform, found.path) == ("st", folder / "ST_mob1_stdata.tsv.gz")
    adata = io.read(folder)
    assert adata.shape == counts.shape
    assert_holds(adata, counts, spots)
    assert units(adata) == ("coordinate units", pytest.approx(200 / PITCH), "square array")
    library = adata.uns["spatial"]["ST_mob1"]
    assert library["metadata"] == {"platform": "ST"}
    assert library["scalefactors"]["spot_diameter_fullres"] == pytest.approx(0.55 * PITCH)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert rows_called(io.read(tmp_path / "a.h5ad")) == "spots"


def test_adjusted_names(array, write):
    counts, spots = array
    spots = spots.round(2)
    names = dict(zip(spots["x"].astype(str) + "x" + spots["y"].astype(str), range(len(spots)), strict=True))
    rows = [names[name] for name in counts.index]
    new = spots.iloc[rows]
    adjusted = counts.set_axis([f"{x:.2f}x{y:.2f}" for x, y in new[["new_x", "new_y"]].to_numpy()])
    adata = io.read(write(adjusted, spots))
    np.testing.assert_allclose(adata.obsm["spatial"], new[["pixel_x", "pixel_y"]])
    assert adata.obs["array_col"].dtype == np.float64
    assert units(adata)[1] == pytest.approx(200 / PITCH, rel=1e-2)


def test_without_spots_there_is_the_array(array, write, caplog):
    with caplog.at_level(logging.INFO, logger="stmmr"):
        adata = io.read(write(array[0]))
    assert "No table of spots" in caplog.text
    assert "spatial" not in adata.obsm
    assert adata.uns["spatial"]["ST_mob1"] == {"images": {}, "scalefactors": {}, "metadata": {"platform": "ST"}}
    assert units(adata) == ("array columns", pytest.approx(200), "square array")


def test_selected_spots_only(array, write, caplog):
    counts, spots = array
    spots["selected"] = (spots["x"] > 4).astype(int)
    adata = io.read(write(counts, spots))
    assert adata.obs["array_col"].min() == 5
    assert "72 of 90 spots (80 %) have a position" in caplog.text


def test_table_of_spots_elsewhere(array, write, tmp_path):
    counts, spots = array
    (tmp_path / "spots").mkdir()
    spots.to_csv(tmp_path / "spots" / "A1_selection.tsv", sep="\t", index=False)
    folder = write(counts, name="A1.tsv")
    adata = io.read(folder / "A1.tsv", coordinates=tmp_path / "spots" / "A1_selection.tsv")
    assert_holds(adata, counts, spots)
    assert_holds(read_st(folder / "A1.tsv", spots=tmp_path / "spots" / "A1_selection.tsv"), counts, spots)


def test_another_array_has_spots_of_the_same_names(array, write):
    counts, spots = array
    folder = write(counts, spots, name="A1.tsv", spot_name="A1_selection.tsv")
    write(counts, spots + 1000, name="A2.tsv", spot_name="A2_selection.tsv")
    with pytest.raises(InputError, match=r"Expected one count table of an ST array .*A1.tsv, A2.tsv"):
        io.read(folder)
    assert_holds(io.read(folder / "A1.tsv"), counts, spots)
    (folder / "A1_selection.tsv").unlink()
    with pytest.raises(InputError, match=r"Expected the table of spots of .*A1.tsv, found A2_selection.tsv"):
        io.read(folder / "A1.tsv")


def test_selection_goes_before_all_spots(array, write):
    counts, spots = array
    write(counts, spots + 1000, spot_name="spot_data-all-ST_mob1.tsv")
    assert_holds(io.read(write(counts, spots)), counts, spots)


def test_bad_tables(array, write):
    counts, spots = array
    with pytest.raises(InputError, match=r"found none of 90: the counts have \d+x\d+.*the positions 103.00x"):
        io.read(write(counts, spots.assign(x=spots["x"] + 100, new_x=spots["new_x"] + 100)))
    with pytest.raises(InputError, match=r"found 1 others \(total\)"):
        io.read(write(pd.concat([counts, counts[:1].set_axis(["total"])]), spots))
    with pytest.raises(InputError, match="Expected a table of spots"):
        io.read(write(counts, spots.assign(x="A")))
    with pytest.raises(InputError, match="Expected the columns pixel_x, pixel_y, x, y"):
        folder = write(counts, spots.drop(columns="pixel_x"))
        read_st(folder, spots=folder / "spot_data-selection-ST_mob1.tsv")
    with pytest.raises(InputError, match="Expected a count table with spots named XxY"):
        read_st(write(counts.set_axis([f"s{i}" for i in range(len(counts))])))


def test_counts_cut_short(array, write):
    folder = write(*array)
    path = folder / "ST_mob1_stdata.tsv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="Expected"):
        io.read(folder)
    text = gzip.decompress(whole).decode().rstrip()
    path.write_bytes(gzip.compress(text[: text.rindex("\t")].encode()))
    with pytest.raises(InputError, match=r"row 90 is incomplete|could not convert"):
        io.read(folder)
