"""Files and folders that change places: exchanged in one step, or linked into another folder."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; tell whether the system can (Linux, on most file systems)."""
    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def files_in(folder: Path) -> Iterator[Path]:
    """Find files and links at any depth; links are not followed."""
    for root, folders, names in os.walk(folder):
        yield from (Path(root, name) for name in names)
        yield from (path for name in folders if (path := Path(root, name)).is_symlink())


def name_in(path: Path, folder: Path) -> str:
    """Get the path of a file relative to a folder, with slashes."""
    return path.relative_to(folder).as_posix()


def link(source: Path, target: Path, chosen: Callable[[str], bool]) -> None:
    """Let chosen files of a folder be in another one as well, unless it has files of their names."""
    for path in files_in(source):
        other = target / path.relative_to(source)
        if not chosen(name_in(path, source)) or os.path.lexists(other):
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, other, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(path, other, follow_symlinks=False)


def same_file(path: Path, other: Path) -> bool:
    """Tell whether a file is another one, or a copy that `link` made of it."""
    one, two = path.lstat(), other.lstat()
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino) or (
        (one.st_mode, one.st_size, one.st_mtime_ns) == (two.st_mode, two.st_size, two.st_mtime_ns)
    )
