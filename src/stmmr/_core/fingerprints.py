"""Fingerprints: short strings that differ between files, arrays and settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

HASHED_AT_MOST: Final = 2**28
"""Bytes of a file, or of all files of a folder, up to which the whole content is hashed."""
ENDS: Final = 2**16
"""Bytes that are read at the start and at the end of a larger file."""
AT_ONCE: Final = 2**24
"""Bytes of an array that are hashed at once."""


def digest(facts: Mapping[str, object]) -> str:
    """Hash facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint(values: Any) -> str:
    """Hash names and values of arrays, matrices, tables and what holds them; of a matrix on disk, its file."""
    hashed = hashlib.blake2b(digest_size=32)
    _add(hashed, values)
    return hashed.hexdigest()


def _add(hashed: hashlib.blake2b, values: Any) -> None:
    """Add values to a hash, with their kind and shape, so that no two look alike."""
    from stmmr._core.rows import OnDisk, by_rows, is_dask, is_on_disk, map_rows

    kind = "array" if isinstance(values, np.ndarray) else type(values).__name__
    hashed.update(f"{kind} {getattr(values, 'shape', '')} {getattr(values, 'dtype', '')}".encode())
    if isinstance(values, Mapping):
        for name in sorted(values, key=str):
            hashed.update(repr(name).encode())
            _add(hashed, values[name])
    elif isinstance(values, pd.DataFrame):
        _add(hashed, values.index.to_numpy())
        for name, column in values.items():
            hashed.update(f"{name!r} {column.dtype!r}".encode())
            if isinstance(column.dtype, pd.CategoricalDtype):
                _add(hashed, column.cat.categories.to_numpy())
                column = column.cat.codes
            _add(hashed, column.to_numpy())
    elif is_dask(values):
        for part in map_rows(lambda rows, _: rows, by_rows(values), task="reading counts", progress=False):
            _add(hashed, part)
    elif is_on_disk(values):
        matrix = OnDisk(values)
        hashed.update(f"{matrix.name} {file_fingerprint(Path(matrix.path))}".encode())
    elif hasattr(values, "indptr"):
        for part in (values.indptr, values.indices, values.data):
            _add(hashed, part)
    elif isinstance(values, np.ndarray) and values.dtype.kind in "biufcSUV":
        rows = max(1, AT_ONCE * (len(values) if values.ndim else 1) // max(values.nbytes, 1))
        for start in range(0, len(values) if values.ndim else 1, rows):
            hashed.update(np.ascontiguousarray(values[start : start + rows] if values.ndim else values).data)
    elif isinstance(values, np.ndarray):
        hashed.update("\0".join(map(repr, values.ravel())).encode())
    elif isinstance(values, list | tuple):
        for value in values:
            _add(hashed, value)
    elif isinstance(values, str | int | float | np.generic):
        hashed.update(repr(values).encode())


def file_fingerprint(path: Path) -> str:
    """Hash a file, or the files of a folder (zarr) with their names.

    Contents are hashed up to 256 MB in all. Larger files are identified by size, modification time and inode, and a
    single one by the bytes at its start and end as well, so that gigabytes need not be read.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    names = [str(file.relative_to(path)) for file in files]
    if sum(stat.st_size for stat in stats) <= HASHED_AT_MOST:
        return digest({"contents": [(name, _content(file)) for name, file in zip(names, files, strict=True)]})
    states = [(name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in zip(names, stats, strict=True)]
    return digest({"files": states, "ends": "" if path.is_dir() else _ends(path)})


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
        return hashlib.sha256(head + file.read()).hexdigest()
