"""What commands take from files as people have them, and say before a run."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import PIL.Image
import pytest
from scipy import sparse

import people
from stmmr import io
from stmmr.datasets import simulated_tissue
from stmmr.io._tables import write_h5ad
from stmmr.io._unstorable import leave_out_unstorable
from stmmr.pipeline.info import describe
from stmmr.pipeline.options import RunFolderOptions, RunOptions
from stmmr.pipeline.sources import open_input, read_inputs


def described(path, **options):
    return describe(path, RunOptions(**options))


def test_info_says_what_is_taken_from_where(tmp_path):
    adata = people.section(8, 8)
    adata.obs["x_um"], adata.obs["y_um"] = adata.obsm.pop("spatial").T
    adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    adata.layers["raw_counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata.obs["in_tissue"] = np.arange(64) > 3
    adata.write_h5ad(tmp_path / "a b.h5ad")
    info = described(tmp_path / "a b.h5ad")
    assert "Coordinates are taken from obs['x_um'] and obs['y_um']." in info["messages"]
    assert "4 of 64 spots are off the tissue" in info["messages"].replace("cells", "spots")
    assert info["counts"] == "X has no whole numbers; raw_counts has"
    assert info["coordinates"].startswith("µm of obsm['spatial'], 1 µm each (from microns_per_pixel)")
    assert info["sections"] == "one"
    assert list(info)[-1] == "command"
    assert info["command"] == f"stmmr run '{tmp_path}/a b.h5ad' -o result --layer raw_counts"


def test_info_names_sections(tmp_path):
    parts = {name: people.section(8, 8) for name in "AB"}
    ad.concat(parts, label="sample", index_unique="-").write_h5ad(tmp_path / "a.h5ad")
    info = described(tmp_path / "a.h5ad")
    assert info["sections"] == "several in obs['sample'], as 50% of the array positions occur again"
    assert info["command"].endswith("--section-key sample")
    assert described(tmp_path / "a.h5ad", section_key="sample")["sections"] == "2 in obs['sample']"


def test_a_folder_of_several_inputs_is_read_as_sections(tmp_path):
    for name in "AB":
        people.visium(tmp_path / "runs" / name / "outs", people.section())
    adata, options = open_input(tmp_path / "runs", RunOptions())
    assert options.section_key == "section"
    assert adata.obs["section"].value_counts().to_dict() == {"A": 30, "B": 30}
    assert set(adata.uns["spatial"]) == {"A", "B"}


def test_what_no_file_could_hold_is_left_out_before_the_run(caplog):
    adata = people.section()
    adata.obs["mixed"] = [True, None, "x", 1, 2.5] * 6
    adata.obs["truth"] = [True, None] * 15
    adata.obs["object"] = [object() for _ in range(30)]
    adata.uns["model"] = object()
    adata.uns["fine"] = {"a": np.arange(3)}
    leave_out_unstorable(adata)
    assert "uns['model'] cannot be stored" in caplog.text
    assert set(adata.uns) == {"fine"}
    assert list(adata.obs["mixed"].dropna()) == ["True", "x", "1", "2.5"] * 6
    assert adata.obs["truth"].dtype == "boolean"


def table(values):
    return pd.DataFrame({"k": pd.Series(values, dtype=object)})


def set_raw(adata):
    adata.var["n"] = None
    adata.raw = adata.copy()


LATE = {
    "a column without any value": lambda a: a.obs.__setitem__("n", None),
    "a column of genes without any value": lambda a: a.var.__setitem__("n", None),
    "raw": set_raw,
    "text with a gap in obsm": lambda a: a.obsm.__setitem__("m", table(["a"] * 29 + [None]).set_axis(a.obs_names)),
    "no value in varm": lambda a: a.varm.__setitem__("m", table([None] * 14).set_axis(a.var_names)),
    "text with a gap in uns": lambda a: a.uns.__setitem__("m", {"t": table(["a", None])}),
    "a gap late in an array": lambda a: a.uns.__setitem__("m", np.array(["a"] * 150 + [None], dtype=object)),
    "numbers as keys": lambda a: a.uns.__setitem__("m", {1: 2}),
    "a column twice": lambda a: setattr(a, "obs", pd.concat([a.obs, a.obs[["array_row"]]], axis=1)),
    "a column without a name": lambda a: a.obs.__setitem__("", 1),
}


@pytest.mark.parametrize("edit", LATE.values(), ids=LATE)
def test_what_is_known_before_a_run_can_be_written_after_it(edit, tmp_path):
    adata = people.section()
    edit(adata)
    leave_out_unstorable(adata)
    write_h5ad(adata, tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").shape == adata.shape


def test_reserved_names_of_columns(tmp_path):
    adata = people.section()
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:  # as SeuratDisk writes it
        var = file["raw/var"]
        file.copy(var["_index"], var, "features")
        var.attrs["_index"] = "features"
        var.attrs["column-order"] = np.array(["_index"], dtype=h5py.string_dtype())
    read = io.read(tmp_path / "a.h5ad")
    assert list(read.raw.var.columns) == ["index"]
    read.write_h5ad(tmp_path / "b.h5ad")


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.parametrize("dense", [False, True])
def test_counts_on_disk_lose_what_counts_in_memory_lose(tmp_path, ending, dense, monkeypatch):
    monkeypatch.setattr("stmmr.io.joined.CHUNK", 7)
    adata = people.section()
    adata.obs["in_tissue"] = (adata.obs["array_row"] > 1).astype(int)
    adata.var_names = [*adata.var_names[:-1], "NegPrb1"]
    adata.X = adata.X.toarray() if dense else adata.X
    adata.layers["twice"] = 2 * adata.X
    path = tmp_path / "one" / f"a.{ending}"
    path.parent.mkdir()
    getattr(adata, "write_h5ad" if ending == "h5ad" else "write_zarr")(path)
    expected = io.read(path)
    assert expected.shape == (18, 13)
    for source in (path, path.parent):  # a folder that holds it, too
        folder = RunFolderOptions(output=tmp_path / "out", mode="disk")
        read, _, counts = read_inputs({"a": source}, RunOptions(), folder, in_memory=False)
        assert counts.name == "counts.h5ad"
        part = read.to_memory()
        assert list(part.obs_names) == list(expected.obs_names)
        assert list(part.var_names) == list(expected.var_names)
        for one, other in ((part.X, expected.X), (part.layers["twice"], expected.layers["twice"])):
            np.testing.assert_array_equal(np.asarray(one.todense()), sparse.csr_matrix(other).toarray())
    kept = RunFolderOptions(output=tmp_path / "out", mode="disk", keep_off_tissue=True)
    assert read_inputs({"a": path}, RunOptions(), kept, in_memory=False)[0].shape == (30, 13)


def test_info_warns_of_an_image_that_does_not_fit(tmp_path):
    adata = simulated_tissue(n_rows=14, n_cols=14, n_genes=10)
    library = adata.uns["spatial"].pop("simulated")
    adata.obsm["spatial"] = adata.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    pixels = library["images"]["hires"]
    other = np.where(np.arange(pixels.shape[1])[:, None] < pixels.shape[1] // 3, pixels, 245).astype(np.uint8)
    for name, image, fits in (("own.png", pixels, True), ("other.png", other, False)):
        PIL.Image.fromarray(image).save(tmp_path / name)
        info = described(tmp_path / "a.h5ad", image=tmp_path / name)
        assert ("does not fit" in info["registration"]) != fits
        assert ("--image" in info["command"]) == fits
        assert ("histology" in info["would run"]) == fits


def test_info_finds_the_images_of_sections(tmp_path):
    parts = {name: simulated_tissue(n_rows=8, n_cols=8, n_genes=5, random_state=i) for i, name in enumerate("AB")}
    adata = ad.concat(parts, label="section", index_unique="-")
    adata.uns["spatial"] = {name: part.uns["spatial"]["simulated"] for name, part in parts.items()}
    adata.write_h5ad(tmp_path / "a.h5ad")
    info = described(tmp_path / "a.h5ad")
    assert "neighbours are 100 µm apart" in info["coordinates"]
    assert [line.split(":")[0].strip() for line in info["registration"].splitlines()] == ["A", "B"]
    assert "messages" not in info


@pytest.mark.parametrize("rows", [0, 1])
def test_info_of_next_to_nothing(rows, tmp_path):
    people.section()[:rows].copy().write_h5ad(tmp_path / "a.h5ad")
    assert described(tmp_path / "a.h5ad")["command"].startswith("none")


def test_info_of_zeros(tmp_path):
    adata = people.section()
    adata.X = adata.X * 0
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert described(tmp_path / "a.h5ad")["counts"] == "not usable: X has zeros only"


@pytest.mark.parametrize("image", ["he.png", {"a": np.ones((3, 3))}, np.ones(3)])
def test_images_that_are_none(image, tmp_path):
    adata = people.section()
    factors = {name: str(value) for name, value in people.SCALES.items()}
    adata.uns["spatial"] = {"lib": {"images": {"hires": image}, "scalefactors": factors}}
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert described(tmp_path / "a.h5ad")["images"] == "none"


def test_info_of_sections_that_nothing_tells_apart(tmp_path):
    adata = ad.concat([people.section(8, 8), people.section(8, 8)], index_unique="-")
    adata.obs_names = [f"spot{i}" for i in range(128)]
    adata.write_h5ad(tmp_path / "a.h5ad")
    info = described(tmp_path / "a.h5ad")
    assert info["sections"].startswith("not usable: several which neither obs nor the names tell, as 50%")
    assert info["command"].startswith("none")
