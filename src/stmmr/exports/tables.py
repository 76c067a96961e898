"""Plain tables of everything, for R and any other program."""

from __future__ import annotations

import gzip
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.files import write_csv
from stmmr._core.genes import counts_layer
from stmmr._core.raw import raw_counts
from stmmr._core.rows import as_csr, is_dask, is_on_disk
from stmmr._core.space import units

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anndata import AnnData

    from stmmr.exports.content import Content

COLUMNS: Final = {
    keys.CONFIDENCE: "confidence",
    keys.DOMAIN_REFINED: "domain_refined",
    keys.PSEUDOTIME: "pseudotime",
    keys.BRANCH: "branch",
}
"""Columns beside the domain, and their names in the table."""
R: Final = """\
# A Seurat object and a SpatialExperiment of these files: run it in this folder.
counts <- as(Matrix::readMM("matrix.mtx.gz"), "CsparseMatrix")
dimnames(counts) <- list(make.unique(read.delim("features.tsv.gz", header = FALSE)[[2]]), readLines("barcodes.tsv.gz"))
spots <- read.csv("{table}", row.names = 1, colClasses = c(domain = "character"), check.names = FALSE)
spots$domain <- factor(spots$domain, levels = read.csv("domains.csv", colClasses = "character")$domain)
embedding <- if (file.exists("embedding.csv")) as.matrix(read.csv("embedding.csv", row.names = 1))

if (requireNamespace("SeuratObject", quietly = TRUE)) {{
  seurat <- SeuratObject::CreateSeuratObject(counts, meta.data = spots)
  centres <- data.frame(x = spots$x, y = spots$y, cell = rownames(spots))
  seurat[["tissue"]] <- SeuratObject::CreateFOV(SeuratObject::CreateCentroids(centres), assay = "RNA")
  if (!is.null(embedding))
    seurat[["stmmr"]] <- SeuratObject::CreateDimReducObject(embedding, key = "stmmr_", assay = "RNA")
  SeuratObject::Idents(seurat) <- "domain"
}}
if (requireNamespace("SpatialExperiment", quietly = TRUE)) {{
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(counts = counts), colData = S4Vectors::DataFrame(spots),
    spatialCoords = as.matrix(spots[, c("x", "y")])
  )
  if (!is.null(embedding)) SingleCellExperiment::reducedDim(spe, "stmmr") <- embedding
}}
"""


def write_tables(content: Content, folder: Path) -> list[str]:
    """Write spots with domains, the domains with their colours, embedding and raw counts, and a script for R."""
    adata, rows = content.adata, content.rows
    spots = pd.DataFrame(content.xy, index=adata.obs_names, columns=["x", "y"])
    if len(content.section_names) > 1:
        spots.insert(0, "section", [""] * len(spots))
        for name, _, inside in content.sections():
            spots.loc[inside, "section"] = name
    spots["domain"] = content.texts
    for key, name in COLUMNS.items():
        if key in adata.obs and key != content.domain_key:
            spots[name] = adata.obs[key]
    write_csv(spots.rename_axis(rows[:-1]), folder / f"{rows}.csv")
    domains = pd.DataFrame({"domain": list(content.colors), "color": list(content.colors.values())})
    domains["n_obs"] = domains["domain"].map(pd.Series(content.texts).value_counts()).fillna(0).astype(int)
    write_csv(domains, folder / "domains.csv", index=False)
    how = [f"{rows}.csv: coordinates ({units(adata)[0]}, y downwards) and domain of each of the {rows}."]
    if keys.EMBEDDING in adata.obsm:
        embedding = np.asarray(adata.obsm[keys.EMBEDDING])
        names = [f"stmmr_{number}" for number in range(1, embedding.shape[1] + 1)]
        table = pd.DataFrame(embedding, index=adata.obs_names, columns=names).rename_axis(rows[:-1])
        write_csv(table, folder / "embedding.csv", float_format="%.6g")
    counts = _counts_in_memory(adata)
    if counts is None:
        return [*how, "The counts are not included, as they are not in memory or there are none."]
    _write_matrix(counts, adata, folder)
    (folder / "read.R").write_text(R.format(table=f"{rows}.csv"), encoding="utf-8")
    return [
        *how,
        "matrix.mtx.gz, features.tsv.gz, barcodes.tsv.gz: raw counts as 10x writes them.",
        "read.R: makes a Seurat object and a SpatialExperiment of these files.",
    ]


def _counts_in_memory(adata: AnnData) -> Any:
    """Get the raw counts; None if they are in a file or there are none."""
    if adata.n_vars == 0:
        return None
    try:
        _, counts = raw_counts(adata, counts_layer(adata))
    except InputError:
        return None
    return None if is_on_disk(counts) or is_dask(counts) else as_csr(counts)


def _write_matrix(counts: Any, adata: AnnData, folder: Path) -> None:
    """Write counts as Space Ranger does: genes × spots, with one name a line."""
    from scipy.io import mmwrite

    whole = bool((counts.data == np.rint(counts.data)).all())
    entries = counts.T.tocoo().astype(np.int64 if whole else np.float64)
    with gzip.open(folder / "matrix.mtx.gz", "wb", compresslevel=3) as file:
        mmwrite(cast("IO[bytes]", file), entries, field="integer" if whole else "real")
    genes = adata.var_names.astype(str)
    ids = next((adata.var[name] for name in ("gene_ids", "gene_id") if name in adata.var), genes)
    _write_lines(folder / "features.tsv.gz", (f"{a}\t{b}\tGene Expression" for a, b in zip(ids, genes, strict=True)))
    _write_lines(folder / "barcodes.tsv.gz", adata.obs_names.astype(str))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
