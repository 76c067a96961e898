"""Folders that stmmr writes, replaces and removes: as a whole, one process at a time, and never what is not ours."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stmmr._core.checks import InputError, listed, logger
from stmmr._core.files import beside, flush, left_behind
from stmmr._core.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TEMPORARY: Final = r"(.*/)?\.([^/]+-\d+-[0-9a-f]{8}\.(new|old)[^/]*(/.*)?|[^/]+\.stmmr-lock|stmmr)"
"""What a killed process left in a folder of ours: files and folders beside their targets, locks, marks of drafts."""
WAIT: Final = 30.0
"""Seconds that the writing of a model or of features waits for another process."""


class Kind(NamedTuple):
    """A kind of folder that stmmr writes."""

    name: str
    """What such a folder holds, for messages."""
    marker: str
    """File by which such a folder is recognised."""
    entries: frozenset[str]
    """Entries of the marker, which is JSON; without any, its name is enough."""
    files: str
    """Regular expression of the paths of our files in it; all others belong to the user."""

    def marks(self, folder: Path) -> bool:
        """Tell whether stmmr wrote a folder."""
        path = folder / self.marker
        if not self.entries:
            return path.is_file()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(content, dict) and self.entries <= content.keys()

    def owns(self, path: str) -> bool:
        """Tell whether a file of such a folder, at a path relative to it, is ours."""
        return re.fullmatch(f"{self.files}|{TEMPORARY}", path) is not None


DRAFT: Final = Kind("a draft", ".stmmr", frozenset(), ".*")
"""A folder that is not complete yet; all in it is ours."""


def remove(folder: Path, kind: Kind, *, keep: bool = False) -> None:
    """Remove what stmmr wrote in a folder, and the folder if nothing else is in it. Links are not followed.

    Parameters
    ----------
    folder
        A missing folder is left alone.
    kind
        What the folder is.
    keep
        Whether to leave the folder itself.

    Raises
    ------
    InputError
        If the folder is a link, or not empty and without our marker.
    """
    if not os.path.lexists(folder):
        return
    require_ours(folder, kind)
    ours = [path for path in _files_in(folder) if kind.owns(_name(path, folder))]
    for path in sorted(ours, key=lambda path: path == folder / kind.marker):  # until the end it is recognised
        path.unlink(missing_ok=True)
    for root, _, _ in os.walk(folder, topdown=False):
        if not (keep and Path(root) == folder):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(root)  # noqa: PTH106 - a link is no folder for it


def require_ours(folder: Path, kind: Kind, *, option: str = "") -> None:
    """Check that stmmr may remove what is in a folder.

    Raises
    ------
    InputError
        If the folder is a link, a file, or not empty and without our marker.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "link" if folder.is_symlink() else "file"
        raise InputError(f"Expected a folder for {option or kind.name}, found the {what} {folder}. Choose another one.")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if names and not kind.marks(folder):
        raise InputError(
            f"Expected an empty folder or one in which stmmr wrote {kind.name} (with {kind.marker})"
            f"{option and f' for {option}'}, found {folder} with {listed(names)}. "
            "Choose another name, or delete the folder yourself."
        )


def require_outside(target: Path, inputs: Iterable[object]) -> None:
    """Check that a folder that a command replaces holds none of its inputs, whatever links lead there.

    Raises
    ------
    InputError
        If it holds one.
    """
    if not target.is_dir():
        return
    for path in inputs:
        if not isinstance(path, Path):
            continue
        for name in (path.absolute(), path.resolve()):
            for folder in (name, *name.parents):
                if folder.exists() and folder.samefile(target):
                    raise InputError(
                        f"Expected inputs outside the output folder, found {path} inside the output {target}. "
                        "Choose another --output."
                    )


# left by processes that died


def restore(target: Path) -> None:
    """Put a folder back that a process moved aside before it died, while it replaced the folder."""
    target = target.resolve()
    if os.path.lexists(target) or not any(_left_behind(target, "old")):
        return
    with contextlib.suppress(InputError, OSError), locked(target):
        for path in _left_behind(target, "old"):
            if not os.path.lexists(target):
                path.rename(target)


def _left_behind(target: Path, *kinds: str) -> Iterator[Path]:
    """Find the folders of dead processes on this machine beside their target."""
    return (path for path in left_behind(target, *kinds) if not path.is_symlink())


# replaced as a whole


class Draft:
    """A folder that is written beside its target.

    Parameters
    ----------
    target
        The folder that it becomes.
    kind
        What the folder is. It writes the marker itself.
    overwrite
        Whether the target may exist; what the user has put there moves to the new folder.
    """

    def __init__(self, target: Path, kind: Kind, *, overwrite: bool) -> None:
        self.target, self.kind, self.overwrite = target, kind, overwrite
        restore(target)
        for path in list(_left_behind(target, "new", "old")):
            if DRAFT.marks(path):
                remove(path, DRAFT)
            elif kind.marks(path) and kind.marks(target):
                self._dispose(path)
        self._require_replaceable()
        self.replaces = target.exists()
        """Whether an earlier result gives way."""
        self.folder = beside(target, "new")
        self._mark(self.folder)

    def take_over(self, chosen: Callable[[str], bool]) -> None:
        """Take files of the target, by their relative paths, as they are."""
        _link(self.target, self.folder, chosen)

    def show(self) -> None:
        """Publish what is complete so far, if there is room. From then on, files may be replaced but not changed."""
        copy = beside(self.target, "new")
        try:
            self._mark(copy)
            _link(self.folder, copy, lambda name: name != DRAFT.marker)
            self._publish(copy)
        except OSError as error:
            logger.debug("The results so far could not be published: %s", error)
        finally:
            if DRAFT.marks(copy):
                remove(copy, DRAFT)

    def publish(self) -> None:
        """Give the folder its name. If only this fails, the folder is kept and the error names it."""
        try:
            self._publish(self.folder)
        except (InputError, OSError) as error:
            error.add_note(f"The new results are complete in {self.folder}; move them before the next run.")
            raise

    def withdraw(self) -> None:
        """Remove what was shown, where there was nothing before."""
        if self.target.is_dir():
            remove(self.target, self.kind)

    def _mark(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        try:
            (folder / DRAFT.marker).touch()
        except OSError:
            folder.rmdir()
            raise

    def _publish(self, complete: Path) -> None:
        for file in _files_in(complete):
            flush(file)
        # checked again, because another program may have written there in the meantime
        self._require_replaceable()
        if self.target.is_dir():
            _link(self.target, complete, lambda name: not self.kind.owns(name))
        (complete / DRAFT.marker).unlink()
        if not self.target.exists():
            complete.replace(self.target)
        else:
            self._dispose(_swap(complete, self.target))
        self.overwrite = True  # what is there now is this draft

    def _dispose(self, old: Path) -> None:
        """Remove a folder that was replaced; what is not ours moves to its successor."""
        try:
            for path in list(_files_in(old)):
                moved = self.target / path.relative_to(old)
                if self.kind.owns(_name(path, old)):
                    continue
                if not os.path.lexists(moved):
                    moved.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(moved)
                elif _same(path, moved):
                    path.unlink()
            remove(old, self.kind)
        except OSError as error:
            logger.debug("%s could not be removed: %s", old, error)
        if old.exists():
            logger.warning("Files that stmmr did not write are kept in %s.", old)

    def _require_replaceable(self) -> None:
        """Check that the target may be created or replaced."""
        target = self.target
        if target.is_dir() and not self.overwrite:
            raise InputError(f"{target} exists. Pass overwrite=True (--overwrite), or choose another name.")
        require_ours(target, self.kind)
        if target.is_mount():
            raise InputError(
                f"Expected a folder that can be replaced, found the mount point {target}. Choose a folder inside it."
            )


@contextmanager
def drafted(target: Path, kind: Kind, *, overwrite: bool) -> Iterator[Draft]:
    """Write a folder beside its target; the body publishes it.

    Whether the target may be written is checked before the body runs. What killed processes on this machine left is
    cleaned up first. Nobody else writes the target meanwhile.

    Raises
    ------
    InputError
        If the target exists and `overwrite` is False, must not be replaced, or another process writes it.
    """
    target = target.resolve()
    with locked(target, wait=WAIT):
        draft = Draft(target, kind, overwrite=overwrite)
        try:
            yield draft
        finally:
            if DRAFT.marks(draft.folder):
                with contextlib.suppress(OSError):
                    remove(draft.folder, DRAFT)


@contextmanager
def publish_folder(target: Path, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Write a folder that gets its name only after the body has succeeded.

    Parameters
    ----------
    target, kind, overwrite
        As of `Draft`. Missing parent folders are created.

    Yields
    ------
    An empty folder beside the target, for the body to fill.

    Raises
    ------
    InputError
        As `drafted`.
    """
    with drafted(target, kind, overwrite=overwrite) as draft:
        yield draft.folder
        draft.publish()


def _swap(new: Path, target: Path) -> Path:
    """Let a new folder and an old one change places, and get the path at which the old one is then."""
    if _exchange(new, target):
        return new
    old = beside(target, "old")
    target.replace(old)
    try:
        new.replace(target)
    except OSError:
        old.replace(target)
        raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; tell whether the system can (Linux, on most file systems)."""
    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _files_in(folder: Path) -> Iterator[Path]:
    """Find files and links at any depth; links are not followed."""
    for root, folders, names in os.walk(folder):
        yield from (Path(root, name) for name in names)
        yield from (path for name in folders if (path := Path(root, name)).is_symlink())


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _link(source: Path, target: Path, chosen: Callable[[str], bool]) -> None:
    """Let chosen files of a folder be in another one as well, unless it has files of their names."""
    for path in _files_in(source):
        other = target / path.relative_to(source)
        if not chosen(_name(path, source)) or os.path.lexists(other):
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, other, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(path, other, follow_symlinks=False)


def _same(path: Path, other: Path) -> bool:
    """Tell whether a file is another one, or a copy that `_link` made of it."""
    one, two = path.lstat(), other.lstat()
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino) or (
        (one.st_mode, one.st_size, one.st_mtime_ns) == (two.st_mode, two.st_size, two.st_mtime_ns)
    )
