"""Fingerprints: short strings that differ between images, models and settings."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stmmr.encoders._protocol import Encoder

ENDS: Final = 2**16
"""Bytes that are read at the start and at the end of an image file."""
AT_ONCE: Final = 2**24
"""Bytes of an array that are hashed at once."""


def digest(facts: Mapping[str, object]) -> str:
    """Hash facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def image_fingerprint(image: str | Path | NDArray[np.generic]) -> str:
    """Compute a string that differs between images.

    A file is identified by its size, its modification time and the bytes at its start and end, so that gigabytes need
    not be read; a folder (zarr) by names, sizes and times of its files; an array by its values.
    """
    if isinstance(image, (str, Path)):
        path = Path(image)
        return digest({"files": _stats(path), "ends": "" if path.is_dir() else _ends(path)})
    return digest({"shape": list(image.shape), "dtype": str(image.dtype), "values": array_fingerprint(image)})


def array_fingerprint(values: NDArray[np.generic]) -> str:
    """Hash the values of an array, some rows at a time."""
    hashed = hashlib.sha256(repr((values.shape, str(values.dtype))).encode())
    rows = max(1, AT_ONCE * len(values) // max(values.nbytes, 1))
    for start in range(0, len(values), rows):
        hashed.update(np.ascontiguousarray(values[start : start + rows]).data)
    return hashed.hexdigest()


def files_fingerprint(files: list[Path]) -> str:
    """Hash files by their names and contents."""
    hashed = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            hashed.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()


def encoder_fingerprint(encoder: Encoder) -> str | None:
    """Get the fingerprint of an encoder, or None if it has none: its features are not stored on disk."""
    fingerprint = getattr(encoder, "fingerprint", None)
    return None if fingerprint is None else str(fingerprint)


def _stats(path: Path) -> list[tuple[str, int, int]]:
    """List name, size and modification time of a file, or of each file in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files]
    return [(str(f.relative_to(path)), s.st_size, s.st_mtime_ns) for f, s in stats]


def _ends(path: Path) -> str:
    """Hash the start and the end of a file."""
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
        return hashlib.sha256(head + file.read()).hexdigest()
