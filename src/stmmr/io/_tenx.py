"""Counts as 10x pipelines write them: an .h5 file, or a folder with a Matrix Market file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import check_indices, existing, names_may_repeat, parsing, visible

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmmr")

GENE = "Gene Expression"
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
    barcodes and unique gene symbols as names. Counts of probes are summed to genes, those that Space Ranger keeps; of
    the barcodes then only those in tissue, where the file says which.

    Raises
    ------
    InputError
        If it is no 10x matrix, is damaged, or is empty.
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
    """Read a count matrix of 10x by itself, without positions.

    Parameters
    ----------
    path
        The .h5 file, or the folder of a Matrix Market file. In Space Ranger's folder, :func:`read_visium` finds the
        positions as well.

    Returns
    -------
    Counts of genes, float32 CSR; see :func:`read_visium` for places. Counts of probes (``raw_probe_bc_matrix.h5``) are
    summed to genes.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no 10x matrix, is damaged, or is empty.
    """
    where = existing(path)
    adata = read_counts(where)
    logger.warning(
        "%s holds counts but no positions. Put Space Ranger's folder spatial/ beside it, or set adata.obsm['spatial'].",
        where,
    )
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


def _only_genes(adata: AnnData) -> AnnData:
    """Drop antibodies, negative controls, blank codewords and the like, and say which."""
    kinds = adata.var["feature_types"].astype(str)
    others = sorted(set(kinds) - {GENE})
    if not others:
        return adata
    logger.info("%d features that are no genes dropped (%s).", (kinds != GENE).sum(), listed(others))
    return adata[:, (kinds == GENE).to_numpy()].copy()


def _sum_probes(adata: AnnData) -> AnnData:
    """Sum counts of probes to genes; leave out what Space Ranger does, by what the file says."""
    import pandas as pd
    from anndata import AnnData

    n_probes = adata.n_vars
    if "filtered_probes" in adata.var:
        adata = adata[:, adata.var["filtered_probes"].to_numpy(bool)]
    if "filtered_barcodes" in adata.obs:
        inside = adata.obs["filtered_barcodes"].to_numpy(bool)
        logger.info("%d places outside the tissue dropped, %d kept.", (~inside).sum(), inside.sum())
        adata = adata[inside]
    gene, identifiers = pd.factorize(adata.var["gene_ids"].astype(str))
    to_genes = sparse.csr_matrix((np.ones(len(gene), np.float32), (np.arange(len(gene)), gene)))
    symbols = adata.var["gene_name" if "gene_name" in adata.var else "gene_ids"].astype(str)
    names = pd.Index(symbols.to_numpy()[np.unique(gene, return_index=True)[1]])
    logger.info(
        "Counts of %d probes summed to %d genes; %d probes that are filtered out left out.",
        adata.n_vars,
        len(identifiers),
        n_probes - adata.n_vars,
    )
    counts = sparse.csr_matrix(adata.X, dtype=np.float32) @ to_genes
    var = pd.DataFrame({"gene_ids": identifiers, "feature_types": GENE}, index=names)
    return AnnData(counts, pd.DataFrame(index=adata.obs_names), var)


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
