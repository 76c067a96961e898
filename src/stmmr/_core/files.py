"""Files and folders that are whole or not there: written beside the target and renamed."""

from __future__ import annotations

import difflib
import os
import platform
import re
import secrets
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import sparse

from stmmr._core.checks import InputError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def existing(path: str | Path) -> Path:
    """Make a path absolute, or say which similar names there are.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    """
    found = Path(path).expanduser().absolute()
    if found.exists():
        return found
    if not found.parent.is_dir():
        raise FileNotFoundError(f"Expected data at {path}, but the folder {found.parent} does not exist either.")
    names = visible(found.parent)
    close = difflib.get_close_matches(found.name, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"its folder holds {listed(names)}."
    raise FileNotFoundError(f"Expected data at {path}, but there is nothing; {hint}")


def visible(path: Path) -> list[str]:
    """List the names in a folder, sorted, without the hidden ones; of a file, its own."""
    if path.is_file():
        return [path.name]
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


@contextmanager
def parsing(path: Path, *, expected: str) -> Iterator[None]:
    """Turn what a parser raises about a damaged or foreign file into an InputError.

    Raises
    ------
    InputError
        For every error but those that say nothing about the file's content.
    """
    try:
        yield
    except (InputError, MemoryError, PermissionError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected {expected} at {path}, found something that cannot be read as such "
            f"({type(error).__name__}: {reason}). It may be damaged or cut short: copy or download it again."
        ) from error


@contextmanager
def names_may_repeat() -> Iterator[None]:
    """Silence anndata's warning about repeated names, which stmmr mends with a warning of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(Variable|Observation) names are not unique")
        yield


def check_indices(matrix: Any) -> None:
    """Check that the indices of a sparse matrix lie in it; scipy would read beyond its memory otherwise.

    Raises
    ------
    ValueError
        If one does not. Other matrices pass.
    """
    if isinstance(matrix, sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array):
        matrix.check_format(full_check=True)
