"""seqFISH, as Spatial Genomics writes it.

Format: https://spatialgenomics.com/data/ and
https://github.com/scverse/spatialdata-io/blob/main/src/spatialdata_io/readers/seqfish.py (coordinates are in µm).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import names_may_repeat
from stmmr._core.untrusted import reader
from stmmr.io._files import missing_companion, require_match
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._placing import add_library, add_positions, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

COUNTS: Final = re.compile(
    r"(?P<prefix>.*?)(?:Roi(?P<roi>\d+))?_?(?:CxG|CellxGene)(?:_section(?P<section>\d+))?\.csv(\.gz)?"
)
XY: Final = ("center_x", "center_y")
LABELS: Final = ("label", "cell", "cell_id", "unnamed.1", "Unnamed: 0", "")


def find_seqfish(path: Path) -> list[Path] | None:
    """Find the count tables of a seqFISH run, one per section."""
    if path.is_file():
        return [path] if COUNTS.fullmatch(path.name) else None
    files = [file for file in path.iterdir() if COUNTS.fullmatch(file.name) and not file.name.startswith(".")]
    return sorted(files, key=lambda file: (_name_parts(file)[0], int(_name_parts(file)[1] or 0))) or None


@reader("a seqFISH section")
def read_seqfish(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read the cells of a seqFISH run, of one section or several.

    Parameters
    ----------
    path
        Folder with ``…_CxG_section1.csv`` and ``…_CellCoordinates_section1.csv`` for each section, or, from newer
        software, ``Roi1_CellxGene.csv`` and ``Roi1_CellCoordinates.csv``; or one of the count tables.
    library_id
        Key of the run in ``uns["spatial"]``. By default the name in front of the files, or the folder.

    Returns
    -------
    Counts of genes, float32 CSR; ``obsm["spatial"]``, cell centres in µm; ``obs``, the other columns of the cells; the
    scale in ``uns["spatial"]``. With several sections, ``obs["section"]`` holds their numbers (for
    ``section_key="section"``) and cells are named ``{label}_section{number}``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and cells do not match.
    """
    import anndata as ad

    files = require_match(path, find_seqfish, "…_CxG_section1.csv", advice="Give the folder of the run.")
    sections = {_name_parts(file)[1] or "1": _read_section(file) for file in files}
    if len(sections) < len(files):
        raise InputError(f"Expected one run in {path}, found {listed(f.name for f in files)}. Give one of the files.")
    if len(files) == 1:
        (adata,) = sections.values()
    else:
        with names_may_repeat():
            adata = ad.concat(sections, label="section", index_unique="_section", join="outer", fill_value=0)
    library = library_name(library_id, _name_parts(files[0])[0], files[0])
    return add_library(adata, 1.0, library, platform="seqFISH")


def _read_section(file: Path) -> AnnData:
    """Read counts and cells of one section."""
    counts = read_counts_table(file)
    cells = file.with_name(re.sub("CxG|CellxGene", "CellCoordinates", file.name))
    if not cells.is_file():
        raise missing_companion(file, [cells.name], content="the positions of the cells")
    adata = without_controls(counts.as_anndata(), controls="blanks")
    unique_names(adata)
    table = _name_cells(read_frame(cells, ids=LABELS), counts.names, cells=cells, file=file)
    return add_positions(adata, table, xy=XY, counts=file, positions=cells)


def _name_cells(table: pd.DataFrame, names: pd.Index[str], *, cells: Path, file: Path) -> pd.DataFrame:
    """Name the cells of the table by their label, or by their order if they have none."""
    key = next((name for name in LABELS if name in table.columns), None)
    if key is not None:
        return table.set_index(key)
    if len(table) != len(names):
        raise InputError(
            f"Expected a column label in {cells}, or as many cells as in {file.name} ({len(names)}), found the columns "
            f"{listed(table.columns)} of {len(table)} cells. Give files of the same section."
        )
    return table.set_axis(names, axis=0)


def _name_parts(file: Path) -> tuple[str, str | None]:
    """Split the name of a count table into the name of the run and the number of the section."""
    match = COUNTS.fullmatch(file.name)
    return (match["prefix"], match["section"] or match["roi"]) if match else ("", None)
