"""Tables with the coordinates of spots or cells, beside their counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmmr._core.axes import coordinate_columns
from stmmr._core.checks import InputError, listed
from stmmr._core.columns import names_rows
from stmmr.io._flat import MOST_NAMES, counts_rows, read_frame
from stmmr.io._peek import peek

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd


def read_coordinates(path: Path) -> tuple[pd.DataFrame, tuple[str, str], bool]:
    """Read a table of coordinates: it, indexed by the names of the spots if it has some; its columns x and y; whether.

    Raises InputError if it has no columns with coordinates.
    """
    table = read_frame(path, ids=[name for name in peek(path).header if names_rows(name)])
    xy = coordinate_columns(list(table.columns))
    if xy is None:
        raise InputError(
            f"Expected columns such as x and y in {path}, found {listed(table.columns)}. Rename the columns with the "
            "coordinates."
        )
    named = name_column(table, xy)
    return (table if named is None else table.set_index(table.pop(named).astype(str))), xy, named is not None


def name_column(table: pd.DataFrame, xy: Sequence[str]) -> Any:
    """Find the column with the names of the spots: the first, or a later one that is called so if it only counts."""
    columns = [name for name in table.columns if name not in xy]
    named = [name for name in columns if names_rows(name)]
    counting = [name for name in columns[:MOST_NAMES] if counts_rows(table[name])]
    if counting and counting[0] in {columns[0], *named[:1]}:
        texts = [name for name in columns if table[name].is_unique and not _are_numbers(table[name])]
        later = [*(name for name in named if name in texts), *texts, *(name for name in named if name not in counting)]
        if later or len(named) > 1:
            return next(iter(later), named[-1])
    first = columns[0] if columns and table.columns[0] not in xy else (named[0] if named else None)
    unique = [name for name in named if table[name].is_unique]
    return unique[0] if unique and first is not None and not table[first].is_unique else first


def _are_numbers(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.to_numeric(column, errors="coerce").notna().any())
