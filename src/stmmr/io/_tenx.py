"""Count matrices of 10x: an .h5 file, or a folder in Matrix Market format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core.caches import provide_caches
from stmmr._core.checks import InputError, listed, logger, unique_names
from stmmr._core.files import check_indices, existing, names_may_repeat, parsing, visible

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

GENE: Final = "Gene Expression"
MTX_FILES: Final = (
    {"barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"},
    {"barcodes.tsv", "genes.tsv", "matrix.mtx"},
)
RUN: Final = {
    "chemistry_description": "chemistry_description",
    "software_version": "software_version",
    "library_id": "library_ids",
}
"""What is read about a run, and the attributes of the .h5 file that hold it."""


def read_counts(matrix: Path) -> AnnData:
    """Read the genes of a count matrix, an .h5 file or a Matrix Market folder: float32 CSR, unique gene symbols.

    Counts of probes are summed to genes, without the probes and barcodes that Space Ranger marks as filtered out.
    Raises InputError if the matrix is damaged, empty or not of 10x.
    """
    read = _read_mtx if matrix.is_dir() else _read_h5
    with parsing(matrix, expected="a 10x count matrix"), names_may_repeat():
        adata = read(matrix)
        check_indices(adata.X)
        if "feature_types" in adata.var:
            adata = _only_genes(adata)
        if 0 in adata.shape:
            raise InputError(
                f"Expected counts of genes in {matrix}, found {adata.n_obs} barcodes and {adata.n_vars} "
                'features of type "Gene Expression". Give the matrix of a section that has some.'
            )
        if "probe_ids" in adata.var:
            adata = _sum_probes(adata)
        adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
        unique_names(adata)
    return adata


def read_10x_h5(path: str | Path) -> AnnData:
    """Read a count matrix of 10x alone, without positions.

    Parameters
    ----------
    path
        The .h5 file, or a folder in Matrix Market format. From the output folder of Space Ranger,
        :func:`read_visium` reads the positions as well.

    Returns
    -------
    Counts of genes, float32 CSR. Counts of probes (``raw_probe_bc_matrix.h5``) are summed to genes.

    Raises
    ------
    InputError
        If it is no 10x matrix, is damaged, or is empty.
    """
    matrix = existing(path)
    adata = read_counts(matrix)
    logger.warning(
        "%s holds counts but no positions. Put Space Ranger's folder spatial/ beside it, or set adata.obsm['spatial'].",
        matrix,
    )
    return adata


def read_metadata(matrix: Path) -> dict[str, str]:
    """Read chemistry, software version and library name from an .h5 file."""
    import h5py

    if matrix.is_dir():
        return {}
    with parsing(matrix, expected="a 10x .h5 file"), h5py.File(matrix) as file:
        return {name: _text(file.attrs[key]) for name, key in RUN.items() if key in file.attrs}


def _only_genes(adata: AnnData) -> AnnData:
    """Drop antibodies, negative controls, blank codewords and other features that are no genes."""
    is_gene = (adata.var["feature_types"].astype(str) == GENE).to_numpy()
    if is_gene.all():
        return adata
    others = sorted(set(adata.var["feature_types"].astype(str)[~is_gene]))
    logger.info("%d features that are no genes dropped (%s).", (~is_gene).sum(), listed(others))
    return adata[:, is_gene].copy()


def _sum_probes(adata: AnnData) -> AnnData:
    """Sum counts of probes to genes, without the probes and barcodes that the file marks as filtered out."""
    import pandas as pd
    from anndata import AnnData

    n_probes = adata.n_vars
    if "filtered_probes" in adata.var:
        adata = adata[:, adata.var["filtered_probes"].to_numpy(bool)]
    if "filtered_barcodes" in adata.obs:
        inside = adata.obs["filtered_barcodes"].to_numpy(bool)
        logger.info("%d barcodes outside the tissue dropped, %d kept.", (~inside).sum(), inside.sum())
        adata = adata[inside]
    gene, identifiers = pd.factorize(adata.var["gene_ids"].astype(str))
    to_genes = sparse.csr_matrix((np.ones(len(gene), np.float32), (np.arange(len(gene)), gene)))
    symbols = adata.var["gene_name" if "gene_name" in adata.var else "gene_ids"].astype(str)
    names = pd.Index(symbols.to_numpy()[np.unique(gene, return_index=True)[1]])
    logger.info(
        "Counts of %d probes summed to %d genes; %d probes dropped that Space Ranger filters out.",
        adata.n_vars,
        len(identifiers),
        n_probes - adata.n_vars,
    )
    counts = sparse.csr_matrix(adata.X, dtype=np.float32) @ to_genes
    var = pd.DataFrame({"gene_ids": identifiers, "feature_types": GENE}, index=names)
    return AnnData(counts, pd.DataFrame(index=adata.obs_names), var)


def _read_h5(path: Path) -> AnnData:
    """Read an .h5 file with scanpy, which would read any other HDF5 file as one of Cell Ranger 2."""
    import h5py

    provide_caches()
    import scanpy as sc

    with h5py.File(path) as file:
        if "matrix" not in file:
            raise InputError(
                f"Expected a 10x .h5 file (with the group 'matrix') at {path}, found an HDF5 file that holds "
                f"{listed(file)}. Give filtered_feature_bc_matrix.h5, or name an AnnData file .h5ad."
            )
    return sc.read_10x_h5(path, gex_only=False)


def _read_mtx(folder: Path) -> AnnData:
    """Read a folder in Matrix Market format with scanpy."""
    provide_caches()
    import scanpy as sc

    names = visible(folder)
    if not any(files <= set(names) for files in MTX_FILES):
        raise InputError(
            f"Expected barcodes.tsv.gz, features.tsv.gz and matrix.mtx.gz in {folder}, found {listed(names)}."
            " Complete the folder; compress plain .tsv and .mtx files with gzip."
        )
    return sc.read_10x_mtx(folder, make_unique=False, gex_only=False)


def _text(value: bytes | str | NDArray[np.generic]) -> str:
    """Get the first string of an attribute, which pipelines write as bytes, str or an array of either."""
    first = np.asarray(value).ravel()[0]
    return first.decode() if isinstance(first, bytes) else str(first)
