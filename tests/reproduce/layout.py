"""Small folders in the layout of the authors' record: tens of spots, few genes."""

import json

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

N_ROWS, N_COLS, N_GENES = 8, 8, 24
BREAST, MOUSE = "V1_Breast_Cancer_Block_A_Section_1", "V1_Mouse_Brain_Sagittal_Anterior_Section_1"
LUNG = "Lung9_Rep1-Flat_files_and_images"


def tissue(seed=0):
    """Two halves with genes of their own: counts, column and row on a hexagonal array, labels."""
    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:N_ROWS, :N_COLS])
    col = 2 * col + row % 2
    right = col > N_COLS
    rate = np.where((np.arange(N_GENES) < N_GENES // 2) == right[:, None], 12, 2)
    return rng.poisson(rate).astype(np.float32), col, row, np.where(right, "b", "a")


def barcodes(n=N_ROWS * N_COLS):
    return [f"{i:04d}ACGT-1" for i in range(n)]


def write_matrix(path, counts, names):
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(names, dtype="S")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices
        group["indptr"], group["shape"] = matrix.indptr, np.array(counts.shape[::-1])
        features = group.create_group("features")
        genes = np.array([f"G{i}" for i in range(counts.shape[1])], dtype="S")
        features["id"] = features["name"] = genes
        features["feature_type"] = np.array(["Gene Expression"] * len(genes), dtype="S")
        features["genome"] = np.array(["x"] * len(genes), dtype="S")


def write_features(path, names, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(len(names), 4))
    pd.DataFrame(values, index=names).to_csv(path)


def write_visium(folder, *, prefix, labels, positions="spatial/tissue_positions_list.csv", features=None, seed=0):
    """Write a section; `labels` is a file and the column."""
    counts, col, row, label = tissue(seed)
    names = barcodes()
    (folder / "spatial").mkdir(parents=True)
    write_matrix(folder / f"{prefix}filtered_feature_bc_matrix.h5", counts, names)
    table = pd.DataFrame({"b": names, "t": 1, "r": row, "c": col, "y": 20 + row * 173, "x": 30 + col * 100})
    table.to_csv(folder / positions, header=False, index=False)
    if positions.startswith("spatial"):
        scales = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 50.0}
        (folder / "spatial/scalefactors_json.json").write_text(json.dumps(scales))
    else:
        (folder / "spatial").rmdir()
    file, column = labels
    label = pd.DataFrame({column: label}, index=names).iloc[:-4]  # some spots have no label
    label.to_csv(folder / file, sep="\t" if file.endswith(".tsv") else ",")
    write_features(folder / (features or "image_representation/ViT_pca_representation.csv"), names)


def dlpfc(data, *, sections=("151673",)):
    for i, name in enumerate(sections):
        labels = (f"cluster_labels_{name}.csv", "ground_truth")
        write_visium(data / "DLPFC" / name, prefix=f"{name}_", labels=labels, seed=i)


def breast(data):
    features = "image_representation/VIT_pca_representation.csv"
    labels = ("metadata.tsv", "fine_annot_type")
    write_visium(data / BREAST, prefix=f"{BREAST}_", labels=labels, features=features)


def mouse(data):
    write_visium(data / MOUSE, prefix=f"{MOUSE}_", labels=("metadata.tsv", "ground_truth"))


def heart(data):
    for i, stage in enumerate(("D4", "D7", "D10", "D14")):
        prefix = f"chicken_heart_spatial_RNAseq_{stage}_"
        write_visium(
            data / "chicken_heart" / stage,
            prefix=prefix,
            labels=(f"{stage}.csv", "region"),
            positions=f"{prefix}tissue_positions_list.csv",
            features="ViT_pca_representation.csv",
            seed=i,
        )


def pdac(data):
    counts, col, row, label = tissue()
    names, folder = [f"{c}x{r}" for c, r in zip(col, row, strict=True)], data / "PDAC"
    folder.mkdir(parents=True)
    genes = [f"G{i}" for i in range(N_GENES)]
    table = pd.DataFrame(counts.T.astype(int), index=pd.Index(genes, name="Genes"), columns=names)
    table.to_csv(folder / "GSM3036911_PDAC-A-ST1-filtered.txt", sep="\t")
    pd.DataFrame({"x": col, "y": row}, index=names).to_csv(folder / "spatial_location.csv")
    pd.DataFrame({"Region": label}, index=names).to_csv(folder / "layer_manual_PDAC.csv")
    write_features(folder / "image_representation/ViT_pca_representation.csv", names)


def lung(data, *, fields=(1, 2)):
    folder = data / LUNG
    folder.mkdir(parents=True)
    counted, placed, typed = [], [], {}
    for fov in fields:
        counts, col, row, label = tissue(fov)
        table = pd.DataFrame(counts.astype(int), columns=[f"G{i}" for i in range(N_GENES)])
        table.insert(0, "cell_ID", np.arange(1, len(table) + 1))
        table.insert(0, "fov", fov)
        counted.append(table)
        local = {"CenterX_local_px": 100 * col, "CenterY_local_px": 170 * row}
        shifted = {"CenterX_global_px": 100 * col + 5000 * fov, "CenterY_global_px": 170 * row}
        placed.append(table[["fov", "cell_ID"]].assign(**local, **shifted))
        kind = np.where(label == "a", "mast", "Treg")
        typed |= {f"{cell}_{fov}": str(k) for cell, k in zip(table["cell_ID"], kind, strict=True)}
        write_features(folder / f"image_representation/fov{fov}.csv", np.arange(len(table)))
    pd.concat(counted).to_csv(folder / "Lung9_Rep1_exprMat_file.csv", index=False)
    pd.concat(placed).to_csv(folder / "Lung9_Rep1_metadata_file.csv", index=False)
    pd.DataFrame({"cell_type": typed}).to_csv(folder / "meta.csv")


def as_anndata(seed=0):
    counts, col, row, label = tissue(seed)
    adata = ad.AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=barcodes()))
    adata.obs["array_col"], adata.obs["array_row"] = col, row
    adata.obsm["spatial"] = np.column_stack([col * 100.0, row * 173.0])
    adata.obs["ground_truth"] = label
    return adata


def hd(data):
    adata = as_anndata()
    del adata.obs["ground_truth"]
    adata.obsm["im_re"] = pd.DataFrame(np.random.default_rng(0).normal(size=(adata.n_obs, 3)), index=adata.obs_names)
    adata.obsm["im_re"].columns = ["0", "1", "2"]
    (data / "HD").mkdir(parents=True)
    adata.write_h5ad(data / "HD/filtered_HD.h5ad")


WRITERS = {
    "dlpfc": dlpfc,
    "breast-cancer": breast,
    "chicken-heart": heart,
    "mouse-brain": mouse,
    "pdac": pdac,
    "cosmx-lung": lung,
    "visium-hd": hd,
}
