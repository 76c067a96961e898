"""Xenium, as the Onboard Analysis of 10x writes it.

Format: https://www.10xgenomics.com/support/software/xenium-onboard-analysis/latest/analysis/xoa-output-understanding-outputs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, listed
from stmmr._core.files import existing, visible
from stmmr.io._files import companion, locate
from stmmr.io._flat import read_frame
from stmmr.io._placing import name_library, place, set_scale
from stmmr.io._tenx import read_counts, read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

MATRICES: Final = ("cell_feature_matrix.h5", "cell_feature_matrix")
CELLS: Final = ("cells.parquet", "cells.csv.gz", "cells.csv")
XY: Final = ("x_centroid", "y_centroid")


def find_xenium(path: Path) -> tuple[Path, str] | None:
    """Find the counts of a Xenium run, and the sample's name in front of them."""
    return locate(path, MATRICES)


def read_xenium(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read a Xenium section.

    Parameters
    ----------
    path
        Xenium's output folder, the folder above ``outs``, or the count matrix. The counts are
        ``cell_feature_matrix.h5`` or ``cell_feature_matrix/``, the cells ``cells.parquet`` or ``cells.csv.gz``.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.

    Returns
    -------
    Counts of genes, float32 CSR, with the other features (negative controls, blank codewords) dropped;
    ``obsm["spatial"]``, centres of the cells in µm; the other columns of the cells in ``obs``; the scale in
    ``uns["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, or counts and cells do not belong together.
    """
    where = existing(path)
    found = find_xenium(where)
    if found is None:
        raise InputError(
            f"Expected {MATRICES[0]} or {MATRICES[1]}/ in {where}, found {listed(visible(where))}. Give Xenium's "
            "output folder; counts in a zarr.zip alone are not read."
        )
    matrix, prefix = found
    counts = read_counts(matrix)
    cells = companion(matrix, CELLS, prefix=prefix, what="the positions of the cells")
    table = read_frame(cells, ids=("cell_id",))
    if "cell_id" not in table.columns:
        raise InputError(f"Expected the column cell_id in {cells}, found {listed(table.columns)}. Take Xenium's file.")
    table = table.set_index(table.pop("cell_id").map(_as_text))
    adata = place(counts, table, xy=XY, counts=matrix, positions=cells)
    metadata = read_metadata(matrix)
    said = metadata.pop("library_id", "").strip("0_")  # instruments may write zeros only
    library = name_library(library_id, prefix=prefix, folder=matrix.parent, said=said)
    return set_scale(adata, 1.0, library=library, metadata=metadata | {"platform": "Xenium"})


def _as_text(name: Any) -> str:
    """Read a cell's name, which parquet files hold as bytes, text or a number."""
    return name.decode() if isinstance(name, bytes) else str(name)
