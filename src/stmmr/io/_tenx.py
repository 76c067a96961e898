"""Count matrices of 10x: an .h5 file, or a folder in Matrix Market format."""

from __future__ import annotations

import math
import re
import sys
import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core.axes import coordinate_columns, microns_of
from stmmr._core.checks import InputError, listed, logger, unique_names
from stmmr._core.files import check_indices, existing, names_may_repeat, parsing, visible
from stmmr._core.untrusted import open_hdf5, open_text, reader, require_memory
from stmmr.io._adopt import left_out
from stmmr.io._archives import archive_ending, unpacked_archive
from stmmr.io._coordinates import read_coordinates
from stmmr.io._files import find, sample_name, variants
from stmmr.io._flat import counts_rows
from stmmr.io._peek import tables_at
from stmmr.io._placing import add_library, add_positions, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

GENE: Final = "Gene Expression"
MTX: Final = ("matrix.mtx", "MoleculesPerMatchedBead.mtx")
FEATURES: Final = ("features.tsv", "genes.tsv")
MTX_BYTES: Final = 32
"""Bytes that reading takes for each entry of a matrix: as three columns, then as rows."""
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
    if matrix.is_file() and archive_ending(matrix):
        with unpacked_archive(matrix) as content:
            return read_counts(next((path.parent for path in content.rglob("*matrix.mtx*")), content))
    read = _read_h5 if matrix.suffix.lower() == ".h5" and matrix.is_file() else _read_mtx
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
        adata = without_controls(adata, controls="controls")
        unique_names(adata)
    return adata


@reader("a 10x count matrix")
def read_10x_h5(path: str | Path, *, coordinates: str | Path | None = None, keep_off_tissue: bool = False) -> AnnData:
    """Read a count matrix of 10x alone, with the coordinates in a table beside it, if there is one.

    Parameters
    ----------
    path
        The .h5 file, or a folder in Matrix Market format. From the output folder of Space Ranger,
        :func:`read_visium` reads the positions as well.
    coordinates
        Table with one row per barcode: its name, and columns such as ``x`` and ``y``. By default the only one in the
        folder.
    keep_off_tissue
        Keep the spots that are off the tissue, if the table has a column ``in_tissue``.

    Returns
    -------
    Counts of genes, float32 CSR. Counts of probes (``raw_probe_bc_matrix.h5``) are summed to genes. With a table of
    coordinates, ``obsm["spatial"]``, and its other columns in ``obs``.

    Raises
    ------
    InputError
        If it is no 10x matrix, is damaged, or is empty.
    """
    matrix = existing(path)
    adata = read_counts(matrix)
    if (table := _table_beside(matrix) if coordinates is None else existing(coordinates)) is not None:
        return _with_coordinates(adata, matrix, table, keep_off_tissue=keep_off_tissue)
    logger.warning(
        "%s holds counts but no positions. Put Space Ranger's folder spatial/ beside it, or a table with the "
        "coordinates, or set adata.obsm['spatial'].",
        matrix,
    )
    return adata


def _with_coordinates(adata: AnnData, matrix: Path, path: Path, *, keep_off_tissue: bool) -> AnnData:
    """Add the coordinates of a table, and drop the spots that it says are off the tissue."""
    table, xy, has_names = read_coordinates(path)
    if not has_names:
        raise InputError(f"Expected the names of the barcodes in {path}, found {listed(table.columns)}. Add them.")
    logger.info("Coordinates are taken from %s.", path.name)
    adata = add_positions(adata, table, xy=xy, counts=matrix, positions=path, rows="spots")
    off, _ = left_out(adata, keep_off_tissue=keep_off_tissue)
    adata = adata[~off].copy() if off.any() else adata
    return add_library(adata, microns_of(xy), library_name(None, sample_of(matrix), matrix))


def sample_of(matrix: Path) -> str:
    """Get the sample name in front of the name of a matrix."""
    return re.split(r"(filtered|raw|cell)?_?(feature_(bc|cell)_)?matrix|\.h5$", matrix.name)[0]


def _table_beside(matrix: Path) -> Path | None:
    """Find the table of coordinates in the folder of a matrix: that of the sample, or the only one."""
    folder = matrix if (matrix / "barcodes.tsv").exists() or (matrix / "barcodes.tsv.gz").exists() else matrix.parent
    tables = [table for table, head in tables_at(folder).items() if coordinate_columns(head.header)]
    prefix = sample_of(matrix)
    own = [table for table in tables if prefix and table.name.startswith(prefix)] or tables
    return own[0] if len(own) == 1 else None


def read_metadata(matrix: Path) -> dict[str, str]:
    """Read chemistry, software version and library name from an .h5 file."""
    if matrix.suffix.lower() != ".h5" or matrix.is_dir():
        return {}
    with parsing(matrix, expected="a 10x .h5 file"), open_hdf5(matrix, parts=()) as file:
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
    """Read an .h5 file of Cell Ranger 3 or later, whose counts may be stored as floats."""
    import pandas as pd
    from anndata import AnnData

    with open_hdf5(path) as file:
        if "matrix" not in file:
            earlier = any("gene_names" in group for group in file.values() if hasattr(group, "keys"))
            advice = "Give filtered_feature_bc_matrix.h5, or name an AnnData file .h5ad."
            raise InputError(
                f"Expected a 10x .h5 file (with the group 'matrix') at {path}, found an HDF5 file that holds "
                f"{listed(file)}. "
                + ("It is of Cell Ranger 2: give the folder with matrix.mtx instead." if earlier else advice)
            )
        matrix = file["matrix"]
        columns = matrix["features"]
        n_features = columns["name"].shape
        features = {key: _column(columns[key]) for key in columns if getattr(columns[key], "shape", 0) == n_features}
        if "gene_id" in features:  # a matrix of probes
            features["probe_ids"], features["id"] = features["id"], features.pop("gene_id")
        barcodes = [_text(value) for value in matrix["barcodes"][:]]
        obs = {key: matrix[key][:] for key in ("filtered_barcodes",) if key in matrix}
        parts = [matrix[name][:] for name in ("data", "indices", "indptr")]
        shape = tuple(int(n) for n in matrix["shape"][:])[::-1] if "shape" in matrix else None
    names = pd.Index(features.pop("name"))
    shape = shape or (len(barcodes), len(names))  # other software writes none
    if shape != (len(barcodes), len(names)):
        raise ValueError(f"{len(names)} features and {len(barcodes)} barcodes for a matrix of {shape[::-1]}")
    counts = sparse.csr_matrix((parts[0].astype(np.float32), parts[1], parts[2]), shape=shape)
    var = pd.DataFrame(features, index=names).rename(columns={"id": "gene_ids", "feature_type": "feature_types"})
    return AnnData(counts, pd.DataFrame(obs, index=barcodes), var)


def _column(values: h5py.Dataset) -> list[str] | NDArray[np.generic]:
    """Read a column of features, as text or numbers."""
    content: NDArray[np.generic] = values[:]
    return [_text(value) for value in content] if content.dtype.kind in "SO" else content


def _read_mtx(path: Path) -> AnnData:
    """Read a matrix in Matrix Market format with its barcodes and features: a folder, or the file of the matrix.

    Files may be packed, and behind a sample name. Lists may have a header, features one column or more.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy.io import mmread

    folder = path if path.is_dir() else path.parent
    matrix = find(folder, *MTX) if path.is_dir() else path
    prefix = "" if matrix is None else sample_name(matrix, [form for name in MTX for form in variants(name)])
    barcodes_file, features_file = find(folder, "barcodes.tsv", prefix=prefix), find(folder, *FEATURES, prefix=prefix)
    if matrix is None or barcodes_file is None or features_file is None:
        raise InputError(
            f"Expected barcodes.tsv, features.tsv and matrix.mtx (each plain or .gz) in {folder}, found "
            f"{listed(visible(folder))}. Complete the folder."
        )
    _require_entries(matrix)
    with open_text(matrix, at_most=sys.maxsize) as text, warnings.catch_warnings():
        # a later SciPy returns another type, which csr_matrix takes as well
        warnings.filterwarnings("ignore", message="[\\s\\S]*spmatrix", category=DeprecationWarning)
        counts = sparse.csr_matrix(mmread(text), dtype=np.float32).T.tocsr()
    barcodes, features = (_read_list(file) for file in (barcodes_file, features_file))
    if counts.shape == (len(features), len(barcodes)) != (len(barcodes), len(features)):
        counts = counts.T.tocsr()  # cells in rows
    barcodes, features = _without_header(barcodes, counts.shape[0]), _without_header(features, counts.shape[1])
    if counts.shape != (len(barcodes), len(features)):
        raise ValueError(f"{len(features)} features and {len(barcodes)} barcodes for a matrix of {counts.shape[::-1]}")
    if features.shape[1] == 1:
        features = features[[0, 0]].set_axis([0, 1], axis=1)
    columns = dict(zip(("gene_ids", "name", "feature_types"), (features[i].to_numpy() for i in features), strict=False))
    var = pd.DataFrame(columns, index=pd.Index(columns.pop("name")))
    return AnnData(counts, pd.DataFrame(index=barcodes[0].to_numpy()), var)


def _without_header(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """Leave out the first row of a list that is one longer than the matrix, and a column that numbers its rows."""
    if len(table) != n + 1:
        return table
    table = table.iloc[1:].reset_index(drop=True)
    return (
        table.iloc[:, 1:].set_axis(range(table.shape[1] - 1), axis=1)
        if table.shape[1] > 1 and counts_rows(table[0])
        else table
    )


def _read_list(file: Path) -> pd.DataFrame:
    """Read a list of barcodes or features, of columns between tabs or commas."""
    import pandas as pd

    with open_text(file) as lines:
        first = lines.readline()
    separator = "," if b"\t" not in first and b"," in first else "\t"
    return pd.read_csv(open_text(file), sep=separator, header=None, dtype=str, keep_default_na=False)


def _require_entries(matrix: Path) -> None:
    """Check that the entries that a Matrix Market file announces fit into memory: room is made for them at once."""
    with open_text(matrix) as lines:
        line = next((line for line in lines if line.strip() and not line.startswith(b"%")), b"")
    sizes = [int(number) for number in line.split()]
    n_entries = sizes[2] if len(sizes) > 2 else math.prod(sizes)  # dense
    require_memory(8 * sum(sizes[:2]) + MTX_BYTES * n_entries, matrix)


def _text(value: bytes | str | NDArray[np.generic]) -> str:
    """Get the first string of an attribute, which pipelines write as bytes, str or an array of either."""
    first = np.asarray(value).ravel()[0]
    return first.decode() if isinstance(first, bytes) else str(first)
