"""Counts as 10x pipelines write them: an .h5 file, or a folder with a Matrix Market file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmmr._validate import InputError, listed, unique_names
from stmmr.io._files import check_indices, names_may_repeat, parsing, visible

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

MTX_FILES = (
    {"barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"},
    {"barcodes.tsv", "genes.tsv", "matrix.mtx"},
)


def read_counts(matrix: Path) -> AnnData:
    """Read a count matrix.

    Parameters
    ----------
    matrix
        A 10x .h5 file, or the folder of a Matrix Market file.

    Returns
    -------
    Counts of the features of type "Gene Expression" in ``X``, shape (n_barcodes, n_genes), float32 CSR, with
    barcodes and unique gene symbols as names.

    Raises
    ------
    InputError
        If it is no 10x matrix, is damaged, is empty, or counts probes.
    """
    read = _read_mtx if matrix.is_dir() else _read_h5
    with parsing(matrix, expected="a 10x count matrix"), names_may_repeat():
        adata = read(matrix)
        check_indices(adata.X)
        if "feature_types" in adata.var:
            adata = adata[:, (adata.var["feature_types"] == "Gene Expression").to_numpy()].copy()
        if 0 in adata.shape:
            raise InputError(
                f"Expected counts of genes in {matrix}, found {adata.n_obs} barcodes and {adata.n_vars} "
                'features of type "Gene Expression". Give the matrix of a section that has some.'
            )
        if "probe_ids" in adata.var:
            raise InputError(
                f"Expected counts of genes in {matrix}, found counts of probes. Give "
                "filtered_feature_bc_matrix.h5 of the same run."
            )
        adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
        unique_names(adata)
    return adata


def read_metadata(matrix: Path) -> dict[str, str]:
    """Read what an .h5 file says about its run: chemistry, software version and library."""
    import h5py

    if matrix.is_dir():
        return {}
    keys = {
        "chemistry_description": "chemistry_description",
        "software_version": "software_version",
        "library_id": "library_ids",
    }
    with parsing(matrix, expected="a 10x .h5 file"), h5py.File(matrix) as file:
        return {name: _text(file.attrs[key]) for name, key in keys.items() if key in file.attrs}


def _read_h5(path: Path) -> AnnData:
    """Read an .h5 file by scanpy, which would take any other HDF5 file for one of Cell Ranger 2."""
    import h5py
    import scanpy as sc

    with h5py.File(path) as file:
        if "matrix" not in file:
            raise InputError(
                f"Expected a 10x .h5 file (with the group 'matrix') at {path}, found an HDF5 file that holds "
                f"{listed(file)}. Give filtered_feature_bc_matrix.h5, or name an AnnData file .h5ad."
            )
    return sc.read_10x_h5(path, gex_only=False)


def _read_mtx(folder: Path) -> AnnData:
    """Read a folder of three files by scanpy."""
    import scanpy as sc

    names = visible(folder)
    if not any(files <= set(names) for files in MTX_FILES):
        raise InputError(
            f"Expected barcodes.tsv.gz, features.tsv.gz and matrix.mtx.gz in {folder}, found {listed(names)}."
            " Complete the folder; compress plain .tsv and .mtx files with gzip."
        )
    return sc.read_10x_mtx(folder, make_unique=False, gex_only=False)


def _text(value: Any) -> str:
    """Get the first string of an attribute, which pipelines write as bytes, str or an array of either."""
    first = np.asarray(value).ravel()[0]
    return first.decode() if isinstance(first, bytes) else str(first)
