"""Plain tables: counts and coordinates as .csv or .tsv, in two files or in one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, listed, require_positive, unique_names
from stmmr._core.files import existing, parsing, visible
from stmmr.io._flat import CountTable, glance, is_table, peek, read_counts_table, read_frame
from stmmr.io._placing import name_library, place, set_scale, without_controls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("stmmr")

COORDINATES: Final = (
    ("x", "y"),
    ("x_um", "y_um"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("centroid_x", "centroid_y"),
    ("xcoord", "ycoord"),
    ("x_coord", "y_coord"),
    ("coord_x", "coord_y"),
    ("pos_x", "pos_y"),
    ("sdimx", "sdimy"),
    ("spatial_x", "spatial_y"),
    ("imagecol", "imagerow"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("pixel_x", "pixel_y"),
    ("x_px", "y_px"),
    ("array_col", "array_row"),
)
"""Names of the columns with x and y, in whatever case."""
BLANKS: Final = r"blank[-_. ]?\d*$"
ROWS_TO_TELL: Final = 200
FEWEST_COLUMNS: Final = 12
"""Columns from which on a table in a folder is taken for counts with coordinates, rather than for coordinates."""


def coordinate_columns(header: Sequence[str]) -> tuple[str, str] | None:
    """Find the columns with x and y by their names."""
    by_name = {name.lower(): name for name in reversed(header)}
    found = next((pair for pair in COORDINATES if set(pair) <= set(by_name)), None)
    return None if found is None else (by_name[found[0]], by_name[found[1]])


def find_table(path: Path) -> tuple[Path, Path | None] | None:
    """Find a table of counts and that of its coordinates, None where it has them itself or there is none.

    In a folder there must be one without coordinates and one with them, or one with them only.
    """
    if path.is_file():
        looked = glance(path) if is_table(path) else None
        if looked is None or len(looked.header) < 2:
            return None
        if coordinate_columns(looked.header):
            return path, None
        beside = [at for at in _tables(path.parent, with_coordinates=True) if at != path]
        own = [at for at in beside if at.name.startswith(_stem(path))] if len(beside) > 1 else beside
        return path, own[0] if len(own) == 1 else None
    counts, placed = (_tables(path, with_coordinates=has) for has in (False, True))
    if len(placed) != 1 or len(counts) > 1:
        return None
    if counts:
        return counts[0], placed[0]
    looked = glance(placed[0])
    return (placed[0], None) if looked is not None and len(looked.header) >= FEWEST_COLUMNS else None


def read_table(
    path: str | Path,
    *,
    coordinates: str | Path | None = None,
    microns_per_pixel: float | None = None,
    library_id: str | None = None,
) -> AnnData:
    """Read counts and coordinates from text tables.

    Parameters
    ----------
    path
        Table of counts, places × genes or genes × places, which is told by where the names of the places stand; or
        one of places × genes that has the coordinates in it, as published MERFISH tables do: there, what stands before
        the last coordinate or text column in its first half, and after the first one in its second half, describes
        places, and the others are genes. Or a folder with one or two such tables.
    coordinates
        Table with one row per place: its name, and columns such as ``x`` and ``y``. By default the only one in the
        same folder.
    microns_per_pixel
        µm per unit of the coordinates, where it is known. By default 1 if the columns are called ``x_um`` and
        ``y_um``.
    library_id
        Key of the section in ``uns["spatial"]``, where the scale is noted. By default the name of the file.

    Returns
    -------
    Counts of genes, float32 CSR, with blanks dropped; ``obsm["spatial"]``; the other columns of the coordinates in
    ``obs``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If there are no coordinates, a table is damaged, or counts and coordinates do not belong together.
    """
    where = existing(path)
    found = find_table(where)
    if found is None:
        if where.is_file() and is_table(where):
            peek(where)  # says what is wrong with it
        raise InputError(
            f"Expected a table of counts (.csv, .tsv, .txt, plain or .gz) at {where}, with coordinates in it or in one "
            f"other table, found {listed(visible(where))}. Give the table, and coordinates='…'."
        )
    file = found[0]
    if microns_per_pixel is not None:
        require_positive(microns_per_pixel, name="microns_per_pixel")
    at = found[1] if coordinates is None else existing(coordinates)
    adata, xy = _read_one(file) if at is None else _read_two(file, at)
    adata = without_controls(adata, BLANKS, what="blanks")
    in_um = all(name.lower().endswith("_um") for name in xy)
    um = microns_per_pixel or (1.0 if in_um else None)
    return set_scale(adata, um, library=name_library(library_id, prefix=_stem(file), folder=file.parent))


def _read_two(file: Path, at: Path) -> tuple[AnnData, tuple[str, str]]:
    """Read counts and coordinates from two tables."""
    import pandas as pd
    from anndata import AnnData

    table = read_frame(at)
    xy = coordinate_columns(list(table.columns))
    if xy is None:
        raise InputError(
            f"Expected columns such as x and y in {at}, found {listed(table.columns)}. Name the coordinates so."
        )
    named = table.columns[0] not in xy
    if named:
        table = table.set_index(table.columns[0])
    genes_in_rows = named and not set(peek(file).header[1:]).isdisjoint(table.index)
    counts = read_counts_table(file)
    rows, columns = pd.Index(counts.ids.iloc[:, 0].to_numpy()), pd.Index(counts.columns)
    values = counts.values
    if genes_in_rows:
        rows, columns, values = columns, rows, sparse.csr_matrix(values.T)
    if not named:
        if len(table) != len(rows):
            raise InputError(
                f"Expected names of the places in the first column of {at}, or as many rows as in {file.name} "
                f"({len(rows)}), found {len(table)} rows of {listed(table.columns)}. Add the names."
            )
        table = table.set_axis(rows, axis=0)
    adata = AnnData(values, pd.DataFrame(index=rows), pd.DataFrame(index=columns))
    unique_names(adata)
    adata = place(adata, table, xy=xy, counts=file, positions=at, what="places")
    logger.info("Counts of %s × %s.", *(("genes", "places") if genes_in_rows else ("places", "genes")))
    return adata, xy


def _read_one(file: Path) -> tuple[AnnData, tuple[str, str]]:
    """Read a table of places × genes that has the coordinates in it."""
    import pandas as pd

    header = peek(file).header
    xy = coordinate_columns(header)
    if xy is None:
        raise InputError(
            f"Expected coordinates for {file}: columns such as x and y in it, or one table with them in its folder, "
            f"found {listed(visible(file.parent))}. Give coordinates='…'."
        )
    describing = _describing(file, header, xy)
    counts = read_counts_table(file, ids=describing)
    table = _numbers(counts, file)
    first = header[0]
    named = first in table.columns and first not in xy and table[first].is_unique
    names = pd.Index(counts.ids[first].to_numpy() if named else np.arange(len(table)).astype(str))
    table = table.set_axis(names, axis=0).drop(columns=[first] if named else [])
    adata = counts.as_anndata(table.index)
    logger.info("Columns that describe places: %s; the other %d are genes.", listed(describing), adata.n_vars)
    return place(adata, table, xy=xy, counts=file, positions=file, what="places"), xy


def _describing(file: Path, header: list[str], xy: tuple[str, str]) -> list[str]:
    """Tell the columns that describe places from those of genes."""
    import pandas as pd

    with parsing(file, expected="a table of counts"):
        some = pd.read_csv(
            file, sep=peek(file).separator, header=None, skiprows=1, nrows=ROWS_TO_TELL, low_memory=False
        )
        if some.shape[1] != len(header):
            raise ValueError(f"{some.shape[1]} fields in a row under {len(header)} names")
    known = [i for i, name in enumerate(header) if name in xy or not pd.api.types.is_numeric_dtype(some[i])]
    half = len(header) / 2
    named = header[0] == "" or some[0].is_unique
    front = max((i for i in known if i < half), default=0 if named else -1)
    back = min((i for i in known if i >= half), default=len(header))
    return header[: front + 1] + header[back:]


def _numbers(counts: CountTable, file: Path) -> pd.DataFrame:
    """Turn what describes places into numbers where it is one."""
    import pandas as pd

    table = counts.ids.copy()
    if not table.columns.is_unique:
        raise InputError(f"Expected a name for each column of {file}, found {listed(table.columns)}. Rename them.")
    for name in table.columns:
        numbers = pd.to_numeric(table[name].replace("", np.nan), errors="coerce")
        if numbers.notna().sum() == (table[name] != "").sum():
            table[name] = numbers
    return table


def _tables(folder: Path, *, with_coordinates: bool) -> list[Path]:
    """List the tables of a folder, those with coordinates or those without."""
    found = []
    for file in sorted(folder.iterdir()):
        if file.is_file() and is_table(file) and not file.name.startswith("."):
            looked = glance(file)
            if (
                looked is not None
                and len(looked.header) > 1
                and bool(coordinate_columns(looked.header)) == with_coordinates
            ):
                found.append(file)
    return found


def _stem(path: Path) -> str:
    """Get what a table's name begins with, the sample."""
    return path.name.split(".")[0].removesuffix("_counts").removesuffix("_expression")
