"""Plain tables: counts and coordinates as .csv or .tsv, in two files or in one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.axes import coordinate_columns, microns_of, plain
from stmmr._core.checks import InputError, listed, logger, require_positive, unique_names
from stmmr._core.columns import DESCRIPTIONS, describes_rows, names_rows
from stmmr._core.files import existing, parsing, visible
from stmmr._core.untrusted import reader
from stmmr.io._adopt import are_identifiers, left_out, symbol_column, use_array, use_symbols
from stmmr.io._coordinates import name_column, read_coordinates
from stmmr.io._flat import CountTable, first_rows, names_nothing, read_counts_table, read_frame
from stmmr.io._peek import Peek, is_table, peek, tables_at
from stmmr.io._placing import add_library, add_positions, library_name, matched, without_controls
from stmmr.io._transcripts import read_long_counts

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

SAMPLE_ROWS: Final = 200
"""Rows by which columns of text are told from columns of numbers."""
FEWEST_COLUMNS: Final = 12
"""Number of columns from which a table in a folder holds counts with coordinates, rather than coordinates only."""


def find_table(path: Path) -> tuple[Path, Path | None] | None:
    """Find a table of counts and the one with its coordinates: None if the first holds them, or if there is none.

    A folder must hold one table without and one table with coordinates, or only one with coordinates.
    """
    headers = {table: head.header for table, head in tables_at(path).items() if len(head.header) > 1}
    coordinates = [table for table, header in headers.items() if coordinate_columns(header)]
    counts = [table for table in headers if table not in coordinates]
    if path.is_file():
        if not counts:
            return (path, None) if coordinates else None
        others = _with_coordinates(path.parent)
        own = [table for table in others if table.name.startswith(_stem(path))] if len(others) > 1 else others
        return path, own[0] if len(own) == 1 else None
    coordinates = coordinates or _with_coordinates(path)
    if len(coordinates) != 1:
        return None
    if len(counts) > 1:  # other tables lie beside: the one that names the same spots, and has the counts
        names = _spot_names(coordinates[0])
        counts = _with_counts([table for table in counts if _has_names(peek(table), names)])
        if len(counts) != 1:
            return None
    if counts:
        return counts[0], coordinates[0]
    return (coordinates[0], None) if len(headers.get(coordinates[0], ())) >= FEWEST_COLUMNS else None


def _with_coordinates(folder: Path) -> list[Path]:
    """List the tables with coordinates in a folder, or else those in its folder ``spatial`` of Space Ranger."""
    for place in (folder, folder / "spatial"):
        tables = tables_at(place) if place.is_dir() else {}
        if found := [table for table, head in tables.items() if coordinate_columns(head.header)]:
            return found
    return []


def _with_counts(tables: list[Path]) -> list[Path]:
    """Choose those of several tables that hold counts: many columns, and whole numbers where others hold fractions."""
    n_columns = {table: len(peek(table).header) for table in tables}
    wide = [table for table in tables if n_columns[table] >= FEWEST_COLUMNS] or tables
    whole = [table for table in wide if not any(_is_fraction(value) for value in peek(table).first[1:])]
    return whole or wide


def _is_fraction(text: str) -> bool:
    try:
        return float(text) % 1 != 0
    except ValueError:
        return False


def _spot_names(positions: Path) -> pd.Index[str]:
    """Get the names of the spots in a table of coordinates; empty if it has none."""
    import pandas as pd

    table = read_frame(positions, ids=[name for name in peek(positions).header if names_rows(name)])
    named = name_column(table, coordinate_columns(table.columns) or ())
    names: pd.Index[str] = pd.Index([] if named is None else table[named].astype(str))
    return names


def _has_names(head: Peek, names: pd.Index[str]) -> bool:
    """Tell whether the columns of a table, or its first row, have names of spots."""
    import pandas as pd

    columns = pd.Index([*head.header[1:], *head.first[:2]])
    return bool((matched(columns, names.unique()) >= 0).any())


@reader("tables of counts and coordinates")
def read_table(
    path: str | Path,
    *,
    coordinates: str | Path | None = None,
    microns_per_pixel: float | None = None,
    library_id: str | None = None,
    keep_off_tissue: bool = False,
) -> AnnData:
    """Read counts and coordinates of spots or cells from text tables.

    Parameters
    ----------
    path
        Table of counts, spots × genes or genes × spots (told by the names of the spots). Or a table of spots × genes
        with the coordinates, as published MERFISH tables are: columns up to the last coordinate or text column in the
        first half, and from the first one in the second half, describe spots; the others are genes. Or a folder with
        one or two such tables.
    coordinates
        Table with one row per spot: its name, and columns such as ``x`` and ``y``. By default the only one in the same
        folder.
    microns_per_pixel
        µm per unit of the coordinates. By default that of their names, such as ``x_um`` or ``Centroid X µm``, else
        unknown.
    library_id
        Key in ``uns["spatial"]``, which holds the scale. By default the name of the file.
    keep_off_tissue
        Keep the spots that are off the tissue, if the coordinates have a column ``in_tissue``.

    Returns
    -------
    Counts of genes, float32 CSR, without blanks; ``obsm["spatial"]``; ``obs``, the other columns of the coordinates.

    Raises
    ------
    InputError
        If there are no coordinates, a table is damaged, or counts and coordinates do not match.
    """
    location = existing(path)
    tables = find_table(location)
    if tables is None:
        if location.is_file() and is_table(location):
            peek(location)  # raises an error that says why the table cannot be read
        raise InputError(
            f"Expected a table of counts (.csv, .tsv, .txt, plain or .gz) at {location}, with coordinates in it or in "
            f'one other table, found {listed(visible(location))}. Give the table, and coordinates="…".'
        )
    file, positions = tables
    if microns_per_pixel is not None:
        require_positive(microns_per_pixel, name="microns_per_pixel")
    if coordinates is not None:
        positions = existing(coordinates)
    adata, xy = _read_one(file) if positions is None else _read_two(file, positions)
    adata = without_controls(adata, controls="controls")
    use_array(adata)
    off, _ = left_out(adata, keep_off_tissue=keep_off_tissue)
    adata = adata[~off].copy() if off.any() else adata
    um = microns_per_pixel or microns_of(xy)
    return add_library(adata, um, library_name(library_id, _stem(file), file))


def _read_two(file: Path, positions: Path) -> tuple[AnnData, tuple[str, str]]:
    """Read counts and coordinates from two tables."""
    import pandas as pd

    table, xy, has_names = read_coordinates(positions)
    header = peek(file).header
    columns, unnamed = pd.Index(header[1:]), names_nothing(file, header)
    genes_in_rows = has_names and columns.is_unique and bool((matched(columns, table.index.unique()) >= 0).any())
    if genes_in_rows:
        adata = _genes_in_rows(file)
    else:
        adata = read_long_counts(file) or read_counts_table(file, may_hold_text=True).as_anndata()
    if not has_names or (unnamed and not genes_in_rows):
        if len(table) != adata.n_obs:
            raise InputError(
                f"Expected the names of the spots in the first column of {positions} and {file.name}, or as many rows "
                f"as in {file.name} ({adata.n_obs}), found {len(table)} rows. Add the names."
            )
        without, other = (file, positions) if has_names else (positions, file)
        logger.warning("%s names no spots: its rows are taken in the order of %s.", without.name, other.name)
        if has_names:
            adata.obs_names = table.index.to_numpy()
        else:
            table = table.set_axis(adata.obs_names, axis=0)
    unique_names(adata)
    adata = add_positions(adata, table, xy=xy, counts=file, positions=positions, rows="spots")
    logger.info("Reading a table of %s.", "genes × spots" if genes_in_rows else "spots × genes")
    return adata, xy


def _genes_in_rows(file: Path) -> AnnData:
    """Read a table of genes × spots, with the symbols of genes if it has a column with them, and without sums."""
    header = peek(file).header
    sample = first_rows(file, SAMPLE_ROWS).set_axis(header, axis=1)
    texts = [name for name in header[1:] if sample[name].dtype.kind not in "iufb"]
    symbols = symbol_column(texts, lambda name: are_identifiers(sample[name]))
    ids = (header[0], symbols) if symbols else ()
    counts = read_counts_table(file, ids=ids, genes_in_rows=True, may_hold_text=True)
    adata = counts.as_anndata(genes_in_rows=True)
    if symbols:
        adata.var[symbols] = counts.ids[symbols].to_numpy()
        use_symbols(adata)
    sums = np.array([describes_rows(name) for name in adata.var_names], dtype=bool)
    if sums.any():
        names = listed(adata.var_names[sums], at_most=4)
        logger.warning("Rows of %s that are no genes are left out: %s.", file.name, names)
        adata = adata[:, ~sums].copy()
    return adata


def _read_one(file: Path) -> tuple[AnnData, tuple[str, str]]:
    """Read a table of spots × genes that includes the coordinates."""
    import pandas as pd

    header = peek(file).header
    xy = coordinate_columns(header)
    if xy is None:
        raise InputError(
            f"Expected coordinates for {file}: columns such as x and y in it, or one table with them in its folder, "
            f'found {listed(visible(file.parent))}. Give coordinates="…".'
        )
    descriptions = _description_columns(file, header, xy)
    genes = [name for name in header if name not in descriptions]
    if (
        not genes
        or peek(file).is_bare
        or len(genes) < sum(DESCRIPTIONS.fullmatch(plain(name)) is not None for name in descriptions)
    ):
        raise InputError(
            f"Expected counts of genes in {file}, found columns that describe spots only ({listed(header)}). "
            f'Give the table of counts; this one can be its coordinates="{file.name}".'
        )
    counts = read_counts_table(file, ids=descriptions)
    table = _descriptions(counts, decimal=peek(file).decimal)
    name = name_column(table, xy)
    has_names = name is not None and counts.ids[name].is_unique
    names = pd.Index(counts.ids[name].to_numpy() if has_names else np.arange(len(table)).astype(str))
    table = table.set_axis(names, axis=0).drop(columns=[name] if has_names else [])
    adata = counts.as_anndata(table.index)
    numeric = [name for name in table.columns if name not in xy and table[name].dtype.kind in "iuf"]
    logger.log(
        logging.WARNING if numeric else logging.INFO,
        "Columns of %s that describe spots: %s; the other %d are genes.",
        file.name,
        listed(descriptions),
        adata.n_vars,
    )
    return add_positions(adata, table, xy=xy, counts=file, positions=file, rows="spots"), xy


def _description_columns(file: Path, header: list[str], xy: tuple[str, str]) -> list[str]:
    """Tell the columns that describe spots, by place, values or name, from those of genes; see `read_table`."""
    import pandas as pd

    with parsing(file, expected="a table of counts"):
        sample = first_rows(file, SAMPLE_ROWS)
    texts = [i for i in range(len(header)) if not pd.api.types.is_numeric_dtype(sample[i])]
    described = [i for i, name in enumerate(header) if i in texts or name in xy or describes_rows(name)]
    half = len(header) / 2
    has_names = header[0] == "" or sample[0].is_unique
    front = max((i for i in described if i < half), default=0 if has_names else -1)
    back = min((i for i in described if i >= half), default=len(header))
    described += [0] * has_names
    by_place = [i for i in range(len(header)) if not front < i < back]
    if 2 * len({*by_place} - {*described}) > len(by_place):  # genes are between the coordinates
        by_place = []
    return [header[i] for i in sorted({*described, *by_place})]


def _descriptions(counts: CountTable, *, decimal: str) -> pd.DataFrame:
    """Get the columns that describe spots, as numbers where all their values are numbers."""
    import pandas as pd

    table = counts.ids.copy()
    for name in table.columns:
        texts = table[name].str.replace(decimal, ".", regex=False)
        numbers = pd.to_numeric(texts.where(texts != ""), errors="coerce")
        if numbers.notna().sum() == (table[name] != "").sum():
            table[name] = numbers
    return table


def _stem(path: Path) -> str:
    """Get the sample name from the name of a table."""
    return path.name.split(".")[0].removesuffix("_counts").removesuffix("_expression")
