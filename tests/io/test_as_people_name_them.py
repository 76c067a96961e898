"""Names as people and programs write them: of coordinates, genes, controls, sections, indices and files."""

import gzip
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import mmwrite

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
    xy_table,
)
from stmmr import InputError, io
from stmmr._core.axes import coordinate_columns, depth_column, microns_of
from stmmr._core.several import find_several
from stmmr._core.space import coordinates, units

# coordinates

PAIRS = [
    *(("x", "y"), ("X", "Y"), ("Xcoord", "Ycoord"), ("xCoord", "yCoord"), ("coor_x", "coor_y"), ("xloc", "yloc")),
    *(("cell_x", "cell_y"), ("x_cell", "y_cell"), ("cell_centroid_X", "cell_centroid_Y"), ("cx", "cy"), ("xc", "yc")),
    *(("nucleus_x", "nucleus_y"), ("image_x", "image_y"), ("x_pix", "y_pix"), ("px_x", "px_y"), ("full_x", "full_y")),
    *(("x_reconstructed", "y_reconstructed"), ("x_section", "y_section"), ("spatial_coord_x", "spatial_coord_y")),
    *(("x_ccf", "y_ccf"), ("slide_x", "slide_y"), ("Xµm", "Yµm"), ("x_slide_mm", "y_slide_mm"), ("st_x", "st_y")),
    *(("CenterX_global_px", "CenterY_global_px"), ("x_FOV_px", "y_FOV_px"), ("array_x", "array_y")),
    *(("imagecol", "imagerow"), ("imgcol", "imgrow"), ("pixel_col", "pixel_row"), ("column", "row"), ("col", "row")),
    *(("pxl_col_in_fullres", "pxl_row_in_fullres"), ("pxl_col", "pxl_row"), ("SPATIAL_1", "SPATIAL_2")),
    *(("Spatial_0", "Spatial_1"), ("coord_1", "coord_2"), ("centroid-1", "centroid-0"), ("sdimx", "sdimy")),
]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_x_and_y_by_name_in_any_order(pair):
    others = ["cell", "min_x", "max_x", "area", "UMAP_1", "UMAP_2", "GENE1", "TOX"]
    assert coordinate_columns([*others, *pair[::-1]]) == pair
    assert coordinate_columns([*pair, *others]) == pair


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        (("X", "x", "y"), ("x", "y")),  # R calls the names of the rows X
        (("x", "y", "pxl_col_in_fullres", "pxl_row_in_fullres"), ("x", "y")),
        (("array_col", "array_row", "imagerow", "imagecol"), ("imagecol", "imagerow")),
        (("x_fov", "y_fov", "x_slide_mm", "y_slide_mm"), ("x_slide_mm", "y_slide_mm")),
        (
            ("CenterX_local_px", "CenterY_local_px", "CenterX_global_px", "CenterY_global_px"),
            ("CenterX_global_px", "CenterY_global_px"),
        ),
        (("min_x", "max_x", "min_y", "max_y"), None),
        (("x", "centroid_y"), None),
    ],
)
def test_the_best_pair_of_several(header, pair):
    assert coordinate_columns(header) == pair


def test_depth_and_unit_by_name():
    assert depth_column(["x", "y", "global_z"]) == "global_z"
    assert [microns_of(pair) for pair in (("x_um", "y_um"), ("x_mm", "y_mm"), ("Xµm", "Yµm"), ("x_px", "y_px"))] == [
        *(1.0, 1000.0, 1.0, None)
    ]


@pytest.mark.parametrize("pair", [*PAIRS, ("dim_1", "dim_2"), ("0", "1"), ("X0", "X1")], ids=str)
def test_a_data_frame_of_coordinates_by_name(pair, tmp_path):
    section = people.section()
    other = section.copy()
    frame = pd.DataFrame(section.obsm["spatial"], index=section.obs_names, columns=pair)
    other.obsm["spatial"] = frame[[*pair[::-1]]]
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)


def test_a_data_frame_that_tells_no_axes_is_taken_in_order_with_a_warning(tmp_path, caplog):
    section = people.section()
    other = section.copy()
    other.obsm["spatial"] = pd.DataFrame(section.obsm["spatial"], index=section.obs_names, columns=["left", "up"])
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)
    assert "tells x from y (left, up): they are taken in this order" in caplog.text


KEYS = ["spatial_loc", "xy_loc", "centroids", "X_centroids", "locations", "position", "spatialxy", "X_slideseq"]


@pytest.mark.parametrize("key", KEYS)
def test_coordinates_under_other_keys(key, tmp_path):
    section = people.section()
    other = section.copy()
    other.obsm[key] = other.obsm.pop("spatial")
    other.obsm["X_umap"] = other.obsm["spatial_pca"] = np.ones((30, 2))
    other.obs = other.obs.drop(columns=["array_row", "array_col"])
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)


@pytest.mark.parametrize("names", [("row", "col"), ("y_array", "x_array")])
def test_positions_on_the_array_under_other_names(names, tmp_path):
    section = people.section()
    other = section.copy()
    del other.obsm["spatial"]
    other.obs = other.obs.rename(columns=dict(zip(("array_row", "array_col"), names, strict=True)))
    other.write_h5ad(tmp_path / "a.h5ad")
    adata = io.read(tmp_path / "a.h5ad")
    assert units(adata)[1] == pytest.approx(50)
    np.testing.assert_allclose(coordinates(adata), section.obs[["array_col", "array_row"]] * [1, 3**0.5])


# sections

SECTIONS = [
    "sample",
    "region",
    "experiment",
    "stage",
    "tissue",
    "GSM",
    "timepoint",
    "well",
    "sid",
    "plate",
    "Region_ID",
]


def overlaid(label=None):
    """Cells of two sections, each from 0 on, as after ad.concat."""
    rng = np.random.default_rng(0)
    parts = {name: people.section(15, 15) for name in "AB"}
    for part in parts.values():
        part.obsm["spatial"] = rng.uniform(0, 3000, (part.n_obs, 2))
        part.obs = part.obs.drop(columns=["array_row", "array_col", "in_tissue"])
    return ad.concat(parts, label=label, index_unique="-")


@pytest.mark.parametrize("label", SECTIONS)
def test_overlaid_sections_are_told_by_a_column(label):
    assert find_several(overlaid(label)).key == label


@pytest.mark.parametrize("in_front", [False, True])
def test_overlaid_sections_are_told_by_the_names_of_cells(in_front):
    adata = overlaid()
    if in_front:
        adata.obs_names = [f"{name[-1]}_{name}" for name in adata.obs_names]
    several = find_several(adata)
    assert several.key is None
    assert sorted(several.values.categories) == ["A", "B"]


def test_bins_named_by_their_corner_are_one_section():
    x, y = (index.ravel() for index in np.mgrid[:30, :30])
    adata = ad.AnnData(np.ones((900, 2), np.float32), obsm={"spatial": np.c_[x, y].astype(float)})
    adata.obs_names = [f"{a}_{b}" for a, b in zip(x, y, strict=True)]
    assert find_several(adata) is None


@pytest.mark.parametrize("pattern", ["{fov}_{cell}", "{cell}_{fov}", "c_1_{fov}_{cell}"])
def test_cells_numbered_in_each_field_are_one_section(pattern):
    rng = np.random.default_rng(0)
    place = np.argwhere(np.ones((40, 50))) + rng.uniform(-0.3, 0.3, (2000, 2))  # cells keep a distance
    fov = place[:, 0].astype(int) // 4
    cell = pd.Series(fov).groupby(fov).cumcount()
    adata = ad.AnnData(np.ones((2000, 2), np.float32), obsm={"spatial": place})
    adata.obs_names = [pattern.format(fov=f, cell=c) for f, c in zip(fov, cell, strict=True)]
    assert find_several(adata) is None


def test_sections_by_a_column_of_z():
    adata = overlaid("k")
    adata.obs["centroid_z"] = np.where(adata.obs.pop("k") == "A", 0.0, 10.0)
    assert find_several(adata).key == "centroid_z"


# scale


def grid(n=12, spot="s{}"):
    row, col = (index.ravel() for index in np.mgrid[:n, :n])
    adata = ad.AnnData(np.ones((n * n, 2), np.float32), obsm={"spatial": np.c_[col, row] / 0.27 * 8})
    adata.obs["array_row"], adata.obs["array_col"] = row, col
    adata.obs_names = [spot.format(f"{c}x{r}") for c, r in zip(col, row, strict=True)]
    return adata


def test_a_crop_of_bins_is_no_array_of_st():
    assert np.isnan(units(grid())[1])
    assert units(grid(spot="{}"))[1:] == (pytest.approx(6.75), "square array")
    assert units(grid()[1:])[1] == pytest.approx(6.75)  # tissue leaves spots free
    adata = grid()
    adata.uns["spatial"] = {"a": {"scalefactors": {"bin_size_um": 8.0}}}
    assert units(adata)[1:] == (pytest.approx(0.27), "bin_size_um")
    adata = grid()[1:].copy()
    adata.uns["spatial"] = {"a": {"scalefactors": {"spot_diameter_fullres": 8 / 0.27}}}
    assert np.isnan(units(adata)[1])


# AnnData

TISSUE = [
    *(("in_tissue", "in", "out"), ("on_tissue", 1, 0), ("In_tissue", 1, 0), ("in.tissue", True, False)),
    *(("is_in_tissue", "Yes", "No"), ("tissue", True, False), ("in_tissue", "b'1'", "b'0'"), ("inTissue", 1.0, 0.0)),
]


@pytest.mark.parametrize(("column", "on", "off"), TISSUE)
def test_off_tissue_in_any_form(column, on, off, tmp_path):
    section = people.section()
    other = section.copy()
    other.obs = other.obs.drop(columns="in_tissue")
    other.obs[column] = [on] * 20 + [off] * 10
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section[:20])


CONTROLS = {
    **dict.fromkeys(["blankbc_1", "ERCC_00003", "False1", "Control_1", "no_target", "spike-in-1", "RTS0050057"]),
    **dict.fromkeys(["CD3_TotalSeqC", "HTO_1", "ADT_CD8", "NegProbe-WTX"]),
    **dict.fromkeys(["Unnamed: 0", "cell_id", "nCount_RNA", "volume", "x_centroid"]),  # a table that was not split
    "P": ("modality", "rna", "prot"),
    "P1": ("feature_biotype", "gene", "spike-in"),
    "P2": ("gene_type", "protein_coding", "negative"),
    "P3": ("type", "Gene", "Protein"),
    "P4": ("Feature Type", "Gene Expression", "Custom"),
    "P5": ("is_control", False, True),
    "P6": ("is_gene", True, False),
}


@pytest.mark.parametrize(("name", "kind"), CONTROLS.items(), ids=CONTROLS)
def test_controls_by_name_type_or_flag(name, kind, tmp_path):
    section = people.section()
    extra = ad.AnnData(np.full((30, 1), 99.0, np.float32), section.obs[[]], pd.DataFrame(index=[name]))
    both = ad.concat([section, extra], axis=1)
    both.obs, both.obsm["spatial"] = section.obs, section.obsm["spatial"]
    if kind:
        both.var[kind[0]] = [kind[1]] * section.n_vars + [kind[2]]
    both.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)


SYMBOLS = [
    *(("Symbol", "ENSG{:011d}"), ("external_gene_name", "ENSG{:011d}"), ("GeneName", "ENSMUSG{:011d}"), ("hgnc", "{}")),
    *(("original_gene_symbols", "ENSG{:011d}.2"), ("Gene", "ENSG{:011d}"), ("gene.name", "NM_{:06d}")),
]


@pytest.mark.parametrize(("column", "pattern"), SYMBOLS)
def test_symbols_of_genes(column, pattern, tmp_path):
    section = people.section()
    other = section.copy()
    other.var["index"] = other.var_names = [pattern.format(i) for i in range(section.n_vars)]
    other.var[column] = list(section.var_names)
    other.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)


# tables

INDICES = ["rn", "V1", "_index", "row", "bc", "key_0", "NAME", "obs_id", "sample_id", "...1", "Unnamed: 0.1", "X"]


def two(folder, section, counts=counts_table, coords=xy_table, *, counts_name="counts.csv", **options):
    counts(section).to_csv(folder / counts_name, **options)
    coords(section).to_csv(folder / "coords.csv", **options)
    return folder


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("name", INDICES)
def test_an_index_under_any_name(name, numbered, tmp_path):
    section = people.section()

    def named(make):
        return lambda s: make(s).rename_axis(name).reset_index() if numbered else make(s).rename_axis(name)

    assert_same(io.read(two(tmp_path, section, named(counts_table), named(xy_table))), section)


def test_an_index_that_was_saved_three_times(tmp_path):
    section = people.section()
    table = counts_table(section).reset_index(names="cell").reset_index(names="Unnamed: 0.1").reset_index()
    assert_same(io.read(two(tmp_path, section, lambda _: table)), section)


DESCRIPTIONS = [
    *(
        "RNA_snn_res.0.8",
        "Neuron_cluster_ID",
        "Animal_ID",
        "predicted.id",
        "is_doublet",
        "orig.ident",
        "x_um",
        "imagecol",
    ),
    *("nuclei_count", "cellSize", "dapi_intensity", "age", "layer", "Mean.DAPI", "slide_ID_numeric", "genes_detected"),
]


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_columns_of_whole_numbers_that_are_no_genes(name, tmp_path, caplog):
    section = people.section()
    table = counts_table(section)
    table.insert(3, name, np.arange(30) % 5)
    assert_same(io.read(two(tmp_path, section, lambda _: table)), section)
    assert f"no genes are left out: {name}" in caplog.text


@pytest.mark.parametrize("value", [0.25, -1])
@pytest.mark.parametrize("in_rows", [False, True])
def test_fractions_and_negative_values_beside_counts_are_no_genes(value, in_rows, tmp_path, caplog):
    section = people.section()
    table = counts_table(section).astype(float)
    table.insert(3, "whatever", np.arange(30) * value + value)
    assert_same(io.read(two(tmp_path, section, lambda _: table.T if in_rows else table)), section)
    assert "hold fractions or negative values are no genes and are left out: whatever" in caplog.text


def long_counts(section):
    table, row = long_table(section)
    return table.drop(columns=["x", "y"]).assign(barcode=section.obs_names[row])


IDENTIFIERS = [f"ENSG{i:011d}" for i in range(14)]
TABLES = {
    "a spot, a gene and a count in each row": {"counts": long_counts, "index": False},
    "bars": {"sep": "|"},
    "a sample before the barcodes": {"counts": lambda s: counts_table(s).rename(index=lambda name: f"S1_{name}")},
    "a separator at the end of each row": {"edit": lambda t: "\n".join(f"{line}," for line in t.splitlines()) + "\n"},
    "a separator at the end of each row but the header": {
        "edit": lambda t: "\n".join(f"{line}{',' * bool(i)}" for i, line in enumerate(t.splitlines())) + "\n"
    },
    "blank lines first": {"edit": lambda t: f"\n\n{t}"},
    "a title": {"edit": lambda t: f"Counts of the cells\n{t}"},
    "a separator for Excel": {"edit": lambda t: f"sep=,\n{t}"},
    "symbols in a column with a blank": {
        "counts": lambda s: counts_table(s).T.reset_index(names="Gene Symbol").set_axis(IDENTIFIERS)
    },
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
def test_tables(form, tmp_path):
    section = people.section()
    counts, edit = form.get("counts", counts_table), form.get("edit", str)
    options = {"sep": form["sep"]} if "sep" in form else {}
    text = counts(section).to_csv(index=form.get("index", True), **options)
    (tmp_path / "counts.csv").write_text(edit(text))
    (tmp_path / "coords.csv").write_text(edit(xy_table(section).to_csv(index_label="spot", **options)))
    assert_same(io.read(tmp_path), section)


def test_counts_among_several_tables(tmp_path):
    section = people.section()
    two(tmp_path, section)
    pd.DataFrame({"celltype": "A", "n": 3}, index=section.obs_names).to_csv(tmp_path / "metadata.csv")
    np.log1p(counts_table(section)).to_csv(tmp_path / "normalized.csv")
    assert_same(io.read(tmp_path), section)


CELLS = ["transcript_counts", "total_counts", "cell_area", "nucleus_area", "nucleus_count", "Mean.MembraneStain"]


@pytest.mark.parametrize("rest", [[], ["unknown"]])
def test_a_table_that_describes_cells_has_no_counts(rest, tmp_path):
    section = people.section()
    table = xy_table(section, "x_centroid", "y_centroid").assign(**dict.fromkeys([*CELLS, *rest], 3))
    table.to_csv(tmp_path / "cells.csv", index_label="cell_id")
    with pytest.raises(InputError, match=r"columns that describe spots only .* Give the table of counts"):
        io.read(tmp_path / "cells.csv")


def test_a_table_of_results_beside_an_anndata(tmp_path):
    section = people.section()
    section.write_h5ad(tmp_path / "a.h5ad")
    pd.DataFrame({"g": [1], "p": [0.1]}).to_csv(tmp_path / "deg.csv")
    pd.DataFrame({"x": [1], "y": [0.1]}).to_csv(tmp_path / "plot.csv")
    assert_same(io.read(tmp_path), section)


LONG = ["MIDCount", "UMICount", "values", "n", "total", "readCount", "gene_count", "expression"]


@pytest.mark.parametrize("name", LONG)
def test_counts_of_long_tables(name, tmp_path):
    section = people.section()
    table, _ = long_table(section, MIDCount=name)
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    assert io.read(tmp_path / "a.tsv", bin_size=10).X.sum() == section.X.sum()


# folders


def renamed(name, other):
    def write(folder, section):
        visium(folder, section)
        (folder / name).rename(folder / other)

    return write


def upper_case(folder, section):
    visium(folder, section)
    image = folder / "spatial" / "tissue_hires_image.png"
    Image.open(image).convert("RGB").save(image.with_name("Tissue_Hires_Image.PNG"), "png")
    image.unlink(missing_ok=True)


def sample_behind(folder, section):
    visium(folder / "in", section)
    for file in [*(folder / "in").glob("*.h5"), *(folder / "in" / "spatial").iterdir()]:
        file.rename(folder / f"GSM1_{file.stem}_A1{file.suffix}")
    shutil.rmtree(folder / "in")


def libd(folder, section):
    people.write_10x_h5(folder / "151673_filtered_feature_bc_matrix.h5", section)
    people.write_spatial(folder, section, prefix="151673_")
    (folder / "151673_tissue_positions.csv").rename(folder / "tissue_positions_151673.txt")


def positions(edit):
    def write(folder, section):
        visium(folder, section)
        (folder / "spatial" / "tissue_positions.csv").write_text(edit(positions_table(section)))

    return write


def packed_matrix(folder, section):
    packed(visium(folder, section) / "filtered_feature_bc_matrix.h5")


def packed_folders(folder, section):
    write_mtx(folder / "filtered_feature_bc_matrix", section)
    people.write_spatial(folder / "spatial", section)
    for name in ("filtered_feature_bc_matrix", "spatial"):
        people.tar_of(folder / name, folder / f"GSM1_{name}.tar.gz")
        shutil.rmtree(folder / name)


def lists(ending, edit=str):
    def write(folder, section):
        write_mtx(folder / "filtered_feature_bc_matrix", section, pack=False)
        people.write_spatial(folder / "spatial", section)
        for name in ("barcodes", "features"):
            file = folder / "filtered_feature_bc_matrix" / f"{name}.tsv"
            file.with_suffix(ending).write_text(edit(file.read_text()))
            if ending != ".tsv":
                file.unlink()

    return write


def rows_numbered(text):
    return "\tx\n" + "".join(f"{i}\t{line}\n" for i, line in enumerate(text.splitlines(), start=1))


OLD = {"array_row": "row", "array_col": "col", "pxl_row_in_fullres": "imagerow", "pxl_col_in_fullres": "imagecol"}
VISIUM = {
    "scale factors under a shorter name": renamed("spatial/scalefactors_json.json", "spatial/scalefactors.json"),
    "an image under a shorter name": renamed("spatial/tissue_hires_image.png", "spatial/hires.png"),
    "an image in upper case": upper_case,
    "a sample behind the names": sample_behind,
    "a sample in front and behind": libd,
    "a folder spatial_A1": renamed("spatial", "spatial_A1"),
    "a folder Spatial": renamed("spatial", "Spatial"),
    "a matrix in upper case": renamed("filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix.H5"),
    "a matrix that was loaded twice": renamed(
        "filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix (1).h5"
    ),
    "positions of Seurat": positions(lambda t: t.rename(columns=OLD | {"in_tissue": "tissue"}).to_csv()),
    "positions with Barcode": positions(lambda t: t.rename_axis("Barcode").to_csv()),
    "positions as .tsv": renamed("spatial/tissue_positions.csv", "spatial/tissue_positions.tsv"),
    "a packed matrix": packed_matrix,
    "two packed folders": packed_folders,
    "lists as .txt": lists(".txt"),
    "lists between commas": lists(".csv", lambda t: t.replace("\t", ",")),
    "lists with numbers of rows": lists(".tsv", lambda t: t if "Gene" in t else rows_numbered(t)),
}  # fmt: skip


@pytest.mark.parametrize("write", VISIUM.values(), ids=VISIUM)
def test_visium(write, tmp_path):
    section = people.section()
    write(tmp_path, section)
    assert_visium(io.read(tmp_path), section)


@pytest.mark.parametrize("name", ["adata", "a.anndata", "a.hdf5"])
def test_an_anndata_without_its_ending(name, tmp_path):
    section = people.section()
    section.write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "a.h5ad").rename(tmp_path / name)
    assert_same(io.read(tmp_path / name), section)


def no_file_in_names(folder, section):
    cosmx(folder, section)
    for file in [*folder.iterdir()]:
        file.rename(folder / file.name.replace("_file", ""))


def names_of_cells_only(folder, section):
    def edit(*tables):
        counts, cells, fields = tables
        for table in (counts, cells):
            table["cell"] = [f"c_1_{f}_{c}" for f, c in zip(table["fov"], table["cell_ID"], strict=True)]
        return counts.drop(columns=["fov", "cell_ID"]), cells.drop(columns="cell_ID"), fields

    cosmx(folder, section, edit=edit)


def fields_as_text(folder, section):
    local = ["CenterX_global_px", "CenterY_global_px"]
    cosmx(
        folder, section, edit=lambda e, m, f: (e, m.drop(columns=local), f.assign(fov="FOV00" + f["fov"].astype(str)))
    )


def float_ids(folder, section):
    section.obs_names = [str(i + 1) for i in range(30)]
    people.write_10x_h5(folder / "cell_feature_matrix.h5", section)
    table = xy_table(section, "x_centroid", "y_centroid").reset_index(names="cell_id")
    table.astype({"cell_id": float}).to_csv(folder / "cells.csv", index=False)


def beads_in_rows(folder, section):
    counts_table(section).to_csv(folder / "P1.digital_expression.csv")
    xy_table(section, "xcoord", "ycoord").to_csv(folder / "P1_bead_locations.csv", index_label="barcode")


def beads_without_header(folder, section):
    counts_table(section).T.to_csv(folder / "P1.digital_expression.csv")
    xy_table(section).assign(quality=9.0).to_csv(folder / "P1_bead_locations.csv", header=False)


def cell_by_gene_in_upper_case(folder, section):
    merscope(folder, section)
    for name in ("cell_by_gene.csv", "cell_metadata.csv"):
        (folder / name).rename(folder / name.title().replace(".Csv", ".csv"))


PLATFORMS = {
    "CosMx, names without _file": no_file_in_names,
    "CosMx, names of cells only": names_of_cells_only,
    "CosMx, FOV001": fields_as_text,
    "Xenium, ids as floats": float_ids,
    "Slide-seq, beads in rows": beads_in_rows,
    "Slide-seq, a further column and no header": beads_without_header,
    "MERSCOPE, upper case": cell_by_gene_in_upper_case,
}


@pytest.mark.parametrize("write", PLATFORMS.values(), ids=PLATFORMS)
def test_platforms(write, tmp_path):
    section = people.section()
    write(tmp_path, section)
    adata = io.read(tmp_path)
    assert_same(adata, section)
    assert units(adata)[2] == "microns_per_pixel"


def test_cells_of_transcripts_under_other_names(tmp_path):
    section = people.section()
    table, row = long_table(section)
    for name in ("assignment", "cell_barcode", "CellID"):
        text = table.assign(**{name: [f"c{i}" for i in row]}).to_csv(index=False)
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
        adata = io.read(tmp_path / "t.csv.gz")
        assert sorted(adata.obs_names) == sorted(f"c{i}" for i in range(30))
        assert adata.X.sum() == section.X.sum()


def test_spatialdata_without_a_table(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_group("shapes")
    with pytest.raises(InputError, match="Expected a table of counts in the SpatialData store"):
        io.read(tmp_path / "a.zarr")


@pytest.mark.parametrize(("x_at", "y_at"), [(5, 8), (0, 15), (14, 15)])
def test_coordinates_between_genes(x_at, y_at, tmp_path):
    section = people.section()
    table = counts_table(section)
    table.insert(x_at, "x_centroid", section.obsm["spatial"][:, 0])
    table.insert(min(y_at, table.shape[1]), "y_centroid", section.obsm["spatial"][:, 1])
    table.to_csv(tmp_path / "a.csv")
    assert_same(io.read(tmp_path / "a.csv"), section)


def test_blanks_around_names(tmp_path):
    section = people.section()
    two(tmp_path, section, coords=lambda s: xy_table(s).rename(index=lambda name: f"{name} "))
    assert_same(io.read(tmp_path), section)


def test_raw_and_processed_data_of_a_section_are_not_two(tmp_path):
    section = people.section()
    section.write_h5ad(tmp_path / "raw.h5ad")
    section.X = section.X.log1p()
    section.write_h5ad(tmp_path / "processed.h5ad")
    with pytest.raises(InputError, match=r"the same spots with other values in processed and raw\. Give one of them"):
        io.read(tmp_path)
    assert io.read(tmp_path / "raw.h5ad").n_obs == 30


@pytest.mark.parametrize("value", ["A", 0])
def test_array_positions_that_stand_for_none(value):
    adata = overlaid("sample")
    adata = adata[adata.obs.pop("sample") == "A"].copy()
    adata.obs["array_row"] = adata.obs["array_col"] = value
    assert find_several(adata) is None


def test_coordinates_given_in_place_of_counts(tmp_path):
    two(tmp_path, people.section())
    with pytest.raises(InputError, match="columns that describe spots only"):
        io.read(tmp_path / "coords.csv")


def off_tissue(section):
    section.obs["in_tissue"] = (section.obs["array_row"] > 1).astype(int)
    return section


def one_table(folder, section):
    table = counts_table(section)
    table.insert(0, "y", section.obsm["spatial"][:, 1])
    table.insert(0, "x", section.obsm["spatial"][:, 0])
    table.insert(0, "in_tissue", section.obs["in_tissue"] == 1)
    table.to_csv(folder / "a.csv", index_label="barcode")


def matrix_beside_a_table(folder, section):
    people.write_10x_h5(folder / "m.h5", section)
    positions_table(section).to_csv(folder / "coords.csv")


OFF_TISSUE = {
    "two tables": lambda folder, section: two(folder, section, coords=positions_table),
    "two tables, as Seurat writes them": lambda folder, section: two(
        folder, section, coords=lambda s: positions_table(s).rename(columns=OLD | {"in_tissue": "tissue"})
    ),
    "one table": one_table,
    "a matrix beside a table": matrix_beside_a_table,
}


@pytest.mark.parametrize("write", OFF_TISSUE.values(), ids=OFF_TISSUE)
def test_off_tissue_in_tables(write, tmp_path):
    section = off_tissue(people.section())
    write(tmp_path, section)
    assert_same(io.read(tmp_path), section[section.obs["in_tissue"] == 1])
    assert_same(io.read(tmp_path, keep_off_tissue=True), section)


def test_array_positions_of_seurat_in_a_table_tell_the_scale(tmp_path):
    two(tmp_path, people.section(), coords=lambda s: positions_table(s).rename(columns=OLD))
    assert units(io.read(tmp_path))[1:] == (pytest.approx(0.5, rel=1e-3), "hexagonal array")


def xenium(folder, section):
    people.write_10x_h5(folder / "cell_feature_matrix.h5", section)
    xy_table(section, "x_centroid", "y_centroid").to_csv(folder / "cells.csv", index_label="cell_id")


def seqfish(folder, section):
    counts_table(section).to_csv(folder / "R_CxG_section1.csv")
    xy_table(section, "center_x", "center_y").to_csv(folder / "R_CellCoordinates_section1.csv", index_label="label")


def st(folder, section):
    names = [f"{c}x{r}" for c, r in zip(section.obs["array_col"], section.obs["array_row"], strict=True)]
    counts_table(section).set_axis(names).to_csv(folder / "A1.tsv", sep="\t")


@pytest.mark.parametrize("write", [visium, xenium, seqfish, st, beads_in_rows, two])
def test_controls_of_platforms_by_name(write, tmp_path):
    section = people.section()
    names = ["NegControlProbe_1", "BLANK_0180", "ERCC-00002", "__ambiguous[A+B]"]
    extra = ad.AnnData(np.full((30, 4), 99.0, np.float32), section.obs[[]], pd.DataFrame(index=names))
    both = ad.concat([section, extra], axis=1)
    both.obs, both.obsm["spatial"] = section.obs, section.obsm["spatial"]
    write(tmp_path, both)
    adata = io.read(tmp_path)
    assert sorted(adata.var_names) == sorted(people.GENES)
    assert adata.X.sum() == section.X.sum()


def test_corrected_counts_of_few_expressed_genes_stay(tmp_path):
    section = people.section()
    table = counts_table(section) * 0.0
    table["GENE3"], table["GENE5"] = 0.25, 1.75
    adata = io.read(two(tmp_path, section, lambda _: table))
    assert adata.n_vars == section.n_vars
    assert adata.X.sum() == 60


@pytest.mark.parametrize("values", [np.arange(30), np.arange(30) * 7 + 3, np.arange(30)[::-1] + 4.1e18])
def test_numbers_of_cells_are_no_gene_whatever_they_are_called(values, tmp_path, caplog):
    section = people.section()
    table = counts_table(section)
    table.insert(4, "whatever", values)
    assert_same(io.read(two(tmp_path, section, lambda _: table)), section)
    assert "left out: whatever" in caplog.text


def test_counts_as_text_beside_a_folder_spatial(tmp_path):
    section = people.section()
    counts_table(section).T.to_csv(tmp_path / "GSM1_counts.tsv.gz", sep="\t")
    people.write_spatial(tmp_path / "spatial", section)
    assert_same(io.read(tmp_path), section)
    assert_same(io.read(tmp_path / "GSM1_counts.tsv.gz"), section)


def test_observations_behind_the_counts(tmp_path):
    section = people.section()
    table = counts_table(section).join(section.obs).assign(truth=1).join(xy_table(section))
    table.to_csv(tmp_path / "a.csv")
    assert_same(io.read(tmp_path / "a.csv"), section)


def test_planes_of_a_table_are_sections(tmp_path):
    two(tmp_path, people.section(), coords=lambda s: xy_table(s).assign(z=np.repeat([0, 5], 15)))
    several = find_several(io.read(tmp_path))
    assert (several.key, several.by_z) == ("z", True)


def test_genes_of_flies(tmp_path):
    section = people.section()
    section.var_names = ["y", "z", "col", "row", *section.var_names[4:]]
    section.write_h5ad(tmp_path / "a.h5ad")
    assert_same(io.read(tmp_path / "a.h5ad"), section)


@pytest.mark.parametrize("ending", ["parquet", "PARQUET"])
@pytest.mark.parametrize("in_rows", [False, True])
@pytest.mark.parametrize("index", [None, "cell"])
def test_parquet_with_an_index(ending, in_rows, index, tmp_path):
    section = people.section()
    counts = counts_table(section).rename_axis(index)
    (counts.T if in_rows else counts).to_parquet(tmp_path / f"counts.{ending}")
    xy_table(section)[::-1].rename_axis(index).to_parquet(tmp_path / f"coords.{ending}")
    assert_same(io.read(tmp_path), section)


def test_a_dense_matrix_market_file(tmp_path):
    section = people.section()
    write_mtx(tmp_path / "filtered_feature_bc_matrix", section, pack=False)
    mmwrite(tmp_path / "filtered_feature_bc_matrix" / "matrix.mtx", section.X.toarray().T)
    people.write_spatial(tmp_path / "spatial", section)
    assert_same(io.read(tmp_path), section)
