"""Visium folders of every Space Ranger, and everything that can be wrong with them."""

import json
import logging
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

from stmmr import InputError
from stmmr._core.space import rows_called
from stmmr.io import read_visium, read_visium_hd, recognise
from stmmr.pp import histology

H5 = "filtered_feature_bc_matrix.h5"
MTX = "filtered_feature_bc_matrix"


def assert_holds(adata: AnnData, section) -> None:
    """Check a reader's result against the section that was written, spot by spot."""
    table = section.positions.set_index("barcode")
    inside = [barcode for barcode in section.barcodes if table.loc[barcode, "in_tissue"] == 1]
    rows = [section.barcodes.index(barcode) for barcode in inside]
    genes = [i for i, kind in enumerate(section.types) if kind == "Gene Expression"]

    assert list(adata.obs_names) == inside
    assert list(adata.var_names) == [section.genes[i] for i in genes]
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), section.counts[np.ix_(rows, genes)])
    np.testing.assert_allclose(adata.obsm["spatial"], table.loc[inside, ["pxl_col_in_fullres", "pxl_row_in_fullres"]])
    for column in ("in_tissue", "array_row", "array_col"):
        np.testing.assert_array_equal(adata.obs[column], table.loc[inside, column])
        assert adata.obs[column].dtype == np.int64


@pytest.mark.parametrize(
    "positions",
    [
        "tissue_positions_list.csv",
        "tissue_positions.csv",
        "tissue_positions.parquet",
        "tissue_positions_list.csv.gz",
    ],
)
@pytest.mark.parametrize("matrix", [H5, MTX])
def test_every_layout_gives_the_same_section(section, write_run, matrix, positions):
    adata = read_visium(write_run(section, matrix=matrix, positions=positions))
    assert_holds(adata, section)
    assert rows_called(adata) == "spots"
    entry = adata.uns["spatial"]["sample"]
    np.testing.assert_array_equal(entry["images"]["hires"], section.images["hires"])
    np.testing.assert_array_equal(entry["images"]["lowres"], section.images["lowres"])
    assert entry["scalefactors"]["tissue_hires_scalef"] == 0.1
    assert entry["scalefactors"]["microns_per_pixel"] == pytest.approx(100 / 137.5)


def test_the_result_can_be_written(section, write_run, tmp_path):
    adata = read_visium(write_run(section))
    adata.write_h5ad(tmp_path / "section.h5ad")


def test_metadata_and_library(section, write_run):
    run = write_run(section)
    entry = read_visium(run, library_id="mine").uns["spatial"]["mine"]
    assert entry["metadata"] == {
        "chemistry_description": "Visium V1",
        "software_version": "spaceranger-2.0.0",
        "platform": "Visium",
    }
    with h5py.File(run / H5, "a") as file:
        file.attrs["library_ids"] = np.array([b"from_file"])
    assert list(read_visium(run).uns["spatial"]) == ["from_file"]


def test_header_is_seen_whatever_the_file_is_called(section, write_run):
    run = write_run(section, positions="tissue_positions_list.csv")
    section.positions.to_csv(run / "spatial" / "tissue_positions_list.csv", index=False)
    assert_holds(read_visium(run), section)


def test_raw_counts_are_read_where_there_are_no_filtered_ones(section, write_run):
    assert_holds(read_visium(write_run(section, matrix="raw_feature_bc_matrix.h5")), section)


def test_filtered_counts_go_before_raw_ones(section, write_run):
    run = write_run(section)
    section.counts = section.counts + 100
    write_run(section, matrix="raw_feature_bc_matrix.h5")
    assert read_visium(run).X.max() < 100


@pytest.mark.parametrize("start", ["", "outs", f"outs/{H5}"])
def test_start_from_run_outs_or_file(section, write_run, start):
    adata = read_visium(write_run(section, inside="outs") / start)
    assert_holds(adata, section)
    assert list(adata.uns["spatial"]) == ["sample"]


@pytest.mark.parametrize("matrix", [H5, MTX])
def test_names_may_start_with_the_sample(section, write_run, matrix):
    run = write_run(section, matrix=matrix, prefix="GSM123_")
    for path in (run, run / f"GSM123_{matrix}"):
        adata = read_visium(path)
        assert_holds(adata, section)
        assert list(adata.uns["spatial"]) == ["GSM123"]


def test_files_of_several_samples_in_one_folder(section, write_run):
    run = write_run(section, prefix="GSM1_")
    for path in (run / "spatial").iterdir():
        path.rename(run / path.name)
    (run / "spatial").rmdir()
    assert_holds(read_visium(run), section)
    (run / f"._GSM1_{H5}").write_bytes(b"macOS")
    assert_holds(read_visium(run), section)

    shutil.copy(run / f"GSM1_{H5}", run / f"GSM2_{H5}")
    with pytest.raises(InputError, match=r"Expected one filtered.*GSM1_.*GSM2_.*itself"):
        read_visium(run)
    assert_holds(read_visium(run / f"GSM1_{H5}"), section)
    # every slide has the same barcodes: the positions of GSM1 would fit and be wrong
    with pytest.raises(InputError, match="Expected the positions"):
        read_visium(run / f"GSM2_{H5}")


def test_repeated_genes_are_made_unique(section, write_run, caplog):
    section.genes[1] = section.genes[0]
    for matrix in (H5, MTX):
        with caplog.at_level(logging.WARNING, logger="stmmr"):
            adata = read_visium(write_run(section, matrix=matrix) / matrix)
        assert list(adata.var_names[:2]) == ["Gad1", "Gad1-1"]
        assert "1 gene names occur more than once" in caplog.text


def test_barcodes_without_position_are_dropped_and_counted(section, write_run, caplog):
    section.positions = section.positions.drop(index=[3, 40, 41])
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        adata = read_visium(write_run(section))
    assert "3 of 80 barcodes have no position; dropped (96 % have one)" in caplog.text
    assert set(adata.obs_names) == set(section.positions.query("in_tissue == 1")["barcode"])


def test_no_barcode_with_position(section, write_run):
    section.positions["barcode"] = [f"other{i}" for i in range(len(section.positions))]
    with pytest.raises(InputError, match=r"found 0 of 80 with a position.*are of the same sample"):
        read_visium(write_run(section))


def test_no_spot_in_tissue(section, write_run):
    section.positions["in_tissue"] = 0
    with pytest.raises(InputError, match="found 80 of 80 with a position and none of them in tissue"):
        read_visium(write_run(section))


def test_without_scalefactors_there_is_no_image_but_a_scale(section, write_run, caplog):
    run = write_run(section)
    (run / "spatial" / "scalefactors_json.json").unlink()
    with caplog.at_level(logging.INFO, logger="stmmr"):
        entry = read_visium(run).uns["spatial"]["sample"]
    assert entry["images"] == {}
    assert entry["scalefactors"] == {"microns_per_pixel": pytest.approx(100 / 137.5)}
    assert "No scalefactors_json.json" in caplog.text


def test_without_images(section, write_run, caplog):
    section.images = {}
    with caplog.at_level(logging.INFO, logger="stmmr"):
        entry = read_visium(write_run(section)).uns["spatial"]["sample"]
    assert entry["images"] == {}
    assert "No hires image" in caplog.text


def greyscale(path):
    Image.linear_gradient("L").save(path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:300])


def no_image(path):
    path.write_text("<html>404 not found</html>")


@pytest.mark.parametrize(
    ("spoil", "found"), [(greyscale, "greyscale"), (cut_short, "truncated"), (no_image, "another format")]
)
def test_an_image_that_cannot_be_used_is_left_out(section, write_run, caplog, spoil, found):
    run = write_run(section)
    hires, lowres = (run / "spatial" / f"tissue_{size}_image.png" for size in ("hires", "lowres"))
    spoil(hires)
    adata = read_visium(run)
    assert_holds(adata, section)
    assert list(adata.uns["spatial"]["sample"]["images"]) == ["lowres"]
    (warning,) = caplog.messages
    assert found in warning
    assert str(hires) in warning
    assert "lowres image is kept" in warning
    assert "--image" in warning

    spoil(lowres)
    caplog.clear()
    adata = read_visium(run)
    assert adata.uns["spatial"]["sample"]["images"] == {}
    (warning,) = caplog.messages
    assert str(hires) in warning
    assert str(lowres) in warning
    assert "read without an image" in warning
    with pytest.raises(InputError, match=found):  # named by the user, it is no longer optional
        histology(adata, image=hires)


def test_a_scale_in_the_file_is_kept(section, write_run):
    run = write_run(section)
    (run / "spatial" / "scalefactors_json.json").write_text('{"microns_per_pixel": 0.5, "note": "by hand"}')
    assert read_visium(run).uns["spatial"]["sample"]["scalefactors"] == {"microns_per_pixel": 0.5}


@pytest.mark.parametrize(
    "content", ["{", "[1, 2]", "", '{"tissue_hires_scalef": null}', '{"tissue_hires_scalef": "big"}']
)
def test_malformed_scalefactors(section, write_run, content):
    run = write_run(section)
    (run / "spatial" / "scalefactors_json.json").write_text(content)
    with pytest.raises(InputError, match=r"Expected a JSON object of scale factors at .*scalefactors_json"):
        read_visium(run)


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_scalefactors_are_positive(section, write_run, value):
    run = write_run(section)
    (run / "spatial" / "scalefactors_json.json").write_text(json.dumps({"tissue_lowres_scalef": value}))
    with pytest.raises(InputError, match=r"tissue_lowres_scalef in .* to be a positive number"):
        read_visium(run)


def test_missing_positions(section, write_run):
    run = write_run(section)
    (run / "spatial" / "tissue_positions.csv").unlink()
    with pytest.raises(InputError, match=r"Expected the positions.*found scalefactors_json\.json"):
        read_visium(run)
    shutil.rmtree(run / "spatial")
    with pytest.raises(InputError, match=r"Expected the positions.*Put Space Ranger's folder spatial/ beside"):
        read_visium(run / H5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="array_row"), "Expected the columns barcode.*found barcode, in_tissue"),
        (lambda t: t.replace({"array_row": {3: np.nan}}), "10 rows without"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 repeated barcodes"),
        (lambda t: t.astype({"array_row": str}).replace({"array_row": {"3": "x"}}), "a table of positions"),
        (lambda t: t.iloc[:0], "Expected barcodes in tissue"),
    ],
)
@pytest.mark.parametrize("name", ["tissue_positions.csv", "tissue_positions.parquet"])
def test_bad_positions(section, write_run, change, message, name):
    section.positions = change(section.positions)
    with pytest.raises(InputError, match=message):
        read_visium(write_run(section, positions=name))


def test_positions_without_header_need_six_columns(section, write_run):
    section.positions = section.positions.drop(columns="array_row")
    with pytest.raises(InputError, match="Expected the columns barcode"):
        read_visium(write_run(section, positions="tissue_positions_list.csv"))


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize(
    ("matrix", "file"),
    [
        (H5, H5),
        (MTX, f"{MTX}/matrix.mtx.gz"),
        (MTX, f"{MTX}/barcodes.tsv.gz"),
        (MTX, f"{MTX}/features.tsv.gz"),
        (H5, "spatial/tissue_positions.parquet"),
    ],
)
def test_files_cut_short(section, write_run, matrix, file, keep):
    run = write_run(section, matrix=matrix, positions="tissue_positions.parquet")
    content = (run / file).read_bytes()
    (run / file).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="It may be damaged or cut short"):
        read_visium(run)


def test_mtx_with_fewer_barcodes_than_columns(section, write_run):
    section.barcodes = section.barcodes[:-5]
    with pytest.raises(InputError, match="Expected a 10x count matrix"):
        read_visium(write_run(section, matrix=MTX))


def test_incomplete_mtx(section, write_run):
    run = write_run(section, matrix=MTX)
    (run / MTX / "features.tsv.gz").unlink()
    with pytest.raises(InputError, match=r"features.tsv.*found barcodes.tsv.gz, matrix.mtx.gz"):
        read_visium(run)


def test_h5_that_is_no_10x_file(section, write_run):
    run = write_run(section)
    AnnData(np.ones((3, 2))).write_h5ad(run / H5)
    with pytest.raises(InputError, match=r"Expected a 10x .h5 file .*found an HDF5 file that holds X"):
        read_visium(run)
    (run / H5).write_text("<html>404 not found</html>")
    with pytest.raises(InputError, match="Expected a 10x count matrix at"):
        read_visium(run)


@pytest.mark.parametrize("index", [5, 2**30, -1])
def test_h5_with_indices_beyond_the_matrix(section, write_run, index):
    run = write_run(section)  # not compressed: nothing but the numbers tells of the damage
    with h5py.File(run / H5, "a") as file:
        file["matrix/indices"][3] = index
    with pytest.raises(InputError, match="Expected a 10x count matrix"):
        read_visium(run)


def test_h5_that_lacks_a_part(section, write_run):
    run = write_run(section)
    with h5py.File(run / H5, "a") as file:
        del file["matrix/barcodes"]
    with pytest.raises(InputError, match="Expected a 10x count matrix"):
        read_visium(run)


def test_no_genes(section, write_run):
    section.types = ["Antibody Capture"] * 5
    for matrix in (H5, MTX):
        with pytest.raises(InputError, match="found 80 barcodes and 0 features"):
            read_visium(write_run(section, matrix=matrix) / matrix)


def test_no_barcodes(section, write_run):
    section.counts, section.barcodes = section.counts[:0], []
    with pytest.raises(InputError, match="found 0 barcodes"):
        read_visium(write_run(section))


def test_cytassist(section, write_run):
    """Its outs hold more images and parquet files, and are read as any other Visium folder."""
    run = write_run(section, inside="outs")
    spatial = run / "outs" / "spatial"
    for name in ("cytassist_image.tiff", "aligned_tissue_image.jpg", "aligned_fiducials.jpg"):
        (spatial / name).write_bytes(b"not read")
    (spatial / "spatial_enrichment.csv").write_text("Feature ID,P value\nENSG1,0.1\n")
    (run / "outs" / "probe_set.csv").write_text("#panel_name=WTA\ngene_id,probe_seq,x,y\nENSG1,ACGT,1,2\n")
    (run / "outs" / "deconvolution").mkdir()
    assert recognise(run).platform == "visium"
    assert_holds(read_visium(run), section)


def test_no_visium_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"Expected filtered_feature_bc_matrix.h5 .*found notes.txt"):
        read_visium(tmp_path)
    with pytest.raises(InputError, match=r"Expected binned_outputs.*found notes.txt"):
        read_visium_hd(tmp_path)


def write_bins(bins, write_run, *sizes: int):
    for size in sizes:
        bins.counts = np.full_like(bins.counts, size)
        run = write_run(bins, inside=f"outs/binned_outputs/square_{size:03d}um", positions="tissue_positions.parquet")
    return run


def test_bins_are_read(bins, write_run):
    adata = read_visium_hd(write_bins(bins, write_run, 8))
    assert_holds(adata, bins)
    library = adata.uns["spatial"]["sample"]
    # bins of 8 µm that are 30 pixels wide
    assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(8 / 30)
    assert (library["metadata"]["platform"], library["metadata"]["bin_size_um"]) == ("Visium HD", 8)
    assert rows_called(adata) == "bins"


@pytest.mark.parametrize(
    ("there", "wanted", "read"),
    [((2, 8, 16), None, 8), ((2, 16, 24), None, 16), ((2, 8, 16), 16, 16), ((2, 8), 2, 2)],
)
def test_choice_of_bins(bins, write_run, there, wanted, read):
    run = write_bins(bins, write_run, *there)
    for start in ("", "outs", "outs/binned_outputs"):
        assert read_visium_hd(run / start, bin_size=wanted).X.max() == read


def test_one_folder_of_bins(bins, write_run):
    folder = write_bins(bins, write_run, 8, 16) / "outs/binned_outputs/square_016um"
    assert read_visium_hd(folder).X.max() == 16
    with pytest.raises(InputError, match=r"Expected bins of 8 µm in .*, found 16 µm"):
        read_visium_hd(folder, bin_size=8)


def test_bins_that_are_not_there(bins, write_run):
    with pytest.raises(InputError, match=r"Expected bins of 16 µm in .*, found 2 µm, 8 µm.*bin_size=8"):
        read_visium_hd(write_bins(bins, write_run, 2, 8), bin_size=16)


def test_only_the_smallest_bins(bins, write_run):
    with pytest.raises(InputError, match=r"Expected bins of 8 µm or more in .*, found 2 µm.*bin_size=2"):
        read_visium_hd(write_bins(bins, write_run, 2))


def test_bins_without_counts(bins, write_run):
    run = write_bins(bins, write_run, 8)
    (run / "outs/binned_outputs/square_008um" / H5).unlink()
    with pytest.raises(InputError, match=r"square_008um, found spatial"):
        read_visium_hd(run)
