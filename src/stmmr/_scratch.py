"""Wide arrays that may outgrow the memory: beyond a size they lie in a file that goes with the process."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

IN_MEMORY_AT_MOST: Final = 2**30
"""Bytes of an array that is kept in memory."""
_folder: ContextVar[Path | None] = ContextVar("scratch folder", default=None)


@contextmanager
def scratch_folder(folder: Path | None) -> Iterator[None]:
    """Put large arrays into files of a folder; None: the system's for temporary files."""
    before = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(before)


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Make an array to fill: in memory, or mapped to a nameless file, whose pages the system may take back."""
    if np.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY_AT_MOST:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=_folder.get(), prefix="stmmr_") as file:
        return np.memmap(file, dtype, mode="w+", shape=shape)
