"""Text tables of counts and positions (.csv, .tsv, .txt, plain or gzipped), however large."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, listed
from stmmr._core.files import parsing

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

TABLES: Final = tuple(f"{suffix}{packed}" for suffix in (".csv", ".tsv", ".txt", ".tab") for packed in ("", ".gz"))
"""How the names of text tables end."""
CHUNK_VALUES: Final = 16_000_000
"""Values of a table that are dense in memory at a time, 64 MB."""
LONGEST_LINE: Final = 50_000_000


@dataclass(frozen=True)
class Peek:
    """The first two lines of a text table."""

    separator: str
    header: list[str]
    """Names of the columns; "" for row names that have no header, as R writes them."""
    first: list[str]
    """The first row; empty where there is none."""


@dataclass(frozen=True)
class CountTable:
    """A table of counts, as it lies in the file."""

    ids: pd.DataFrame
    """The columns that name the rows, as text."""
    columns: list[str]
    """Names of the other columns."""
    values: sparse.csr_matrix
    """Shape (n_rows, n_columns), float32."""

    def as_anndata(self, names: pd.Index | None = None) -> AnnData:
        """Take the rows for places, called `names` or by their first column, and the columns for genes."""
        import pandas as pd
        from anndata import AnnData

        names = pd.Index(self.ids.iloc[:, 0].to_numpy()) if names is None else names
        return AnnData(self.values, pd.DataFrame(index=names), pd.DataFrame(index=self.columns))


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a text table."""
    return path.name.lower().endswith(TABLES)


def peek(path: Path) -> Peek:
    """Read the first two lines of a text table.

    Raises
    ------
    InputError
        If it is no text, or empty.
    """
    with parsing(path, expected="a table"):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as lines:
            header, first = (lines.readline(LONGEST_LINE).decode("utf-8-sig").rstrip("\r\n") for _ in range(2))
        if not header or "\0" in header:
            raise InputError(f"Expected a table with a header in {path}, found {'no text' if header else 'nothing'}.")
        separator = max("\t,; ", key=header.count)
        names, row = (next(csv.reader([line], delimiter=separator), []) for line in (header, first))
        return Peek(separator, ["", *names] if len(row) == len(names) + 1 else names, row)


def glance(path: Path) -> Peek | None:
    """Read the first two lines of a text table; None of a file that is none."""
    try:
        return peek(path)
    except (InputError, PermissionError):
        return None


def read_frame(path: Path, *, ids: Collection[str] = ()) -> pd.DataFrame:
    """Read a table of positions or other columns that describe places, from text or parquet.

    Parameters
    ----------
    path
        The file.
    ids
        Columns to read as text, so that names such as 007 stay as they are; by default the first.

    Returns
    -------
    The table, with the header's names.

    Raises
    ------
    InputError
        If it cannot be read, or a text table ends within a row.
    """
    import pandas as pd

    with parsing(path, expected="a table"):
        if path.suffix == ".parquet":
            table: pd.DataFrame = pd.read_parquet(path)
            return table
        looked = peek(path)
        text = [i for i, name in enumerate(looked.header) if name in ids] if ids else [0]
        table = _parse(path, looked, dtype=dict.fromkeys(text, str), low_memory=False)
        table = table.set_axis(looked.header, axis=1)
        last = table.iloc[:, -1].isna()
        if len(last) and last.iloc[-1] and last.sum() == 1:
            raise ValueError(f"its last row, {len(table)}, is incomplete")
        return table


def read_counts_table(path: Path, *, ids: Collection[str] = (), others: Collection[str] = ()) -> CountTable:
    """Read a table of counts in chunks, so that it is never dense in memory.

    Parameters
    ----------
    path
        The file.
    ids
        Columns that name the rows or describe them and hold no counts; by default the first.
    others
        Columns to leave out.

    Returns
    -------
    The table.

    Raises
    ------
    InputError
        If it is no table of numbers, is damaged or has no rows.
    """
    import pandas as pd

    with parsing(path, expected="a table of counts"):
        looked = peek(path)
        naming = [i for i, name in enumerate(looked.header) if name in ids] or [0]
        numbers = [i for i, name in enumerate(looked.header) if i not in naming and name not in others]
        dtype: dict[int, Any] = dict.fromkeys(range(len(looked.header)), np.float32)
        dtype |= {i: str for i, name in enumerate(looked.header) if i in naming or name in others}
        rows = max(1, CHUNK_VALUES // len(looked.header))
        names, blocks = [], []
        for chunk in _parse(path, looked, dtype=dtype, chunksize=rows, keep_default_na=False):
            names.append(chunk[naming])
            values = chunk[numbers].to_numpy(np.float32)
            if np.isnan(values).any():
                raise ValueError(f"row {chunk.index[np.isnan(values).any(axis=1)][0] + 1} is incomplete")
            blocks.append(sparse.csr_matrix(values))
        if not blocks or not numbers:
            raise InputError(
                f"Expected a table of counts in {path}, found {'no counts' if blocks else 'no rows'} under the "
                f"columns {listed(looked.header)}. Export it again."
            )
        frame = pd.concat(names, ignore_index=True).set_axis([looked.header[i] for i in naming], axis=1)
        return CountTable(frame, [looked.header[i] for i in numbers], sparse.vstack(blocks, format="csr"))


def _parse(path: Path, looked: Peek, **options: Any) -> Any:
    """Parse the rows below the header; a row with too many fields is an error."""
    import pandas as pd

    names = list(range(len(looked.header)))
    if len(looked.first) > len(names):  # of later rows, pandas tells itself
        raise ValueError(f"{len(looked.first)} fields in a row under {len(names)} names")
    separator = looked.separator
    return pd.read_csv(path, sep=separator, header=None, names=names, skiprows=1, index_col=False, **options)
