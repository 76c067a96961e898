"""The inputs of a run: files and folders, or a sample sheet, a table with a row for each section."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.axes import coordinate_columns, plain
from stmmr._core.categories import is_absent
from stmmr._core.checks import InputError, listed, logger, printable
from stmmr._core.columns import are_names, numbers_of
from stmmr._core.untrusted import open_text
from stmmr.io._placing import section_names
from stmmr.pipeline.sources import named_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

ENDINGS: Final = (".csv", ".tsv", ".txt")
DELIMITERS: Final = "\t;,|"
PATH, IMAGE, REGISTRATION, DEPTH = "path", "image", "registration", "z"
NAMES: Final = ("section", "sample")
"""Columns that name the section; the first of them that there is."""
TELLING: Final = frozenset({IMAGE, REGISTRATION, "donor", "condition", "batch"})
"""Columns that tell a sample sheet without paths, which is an error, from a table of counts."""
LARGEST: Final = 100_000_000
"""Bytes of a file that is looked at; a table of counts may be larger."""


@dataclass(frozen=True)
class Entry:
    """One section of a run."""

    path: Path
    image: Path | None = None
    registration: Path | None = None
    obs: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the sample sheet, which go to ``obs``; empty if unknown."""


@dataclass(frozen=True)
class NamedInputs:
    """The sections of a run by their names."""

    entries: Mapping[str, Entry]
    broken: Mapping[str, str] = field(default_factory=dict)
    """Sections that cannot be read, with the reason."""
    sheet: Path | None = None
    header: str = ""
    """What is wrong with the columns of the sheet; empty if nothing is."""

    @property
    def several(self) -> bool:
        """Whether sections are joined."""
        return self.sheet is not None or len(self.entries) > 1

    @property
    def paths(self) -> list[Path]:
        """All files and folders that are read."""
        files = [path for each in self.entries.values() for path in (each.path, each.image, each.registration)]
        return [path for path in (self.sheet, *files) if path is not None]


def inputs_named(sources: Sequence[Path]) -> NamedInputs:
    """Name the inputs of a command: those of a sample sheet, or each by the last telling part of its path.

    Raises
    ------
    InputError
        If an input is given twice, or a sample sheet is not the only input, has no paths, or has no rows.
    """
    sheets = [path for path in sources if is_sheet(path)]
    if sheets and len(sources) > 1:
        raise InputError(
            f"Expected a sample sheet as the only input, found {len(sources)} inputs with {sheets[0]}. Put all "
            "sections into one sheet."
        )
    return (
        read_sheet(sheets[0]) if sheets else NamedInputs({name: Entry(p) for name, p in named_inputs(sources).items()})
    )


def is_sheet(path: str | Path) -> bool:
    """Tell whether a file is a sample sheet: a table of text with a column "path", or with sections and conditions."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return False
    with open_text(path) as file:
        first = file.readline().decode("utf-8-sig", "replace")
    names = {plain(name) for name in first.strip().split(_delimiter(first))}
    sections_only = bool(names & set(NAMES) and names & TELLING) and coordinate_columns(names) is None
    return PATH in names or sections_only


def _delimiter(line: str) -> str:
    """Find the delimiter of a table: the character that its header holds most often."""
    return max(DELIMITERS, key=line.count)


def read_sheet(path: Path) -> NamedInputs:
    """Read a sample sheet; paths are relative to its folder, or else to the working directory.

    Raises
    ------
    InputError
        If it has no column "path", or no rows.
    """
    with open_text(path, at_most=LARGEST) as file:
        text = file.read().decode("utf-8-sig", "replace")
    lines = list(csv.reader(io.StringIO(text), delimiter=_delimiter(text.partition("\n")[0]), skipinitialspace=True))
    header = [plain(name) for name in lines[0]]
    if PATH not in header or len(set(header)) < len(header):
        raise InputError(
            f"Expected a sample sheet with different columns, one of them 'path', at {path}, found "
            f"{listed(lines[0])}. Columns: section, path, image, and any others, such as donor, condition and batch."
        )
    rows = {number: row for number, row in enumerate(lines[1:], start=2) if any(cell.strip() for cell in row)}
    if not rows:
        raise InputError(f"Expected a row for each section in the sample sheet {path}, found none.")
    columns = [name if plain(name) in (PATH, IMAGE, REGISTRATION, *NAMES) else name.strip() for name in lines[0]]
    return _checked(path, columns, rows)


def _checked(sheet: Path, columns: list[str], rows: Mapping[int, list[str]]) -> NamedInputs:
    """Get the sections of a sheet, and the reasons why rows cannot be read, all of them."""
    key = next((name for name in NAMES if name in map(plain, columns)), None)
    tables = {number: dict(zip(columns, map(str.strip, row), strict=False)) for number, row in rows.items()}
    known = {number: {plain(name): text for name, text in table.items()} for number, table in tables.items()}
    paths = {number: _located(sheet, row.get(PATH, "")) for number, row in known.items()}
    by_path = dict(zip(paths, section_names([path.resolve() for path in paths.values()]), strict=True))
    entries: dict[str, Entry] = {}
    broken: dict[str, str] = {}
    seen: dict[Path, str] = {}
    for number, row in known.items():
        name = printable(row.get(key, "") if key else by_path[number])
        problem = _problem(sheet, row, n_cells=len(rows[number]), n_columns=len(columns), name=name)
        path = paths[number]
        if not problem and name in entries:
            problem = f"Expected each section once, found {name!r} twice. Name each section differently."
        if not problem and path.resolve() in seen:
            problem = f"Expected each section once, found the path of {seen[path.resolve()]!r} again: {path}."
        if problem:
            broken[f"{name or 'no name'} (line {number})"] = problem
            continue
        seen[path.resolve()] = name
        files = {c: _located(sheet, row[c]) for c in (IMAGE, REGISTRATION) if row.get(c)}
        others = {c: text for c, text in tables[number].items() if plain(c) not in (PATH, IMAGE, REGISTRATION, key)}
        entries[name] = Entry(path, files.get(IMAGE), files.get(REGISTRATION), others)
    return NamedInputs(entries, broken, sheet, _header_problem(columns))


def _header_problem(columns: Sequence[str]) -> str:
    """Say which columns would replace what stmmr writes or reads in ``obs``; empty if none would."""
    reserved = {*keys.names_of("obs"), keys.IN_TISSUE, keys.ARRAY_ROW, keys.ARRAY_COL}
    taken = [name for name in columns if name in reserved or name.startswith("stmmr_")]
    text = f"Expected columns without a name that stmmr uses itself, found {listed(taken)}. Rename them."
    return text * bool(taken)


def _problem(sheet: Path, row: Mapping[str, str], *, n_cells: int, n_columns: int, name: str) -> str:
    """Say what is wrong with a row by itself; empty if nothing is."""
    if n_cells != n_columns:
        return f"Expected {n_columns} cells, as in the header, found {n_cells}. Quote cells that hold the delimiter."
    if not name:
        return "Expected a name in the column of the sections, found none."
    if not row.get(PATH):
        return "Expected a path, found none."
    missing = [
        f"{column} {path}"
        for column in (PATH, IMAGE, REGISTRATION)
        if row.get(column) and not (path := _located(sheet, row[column])).exists()
    ]
    if missing:
        return f"Expected files that exist, found no {listed(missing)}. Paths are relative to the sheet."
    depth = row.get(DEPTH, "")
    wrong = not is_absent(depth) and numbers_of([depth]) is None
    return f"Expected a number in the column z, found {depth!r}. Leave it empty if it is unknown." * wrong


def _located(sheet: Path, text: str) -> Path:
    """Get a path of a sheet: relative to its folder, or to the working directory if the file is there."""
    path = Path(text).expanduser()
    beside = sheet.parent / path
    return path if path.is_absolute() or (path.exists() and not beside.exists()) else beside


def add_columns(adata: AnnData, entries: Mapping[str, Entry], section_key: str) -> None:
    """Write the further columns of a sample sheet into ``obs``: numbers as numbers, all others as categories."""
    names = list(dict.fromkeys(name for entry in entries.values() for name in entry.obs))
    sections = pd.Categorical(adata.obs[section_key]).set_categories(list(entries))
    for name in names:
        texts = [entry.obs.get(name) or None for entry in entries.values()]
        if name in adata.obs:
            logger.warning("obs[%r] is replaced by the column of the sample sheet.", name)
        numbers = None if are_names(name) else numbers_of(text or "" for text in texts)
        if numbers is not None:
            whole = plain(name) != DEPTH and all(number.is_integer() for number in numbers)
            adata.obs[name] = np.array(numbers).astype(np.int64 if whole else np.float64)[sections.codes]
        else:
            order = list(dict.fromkeys(text for text in texts if text))
            adata.obs[name] = pd.Categorical(texts, categories=order).take(sections.codes)
