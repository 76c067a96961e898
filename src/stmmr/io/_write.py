"""Files and folders that are whole or not there: written beside the target and renamed."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stmmr._validate import InputError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file so that its name holds the old content or the new one, never a part.

    What killed runs on this machine left beside the target is removed first.

    Parameters
    ----------
    target
        The file to write; replaced where it exists.

    Yields
    ------
    A path beside the target, with the same suffix, for the body to write to.
    """
    target = target.resolve()  # so that a link goes on pointing to the file
    _tidy(target)
    new = _beside(target, "new")
    try:
        yield new
        _flush(new)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def publish_folder(target: Path, *, overwrite: bool, marker: str = "run.json") -> Iterator[Path]:
    """Fill a folder that appears under its name only when the body has succeeded.

    Whether the target may be written is settled before the body runs. What killed runs on this machine left
    beside the target is tidied first: an old folder that was moved aside goes back, unfinished new ones are
    removed. If only the last renaming fails, the complete new folder is kept and the error names it.

    Parameters
    ----------
    target
        The folder to make. Its parents are made where they are missing.
    overwrite
        Replace the folder if it exists, as a whole.
    marker
        File by which a folder is known to be written by stmmr; no other folder is replaced, unless it is
        empty.

    Yields
    ------
    An empty folder beside the target, for the body to fill.

    Raises
    ------
    InputError
        If the target exists and ``overwrite`` is False, or is no folder that may be replaced.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy(target)
    _require_replaceable(target, overwrite=overwrite, marker=marker)
    new = _beside(target, "new")
    new.mkdir()
    try:
        yield new
        for file in new.rglob("*"):
            _flush(file)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        # again: another run may have written there in the meantime
        _require_replaceable(target, overwrite=overwrite, marker=marker)
        _swap(new, target)
    except (InputError, OSError) as error:
        error.add_note(f"The new results are complete in {new}; move them before the next run.")
        raise


def _require_replaceable(target: Path, *, overwrite: bool, marker: str) -> None:
    """Check that a folder may be made, or replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"Expected a folder or a new name, found the file {target}. Choose another name.")
    if not overwrite:
        raise InputError(f"{target} exists; pass overwrite=True (--overwrite) or choose another name.")
    names = sorted(path.name for path in target.iterdir())
    if names and marker not in names:
        raise InputError(
            f"Expected a folder that stmmr wrote (with {marker}) to overwrite, found {target} with "
            f"{listed(names)}. Choose another name, or delete the folder yourself."
        )
    if target.is_mount():
        raise InputError(
            f"Expected a folder that can be replaced, found the mount point {target}. Choose a folder in it."
        )


def _swap(new: Path, target: Path) -> None:
    """Put a new folder in the place of an old one; on failure the old one is back."""
    if not target.exists():
        new.replace(target)
        return
    old = _beside(target, "old")
    target.replace(old)
    try:
        new.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path, kind: str) -> Path:
    """Name a temporary beside a target, with the machine and process that it belongs to."""
    owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name}.{owner}.{kind}{target.suffix}")


def _tidy(target: Path) -> None:
    """Remove what dead processes of this machine left for the same target; put a folder moved aside back."""
    pattern = re.compile(
        rf"\.{re.escape(target.name)}\.(?P<node>.*)-(?P<pid>\d+)-[0-9a-f]{{8}}\.(?P<kind>new|old)"
        + re.escape(target.suffix)
    )
    for path in target.parent.glob(".*"):
        match = pattern.fullmatch(path.name)
        if match is None or match["node"] != platform.node() or _alive(int(match["pid"])):
            continue
        if match["kind"] == "old" and not target.exists():
            path.replace(target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Say whether a process runs; where that cannot be asked for without harm, suppose that it does."""
    if os.name == "nt":  # there os.kill ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Wait until a file is on the disk, so that a power cut after the renaming cannot leave it empty."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
