"""Xenium, as Xenium Onboard Analysis of 10x writes it.

Format: https://www.10xgenomics.com/support/software/xenium-onboard-analysis/latest/analysis/xoa-output-understanding-outputs
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import listed, logger, unique_names
from stmmr._core.columns import GENE_TYPES
from stmmr._core.files import check_indices, names_may_repeat, parsing
from stmmr._core.untrusted import reader, require_parts
from stmmr.io._archives import unpacked_archive
from stmmr.io._boundaries import xenium_boundaries
from stmmr.io._files import companion, locate, require_columns, require_match
from stmmr.io._flat import read_frame
from stmmr.io._placing import add_library, add_positions, library_name
from stmmr.io._tenx import read_counts, read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

MATRICES: Final = (
    "cell_feature_matrix.h5",
    "cell_feature_matrix",
    "cell_feature_matrix.zarr.zip",
    "cell_feature_matrix.tar.gz",
)
CELLS: Final = ("cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip")
XY: Final = ("x_centroid", "y_centroid")

find_xenium = partial(locate, names=MATRICES)
"""Find the counts of a Xenium run, and the sample name in front of them."""


@reader("a Xenium section")
def read_xenium(path: str | Path, *, library_id: str | None = None, boundaries: bool = False) -> AnnData:
    """Read the cells of a Xenium section.

    Parameters
    ----------
    path
        Output folder of Xenium, the folder above ``outs``, or the count matrix. Counts are read from
        ``cell_feature_matrix.h5`` or ``cell_feature_matrix/``, cells from ``cells.parquet`` or ``cells.csv.gz``.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.
    boundaries
        Read the outlines of the cells as well, from ``cell_boundaries.parquet`` or ``.csv.gz``.

    Returns
    -------
    Counts of genes, float32 CSR, without other features (negative controls, blank codewords); ``obsm["spatial"]``,
    cell centres in µm; ``obs``, the other columns of the cells; the scale in ``uns["spatial"]``; the outlines in
    ``obsm["cell_boundaries"]``, if they are requested.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and cells do not match.
    """
    advice = "Give the output folder of Xenium."
    matrix, prefix = require_match(path, find_xenium, f"{MATRICES[0]} or {MATRICES[1]}/", advice=advice)
    counts = _read_counts(matrix)
    cells = companion(matrix, CELLS, prefix=prefix, content="the positions of the cells")
    table = _cells_of_zarr(cells) if cells.suffix == ".zip" else read_frame(cells, ids=("cell_id",))
    require_columns(table.columns, ["cell_id"], cells)
    table = table.set_index(table.pop("cell_id").map(_as_text))
    adata = add_positions(counts, table, xy=XY, counts=matrix, positions=cells)
    if boundaries:
        xenium_boundaries(adata, matrix, prefix=prefix)
    metadata = read_metadata(matrix)
    stated = metadata.pop("library_id", "").strip("0_")  # some instruments write zeros only
    library = library_name(library_id, prefix, matrix, stated=stated)
    return add_library(adata, 1.0, library, platform="Xenium", metadata=metadata)


def _read_counts(matrix: Path) -> AnnData:
    """Read the counts of cells from any of the forms of the matrix."""
    if not matrix.name.endswith((".zip", ".gz")):
        return read_counts(matrix)
    with unpacked_archive(matrix) as content:
        if matrix.name.endswith(".gz"):
            return read_counts(next((content / name for name in MATRICES if (content / name).is_dir()), content))
        return _counts_of_zarr(content, matrix)


def _counts_of_zarr(store: Path, matrix: Path) -> AnnData:
    """Read the counts of genes from a store of Xenium Explorer, which holds them feature by feature."""
    import pandas as pd
    import zarr
    from anndata import AnnData

    with parsing(matrix, expected="the counts of Xenium cells (zarr.zip)"), names_may_repeat():
        require_parts(store)
        group: Any = zarr.open_group(store, mode="r")
        features: Any = group["cell_features"]
        names, types = (list(features.attrs[key]) for key in ("feature_keys", "feature_types"))
        parts = [np.asarray(features[name][:]) for name in ("data", "indices", "indptr")]
        cells = _cell_ids(np.asarray(features["cell_id"][:]))
        n_cells, n_features = len(cells), len(names)
        by_feature = len(parts[2]) == n_features + 1
        shape = (n_features, n_cells) if by_feature else (n_cells, n_features)
        counts = sparse.csr_matrix((parts[0].astype(np.float32), *parts[1:]), shape=shape)
        check_indices(counts)
        is_gene = np.array([str(kind).lower() in GENE_TYPES for kind in types], dtype=bool)
        adata = AnnData(
            counts.T.tocsr() if by_feature else counts, pd.DataFrame(index=cells), pd.DataFrame(index=names)
        )
        adata = adata[:, is_gene].copy()
    logger.info("%d features that are no genes dropped (%s).", (~is_gene).sum(), listed(sorted({*types} - GENE_TYPES)))
    unique_names(adata)
    return adata


def _cells_of_zarr(path: Path) -> pd.DataFrame:
    """Read names and centres of cells from a store of Xenium Explorer."""
    import pandas as pd
    import zarr

    with unpacked_archive(path) as store, parsing(path, expected="the cells of Xenium (zarr.zip)"):
        require_parts(store, ("/cell_id", "/cell_summary"))
        group: Any = zarr.open_group(store, mode="r")
        centres = np.asarray(group["cell_summary"][:, :2], dtype=np.float64)
        table = pd.DataFrame(centres, columns=list(XY))
        table["cell_id"] = _cell_ids(np.asarray(group["cell_id"][:]))
        return table


def _cell_ids(ids: NDArray[np.integer]) -> list[str]:
    """Write the names of cells, which stores hold as two numbers, as other files do: "aaaadnbo-1"."""
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return [f"{int(prefix):08x}".translate(letters) + f"-{int(suffix)}" for prefix, suffix in ids]


def _as_text(name: bytes | str | int) -> str:
    """Read the name of a cell, which parquet files hold as bytes, text or a number."""
    return name.decode() if isinstance(name, bytes) else str(name)
