"""A lock on a folder, so that one process at a time writes to it."""

from __future__ import annotations

import contextlib
import os
import platform
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_held: ContextVar[frozenset[Path]] = ContextVar("locked folders", default=frozenset())


@contextmanager
def locked(target: Path, *, wait: float = 0.2) -> Iterator[None]:
    """Let no other process write to a folder meanwhile. The lock of a process that died counts no more.

    Parameters
    ----------
    target
        The folder; it need not exist. A lock that this thread holds already is enough.
    wait
        Seconds to wait for another process.

    Raises
    ------
    InputError
        If another process writes there; the message names it.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    target = target.resolve()
    if target in _held.get():
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.stmmr-lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        if not path.exists():
            path.touch()  # an OSError, where nothing can be written
        raise InputError(
            f"Expected no other command that writes to {target}, found {_holder(path)}. Wait for it, or choose another "
            "folder."
        ) from None
    native = not isinstance(lock, SoftFileLock)  # where the file system has no locks, the file itself is the lock
    before = _held.set(_held.get() | {target})
    try:
        if native:
            with contextlib.suppress(OSError):  # a full disk; it only says who holds the lock
                path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        _held.reset(before)
        if native:
            with contextlib.suppress(OSError):  # Windows removes it by itself
                path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    """Read who holds a lock."""
    try:
        return path.read_text(encoding="utf-8")[:200] or "one"
    except (OSError, ValueError):
        return "one"
