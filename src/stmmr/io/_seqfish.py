"""seqFISH, as Spatial Genomics writes it.

Format: https://spatialgenomics.com/data/ and
https://github.com/scverse/spatialdata-io/blob/main/src/spatialdata_io/readers/seqfish.py, where pictures are scaled to
coordinates by their size of a pixel in µm
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import existing, names_may_repeat, visible
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._placing import name_library, place, set_scale

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

COUNTS: Final = re.compile(
    r"(?P<prefix>.*?)(?:Roi(?P<roi>\d+))?_?(?:CxG|CellxGene)(?:_section(?P<section>\d+))?\.csv(\.gz)?"
)
XY: Final = ("center_x", "center_y")
LABELS: Final = ("label", "cell", "cell_id", "Unnamed: 0", "")


def find_seqfish(path: Path) -> list[Path]:
    """Find the count tables of a seqFISH run, one per section."""
    if path.is_file():
        return [path] if COUNTS.fullmatch(path.name) else []
    files = [file for file in path.iterdir() if COUNTS.fullmatch(file.name) and not file.name.startswith(".")]
    return sorted(files, key=lambda file: (_parts(file)[0], int(_parts(file)[1] or 0)))


def read_seqfish(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read the sections of a seqFISH run.

    Parameters
    ----------
    path
        Folder with ``…_CxG_section1.csv`` and ``…_CellCoordinates_section1.csv``, of one section or several, or, as
        newer software names them, ``Roi1_CellxGene.csv`` and ``Roi1_CellCoordinates.csv``; or one of the count tables.
    library_id
        Key of the run in ``uns["spatial"]``. By default the name in front of its files, or the folder.

    Returns
    -------
    Counts of genes, float32 CSR; ``obsm["spatial"]``, centres of the cells in µm; the other columns of the cells in
    ``obs``. Of several sections, ``obs["section"]`` says which and cells are named ``{label}_section{number}``, so that
    ``section_key="section"`` keeps them apart. The scale is in ``uns["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, or counts and cells do not belong together.
    """
    import anndata as ad

    where = existing(path)
    files = find_seqfish(where)
    if not files:
        raise InputError(
            f"Expected …_CxG_section1.csv in {where}, found {listed(visible(where))}. Give the run's folder."
        )
    sections = {_parts(file)[1] or "1": _read_section(file) for file in files}
    if len(sections) < len(files):
        raise InputError(f"Expected one run in {where}, found {listed(f.name for f in files)}. Give one of the files.")
    if len(files) == 1:
        adata = next(iter(sections.values()))
    else:
        with names_may_repeat():
            adata = ad.concat(sections, label="section", index_unique="_section", join="outer", fill_value=0)
    library = name_library(library_id, prefix=_parts(files[0])[0], folder=files[0].parent)
    return set_scale(adata, 1.0, library=library, metadata={"platform": "seqFISH"})


def _read_section(file: Path) -> AnnData:
    """Read counts and cells of one section."""
    adata = read_counts_table(file).as_anndata()
    names = adata.obs_names.copy()
    cells = file.with_name(re.sub("CxG|CellxGene", "CellCoordinates", file.name))
    if not cells.is_file():
        raise InputError(
            f"Expected the positions of the cells ({cells.name}) beside {file}, found {listed(visible(file.parent))}. "
            "Put them there, as the vendor's software wrote them."
        )
    unique_names(adata)
    table = _name_cells(read_frame(cells, ids=LABELS), names, cells=cells, file=file)
    return place(adata, table, xy=XY, counts=file, positions=cells)


def _name_cells(table: pd.DataFrame, names: pd.Index, *, cells: Path, file: Path) -> pd.DataFrame:
    """Name the cells of the table by their label, or by their order where they have none."""
    key = next((name for name in LABELS if name in table.columns), None)
    if key is not None:
        return table.set_index(key)
    if len(table) != len(names):
        raise InputError(
            f"Expected a column label in {cells}, or as many cells as in {file.name} ({len(names)}), found the columns "
            f"{listed(table.columns)} of {len(table)} cells. Give files of the same section."
        )
    return table.set_axis(np.asarray(names), axis=0)


def _parts(file: Path) -> tuple[str, str | None]:
    """Split the name of a count table into the run's name and the section's number."""
    match = COUNTS.fullmatch(file.name)
    return (match["prefix"], match["section"] or match["roi"]) if match else ("", None)
