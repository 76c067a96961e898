"""Plain tables of counts and coordinates, in every shape that people have them."""

import numpy as np
import pandas as pd
import pytest

from stmmr import InputError, io
from stmmr.io import read_table

GENES = ["Gad1", "Mbp", "Snap25", "Aqp4", "Cd74"]
N = 24


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    names = [f"cell{i:02d}" for i in range(N)]
    counts = pd.DataFrame(rng.poisson(2.0, (N, len(GENES))), index=names, columns=GENES)
    positions = pd.DataFrame(rng.uniform(0, 90, (N, 2)), index=pd.Index(names, name="cell"), columns=["x", "y"])
    positions["layer"] = rng.choice(["L1", "L2"], N)
    return counts, positions.sample(frac=1, random_state=0)


@pytest.fixture
def write(tmp_path):
    def write(counts, positions, *, name="counts.csv", at="coordinates.csv"):
        counts.to_csv(tmp_path / name, sep="\t" if ".tsv" in name or ".txt" in name else ",")
        if positions is not None:
            positions.to_csv(tmp_path / at, sep="\t" if ".tsv" in at else ",", index=positions.index.name is not None)
        return tmp_path

    return write


def assert_holds(adata, counts, positions):
    np.testing.assert_array_equal(adata.X.toarray(), counts.loc[adata.obs_names, list(adata.var_names)])
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(adata.obsm["spatial"], positions.loc[adata.obs_names].iloc[:, :2])


@pytest.mark.parametrize(
    ("name", "at"),
    [("counts.csv", "coordinates.csv"), ("a.tsv.gz", "b.csv.gz"), ("counts.txt", "pos.tsv")],
)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("start", ["folder", "file"])
def test_two_tables(tables, write, name, at, transposed, start, tmp_path):
    counts, positions = tables
    folder = write(counts.T if transposed else counts, positions, name=name, at=at)
    path = folder if start == "folder" else folder / name
    found = io.recognise(path)
    assert (found.platform, found.path) == ("table", folder / name)
    assert f"with coordinates in {at}" in found.because
    adata = io.read(path)
    assert adata.shape == (N, len(GENES))
    assert_holds(adata, counts, positions)
    assert list(adata.obs["layer"]) == list(positions.loc[adata.obs_names, "layer"])
    assert "spatial" not in adata.uns
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_header_one_shorter_as_r_writes_it(tables, write):
    counts, positions = tables
    folder = write(counts, positions)
    text = (folder / "counts.csv").read_text()
    (folder / "counts.csv").write_text(text.removeprefix(","))
    assert_holds(io.read(folder), counts, positions)


@pytest.mark.parametrize(
    "xy", [("X", "Y"), ("x_centroid", "y_centroid"), ("Centroid_X", "Centroid_Y"), ("sdimx", "sdimy"), ("x_um", "y_um")]
)
def test_names_of_coordinates_and_their_unit(tables, write, xy):
    counts, positions = tables
    positions = positions.rename(columns=dict(zip("xy", xy, strict=True)))
    adata = io.read(write(counts, positions))
    assert_holds(adata, counts, positions)
    scale = adata.uns.get("spatial", {}).get("counts", {}).get("scalefactors", {})
    assert scale.get("microns_per_pixel") == (1.0 if xy == ("x_um", "y_um") else None)


def test_scale_can_be_given(tables, write, caplog):
    folder = write(*tables)
    adata = read_table(folder, microns_per_pixel=0.5, library_id="mine")
    assert adata.uns["spatial"]["mine"]["scalefactors"]["microns_per_pixel"] == 0.5
    assert caplog.text == ""
    read_table(folder, microns_per_pixel=1e-3)
    assert "Neighbours are 0.0" in caplog.text
    with pytest.raises(InputError, match="positive"):
        read_table(folder, microns_per_pixel=0)


def test_coordinates_elsewhere(tables, write, tmp_path):
    counts, positions = tables
    (tmp_path / "other").mkdir()
    positions.to_csv(tmp_path / "other" / "p.csv")
    folder = write(counts, None)
    assert_holds(io.read(folder / "counts.csv", coordinates=tmp_path / "other" / "p.csv"), counts, positions)
    with pytest.raises(InputError, match=r"one table with them in its folder, found counts.csv, other"):
        io.read(folder / "counts.csv")


def test_coordinates_without_names_come_in_order(tables, write):
    counts, positions = tables
    positions = positions.loc[counts.index].drop(columns="layer")
    bare = positions.rename_axis(None)
    assert_holds(io.read(write(counts, bare)), counts, positions)
    with pytest.raises(InputError, match=r"as many rows as in counts.csv \(24\), found 23 rows"):
        io.read(write(counts, bare[1:]))


def merfish(tables):
    """As published with Moffitt et al. 2018: what describes cells first, among it numbers and text."""
    counts, positions = tables
    table = pd.DataFrame({"Cell_ID": counts.index, "Animal_ID": 1, "Sex": "F", "Bregma": 0.26}, index=counts.index)
    table[["Centroid_X", "Centroid_Y"]] = positions.loc[counts.index, ["x", "y"]]
    table["Cell_class"] = "Astrocyte"
    table["Neuron_cluster_ID"] = ["", "E-1"] * (N // 2)
    return pd.concat([table, counts, counts.add_suffix("b"), pd.DataFrame({"Blank_1": 0}, index=counts.index)], axis=1)


def test_coordinates_in_the_table_itself(tables, tmp_path, caplog):
    counts, positions = tables
    table = merfish(tables)
    table.to_csv(tmp_path / "Moffitt.csv", index=False)
    for path in (tmp_path, tmp_path / "Moffitt.csv"):
        assert io.recognise(path).platform == "table"
        adata = io.read(path)
        assert list(adata.var_names) == [*GENES, *(gene + "b" for gene in GENES)]
        np.testing.assert_array_equal(adata[:, GENES].X.toarray(), counts.loc[adata.obs_names])
        np.testing.assert_allclose(adata.obsm["spatial"], positions.loc[adata.obs_names, ["x", "y"]])
        assert list(adata.obs) == ["Animal_ID", "Sex", "Bregma", "Cell_class", "Neuron_cluster_ID"]
        assert set(adata.obs["Bregma"]) == {0.26}
    adata.write_h5ad(tmp_path / "a.h5ad")
    # the same with the coordinates at the end, and without names
    order = [*table.columns[8:], *table.columns[2:8]]
    table[order].to_csv(tmp_path / "Moffitt.csv", index=False)
    adata = io.read(tmp_path / "Moffitt.csv")
    np.testing.assert_array_equal(adata[:, GENES].X.toarray(), counts)
    assert list(adata.obs_names[:2]) == ["0", "1"]
    assert list(adata.obs) == ["Sex", "Bregma", "Cell_class", "Neuron_cluster_ID"]


def test_mixed_up(tables, write, caplog):
    counts, positions = tables
    assert_holds(io.read(write(counts, positions[:12])), counts, positions)
    assert "12 of 24 spots (50 %)" in caplog.text
    with pytest.raises(InputError, match=r"found none of 24: the counts have cell00.*the positions b0"):
        io.read(write(counts, positions.set_axis([f"b{i}" for i in range(N)]).rename_axis("cell")))
    with pytest.raises(InputError, match=r"Expected columns such as x and y in .*coordinates.csv, found cell, a, b"):
        folder = write(counts, positions.rename(columns={"x": "a", "y": "b"}))
        read_table(folder / "counts.csv", coordinates=folder / "coordinates.csv")


def test_several_tables_need_the_one_that_is_meant(tables, write):
    counts, positions = tables
    folder = write(counts, positions)
    write(counts, positions, name="s2.csv", at="s2_xy.csv")
    with pytest.raises(InputError, match="Give one of these"):
        io.read(folder)
    assert io.recognise(folder / "s2.csv").because == "s2.csv is a table, with coordinates in s2_xy.csv"
    with pytest.raises(InputError, match="Expected coordinates for"):
        io.read(folder / "counts.csv")


@pytest.mark.parametrize("name", ["counts.csv", "coordinates.csv"])
def test_damaged_tables(tables, write, name):
    folder = write(*tables, name="counts.csv.gz", at="coordinates.csv.gz")
    path = folder / f"{name}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="Expected"):
        read_table(folder / "counts.csv.gz", coordinates=folder / "coordinates.csv.gz")
    with pytest.raises(InputError, match=r"Expected .*, found (nothing|no text)"):
        path.write_bytes(b"")
        read_table(folder / "counts.csv.gz", coordinates=folder / "coordinates.csv.gz")


def test_counts_that_are_no_numbers(tables, write):
    counts, positions = tables
    with pytest.raises(InputError, match="row 1 is incomplete"):
        io.read(write(counts.replace({"Gad1": {2: "NA"}}).astype({"Gad1": str}), positions))
