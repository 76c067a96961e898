"""Files and folders that are written as a whole or not at all: beside the target, then renamed."""

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
from stmmr._core.untrusted import require_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file so that it has the old content or the new content, never a part of it.

    Temporary files that killed runs on this machine left beside the target are removed first.

    Parameters
    ----------
    target
        File to write; replaced if it exists.

    Yields
    ------
    Path beside the target, with the same suffix, for the body to write to.
    """
    target = target.resolve()  # so that a link still points to the file
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
    """Write a folder that gets its name only after the body has succeeded.

    Whether the target may be written is checked before the body runs. Leftovers of killed runs on this machine are
    cleaned up first: an old folder that was moved aside is restored, and unfinished new folders are removed. If only
    the last renaming fails, the complete new folder is kept and the error names it.

    Parameters
    ----------
    target
        Folder to write. Missing parent folders are created.
    overwrite
        Replace the whole folder if it exists.
    marker
        File that identifies a folder written by stmmr. Other folders are not replaced, unless they are empty.

    Yields
    ------
    An empty folder beside the target, for the body to fill.

    Raises
    ------
    InputError
        If the target exists and `overwrite` is False, or if the target must not be replaced.
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
        # checked again, because another run may have written there in the meantime
        _require_replaceable(target, overwrite=overwrite, marker=marker)
        _swap(new, target)
    except (InputError, OSError) as error:
        error.add_note(f"The new results are complete in {new}; move them before the next run.")
        raise


def _require_replaceable(target: Path, *, overwrite: bool, marker: str) -> None:
    """Check that a folder may be created or replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"Expected a folder or a new name, found the file {target}. Choose another name.")
    if not overwrite:
        raise InputError(f"{target} exists. Pass overwrite=True (--overwrite), or choose another name.")
    names = sorted(path.name for path in target.iterdir())
    if names and marker not in names:
        raise InputError(
            f"Expected a folder that stmmr wrote (with {marker}) to overwrite, found {target} with {listed(names)}. "
            "Choose another name, or delete the folder yourself."
        )
    if target.is_mount():
        raise InputError(
            f"Expected a folder that can be replaced, found the mount point {target}. Choose a folder inside it."
        )


def _swap(new: Path, target: Path) -> None:
    """Replace an old folder with a new one; on failure, the old one is restored."""
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
    """Make the path of a temporary file beside the target, with the machine and process that it belongs to."""
    owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name}.{owner}.{kind}{target.suffix}")


def _tidy(target: Path) -> None:
    """Remove leftovers of dead processes on this machine for the same target; restore a folder that was moved aside."""
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
    """Check whether a process runs; on Windows, where the check would end it, assume that it does."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Wait until a file is on disk, so that a power failure after the renaming cannot leave it empty."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def existing(path: str | Path) -> Path:
    """Make the path of an existing file or folder absolute.

    Raises
    ------
    FileNotFoundError
        If it does not exist; the message suggests similar names.
    InputError
        If it is neither file nor folder, such as a pipe.
    """
    absolute = Path(path).expanduser().absolute()
    if absolute.exists():
        require_regular(absolute)
        return absolute
    if not absolute.parent.is_dir():
        raise FileNotFoundError(f"Expected data at {path}, but the folder {absolute.parent} does not exist either.")
    names = visible(absolute.parent)
    close = difflib.get_close_matches(absolute.name, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"its folder holds {listed(names)}."
    raise FileNotFoundError(f"Expected data at {path}, found nothing; {hint}")


def visible(path: Path) -> list[str]:
    """List the names in a folder, sorted and without hidden ones; for a file, its own name."""
    if path.is_file():
        return [path.name]
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


@contextmanager
def parsing(path: Path, *, expected: str) -> Iterator[None]:
    """Turn errors of a parser into an InputError that names the file.

    Raises
    ------
    InputError
        For every error, except those that do not concern the content of the file.
    """
    try:
        yield
    except (InputError, ImportError, PermissionError):
        raise
    except MemoryError as error:
        raise InputError(
            f"Expected data that fit into memory at {path}, found {expected} that needs more. Read it on a machine "
            "with more memory, or leave the counts in the file (backed=True, --mode disk)."
        ) from error
    except Exception as error:
        if type(error) is FileNotFoundError and error.errno is None:  # of `existing`
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected {expected} at {path}, found content that cannot be read ({type(error).__name__}: {reason}). "
            "It may be damaged or cut short. Copy or download it again."
        ) from error


def write_csv(table: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as CSV in which no text is a formula: a quote goes before ``= + - @`` at the start of a name.

    Texts that are numbers, such as "-1.5", stay as they are.
    """
    texts = table.select_dtypes(["object", "string", "category"])
    table = table.assign(**{str(name): column.astype(object).map(_harmless) for name, column in texts.items()})
    table.rename(index=_harmless, columns=_harmless).to_csv(path, **options)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", cell, re.IGNORECASE) else f"'{cell}"


@contextmanager
def names_may_repeat() -> Iterator[None]:
    """Silence the warning of anndata about repeated names; stmmr warns itself when it makes them unique."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(Variable|Observation) names are not unique")
        yield


def check_indices(matrix: Any) -> None:
    """Check that the indices of a sparse matrix are within its shape; scipy would read other memory otherwise.

    Raises
    ------
    ValueError
        If one is not. Dense matrices pass.
    """
    if isinstance(matrix, sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array):
        matrix.check_format(full_check=True)
