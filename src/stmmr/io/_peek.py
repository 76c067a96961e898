"""The beginning of a text table: its columns, its first row, and how to read it."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError
from stmmr._core.files import parsing
from stmmr._core.untrusted import LONGEST_LINE, open_text

if TYPE_CHECKING:
    import io
    from pathlib import Path

    from pyarrow.parquet import ParquetFile

PARQUET: Final = ".parquet"
TABLES: Final = (
    *(f"{suffix}{packed}" for suffix in (".csv", ".tsv", ".txt", ".tab", ".gem") for packed in ("", ".gz")),
    PARQUET,
)
"""File endings of tables."""
DECIMAL_COMMA: Final = re.compile(r"-?\d+,\d+")
NUMBER: Final = re.compile(r"-?\d*\.?\d+(e[-+]?\d+)?", re.IGNORECASE)
BARE: Final = {
    3: ("name", "x", "y"),
    4: ("name", "other_name", "x", "y"),
    6: ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"),
}
"""Columns of tables of positions that have no header, by their number."""
MARKS: Final = "\t,; |"
"""Separators, the likeliest first."""
MOST_COMMENTS: Final = 100
"""Lines before the header, at most."""


@dataclass(frozen=True)
class Peek:
    """The beginning of a text table, and how to read it."""

    separator: str
    header: list[str]
    """Names of the columns; "" for row names that have no header, as R writes them."""
    first: list[str]
    """The first row; empty if there is none."""
    skipped: int = 1
    """Lines before the first row: comments and, if there is one, the header."""
    encoding: str = "utf-8-sig"
    decimal: str = "."
    is_bare: bool = False
    """Whether the file has no header."""


def is_table(path: Path) -> bool:
    """Tell by its name whether a file is a text table."""
    return path.name.lower().endswith(TABLES)


def peek(path: Path) -> Peek:
    """Read the beginning of a text table; raises InputError if the file is empty or no text.

    Tables come from Excel and R as well: UTF-16, Latin-1, decimal commas, row names without a header. Lines that begin
    with "#" before the header are comments. A table of names and numbers without a header gets one: "name", then "x"
    and "y", or the columns of Space Ranger's positions.
    """
    with parsing(path, expected="a table"):
        if path.suffix.lower() == PARQUET:
            return _peek_parquet(path)
        with open_text(path) as lines:
            encoding = "utf-16" if lines.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            if encoding == "utf-16":
                top = lines.read(LONGEST_LINE).decode(encoding, errors="ignore").splitlines()[:MOST_COMMENTS]
            else:
                encoding, top = _decoded(_first_lines(lines))
        comments = next((i for i, line in enumerate(top) if not _is_comment(line)), len(top))
        behind = top[comments - 1 : comments + 1] if comments else []
        if comments + 1 < len(top) and "".join(behind).startswith("#") and _as_many_fields(*behind):
            comments -= 1  # a header behind "#"
        comments += _has_title(top[comments:])
        header, first = [line.rstrip("\r\n") for line in [*top[comments:], "", ""][:2]]
        if not header or "\0" in header:
            raise InputError(f"Expected a table with a header in {path}, found {'no text' if header else 'nothing'}.")
        separator = _separator(header, first)
        names, row = (next(csv.reader([line], delimiter=separator), []) for line in (header, first))
        names = [name.lstrip("#").strip() if i == 0 else name.strip() for i, name in enumerate(names)]
        if bare := _bare_columns(names):
            names, row, comments = bare, names, comments - 1
        if len(row) == len(names) + 1:  # row names without a header, or a separator at the end of each row
            names = [*names, ""] if row[-1] == "" and row[0] != "" else ["", *names]
        commas = separator != "," and any(DECIMAL_COMMA.fullmatch(value.strip()) for value in row)
        return Peek(separator, _unique(names), row, comments + 1, encoding, "," if commas else ".", bool(bare))


def _is_comment(line: str) -> bool:
    """Tell whether a line before the header says nothing: a comment, a blank line, or the separator for Excel."""
    return line.startswith(("#", "sep=")) or not line.strip()


def _has_title(lines: list[str]) -> bool:
    """Tell whether the first line is a title: it has one field, and two lines with as many, and more, follow."""
    if len(lines) < 3 or any(mark in lines[0] for mark in "\t,;|"):
        return False
    separator = _separator(lines[1], lines[2])
    first, second = (n_fields(line, separator) for line in lines[1:3])
    return separator != " " and first == second > 2


def _first_lines(file: io.BufferedReader) -> list[bytes]:
    """Read the comments of a table and at most three lines after them; lines may end with a carriage return only."""
    lines: list[bytes] = []
    while len(lines) < MOST_COMMENTS and sum(not _is_comment(line.decode("latin-1")) for line in lines) < 4:
        if not (read := file.readline(LONGEST_LINE)):
            break
        lines += read.splitlines(keepends=True)
    return lines


def _decoded(lines: list[bytes]) -> tuple[str, list[str]]:
    """Decode lines as UTF-8, or else as Latin-1, which Excel writes in Europe; get the encoding as well."""
    try:
        return "utf-8-sig", [line.decode("utf-8-sig") for line in lines]
    except UnicodeDecodeError:
        return "latin-1", [line.decode("latin-1") for line in lines]


def _separator(header: str, first: str) -> str:
    """Find the separator: one that divides header and first row into as many fields, or the row into one more."""
    counts = {mark: (len(next(csv.reader([header], delimiter=mark), [])), mark) for mark in MARKS}
    fits = [mark for mark, (n, _) in counts.items() if n > 1 and n_fields(first, mark) in (n, n + 1)]
    return max(fits, key=lambda mark: counts[mark][0], default=max(MARKS, key=header.count))


def n_fields(line: str, separator: str) -> int:
    return len(next(csv.reader([line], delimiter=separator), []))


def _as_many_fields(line: str, other: str) -> bool:
    separator = _separator(line, other)
    return n_fields(line, separator) == n_fields(other, separator) > 1


def _bare_columns(names: list[str]) -> list[str] | None:
    """Name the columns of a table of positions without a header; None if it has one."""
    numbers = [NUMBER.fullmatch(name) is not None for name in names]
    if len(names) not in BARE or not names[0] or not all(numbers[2 if len(names) == 4 else 1 :]):
        return None
    if len(names) == 4 and numbers[1]:  # x and y, and what describes the spot
        return ["name", "x", "y", "value"]
    return list(BARE[len(names)])


def _unique(names: list[str]) -> list[str]:
    """Give columns of the same name a number, as pandas does; an empty one may stand in front only."""
    seen: dict[str, int] = {}
    unique = []
    for i, name in enumerate(names):
        n = seen[name] = seen.get(name, 0) + 1
        unique.append(name if n == 1 and (name or not i) else f"{name or 'unnamed'}.{n - 1 if name else i}")
    return unique


def tables_at(path: Path) -> dict[Path, Peek]:
    """Get the first two lines of a text table, or of each in a folder; empty if there is none."""
    files = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    heads = {}
    for file in files:
        if file.is_file() and is_table(file):
            with suppress(InputError, PermissionError):
                heads[file] = peek(file)
    return heads


def parquet_names(file: ParquetFile) -> list[str]:
    """Name the columns of a parquet file, those of its index first."""
    names = list(file.schema_arrow.names)
    index = [name for name in (file.schema_arrow.pandas_metadata or {}).get("index_columns", []) if name in names]
    return index + [name for name in names if name not in index]


def _peek_parquet(path: Path) -> Peek:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    names = parquet_names(file)
    first = next(file.iter_batches(1, columns=names), None)
    row = [] if first is None else [str(first.column(name)[0].as_py()) for name in names]
    return Peek("", _unique(["" if name.startswith("__index") else name for name in names]), row)
