"""Fingerprints: short strings that differ between files, arrays and settings."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stmmr._core.types import Numbers

HASHED_AT_MOST: Final = 2**28
"""Bytes of a file, or of all files of a folder, up to which the whole content is hashed."""
ENDS: Final = 2**16
"""Bytes that are read at the start and at the end of a larger file."""
AT_ONCE: Final = 2**24
"""Bytes of an array that are hashed at once."""


def digest(facts: Mapping[str, object]) -> str:
    """Hash facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def array_fingerprint(values: Numbers) -> str:
    """Hash the values of an array, some rows at a time."""
    hashed = hashlib.sha256(repr((values.shape, str(values.dtype))).encode())
    rows = max(1, AT_ONCE * len(values) // max(values.nbytes, 1))
    for start in range(0, len(values), rows):
        hashed.update(np.ascontiguousarray(values[start : start + rows]).data)
    return hashed.hexdigest()


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
