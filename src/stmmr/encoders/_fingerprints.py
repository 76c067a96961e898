"""Short strings that tell pictures, models and settings apart."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stmmr.encoders._protocol import Encoder

ENDS: Final = 2**16
"""Bytes at the head and at the tail of a picture's file that are read."""
AT_ONCE: Final = 2**24
"""Bytes of an array that are hashed at once."""


def digest(facts: Mapping[str, Any]) -> str:
    """Hash facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def picture_fingerprint(picture: str | Path | NDArray[Any]) -> str:
    """Tell a picture apart from every other one.

    A file is known by its size, its time of change and the bytes at its head and tail, so that a slide of
    gigabytes is not read for it; a folder (zarr) by names, sizes and times of its files; an array by its values.
    """
    if isinstance(picture, (str, Path)):
        path = Path(picture)
        return digest({"files": _stats(path), "ends": "" if path.is_dir() else _ends(path)})
    return digest({"shape": list(picture.shape), "dtype": str(picture.dtype), "values": array_fingerprint(picture)})


def array_fingerprint(values: NDArray[Any]) -> str:
    """Hash the values of an array, some rows at a time."""
    found = hashlib.sha256(repr((values.shape, str(values.dtype))).encode())
    rows = max(1, AT_ONCE * len(values) // max(values.nbytes, 1))
    for start in range(0, len(values), rows):
        found.update(np.ascontiguousarray(values[start : start + rows]).data)
    return found.hexdigest()


def files_fingerprint(files: list[Path]) -> str:
    """Hash files by their names and contents."""
    found = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def encoder_fingerprint(encoder: Encoder) -> str | None:
    """Get what tells an encoder's features apart, or None where it does not say: these are not kept on disk."""
    found = getattr(encoder, "fingerprint", None)
    return None if found is None else str(found)


def _stats(path: Path) -> list[tuple[str, int, int]]:
    """List name, size and time of change of a file, or of each one in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files]
    return [(str(f.relative_to(path)), s.st_size, s.st_mtime_ns) for f, s in stats]


def _ends(path: Path) -> str:
    """Hash the head and the tail of a file."""
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
        return hashlib.sha256(head + file.read()).hexdigest()
