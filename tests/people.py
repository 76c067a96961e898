"""A small section, and the ways in which people have its files: each with the right numbers."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

GENES = [f"GENE{i}" for i in range(14)]
SCALES = {"spot_diameter_fullres": 110.0, "tissue_hires_scalef": 0.1}


def section(rows=5, cols=6):
    """Spots of a hexagonal array, 100 µm apart, 0.5 µm per px."""
    rng = np.random.default_rng(0)
    row, col = (index.ravel() for index in np.mgrid[:rows, :cols])
    col = 2 * col + row % 2
    names = ["".join("ACGT"[(i >> s) & 3] for s in range(0, 24, 2)) + "-1" for i in range(1000, 1000 + len(row))]
    obs = pd.DataFrame({"in_tissue": 1, "array_row": row, "array_col": col}, index=names)
    counts = sparse.csr_matrix(rng.poisson(3, (len(row), len(GENES))).astype(np.float32))
    xy = np.column_stack([1000 + col * 100.0, 400.5 + np.rint(row * 100 * 3**0.5)])
    return ad.AnnData(counts, obs, pd.DataFrame(index=GENES), obsm={"spatial": xy})


def assert_same(adata, section, *, names=None, shift=0.0):
    """Check that names, counts and positions are those of a section."""
    names = list(section.obs_names if names is None else names)
    assert sorted(adata.obs_names) == sorted(names)
    assert sorted(adata.var_names) == sorted(section.var_names)
    np.testing.assert_array_equal(adata[names, section.var_names].X.toarray(), section.X.toarray())
    np.testing.assert_allclose(adata[names].obsm["spatial"], section.obsm["spatial"] + shift, atol=1e-4)


def assert_visium(adata, section):
    """Check that these, the image and the scale are those of a section."""
    assert_same(adata, section)
    ((_, library),) = adata.uns["spatial"].items()
    assert list(library["images"]) == ["hires"]
    assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(0.5, rel=1e-3)


def counts_table(adata):
    return pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names)


def xy_table(adata, x="x", y="y"):
    return pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=[x, y])


def positions_table(adata):
    table = adata.obs[["in_tissue", "array_row", "array_col"]].copy()
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = adata.obsm["spatial"][:, ::-1].T
    return table.rename_axis("barcode")


def write_10x_h5(path, adata, *, dtype=np.int32, types=None):
    matrix = sparse.csc_matrix(adata.X.T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype(dtype), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape, dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(adata.n_vars)], dtype="S")
        features["name"] = np.array(adata.var_names, dtype="S")
        features["feature_type"] = np.array(types or ["Gene Expression"] * adata.n_vars, dtype="S")


def picture(size=(60, 60)):
    """Pink tissue with texture on white."""
    pixels = np.full((*size, 3), 245, np.uint8)
    noise = np.random.default_rng(0).normal(0, 10, (size[0] - 20, size[1] - 20, 1))
    pixels[10:-10, 10:-10] = np.clip(np.array([200, 120, 170]) + noise, 0, 255)
    return pixels


def write_spatial(folder, adata, *, prefix="", positions="tissue_positions.csv", pack=(), image=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    positions_table(adata).to_csv(folder / f"{prefix}{positions}", header="_list" not in positions)
    (folder / f"{prefix}scalefactors_json.json").write_text(json.dumps(SCALES))
    Image.fromarray(picture()).save(folder / f"{prefix}tissue_hires_image{image}")
    for ending in pack:
        for path in folder.glob(f"*{ending}"):
            packed(path)


def packed(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def visium(folder, adata, **options):
    (folder / "spatial").mkdir(parents=True, exist_ok=True)
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", adata)
    write_spatial(folder / "spatial", adata, **options)
    return folder


def write_mtx(
    folder, adata, *, prefix="", features="features.tsv", columns=3, pack=True, matrix="matrix.mtx", head=False
):
    folder.mkdir(parents=True, exist_ok=True)
    mmwrite(folder / f"{prefix}{matrix}", sparse.coo_matrix(adata.X.T.astype(int)))
    barcodes = ["barcode"] * head + list(adata.obs_names)
    (folder / f"{prefix}barcodes.tsv").write_text("".join(f"{name}\n" for name in barcodes))
    rows = [(f"ENSG{i:011d}", name, "Gene Expression") for i, name in enumerate(adata.var_names)]
    rows = [row[:columns] if columns > 1 else row[1:2] for row in rows]
    (folder / f"{prefix}{features}").write_text("".join("\t".join(row) + "\n" for row in rows))
    if pack:
        for name in (matrix, "barcodes.tsv", features):
            packed(folder / f"{prefix}{name}")


def long_table(adata, **names):
    """One row for each gene at a spot; x and y of the chip are whole numbers."""
    entries = adata.X.tocoo()
    xy = adata.obsm["spatial"][entries.row].astype(int)
    table = {"geneID": adata.var_names[entries.col], "x": xy[:, 0], "y": xy[:, 1], "MIDCount": entries.data.astype(int)}
    return pd.DataFrame(table).rename(columns=names), entries.row


def tar_of(folder, target):
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return target


def zip_of(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return target


def tar_with(target, name, content=b"x", **attributes):
    with tarfile.open(target, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))
    return target


def merscope(folder, section, *, prefix="", suffix="", index=False, region="", parquet=False):
    folder = folder / region
    folder.mkdir(exist_ok=True)
    ids = [str(110883424764611924400221639916314253469 + i) for i in range(section.n_obs)]
    counts = counts_table(section).assign(**{"Blank-1": 5}).reset_index(drop=True)
    counts.insert(0, "cell", ids)
    cells = xy_table(section, "center_x", "center_y").assign(volume=5.5).reset_index(drop=True)
    cells.insert(0, "cell" if index else "", ids)
    cells = cells.assign(ok=[True, None] * (section.n_obs // 2))
    for name, table in (("cell_by_gene", counts), ("cell_metadata", cells)):
        path = folder / f"{prefix}{name}{suffix}"
        if parquet:
            table.rename(columns={"": "EntityID"}).to_parquet(path.with_suffix(".parquet"), index=False)
        else:
            table.to_csv(f"{path}.csv", index=index)
    section.obs_names = ids
    return folder


def cosmx(folder, section, *, edit=lambda e, m, f: (e, m, f), index=False):
    """Write four fields of view whose y goes down while that of the section goes up."""
    xy = section.obsm["spatial"] - section.obsm["spatial"].min(axis=0) + 1
    section.obsm["spatial"] = xy = xy / xy.max() * 8_000
    fx, fy = (xy // 4256).astype(int).T
    fov = 1 + fx + 2 * fy
    cell = pd.Series(fov).groupby(fov).cumcount().to_numpy() + 1
    counts = counts_table(section).assign(NegPrb1=3, SystemControl1=4).reset_index(drop=True)
    counts.insert(0, "cell_ID", cell)
    counts.insert(0, "fov", fov)
    cells = pd.DataFrame({"fov": fov, "cell_ID": cell, "Area": 5})
    cells["CenterX_local_px"], cells["CenterY_local_px"] = xy[:, 0] - fx * 4256, 4256 - (xy[:, 1] - fy * 4256)
    cells["CenterX_global_px"], cells["CenterY_global_px"] = xy.T
    fields = pd.DataFrame({"fov": range(1, 5), "x_global_px": [0, 4256] * 2, "y_global_px": [0, 0, 4256, 4256]})
    for name, table in zip(("exprMat", "metadata", "fov_positions"), edit(counts, cells, fields), strict=True):
        if table is not None:
            table.to_csv(folder / f"S0_{name}_file.csv", index=index)
    section.obs_names = [f"{c}_{f}" for c, f in zip(cell, fov, strict=True)]
    return folder
