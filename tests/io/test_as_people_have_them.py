"""Files as people have them: each form gives the counts and positions that went in, or one sentence."""

import gzip
import logging
import re
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

import people
from people import (
    assert_same,
    assert_visium,
    cosmx,
    counts_table,
    long_table,
    merscope,
    packed,
    positions_table,
    visium,
    write_mtx,
    write_spatial,
    xy_table,
)
from stmmr import InputError, io, pp
from stmmr._core.raw import matrices_with_counts, raw_counts
from stmmr._core.several import find_several
from stmmr._core.space import coordinates, units


def two(counts, coords, *, name="counts.csv", coords_name="coords.csv", counts_options=None, **options):
    """Write a table of counts and one of coordinates, made of a section."""

    def write(folder, section):
        counts(section).to_csv(folder / name, **(options if counts_options is None else counts_options))
        coords(section).to_csv(folder / coords_name, **options)
        return folder

    return write


def one(edit, **options):
    """Write one table of counts with coordinates."""

    def write(folder, section):
        table = edit(counts_table(section), section)
        table.to_csv(folder / "table.csv", **{"index_label": "cell_id", **options})
        return folder / "table.csv"

    return write


def with_xy(table, section, at=0):
    table.insert(at, "y", section.obsm["spatial"][:, 1])
    table.insert(at, "x", section.obsm["spatial"][:, 0])
    return table


def described(table, section):
    table = with_xy(table, section)
    table.insert(2, "volume", 777)
    return table.assign(nCount_RNA=9, nFeature_RNA=3, seurat_clusters=1)


def dots(section):
    return counts_table(section).T.rename(columns=lambda name: name.replace("-", "."))


def written_by(text):
    """Change the text of both tables, as another program or system does."""

    def write(folder, section):
        for name, table in (("counts.csv", counts_table(section)), ("coords.csv", xy_table(section))):
            (folder / name).write_bytes(text(table.to_csv(index_label="cell")))
        return folder

    return write


def zeros_left_empty(section):
    table = counts_table(section).astype(object)
    return table.mask(table == 0, "")


def with_rows_of_na(section):
    table = counts_table(section)
    extra = pd.DataFrame("NA", index=["x", "y"], columns=table.columns)
    return pd.concat([table.astype(object), extra])


def sums_below(*names):
    def counts(section):
        table = counts_table(section).T
        return pd.concat([table, pd.DataFrame(77, index=list(names), columns=table.columns)])

    return counts


def annotated(section):
    """Genes × spots, with identifiers, symbols and further columns of genes."""
    table = counts_table(section).T
    symbols, ids = list(table.index), [f"ENSG{i:011d}.3" for i in range(len(table))]
    table.insert(0, "length", 9)
    table.insert(0, "chromosome", "chr1")
    table.insert(0, "gene_name", symbols)
    return table.set_axis(pd.Index(ids, name="gene_id"), axis=0)


def portal(section):
    """Coordinates of the Single Cell Portal, with the types of the columns below their names."""
    table = xy_table(section, "X", "Y").rename_axis("NAME").reset_index()
    return pd.concat([pd.DataFrame([["TYPE", "numeric", "numeric"]], columns=table.columns), table]).set_index("NAME")


TABLES = {
    "sums of HTSeq": two(sums_below("__no_feature", "__alignment_not_unique"), xy_table),
    "sums of STAR": two(sums_below("N_unmapped", "N_noFeature"), xy_table),
    "sums of the spots": two(sums_below("Total", "nCount_RNA"), xy_table),
    "annotations of genes": two(annotated, xy_table),
    "text beside the counts": two(lambda s: counts_table(s).assign(condition="ctrl"), xy_table),
    "types below the names": two(lambda s: counts_table(s).T, portal),
    "lines that end as on old Macs": written_by(lambda t: t.replace("\n", "\r").encode()),
    "mixed ends of lines": written_by(lambda t: t.replace("\n", "\r\n", 9).encode()),
    **{f"{n} comments": written_by(lambda t, n=n: ("# text\n" * n + t).encode()) for n in (2, 3, 4, 8)},
    **{
        f"{x}, {y}": two(counts_table, lambda s, x=x, y=y: xy_table(s, x, y))
        for x, y in (("xaxis", "yaxis"), ("POSITION_X", "POSITION_Y"), ("Location_Center_X", "Location_Center_Y"))
    },
    "two tables": two(counts_table, xy_table),
    "coordinates in another order": two(counts_table, lambda s: xy_table(s)[::-1][["y", "x"]]),
    "genes in rows, dots of R": two(dots, xy_table),
    "genes in rows, header one shorter": two(
        lambda s: dots(s).rename_axis(None), xy_table, name="counts.tsv", sep="\t", index_label=False
    ),
    "semicolons and decimal commas": two(counts_table, xy_table, sep=";", decimal=","),
    "BOM and carriage returns": written_by(lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode()),
    "UTF-16": written_by(lambda t: t.replace(",", "\t").encode("utf-16")),
    "comment first": written_by(lambda t: b"# exported\n" + t.encode()),
    "Latin-1": two(
        counts_table, lambda s: xy_table(s).assign(**{"Area (µm²)": 4.0}), encoding="latin-1", counts_options={}
    ),
    "blanks in the header": two(counts_table, lambda s: xy_table(s).assign(**{"cell type of one": "T cell"})),
    "columns of QuPath": two(counts_table, lambda s: xy_table(s, "Centroid X µm", "Centroid Y µm")),
    "positions of Space Ranger": two(counts_table, positions_table, coords_name="tissue_positions.csv"),
    "positions without a header": two(
        counts_table, positions_table, coords_name="positions.csv", header=False, counts_options={}
    ),
    "coordinates without a header": two(counts_table, xy_table, header=False, counts_options={}),
    "index saved as a column": two(
        lambda s: counts_table(s).reset_index(names="barcode"), lambda s: xy_table(s).reset_index(names="barcode")
    ),
    "last value missing": two(
        counts_table, lambda s: xy_table(s).assign(kind=["a"] * (s.n_obs - 1) + [None])
    ),
    "empty cells": two(zeros_left_empty, xy_table),
    "rows of NA": two(with_rows_of_na, xy_table),
    "one table": one(with_xy),
    "one table, coordinates last": one(lambda t, s: with_xy(t, s, at=t.shape[1])),
    "one table, columns that are no genes": one(described),
    "one table with decimal commas": one(with_xy, sep=";", decimal=","),
    "names without their suffix": two(
        lambda s: counts_table(s).rename(index=lambda n: n[:-2]), xy_table
    ),
}  # fmt: skip


def without_names(name):
    """Write cells in the same order in both tables, and their names in the second only."""

    def write(folder, section):
        counts_table(section).to_csv(folder / "counts.csv", index=False)
        table = xy_table(section, "centroid_x", "centroid_y").rename_axis(name).reset_index()
        table.assign(**{"Field of View": 0}).iloc[:, ::-1].to_csv(folder / "cells.csv", index=False)
        return folder

    return write


TABLES |= {f"counts without names, {name}": without_names(name) for name in ("cell", "Cell ID")}


@pytest.mark.parametrize("write", TABLES.values(), ids=TABLES)
def test_tables(write, tmp_path):
    section = people.section()
    assert_same(io.read(write(tmp_path, section)), section)


def test_parquet_with_the_names_as_index(tmp_path):
    section = people.section()
    counts_table(section).to_parquet(tmp_path / "counts.parquet")
    xy_table(section).rename_axis("cell").to_parquet(tmp_path / "coords.parquet")
    assert_same(io.read(tmp_path), section)


def test_columns_that_are_no_genes_are_named_in_a_warning(tmp_path, caplog):
    section = people.section()
    adata = io.read(one(described)(tmp_path, section))
    assert "volume, nCount_RNA, nFeature_RNA, seurat_clusters; the other 14 are genes" in caplog.text
    assert set(adata.obs["volume"]) == {777}


def test_units_in_the_names_of_columns(tmp_path):
    section = people.section()
    path = two(counts_table, lambda s: xy_table(s, "x_mm", "y_mm"))(tmp_path, section)
    (library,) = io.read(path).uns["spatial"].values()
    assert library["scalefactors"]["microns_per_pixel"] == 1000


def geo(folder, section):
    people.write_10x_h5(folder / "GSM1_A_filtered_feature_bc_matrix.h5", section)
    write_spatial(
        folder, section, prefix="GSM1_A_", positions="tissue_positions_list.csv", pack=(".csv", ".json", ".png")
    )
    return folder


def geo_triple(folder, section):
    write_mtx(folder, section, prefix="GSM1_A_")
    write_spatial(folder, section, prefix="GSM1_A_", pack=(".csv", ".json", ".png"))
    return folder


def other_prefix(folder, section):
    people.write_10x_h5(folder / "GSM1_filtered_feature_bc_matrix.h5", section)
    write_spatial(folder, section, prefix="GSM1_spatial_")
    return folder


def loose_mtx(folder, section):
    write_mtx(folder, section)
    write_spatial(folder / "spatial", section)
    return folder


def mtx_folder(**options):
    def write(folder, section):
        write_mtx(folder / "filtered_feature_bc_matrix", section, **options)
        write_spatial(folder / "spatial", section)
        return folder

    return write


def as_floats(folder, section):
    visium(folder, section)
    people.write_10x_h5(folder / "filtered_feature_bc_matrix.h5", section, dtype=np.float64)
    return folder


def rewritten(edit):
    """Change the text of the positions."""

    def write(folder, section):
        path = visium(folder, section) / "spatial" / "tissue_positions.csv"
        path.write_text(edit(positions_table(section)))
        return folder

    return write


def packed_up(pack, name):
    def write(folder, section):
        return pack(visium(folder / "A1", section), folder / name)

    return write


VISIUM = {
    "GEO, packed companions": geo,
    "GEO, loose mtx": geo_triple,
    "another prefix of the companions": other_prefix,
    "image as JPEG": lambda folder, section: visium(folder, section, image=".jpg"),
    "mtx, not packed": mtx_folder(pack=False),
    "mtx, genes.tsv.gz": mtx_folder(features="genes.tsv", columns=2),
    "mtx, features without types": mtx_folder(columns=2),
    "mtx, features of one column": mtx_folder(columns=1),
    "mtx, barcodes under a header": mtx_folder(head=True),
    "loose mtx": loose_mtx,
    "counts stored as floats": as_floats,
    "positions with semicolons": rewritten(lambda t: t.to_csv(sep=";")),
    "positions of R": rewritten(lambda t: t.reset_index().to_csv(quoting=1)),
    "positions with TRUE": rewritten(lambda t: t.assign(in_tissue="TRUE").to_csv()),
    "positions in other columns": rewritten(lambda t: t[t.columns[::-1]].to_csv()),
    "positions without suffix": rewritten(lambda t: t.rename(index=lambda n: n[:-2]).to_csv()),
    "folder spatial": lambda folder, section: visium(folder, section) / "spatial",
    "folder above": lambda folder, section: visium(folder / "a" / "outs", section).parents[1],
    ".tar.gz": packed_up(people.tar_of, "A1.tar.gz"),
    ".zip": packed_up(people.zip_of, "A1.zip"),
}  # fmt: skip


@pytest.mark.parametrize("write", VISIUM.values(), ids=VISIUM)
def test_visium(write, tmp_path):
    section = people.section()
    assert_visium(io.read(write(tmp_path, section)), section)


def test_off_tissue(tmp_path):
    section = people.section()
    section.obs["in_tissue"] = (section.obs["array_row"] > 1).astype(int)
    run = visium(tmp_path / "run", section)
    section.write_h5ad(tmp_path / "a.h5ad")
    for path in (run, tmp_path / "a.h5ad"):
        assert io.read(path).n_obs == 18
        assert io.read(path, keep_off_tissue=True).n_obs == 30
    section.obs["in_tissue"] = False
    section.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(InputError, match=r"in_tissue'\] 0 for all 30.*--keep-off-tissue"):
        io.read(tmp_path / "b.h5ad")


@pytest.mark.parametrize(("pack", "ending"), [(people.tar_of, "tar.gz"), (people.zip_of, "zip")])
def test_positions_in_an_archive_beside_the_counts(pack, ending, tmp_path):
    section = people.section()
    people.write_10x_h5(tmp_path / "GSM1_A_filtered_feature_bc_matrix.h5", section)
    write_spatial(tmp_path / "x" / "spatial", section)
    archive = pack(tmp_path / "x" / "spatial", tmp_path / f"GSM1_A_spatial.{ending}")
    shutil.rmtree(tmp_path / "x")
    adata = io.read(tmp_path)
    assert_same(adata, section)
    assert list(adata.uns["spatial"]["GSM1_A"]["images"]) == ["hires"]
    archive.write_bytes(b"x")
    with pytest.raises(InputError, match=r"spatial.*cannot be unpacked"):
        io.read(tmp_path)


@pytest.mark.parametrize(
    "write",
    [write_mtx, lambda folder, s, prefix: people.write_10x_h5(folder / f"{prefix}filtered_feature_bc_matrix.h5", s)],
)
def test_coordinates_in_a_table_beside_a_matrix(write, tmp_path):
    section = people.section()
    write(tmp_path, section, prefix="GSM1_A_")
    xy_table(section, "x_um", "y_um").to_csv(tmp_path / "GSM1_A_coordinates.csv")
    adata = io.read(tmp_path)
    assert_same(adata, section)
    assert units(adata)[1] == 1
    section.obs["in_tissue"] = (section.obs["array_row"] > 1).astype(int)
    positions_table(section).to_csv(tmp_path / "GSM1_A_coordinates.csv", header=False)
    assert io.read(tmp_path).n_obs == 18
    assert io.read(tmp_path, keep_off_tissue=True).n_obs == 30


def beads(name, **options):
    def write(folder, section):
        counts = counts_table(section).T.rename_axis("GENE")
        counts.to_csv(folder / "P1.matched.digital_expression.txt.gz", sep="\t")
        options_ = {"index_label": "barcodes", **options}
        xy_table(section, "xcoord", "ycoord").to_csv(folder / f"P1_{name}", **options_)
        return folder

    return write


def slideseq_mtx(folder, section):
    write_mtx(folder, section, prefix="P1.matched.digital_expression_")
    xy_table(section).to_csv(folder / "P1_matched_bead_locations.txt.gz", sep="\t", header=False)
    return folder


def curio(folder, section):
    write_mtx(
        folder, section, prefix="S1_", matrix="MoleculesPerMatchedBead.mtx", features="genes.tsv", columns=1, pack=False
    )
    xy_table(section, "xcoord", "ycoord").to_csv(folder / "S1_MatchedBeadLocation.csv", index_label="barcodes")
    return folder


def numbered(folder, section):
    beads("x.csv")(folder, section)
    (folder / "P1_x.csv").unlink()
    table = xy_table(section, "xcoord", "ycoord").reset_index(names="barcodes").assign(cluster=3)
    table[["barcodes", "ycoord", "xcoord", "cluster"]].to_csv(folder / "P1_bead_locations.csv")
    return folder


SLIDESEQ = {
    "barcode_xy": beads("barcode_xy.txt.gz", sep="\t", header=False),
    "barcode_matching": beads("barcode_matching.txt", sep="\t", header=False),
    "mtx": slideseq_mtx,
    "Curio": curio,
    "index, another order and a further column": numbered,
}


@pytest.mark.parametrize("write", SLIDESEQ.values(), ids=SLIDESEQ)
def test_slideseq(write, tmp_path):
    section = people.section()
    assert_same(io.read(write(tmp_path, section)), section)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index": True},
        {"suffix": "_S1R1", "prefix": "mouse_Slice1_"},
        {"suffix": "_3D_embryo4"},
        {"region": "region_R1"},
        {"parquet": True},
    ],
    ids=str,
)
def test_merscope(options, tmp_path):
    section = people.section()
    merscope(tmp_path, section, **options)
    adata = io.read(tmp_path)
    assert_same(adata, section)
    adata.write_h5ad(tmp_path / "written.h5ad")  # also true values with missing ones
    assert units(adata)[1] == 1


GLOBAL = ["CenterX_global_px", "CenterY_global_px"]


def in_mm(counts, cells, fields):
    mm = pd.DataFrame({"Slide": 1, "FOV": fields["fov"]})
    mm["X_mm"], mm["Y_mm"] = (fields[f"{axis}_global_px"] * 0.00012028 for axis in "xy")
    return counts, cells.drop(columns=GLOBAL), mm


def slide_mm(counts, cells, _):
    cells["x_slide_mm"], cells["y_slide_mm"] = (cells[name] * 0.00012028 for name in GLOBAL)
    return counts, cells.drop(columns=GLOBAL), None


def text_ids(counts, cells, fields):
    for table in (counts, cells):
        table["cell_ID"] = [f"c_1_{f}_{c}" for f, c in zip(table["fov"], table["cell_ID"], strict=True)]
    return counts, cells, fields


COSMX = {
    "as exported": {},
    "local pixels only": {"edit": lambda e, m, f: (e, m.drop(columns=GLOBAL), f)},
    "fields in mm": {"edit": in_mm},
    "mm of the slide": {"edit": slide_mm},
    "written again by R": {"index": True},
    "cells named c_1_1_1": {"edit": text_ids},
    "a column twice": {"edit": lambda e, m, f: (e, m.assign(Area2=1).rename(columns={"Area2": "Area"}), f)},
    "number of the slide": {"edit": lambda e, m, f: (e.assign(slide_ID=3), m.assign(slide_ID=3), f)},
}


@pytest.mark.parametrize("options", COSMX.values(), ids=COSMX)
def test_cosmx(options, tmp_path):
    section = people.section()
    assert_same(io.read(cosmx(tmp_path, section, **options)), section)


@pytest.mark.parametrize("name", ["SS1.gem.gz", "SS1.tissue.gem.txt", "MOSTA_GEM_bin1.tsv.gz"])
def test_gem(name, tmp_path):
    section = people.section()
    table, _ = long_table(section)
    text = "#FileFormat=GEMv0.1\n" * ("gem" in name) + table.to_csv(sep="\t", index=False)
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    adata = io.read(tmp_path / name, bin_size=10)
    corners = section.obsm["spatial"].astype(int) // 10 * 10
    assert_same(adata, section, names=[f"{x}_{y}" for x, y in corners], shift=corners + 5 - section.obsm["spatial"])
    assert units(adata)[:2] == ("px", 0.5)
    assert io.read(tmp_path / name).X.sum() == table["MIDCount"].sum()  # bins of 50


def test_transcripts(tmp_path):
    section = people.section()
    table, row = long_table(section, geneID="gene", x="global_x", y="global_y", MIDCount="n")
    table = table.loc[table.index.repeat(table.pop("n"))].assign(fov=1, x=0.5, y=0.5)
    table.to_csv(tmp_path / "detected_transcripts.csv")
    with pytest.raises(InputError, match=r"found single transcripts .*cell_by_gene.csv.*--bin-size"):
        io.read(tmp_path)
    assert io.read(tmp_path, bin_size=10).X.sum() == section.X.sum()
    table["cell_id"] = [f"cell{row[i]}" for i in table.index]
    outside = table.iloc[:5].assign(cell_id="UNASSIGNED")
    pd.concat([table, outside]).to_csv(tmp_path / "detected_transcripts.csv")
    adata = io.read(tmp_path)
    names = [f"cell{i}" for i in range(section.n_obs)]
    assert_same(adata, section, names=names, shift=np.trunc(section.obsm["spatial"]) - section.obsm["spatial"])


def test_transcripts_of_cosmx_and_xenium(tmp_path):
    section = people.section()
    table, row = long_table(section, geneID="target", x="x_global_px", y="y_global_px", MIDCount="n")
    table = table.loc[table.index.repeat(table.pop("n"))]
    table["cell_ID"], table["fov"] = row[table.index] % 10 + 1, row[table.index] // 10 + 1  # numbered in each field
    table.to_csv(tmp_path / "S0_tx_file.csv", index=False)
    names = [f"{i % 10 + 1}_{i // 10 + 1}" for i in range(section.n_obs)]
    shift = np.trunc(section.obsm["spatial"]) - section.obsm["spatial"]
    assert_same(io.read(tmp_path / "S0_tx_file.csv"), section, names=names, shift=shift)
    table = table.drop(columns="fov").assign(cell_ID=[f"c{i}" for i in row[table.index]], qv=30.0)
    table.columns = ["feature_name", "x_location", "y_location", "cell_id", "qv"]
    poor = table.iloc[:9].assign(qv=7.0)
    pd.concat([table, poor]).to_parquet(tmp_path / "transcripts.parquet", index=False)
    names = [f"c{i}" for i in range(section.n_obs)]
    assert_same(io.read(tmp_path / "transcripts.parquet"), section, names=names, shift=shift)


def test_a_table_without_counts_says_so(tmp_path):
    section = people.section()
    table = xy_table(section).assign(nCount_Spatial=9, nFeature_Spatial=7, cluster=1)
    table.to_csv(tmp_path / "meta.csv", index_label="barcode")
    with pytest.raises(
        InputError, match=r"describe spots only \(barcode, x, y, nCount_Spatial.*Give the table of counts"
    ):
        io.read(tmp_path / "meta.csv")


def test_several_regions_are_sections(tmp_path):
    section = people.section()
    for region in ("region_0", "region_1"):
        merscope(tmp_path, section.copy(), region=region)
    recognised = io.recognise(tmp_path)
    assert (recognised.platform, len(recognised.sections)) == ("sections", 2)
    adata = io.read(tmp_path)
    assert adata.obs["section"].value_counts().to_dict() == {"region_0": 30, "region_1": 30}


def test_two_samples_in_a_folder_are_sections(tmp_path):
    for sample in ("GSM1_A_", "GSM2_B_"):
        people.write_10x_h5(tmp_path / f"{sample}filtered_feature_bc_matrix.h5", people.section())
        write_spatial(tmp_path, people.section(), prefix=sample)
    assert list(io.read(tmp_path).obs["section"].cat.categories) == ["GSM1_A", "GSM2_B"]
    assert io.read(tmp_path / "GSM2_B_filtered_feature_bc_matrix.h5").n_obs == 30


# AnnData of other software


def frame(*columns):
    def edit(adata):
        x, y = adata.obsm["spatial"].T
        table = pd.DataFrame({"x": x, "y": y, "pxl_col": x, "pxl_row": y, "other": 1.0}, index=adata.obs_names)
        adata.obsm["spatial"] = table[list(columns)]

    return edit


def moved(key):
    def edit(adata):
        adata.obsm[key] = adata.obsm.pop("spatial")

    return edit


def to_obs(x, y):
    def edit(adata):
        adata.obs[x], adata.obs[y] = adata.obsm.pop("spatial").T

    return edit


def controls(adata):
    extra = ad.AnnData(
        np.full((adata.n_obs, 3), 99.0, np.float32), adata.obs, pd.DataFrame(index=["NegPrb1", "Blank-2", "P"])
    )
    both = ad.concat([adata, extra], axis=1)
    both.obs, both.obsm["spatial"] = adata.obs, adata.obsm["spatial"]
    both.var["feature_types"] = ["Gene Expression"] * adata.n_vars + ["Gene Expression"] * 2 + ["Antibody Capture"]
    return both


def identifiers(adata):
    adata.var["feature_name"] = pd.Categorical(adata.var_names)
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]


def named_by(pattern, column):
    def edit(adata):
        adata.var[column] = pd.Categorical(adata.var_names)
        adata.var_names = [pattern.format(i) for i in range(adata.n_vars)]

    return edit


def spikes(adata):
    values = np.full((adata.n_obs, 2), 99.0, np.float32)
    extra = ad.AnnData(values, adata.obs, pd.DataFrame(index=["ERCC-00002", "ERCC-00003"]))
    both = ad.concat([adata, extra], axis=1)
    both.obs, both.obsm["spatial"] = adata.obs, adata.obsm["spatial"]
    return both


def with_commas(adata):
    for name, values in zip("xy", adata.obsm.pop("spatial").T, strict=True):
        adata.obs[name] = [f"{value:.1f}".replace(".", ",") for value in values]


ANNDATA = {
    "identifiers with versions": named_by("ENSMUSG{:011d}.12", "SYMBOL"),
    "identifiers of FlyBase": named_by("FBgn{:07d}", "gene_name"),
    "numbers of genes": named_by("{}", "gene"),
    "spikes": spikes,
    "decimal commas in obs": with_commas,
    "three dimensions only": lambda a: a.obsm.__setitem__("spatial3d", np.c_[a.obsm.pop("spatial"), np.zeros(a.n_obs)]),
    "st_x in obs": to_obs("st_x", "st_y"),
    "data frame": frame("x", "y"),
    "data frame, y first": frame("other", "y", "x"),
    "data frame of pixels": frame("pxl_row", "pxl_col"),
    "text": lambda a: a.obsm.__setitem__("spatial", a.obsm["spatial"].astype(str)),
    "z of zero": lambda a: a.obsm.__setitem__("spatial", np.c_[a.obsm["spatial"], np.zeros(a.n_obs)]),
    "X_spatial": moved("X_spatial"),
    "Spatial": moved("Spatial"),
    "x and y in obs": to_obs("x", "y"),
    "imagecol in obs": to_obs("imagecol", "imagerow"),
    "centroids in obs": to_obs("x_centroid", "y_centroid"),
    "controls": controls,
    "identifiers": identifiers,
}


@pytest.mark.parametrize("edit", ANNDATA.values(), ids=ANNDATA)
@pytest.mark.filterwarnings("ignore:Variable names")
def test_anndata(edit, tmp_path):
    section = people.section()
    other = section.copy()
    other = edit(other) or other
    if "spatial" not in other.obsm:
        other.obs = other.obs.drop(columns=["array_row", "array_col"])
    with ad.settings.override(allow_write_nullable_strings=True):
        other.write_h5ad(tmp_path / "a.H5AD")
    (tmp_path / "a.h5ad.gz").write_bytes(gzip.compress((tmp_path / "a.H5AD").read_bytes()))
    shutil.copy(tmp_path / "a.H5AD", tmp_path / "a.h5")
    for name in ("a.H5AD", "a.h5ad.gz", "a.h5"):
        assert_same(io.read(tmp_path / name), section)


@pytest.mark.filterwarnings("ignore:Variable names")
@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize("rename", [identifiers, lambda a: setattr(a, "var_names", ["A", "A", *a.var_names[2:]])])
def test_counts_in_raw_have_the_names_of_the_genes(rename, subset, tmp_path):
    adata = people.section()
    rename(adata)
    adata.raw = adata.copy()
    adata.X = adata.X.log1p()
    adata = adata[:, 3:].copy() if subset else adata
    expected = adata.raw.X[:, 3:] if subset else adata.raw.X
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = io.read(tmp_path / "a.h5ad")
    if subset and rename is not identifiers:
        with pytest.raises(InputError, match="Expected each gene once in raw"):
            raw_counts(read, "raw")
    else:
        assert (raw_counts(read, "raw")[1] != expected).nnz == 0


def test_units_in_the_names_of_columns_of_obs(tmp_path):
    adata = people.section()
    adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    to_obs("x_um", "y_um")(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert units(io.read(tmp_path / "a.h5ad"))[:2] == ("µm", 1)


@pytest.mark.parametrize("tissue", [[0, 1], ["0", "1"], ["brain", "brain"]])
def test_the_column_tissue_of_seurat(tissue, tmp_path):
    adata = people.section()
    adata.obs = adata.obs.drop(columns="in_tissue")
    adata.obs["tissue"] = [tissue[0]] * 10 + [tissue[1]] * 20
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert io.read(tmp_path / "a.h5ad").n_obs == (30 if "brain" in tissue else 20)


def test_the_likeliest_counts_are_offered_first():
    adata = people.section()
    counts = adata.X
    adata.layers["binary"] = (counts > 0).astype(np.float32)
    adata.layers["spliced"] = sparse.csr_matrix(np.floor(counts.toarray() / 2))
    adata.layers["all"] = counts.copy()
    adata.X = counts.log1p()
    assert matrices_with_counts(adata) == ["all", "spliced", "binary"]
    adata.layers["raw_count"] = adata.layers["spliced"]
    assert matrices_with_counts(adata)[0] == "raw_count"


@pytest.mark.parametrize("column", ["tma_core", "brain_section_label", "Condition", "orig.ident"])
def test_columns_that_tell_sections_apart(column):
    parts = {name: people.section(8, 8) for name in "AB"}
    for name, part in parts.items():
        part.obs_names = [f"{name}_{spot}" for spot in part.obs_names]
    adata = ad.concat(parts, label=column)
    assert find_several(adata).key == column


def test_values_of_zero_and_one_are_warned_of(caplog):
    pp.expression(people.section())
    assert "0 or 1" not in caplog.text
    adata = people.section()
    adata.X = adata.X > 0
    pp.expression(adata)
    assert "All values in X are 0 or 1" in caplog.text


def swapped(adata):
    adata.obs["y"], adata.obs["x"] = adata.obsm.pop("spatial").T


def test_x_and_y_swapped_by_seurat_are_told_by_the_array(tmp_path, caplog):
    section = people.section()
    other = section.copy()
    swapped(other)
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)
    assert "Both are swapped" in caplog.text
    (tmp_path / "a.h5ad").unlink()
    array = section.obs[["array_row", "array_col"]]
    right = two(counts_table, lambda s: xy_table(s).join(array))
    wrong = two(counts_table, lambda s: xy_table(s, "y", "x").join(array))
    for write, says in ((right, False), (wrong, True)):
        caplog.clear()
        assert_same(io.read(write(tmp_path, section)), section)
        assert ("Both are swapped" in caplog.text) == says


def test_x_and_y_of_visium_without_an_array_may_be_swapped(tmp_path, caplog):
    section = people.section()
    section.obs_names = [f"ACGT{name}" for name in section.obs_names]
    io.read(two(counts_table, xy_table)(tmp_path, section))
    assert "If Seurat 5 wrote coords.csv, x is the row of the image" in caplog.text


LIBRARY = {"images": {"hires": people.picture()}, "scalefactors": people.SCALES}
UNS = {
    "a flag beside the library": {"is_single": True, "lib": LIBRARY},
    "no level of libraries": LIBRARY,
    "arrays of one": {"lib": {**LIBRARY, "scalefactors": {key: np.array([v]) for key, v in people.SCALES.items()}}},
    "HEST": {
        "ST": {
            "images": {"downscaled_fullres": people.picture()},
            "scalefactors": {"tissue_downscaled_fullres_scalef": 0.1, "spot_diameter_fullres": 110.0},
        }
    },
}


@pytest.mark.parametrize("uns", UNS.values(), ids=UNS)
def test_libraries(uns, tmp_path):
    from stmmr.image.registered import registered_image
    from stmmr.pp import has_image

    section = people.section()
    section.obsm["spatial"] = (section.obsm["spatial"] - section.obsm["spatial"].min(axis=0) + 100) * 0.4
    section.uns["spatial"] = uns
    section.write_h5ad(tmp_path / "a.h5ad")
    adata = io.read(tmp_path / "a.h5ad")
    assert has_image(adata)
    assert registered_image(adata).scale == 0.1
    assert units(adata)[1] == pytest.approx(1.25, rel=1e-3)


@pytest.mark.parametrize("uns", [True, np.zeros(3), pd.DataFrame({"a": [1]}), {"is_single": True}], ids=repr)
def test_uns_without_libraries(uns, tmp_path):
    from stmmr.pp import has_image

    section = people.section()
    section.uns["spatial"] = uns
    assert not has_image(section)
    assert units(section)[2] == "hexagonal array"


def test_one_section_of_several_libraries_has_its_own_scale():
    section = people.section()
    section.obs["library_id"] = "B/2"
    section.uns["spatial"] = {
        name: {"scalefactors": {"microns_per_pixel": um}} for name, um in (("A/1", 0.25), ("B/2", 0.5))
    }
    assert units(section)[1:] == (0.5, "microns_per_pixel")
    del section.obs["library_id"]  # which of both is unknown: the array tells
    assert units(section)[1:] == (pytest.approx(0.5, rel=1e-2), "hexagonal array")


def test_names_with_a_slash_that_files_nest(tmp_path):
    section = people.section()
    section.obs["library_id"] = "A/1"
    section.uns["spatial"] = {"A": {"1": LIBRARY}}  # as HDF5 has it
    from stmmr._core.compat import libraries_of

    assert list(libraries_of(section)) == ["A/1"]


def fluorescence():
    rng = np.random.default_rng(0)
    composite = np.zeros((60, 60, 3), np.uint8)
    composite[..., 2] = rng.integers(0, 120, (60, 60))
    composite[..., 1] = rng.integers(0, 60, (60, 60))
    return composite


NO_HISTOLOGY = {
    "a dark background, as of fluorescence": fluorescence(),
    "greyscale": fluorescence()[..., 2],
    r"\(60, 60, 5\)": np.ones((60, 60, 5), np.uint8),
}


@pytest.mark.parametrize(("reason", "image"), NO_HISTOLOGY.items(), ids=NO_HISTOLOGY)
def test_images_that_are_no_histology_are_left_out_unless_named(reason, image, caplog):
    from stmmr.image.sections import images_available, registered_images
    from stmmr.pipeline.info import _stored_images

    adata = people.section()
    adata.obsm["spatial"] = (adata.obsm["spatial"] - adata.obsm["spatial"].min(axis=0)) / 40 + 12
    adata.uns["spatial"] = {"lib": {"images": {"hires": image}, "scalefactors": {"tissue_hires_scalef": 1.0}}}
    image.flat[0] = 2  # not blank
    assert not images_available(adata)
    assert len(caplog.records) == 1
    assert re.search(rf"\(lib: hires\): found {reason}", caplog.text)
    assert re.search(rf"60 × 60 px, not used: {reason}", _stored_images(adata))
    for named in (image, None):
        with pytest.raises(InputError, match=reason):
            registered_images(adata, named)
    adata.uns["spatial"]["lib"]["images"]["lowres"] = people.picture()
    adata.uns["spatial"]["lib"]["scalefactors"]["tissue_lowres_scalef"] = 1.0
    assert images_available(adata)
    assert registered_images(adata)[""].slide.name == "lowres"


def test_a_black_mask_is_no_fluorescence():
    from stmmr.image.pixels import unfit

    masked = people.picture()
    masked[:10] = 0
    assert not unfit(masked)


@pytest.mark.parametrize(("size", "origin", "um"), [(8, (100, 200), None), (16, (0, 0), 16)])
def test_crops_of_bins(size, origin, um):
    row, col = (index.ravel() for index in np.mgrid[:30, :30])
    row, col = row + origin[0], col + origin[1]
    adata = ad.AnnData(np.ones((900, 2), np.float32), obsm={"spatial": np.c_[col, row] * size / 0.27})
    adata.obs["array_row"], adata.obs["array_col"] = row, col
    if um:
        adata.obs_names = [f"s_{size:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, col, strict=True)]
    assert units(adata)[1] == pytest.approx(0.27 if um else np.nan, nan_ok=True)
    assert coordinates(adata).shape == (900, 2)


@pytest.mark.parametrize(
    ("name", "says"), [("../evil.txt", "stay in their folder"), ("/etc/evil", "stay in their folder")]
)
def test_archives_stay_in_their_folder(tmp_path, name, says):
    with pytest.raises(InputError, match=says):
        io.read(people.tar_with(tmp_path / "a.tar.gz", name))


def test_archives_have_bounds_and_no_links(tmp_path, monkeypatch, caplog):
    path = people.tar_with(tmp_path / "a.tar.gz", "a/big.csv", bytes(2_000_000))
    monkeypatch.setattr("stmmr.io._archives.ALWAYS", 1000)
    with pytest.raises(InputError, match="suits the size of the archive"):
        io.read(path)
    link = people.tar_with(tmp_path / "b.tar.gz", "a/link", b"", type=b"2", linkname="/etc/passwd")
    with caplog.at_level(logging.WARNING), pytest.raises(InputError):
        io.read(link)
    assert "1 links or special files" in caplog.text


def test_an_archive_in_a_folder_and_a_zarr_zip(tmp_path):
    section = people.section()
    (tmp_path / "in").mkdir()
    people.tar_of(visium(tmp_path / "A1", section), tmp_path / "in" / "A1.tgz")
    assert_same(io.read(tmp_path / "in"), section)


def test_every_packed_image_is_the_same(tmp_path):
    section = people.section()
    run = visium(tmp_path, section)
    before = io.read(run).uns["spatial"]
    packed(run / "spatial" / "tissue_hires_image.png")
    ((_, library),) = io.read(run).uns["spatial"].items()
    ((_, same),) = before.items()
    np.testing.assert_array_equal(library["images"]["hires"], same["images"]["hires"])
    Image.fromarray(library["images"]["hires"]).save(tmp_path / "x.png")


def test_sparse_counts(tmp_path):
    section = people.section()
    assert sparse.issparse(io.read(visium(tmp_path, section)).X)
