"""Xenium, as Xenium Onboard Analysis of 10x writes it.

Format: https://www.10xgenomics.com/support/software/xenium-onboard-analysis/latest/analysis/xoa-output-understanding-outputs
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from stmmr._core.untrusted import reader
from stmmr.io._files import companion, locate, require_columns, require_match
from stmmr.io._flat import read_frame
from stmmr.io._placing import add_library, add_positions, library_name
from stmmr.io._tenx import read_counts, read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

MATRICES: Final = ("cell_feature_matrix.h5", "cell_feature_matrix")
CELLS: Final = ("cells.parquet", "cells.csv.gz", "cells.csv")
XY: Final = ("x_centroid", "y_centroid")

find_xenium = partial(locate, names=MATRICES)
"""Find the counts of a Xenium run, and the sample name in front of them."""


@reader("a Xenium section")
def read_xenium(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read the cells of a Xenium section.

    Parameters
    ----------
    path
        Output folder of Xenium, the folder above ``outs``, or the count matrix. Counts are read from
        ``cell_feature_matrix.h5`` or ``cell_feature_matrix/``, cells from ``cells.parquet`` or ``cells.csv.gz``.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.

    Returns
    -------
    Counts of genes, float32 CSR, without other features (negative controls, blank codewords); ``obsm["spatial"]``,
    cell centres in µm; ``obs``, the other columns of the cells; the scale in ``uns["spatial"]``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and cells do not match.
    """
    advice = "Give the output folder of Xenium; a zarr.zip alone is not read."
    matrix, prefix = require_match(path, find_xenium, f"{MATRICES[0]} or {MATRICES[1]}/", advice=advice)
    counts = read_counts(matrix)
    cells = companion(matrix, CELLS, prefix=prefix, content="the positions of the cells")
    table = read_frame(cells, ids=("cell_id",))
    require_columns(table.columns, ["cell_id"], cells)
    table = table.set_index(table.pop("cell_id").map(_as_text))
    adata = add_positions(counts, table, xy=XY, counts=matrix, positions=cells)
    metadata = read_metadata(matrix)
    stated = metadata.pop("library_id", "").strip("0_")  # some instruments write zeros only
    library = library_name(library_id, prefix, matrix, stated=stated)
    return add_library(adata, 1.0, library, platform="Xenium", metadata=metadata)


def _as_text(name: bytes | str | int) -> str:
    """Read the name of a cell, which parquet files hold as bytes, text or a number."""
    return name.decode() if isinstance(name, bytes) else str(name)
