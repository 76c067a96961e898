"""MERSCOPE, as the instrument and the Vizgen Post-processing Tool write it.

Format: https://vizgen.github.io/vizgen-postprocessing/output_data_formats/index.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.columns import names_rows
from stmmr._core.untrusted import reader
from stmmr.io._boundaries import merscope_boundaries
from stmmr.io._files import companion, require_match
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._peek import peek
from stmmr.io._placing import add_library, add_positions, library_name, matched, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

COUNTS: Final = re.compile(r"(?P<prefix>.*?)cell_by_gene(?P<suffix>.*?)\.(csv(\.gz)?|parquet)", re.IGNORECASE)
"""Names of count tables: a sample may be named in front, as by MERSCOPE, or behind, as in Vizgen's showcase data."""
NAMED: Final = ("EntityID", "cell", "cell_id", "")
"""Columns of the metadata that may name the cells."""
XY: Final = ("center_x", "center_y")


def find_merscope(path: Path) -> list[Path] | None:
    """Find the counts of a MERSCOPE region, also in a folder above a single one."""
    if path.is_file():
        return [path] if COUNTS.fullmatch(path.name) else None
    regions = [region for region in sorted(path.glob("region_*")) if region.is_dir()]
    for folder in (path, *(regions if len(regions) == 1 else ())):
        files = [f for f in sorted(folder.iterdir()) if COUNTS.fullmatch(f.name) and not f.name.startswith(".")]
        unnamed = [file for file in files if not _sample(file)] or files
        if len(unnamed) > 1:
            names = listed(file.name for file in files)
            raise InputError(f"Expected one cell_by_gene.csv in {folder}, found {names}. Give one.")
        if unnamed:
            return unnamed
    return None


def _sample(file: Path) -> str:
    """Get the sample name from the name of a count table."""
    match = COUNTS.fullmatch(file.name)
    return "" if match is None else match["prefix"] + match["suffix"]


@reader("a MERSCOPE section")
def read_merscope(path: str | Path, *, library_id: str | None = None, boundaries: bool = False) -> AnnData:
    """Read the cells of a MERSCOPE section.

    Parameters
    ----------
    path
        Folder of one region, with ``cell_by_gene.csv`` and ``cell_metadata.csv`` (a sample name may stand in front);
        or the first of these files.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.
    boundaries
        Read the outlines of the cells as well, from ``cell_boundaries.parquet`` or the folder ``cell_boundaries``.

    Returns
    -------
    Counts of genes, float32 CSR, without blanks; ``obsm["spatial"]``, cell centres in µm; ``obs``, the other columns
    of the metadata; the scale in ``uns["spatial"]``; the outlines in ``obsm["cell_boundaries"]`` and their area in
    ``obs["area"]``, if they are requested.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and cells do not match.
    """
    import pandas as pd

    (file,) = require_match(path, find_merscope, "cell_by_gene.csv", advice="Give the folder of a region.")
    names = re.sub(r"cell_by_gene(.*?)\.(csv|parquet)(\.gz)?$", r"cell_metadata\1.\2", file.name, flags=re.IGNORECASE)
    cells = companion(file, [names], prefix="", content="the positions of the cells")
    adata = without_controls(read_counts_table(file).as_anndata(), controls="blanks")
    unique_names(adata)
    # names are numbers of more than 64 bits: read as text
    header = peek(cells).header
    named = [name for name in header if name in NAMED or names_rows(name)] or [header[0]]
    table = read_frame(cells, ids=named)
    columns = {name: pd.Index(table[name].unique()) for name in named}
    key = max(named, key=lambda name: int((matched(adata.obs_names, columns[name]) >= 0).sum()))
    table = table.drop(columns=[name for name in table.columns if name in ("", "X") and name != key])
    adata = add_positions(adata, table.set_index(key), xy=XY, counts=file, positions=cells)
    if boundaries:
        merscope_boundaries(adata, file)
    return add_library(adata, 1.0, library_name(library_id, _sample(file), file), platform="MERSCOPE")
