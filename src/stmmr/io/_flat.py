"""Text tables of counts and positions (.csv, .tsv, .txt, plain or gzipped) of any size."""

from __future__ import annotations

import io
import re
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy import sparse

from stmmr._core.axes import coordinate_columns, plain
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.columns import describes_rows, names_rows
from stmmr._core.files import parsing
from stmmr._core.untrusted import free_memory, open_text, require_memory, require_regular
from stmmr.io._peek import PARQUET, Peek, n_fields, parquet_names, peek

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas.io.parsers import TextFileReader

NUMBER_OR_GAP: Final = r"|[-+]?\d*[.,]?\d+([eE][-+]?\d+)?.?|(?i:na|nan|null|none|inf)|-"
SAMPLED_NAMES: Final = 200
"""Rows by which names are told."""
SAMPLED_ROWS: Final = 20
"""Rows by which columns of text are told."""
CHUNK_VALUES: Final = 16_000_000
"""Values that are dense in memory at a time, 64 MB."""
ROW_NUMBERS: Final = re.compile(r"|unnamed:?_?\d+(_\d+)?|index|level_0|rownames?|row_names?|v1|x(_\d+)?|id|_+\d+|rn")
"""First columns that may only number the rows, as `plain` writes them."""
MOST_NAMES: Final = 6
"""Columns among the first of which one may name the rows."""
FEWEST_NUMBERED: Final = 10
"""Rows from which a column whose values only grow numbers them."""
LARGEST_COUNT: Final = 1e9
"""Larger numbers are identifiers."""
FEW_MEASURES: Final = 1 / 3
"""Share of the columns with values up to which those with fractions are no genes, as the others hold counts."""
EMPTY_IS_ZERO: Final = 0.5
"""Share of rows with empty cells from which these stand for 0; in fewer rows, the table is damaged."""


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
        """Names of the rows: the first of their columns, or their numbers if there is none."""
        import pandas as pd

        named = self.ids.shape[1] > 0
        names: pd.Index[str] = pd.Index(self.ids.iloc[:, 0].to_numpy() if named else [*map(str, range(len(self.ids)))])
        return names

    def as_anndata(self, names: pd.Index[str] | None = None, *, genes_in_rows: bool = False) -> AnnData:
        """Make an AnnData of spots × genes; `names` replaces those of the rows."""
        import pandas as pd
        from anndata import AnnData

        rows, columns, values = self.names if names is None else names, pd.Index(self.columns), self.values
        if genes_in_rows:
            rows, columns, values = columns, rows, sparse.csr_matrix(values.T)
        return AnnData(values, pd.DataFrame(index=rows), pd.DataFrame(index=columns))


def read_frame(path: Path, *, ids: Collection[str] = ()) -> pd.DataFrame:
    """Read a table that describes spots or cells, from text or parquet.

    The columns `ids`, by default the first, are read as text, so that names such as 007 stay as they are. Raises
    InputError if the file cannot be read, or ends within a row.
    """
    import pandas as pd

    with parsing(path, expected="a table"):
        if path.suffix.lower() == PARQUET:
            frame = read_parquet(path)
            named = frame.index.name not in frame.columns and not isinstance(frame.index, pd.RangeIndex)
            return storable(frame.reset_index(names=frame.index.name or "") if named else frame)
        head = peek(path)
        text = [i for i, name in enumerate(head.header) if name in ids] if ids else [0]
        # pandas needs about three times the size of the text
        with _open_rows(
            path, head, dtype=dict.fromkeys(text, str), low_memory=False, at_most=free_memory() // 3
        ) as rows:
            table = rows.read().set_axis(head.header, axis=1)
        if len(table) and table.iloc[-1:, -1].isna().any() and _ends_within_row(path, head):
            raise ValueError(f"its last row, {len(table)}, is incomplete")
        return storable(table)


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns of several types, or of no value, one that files can hold: truth values, text or numbers."""
    import pandas as pd

    for name in table.select_dtypes(["object", "string"]).columns:
        kind = pd.api.types.infer_dtype(table[name], skipna=True)
        if kind == "boolean":
            table[name] = table[name].astype("boolean")
        elif kind == "bytes":
            table[name] = table[name].map(lambda text: text.decode(errors="replace"), na_action="ignore")
        elif kind == "empty":
            table[name] = np.full(len(table), np.nan)
        elif kind != "string":
            table[name] = table[name].astype(str).where(table[name].notna(), None)
    return table


def _ends_within_row(path: Path, head: Peek) -> bool:
    """Tell whether the last line of a text table has too few fields."""
    if path.suffix.lower() == PARQUET:
        return False
    last = ""
    with io.TextIOWrapper(open_text(path, at_most=sys.maxsize), encoding=head.encoding, errors="replace") as lines:
        for line in lines:
            last = line if line.strip() else last
    return n_fields(last.rstrip("\r\n"), head.separator) < len(head.header)


def read_counts_table(
    path: Path,
    *,
    ids: Collection[str] = (),
    others: Collection[str] = (),
    genes_in_rows: bool = False,
    may_hold_text: bool = False,
) -> CountTable:
    """Read a table of counts in chunks, so that it is never dense in memory.

    The columns `ids`, by default the first, name or describe the rows; the columns `others` are left out, and so are
    columns of text, if a table may hold some. Of spots × genes, so are other columns that name or describe spots by
    their names, such as an index that was saved or "volume".
    Rows without any value are dropped, and empty cells of a table that has many are 0. Raises InputError if the table
    is damaged, empty, or holds other values than numbers.
    """
    import pandas as pd

    with parsing(path, expected="a table of counts"):
        head = peek(path)
        naming = [i for i, name in enumerate(head.header) if name in ids]
        if not naming and not (may_hold_text and names_nothing(path, head.header)):
            naming = [_name_column(path, head.header)]
        left_out = {*others, *(_text_columns(path, head.header, naming, others) if may_hold_text else ())}
        if not genes_in_rows:
            left_out |= {*_no_genes(path, head.header, naming, left_out)}
        counted = [i for i, name in enumerate(head.header) if i not in naming and name not in left_out]
        dtype = dict.fromkeys(range(len(head.header)), str) | dict.fromkeys(counted, np.float32)
        names, blocks, missing, n_bytes = [], [], [], 0
        rows = max(1, CHUNK_VALUES // len(head.header))
        with closing(read_chunks(path, head, rows=rows, dtype=dtype)) as chunks:
            for chunk in chunks:
                values = chunk[counted].to_numpy(np.float32)
                gaps = np.isnan(values)
                kept = ~gaps.all(axis=1) if counted else np.ones(len(chunk), dtype=bool)
                names.append(chunk.loc[kept, naming].fillna(""))
                missing.append(chunk.index[gaps.any(axis=1) & kept].to_numpy())
                blocks.append(sparse.csr_matrix(np.nan_to_num(values[kept])))
                n_bytes += blocks[-1].data.nbytes + blocks[-1].indices.nbytes
                require_memory(2 * n_bytes, path)  # they are joined at the end
        cut = bool(blocks) and bool(gaps[-1:].any()) and _ends_within_row(path, head)
        if not blocks or not counted:
            raise InputError(
                f"Expected a table of counts in {path}, found {'no counts' if blocks else 'no rows'} under the "
                f"columns {listed(head.header)}. Export it again."
            )
        frame = pd.concat(names, ignore_index=True).set_axis([head.header[i] for i in naming], axis=1)
        if cut:
            raise ValueError(f"row {chunk.index[-1] + 1} is incomplete")
        _check_missing(np.concatenate(missing), n_read=int(chunk.index[-1]) + 1, n_kept=len(frame), path=path)
        table = CountTable(frame, [head.header[i] for i in counted], sparse.vstack(blocks, format="csr"))
        return _without_measures(table, path, genes_in_rows=genes_in_rows)


def names_nothing(path: Path, header: list[str]) -> bool:
    """Tell whether a table of spots × genes has no column with names: its first holds numbers that repeat."""
    sample = first_rows(path, SAMPLED_NAMES)
    if names_rows(header[0]) or not len(sample) or sample[0].dtype.kind not in "iuf":
        return False
    return bool(sample[0].duplicated().any())


def _name_column(path: Path, header: list[str]) -> int:
    """Find the column with the names of the rows: the first, or a later one if the first only numbers them."""
    sample = first_rows(path, SAMPLED_NAMES)
    columns = range(min(MOST_NAMES, len(header)))
    if len(sample) and counts_rows(sample[0]):
        texts = (i for i in columns if sample[i].dtype.kind not in "iufb" and sample[i].is_unique)
        if (text := next(texts, None)) is not None:
            return text
    numbered = (i for i in columns if ROW_NUMBERS.fullmatch(plain(header[i])) is None)
    first = next(numbered, 0)
    if first and names_rows(header[first]):
        return first
    return first - 1 if first > 1 and sample[first - 1].is_unique else 0  # an index is saved in front


def counts_rows(column: pd.Series) -> bool:
    """Tell whether a column only counts the rows, from 0 or 1 on."""
    texts = column.astype(str).tolist()
    return texts in ([str(i) for i in range(start, start + len(texts))] for start in (0, 1))


def _without_measures(table: CountTable, path: Path, *, genes_in_rows: bool) -> CountTable:
    """Leave out columns (or rows, of genes × spots) of fractions or negative values where the others hold counts.

    They hold an area, a score or an embedding, whatever they are called, and are no genes. Nor are columns that number
    the rows, or whose numbers are those of cells.
    """
    stored, odd = _stored_and_odd(table.values, axis=1 if genes_in_rows else 0)
    measures: NDArray[np.bool_] = 2 * odd > stored
    if not genes_in_rows:
        measures |= _numbers_rows(table.values[:SAMPLED_NAMES].toarray())
    if not measures.any() or measures.sum() > FEW_MEASURES * (stored > 0).sum():
        return table
    names = table.names if genes_in_rows else np.array(table.columns)
    message = "%s of %s that number rows or hold fractions or negative values are no genes and are left out: %s."
    what = "Rows" if genes_in_rows else "Columns"
    logger.warning(message, what, path.name, listed(names[measures]))
    if genes_in_rows:
        return CountTable(table.ids[~measures].reset_index(drop=True), table.columns, table.values[~measures])
    columns = [name for name, is_measure in zip(table.columns, measures, strict=True) if not is_measure]
    return CountTable(table.ids, columns, table.values[:, ~measures])


def _stored_and_odd(values: sparse.csr_matrix, *, axis: Literal[0, 1]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the entries of each column (axis 0) or row, and those that are negative or no whole numbers."""
    counts: list[list[Any]] = []
    step = max(1, CHUNK_VALUES * values.shape[0] // max(values.nnz, 1))
    for start in range(0, values.shape[0], step):
        part = values[start : start + step]
        odd = sparse.csr_matrix(((part.data % 1 != 0) | (part.data < 0), part.indices, part.indptr), shape=part.shape)
        counts.append([np.ravel(part.getnnz(axis=axis)), np.ravel(odd.sum(axis=axis))])
    stored, n_odd = (np.concatenate(each) if axis else np.sum(each, axis=0) for each in zip(*counts, strict=True))
    return stored, n_odd


def _numbers_rows(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which columns of values (n_rows, n_columns) number the rows or hold identifiers: they grow, or are huge."""
    grows = np.diff(values, axis=0).min(axis=0, initial=np.inf) > 0
    numbered: NDArray[np.bool_] = grows & (len(values) >= FEWEST_NUMBERED)
    huge: NDArray[np.bool_] = values.min(axis=0, initial=np.inf) > LARGEST_COUNT
    return numbered | huge


def _text_columns(path: Path, header: list[str], naming: list[int], others: Collection[str]) -> list[str]:
    """Find further columns that hold text and no numbers, by the first rows, and log them."""
    sample = first_rows(path, SAMPLED_ROWS)
    names = []
    for i, name in enumerate(header):
        if i in naming or name in others or sample[i].dtype.kind in "iufb":
            continue
        texts = sample[i].dropna().astype(str).str.strip()
        if len(texts) and not texts.str.fullmatch(NUMBER_OR_GAP).any():
            names.append(name)
    if names:
        logger.info("Columns of %s that hold text are left out: %s.", path.name, listed(names, at_most=4))
    return names


def _no_genes(path: Path, header: list[str], naming: list[int], others: Collection[str]) -> list[str]:
    """Find further columns that name or describe spots, and warn of them."""
    pair = coordinate_columns(header) or ()
    wanted = (name for i, name in enumerate(header) if i not in naming and name not in others)
    names = [name for name in wanted if describes_rows(name) or name in pair]
    if shown := [name or f"column {header.index(name) + 1}" for name in names]:
        logger.warning("Columns of %s that are no genes are left out: %s.", path.name, listed(shown))
    return names


def _check_missing(rows: NDArray[np.intp], *, n_read: int, n_kept: int, path: Path) -> None:
    """Check that values are missing nowhere, or in so many rows that empty cells stand for 0."""
    if n_read > n_kept:
        logger.warning("%d of %d rows of %s have no values and are dropped.", n_read - n_kept, n_read, path.name)
    if not len(rows):
        return
    if len(rows) < EMPTY_IS_ZERO * n_kept:
        raise ValueError(f"row {rows[0] + 1} is incomplete")
    logger.warning("Empty cells of %s are taken as 0; %d of %d rows have some.", path.name, len(rows), n_kept)


def first_rows(path: Path, n: int) -> pd.DataFrame:
    """Read the first rows of a table, with numbered columns."""
    import pandas as pd

    with closing(read_chunks(path, peek(path), rows=n)) as chunks:
        return next(chunks, pd.DataFrame()).infer_objects()


def read_chunks(
    path: Path, head: Peek, *, rows: int, dtype: Mapping[int, type] | None = None, columns: list[int] | None = None
) -> Generator[pd.DataFrame]:
    """Read a table in chunks of rows, with numbered columns; of `columns` only, if they are given."""
    if path.suffix.lower() != PARQUET:
        options: dict[str, Any] = {"dtype": dtype, "usecols": columns, "chunksize": rows, "low_memory": False}
        with _open_rows(path, head, **options) as chunks:
            yield from chunks
        return
    from pyarrow import parquet

    start = 0
    names = parquet_names(parquet.ParquetFile(path))
    for batch in parquet.ParquetFile(path).iter_batches(rows):
        table = batch.to_pandas(ignore_metadata=True)[names]
        table = table.set_axis(range(len(names)), axis=1).set_axis(range(start, start + len(table)), axis=0)
        start += len(table)
        table = table if columns is None else table[columns]
        yield storable(table).astype({i: kind for i, kind in (dtype or {}).items() if i in table})


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


def _open_rows(path: Path, head: Peek, *, at_most: int = sys.maxsize, **options: Any) -> TextFileReader:
    """Open the rows below the header; columns are numbered, and a row with too many fields is an error."""
    import pandas as pd

    names = list(range(len(head.header)))
    if len(head.first) > len(names):  # pandas reports later rows itself
        raise ValueError(f"{len(head.first)} fields in a row under {len(names)} names")
    options |= {"sep": head.separator, "names": names, "index_col": False, "decimal": head.decimal}
    options |= {"encoding": head.encoding, "encoding_errors": "replace", "skipinitialspace": True}
    rows: TextFileReader = pd.read_csv(
        open_text(path, at_most=at_most), header=None, skiprows=head.skipped, iterator=True, **options
    )
    return rows
