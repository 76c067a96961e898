"""One small valid input of each format, written as the platforms write them."""

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

SIDE = 7
FACTORS = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 60.0, "microns_per_pixel": 1.0}


def section() -> ad.AnnData:
    """Make 49 spots of two domains with 12 genes, labels, a library and protein."""
    rng = np.random.default_rng(0)
    row, col = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    rate = np.where(np.arange(12)[None] % 2 == (col > SIDE // 2)[:, None], 6.0, 1.0)
    names = [f"ACGTACGTACGTAC{i:02d}-1" for i in range(SIDE**2)]
    obs = pd.DataFrame({"label": pd.Categorical(np.where(col > 3, "a", "b")), "n": col * 1.0}, index=names)
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs)
    adata.var_names = [f"Gene{i}" for i in range(12)]
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["spatial"] = np.column_stack([col, row]) * 100.0 + 50
    adata.obsm["frame"] = pd.DataFrame({"u": row * 1.0}, index=names)
    library = {"images": {"hires": picture()}, "scalefactors": dict(FACTORS)}
    adata.uns = {"spatial": {"lib": library}, "note": "text", "list": np.arange(3)}
    return adata


def picture(side: int = 80) -> np.ndarray:
    """Draw an image with texture in pink on white."""
    image = np.full((side, side, 3), 245, np.uint8)
    image[4:-4, 4:-4] = np.random.default_rng(1).normal([200, 120, 170], 18, (side - 8, side - 8, 3)).clip(0, 255)
    return image


def write_h5ad(folder: Path) -> Path:
    section().write_h5ad(folder / "a.h5ad", compression="gzip")
    return folder / "a.h5ad"


def write_zarr(folder: Path, version: int) -> Path:
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        section().write_zarr(folder / "a.zarr")
    return folder / "a.zarr"


def write_h5mu(folder: Path) -> Path:
    import mudata

    rna = section()
    protein = ad.AnnData(np.random.default_rng(0).poisson(5, (rna.n_obs, 3)).astype(np.float32), rna.obs[[]].copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mudata.MuData({"rna": rna, "prot": protein}).write(folder / "a.h5mu")
    return folder / "a.h5mu"


def _tenx_h5(path: Path, adata: ad.AnnData) -> None:
    with h5py.File(path, "w") as file:
        group, counts = file.create_group("matrix"), sparse.csr_matrix(adata.X)
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        group["data"], group["indices"] = counts.data.astype(np.int32), counts.indices.astype(np.int64)
        group["indptr"], group["shape"] = counts.indptr.astype(np.int64), np.array(counts.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        for name, values in _features(adata).items():
            features[name] = np.array(values, dtype="S")


def _features(adata: ad.AnnData) -> dict[str, list[str]]:
    n = adata.n_vars
    kinds = {"feature_type": ["Gene Expression"] * n, "genome": ["GRCh38"] * n}
    return {"id": [f"ENSG{i:011d}" for i in range(n)], "name": list(adata.var_names)} | kinds


def _mtx(folder: Path, adata: ad.AnnData) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, sparse.coo_matrix(adata.X.T.astype(int)))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("".join(f"{name}\n" for name in adata.obs_names).encode()))
    rows = zip(*list(_features(adata).values())[:3], strict=True)
    (folder / "features.tsv.gz").write_bytes(gzip.compress("".join("\t".join(r) + "\n" for r in rows).encode()))


def write_visium(folder: Path, counts: str, positions: str) -> Path:
    adata, spatial = section(), folder / "outs" / "spatial"
    spatial.mkdir(parents=True)
    _tenx_h5(spatial.parent / counts, adata) if counts.endswith("h5") else _mtx(spatial.parent / counts, adata)
    row, col = np.divmod(np.arange(adata.n_obs), SIDE)
    pixels = adata.obsm["spatial"].astype(int)
    table = pd.DataFrame({"barcode": adata.obs_names, "in_tissue": 1, "array_row": row, "array_col": col})
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = pixels[:, 1], pixels[:, 0]
    write = table.to_parquet if positions.endswith("parquet") else table.to_csv
    write(spatial / positions, index=False)
    (spatial / "scalefactors_json.json").write_text(json.dumps(FACTORS))
    Image.fromarray(picture()).save(spatial / "tissue_hires_image.png")
    return spatial.parent


def write_xenium(folder: Path) -> Path:
    adata = section()
    _tenx_h5(folder / "cell_feature_matrix.h5", adata)
    x, y = adata.obsm["spatial"].T
    table = pd.DataFrame({"cell_id": adata.obs_names, "x_centroid": x, "y_centroid": y, "cell_area": 9.0})
    table.to_parquet(folder / "cells.parquet")
    return folder


def write_table(folder: Path) -> Path:
    adata = section()
    table = pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names)
    table.to_csv(folder / "counts.csv.gz")
    pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=["x", "y"]).to_csv(folder / "positions.csv")
    return folder


def write_cosmx(folder: Path) -> Path:
    adata = section()
    ids = pd.DataFrame({"fov": 1, "cell_ID": np.arange(1, adata.n_obs + 1)})
    counts = pd.DataFrame(adata.X.toarray().astype(int), columns=adata.var_names)
    pd.concat([ids, counts], axis=1).to_csv(folder / "lung_exprMat_file.csv", index=False)
    x, y = adata.obsm["spatial"].T
    ids.assign(Area=5, CenterX_global_px=x, CenterY_global_px=y).to_csv(folder / "lung_metadata_file.csv", index=False)
    return folder


def write_merscope(folder: Path) -> Path:
    adata = section()
    counts = pd.DataFrame(adata.X.toarray().astype(int), columns=adata.var_names)
    counts.rename_axis("cell").to_csv(folder / "cell_by_gene.csv")
    x, y = adata.obsm["spatial"].T
    table = pd.DataFrame({"fov": 1, "volume": 3.0, "center_x": x, "center_y": y})
    table.to_csv(folder / "cell_metadata.csv")
    return folder


def write_gef(folder: Path) -> Path:
    counts = section().X.tocsc()
    spot = np.repeat(np.arange(counts.shape[1]), np.diff(counts.indptr))
    kind = [("x", "<i4"), ("y", "<i4"), ("count", "u2")]
    values = np.zeros(counts.nnz, dtype=kind)
    values["x"], values["y"] = counts.indices % SIDE * 50, counts.indices // SIDE * 50
    values["count"] = counts.data
    genes = np.zeros(counts.shape[1], dtype=[("gene", "S64"), ("offset", "<u4"), ("count", "<u4")])
    genes["gene"] = [f"Gene{i}".encode() for i in range(len(genes))]
    genes["offset"], genes["count"] = counts.indptr[:-1], np.bincount(spot, minlength=len(genes))
    with h5py.File(folder / "a.gef", "w") as file:
        group = file.create_group("geneExp/bin50")
        group["expression"], group["gene"] = values, genes
        group["expression"].attrs.update({"minX": [0], "minY": [0], "resolution": [500]})
    return folder / "a.gef"


def write_image(folder: Path, name: str) -> Path:
    """Write an AnnData and an image of its spots."""
    adata = section()
    del adata.uns["spatial"]
    adata.write_h5ad(folder / "a.h5ad")
    if name.endswith("tif"):
        import tifffile

        tifffile.imwrite(folder / name, picture(720), photometric="rgb", compression="zlib", tile=(128, 128))
    else:
        Image.fromarray(picture(720)).save(folder / name)
    return folder / name


FORMATS: dict[str, Callable[[Path], Path]] = {
    "h5ad": write_h5ad,
    "zarr2": lambda folder: write_zarr(folder, 2),
    "zarr3": lambda folder: write_zarr(folder, 3),
    "h5mu": write_h5mu,
    "visium_h5": lambda folder: write_visium(folder, "filtered_feature_bc_matrix.h5", "tissue_positions.csv"),
    "visium_mtx": lambda folder: write_visium(folder, "filtered_feature_bc_matrix", "tissue_positions.parquet"),
    "xenium": write_xenium,
    "table": write_table,
    "cosmx": write_cosmx,
    "merscope": write_merscope,
    "gef": write_gef,
    "png": lambda folder: write_image(folder, "he.png"),
    "jpeg": lambda folder: write_image(folder, "he.jpg"),
    "tiff": lambda folder: write_image(folder, "he.tif"),
}
"""Writers by the name of the format; each returns what is read."""
