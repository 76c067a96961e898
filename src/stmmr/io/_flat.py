"""Text tables of counts and positions (.csv, .tsv, .txt, plain or gzipped) of any size."""

from __future__ import annotations

import csv
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError, listed
from stmmr._core.files import parsing
from stmmr._core.untrusted import LONGEST_LINE, free_memory, open_text, require_memory, require_regular

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from pandas.io.parsers import TextFileReader

TABLES: Final = tuple(f"{suffix}{packed}" for suffix in (".csv", ".tsv", ".txt", ".tab") for packed in ("", ".gz"))
"""File endings of text tables."""
CHUNK_VALUES: Final = 16_000_000
"""Values that are dense in memory at a time, 64 MB."""


@dataclass(frozen=True)
class Peek:
    """The first two lines of a text table."""

    separator: str
    header: list[str]
    """Names of the columns; "" for row names that have no header, as R writes them."""
    first: list[str]
    """The first row; empty if there is none."""


@dataclass(frozen=True)
class CountTable:
    """A table of counts, with rows and columns as in the file."""

    ids: pd.DataFrame
    """The columns that name the rows, as text."""
    columns: list[str]
    """Names of the other columns."""
    values: sparse.csr_matrix
    """Shape (n_rows, n_columns), float32."""

    @property
    def names(self) -> pd.Index[str]:
        """Names of the rows: the first of their columns."""
        import pandas as pd

        names: pd.Index[str] = pd.Index(self.ids.iloc[:, 0].to_numpy())
        return names

    def as_anndata(self, names: pd.Index[str] | None = None, *, genes_in_rows: bool = False) -> AnnData:
        """Make an AnnData of spots × genes; `names` replaces those of the rows."""
        import pandas as pd
        from anndata import AnnData

        rows, columns, values = self.names if names is None else names, pd.Index(self.columns), self.values
        if genes_in_rows:
            rows, columns, values = columns, rows, sparse.csr_matrix(values.T)
        return AnnData(values, pd.DataFrame(index=rows), pd.DataFrame(index=columns))


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a text table."""
    return path.name.lower().endswith(TABLES)


def peek(path: Path) -> Peek:
    """Read the first two lines of a text table; raises InputError if the file is empty or no text."""
    with parsing(path, expected="a table"):
        with open_text(path) as lines:
            header, first = (lines.readline(LONGEST_LINE).decode("utf-8-sig").rstrip("\r\n") for _ in range(2))
        if not header or "\0" in header:
            raise InputError(f"Expected a table with a header in {path}, found {'no text' if header else 'nothing'}.")
        separator = max("\t,; ", key=header.count)
        names, row = (next(csv.reader([line], delimiter=separator), []) for line in (header, first))
        return Peek(separator, ["", *names] if len(row) == len(names) + 1 else names, row)


def tables_at(path: Path) -> dict[Path, Peek]:
    """Get the first two lines of a text table, or of each in a folder; empty if there is none."""
    files = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    heads = {}
    for file in files:
        if file.is_file() and is_table(file):
            with suppress(InputError, PermissionError):
                heads[file] = peek(file)
    return heads


def read_frame(path: Path, *, ids: Collection[str] = ()) -> pd.DataFrame:
    """Read a table that describes spots or cells, from text or parquet.

    The columns `ids`, by default the first, are read as text, so that names such as 007 stay as they are. Raises
    InputError if the file cannot be read, or ends within a row.
    """
    with parsing(path, expected="a table"):
        if path.suffix == ".parquet":
            frame: pd.DataFrame = read_parquet(path)
            return frame
        head = peek(path)
        _require_unique(head.header, path)
        text = [i for i, name in enumerate(head.header) if name in ids] if ids else [0]
        # pandas needs about three times the size of the text
        with _open_rows(
            path, head, dtype=dict.fromkeys(text, str), low_memory=False, at_most=free_memory() // 3
        ) as rows:
            table = rows.read().set_axis(head.header, axis=1)
        last = table.iloc[:, -1].isna()
        if len(last) and last.iloc[-1] and last.sum() == 1:
            raise ValueError(f"its last row, {len(table)}, is incomplete")
        return table


def read_counts_table(path: Path, *, ids: Collection[str] = (), others: Collection[str] = ()) -> CountTable:
    """Read a table of counts in chunks, so that it is never dense in memory.

    The columns `ids`, by default the first, name or describe the rows; the columns `others` are left out. Raises
    InputError if the table is damaged, empty, or holds other values than numbers.
    """
    import pandas as pd

    with parsing(path, expected="a table of counts"):
        head = peek(path)
        _require_unique([name for name in head.header if name in ids], path)
        naming = [i for i, name in enumerate(head.header) if name in ids] or [0]
        counted = [i for i, name in enumerate(head.header) if i not in naming and name not in others]
        dtype = dict.fromkeys(range(len(head.header)), str) | dict.fromkeys(counted, np.float32)
        names, blocks, size = [], [], 0
        rows = max(1, CHUNK_VALUES // len(head.header))
        with _open_rows(path, head, dtype=dtype, chunksize=rows, keep_default_na=False) as chunks:
            for chunk in chunks:
                names.append(chunk[naming])
                values = chunk[counted].to_numpy(np.float32)
                if np.isnan(values).any():
                    raise ValueError(f"row {chunk.index[np.isnan(values).any(axis=1)][0] + 1} is incomplete")
                blocks.append(sparse.csr_matrix(values))
                size += blocks[-1].data.nbytes + blocks[-1].indices.nbytes
                require_memory(2 * size, path)  # they are joined at the end
        if not blocks or not counted:
            raise InputError(
                f"Expected a table of counts in {path}, found {'no counts' if blocks else 'no rows'} under the "
                f"columns {listed(head.header)}. Export it again."
            )
        frame = pd.concat(names, ignore_index=True).set_axis([head.header[i] for i in naming], axis=1)
        return CountTable(frame, [head.header[i] for i in counted], sparse.vstack(blocks, format="csr"))


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a parquet file whose content fits into memory."""
    import pandas as pd
    from pyarrow.parquet import ParquetFile

    require_regular(path)
    with ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    n_rows = sum(group.num_rows for group in groups)
    require_memory(max(sum(g.total_byte_size for g in groups), 8 * n_rows * file.metadata.num_columns), path)
    frame: pd.DataFrame = pd.read_parquet(path)
    return frame


def _require_unique(names: list[str], path: Path) -> None:
    """Check that columns have different names."""
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    if repeated:
        raise InputError(
            f"Expected a unique name for each column of {path}, found {listed(sorted(repeated))} more than once. "
            "Export it again."
        )


def _open_rows(path: Path, head: Peek, *, at_most: int = sys.maxsize, **options: Any) -> TextFileReader:
    """Open the rows below the header; columns are numbered, and a row with too many fields is an error."""
    import pandas as pd

    names = list(range(len(head.header)))
    if len(head.first) > len(names):  # pandas reports later rows itself
        raise ValueError(f"{len(head.first)} fields in a row under {len(names)} names")
    options |= {"sep": head.separator, "names": names, "index_col": False}
    rows: TextFileReader = pd.read_csv(
        open_text(path, at_most=at_most), header=None, skiprows=1, iterator=True, **options
    )
    return rows
