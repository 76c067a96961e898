"""Files that are written as a whole or not at all (beside the target, then renamed), paths and parsing errors."""

from __future__ import annotations

import contextlib
import difflib
import os
import platform
import re
import secrets
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scipy import sparse

from stmmr._core.checks import InputError, listed
from stmmr._core.untrusted import DamagedError, require_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    import pandas as pd

FIGURE_FORMATS: Final = ("png", "svg", "pdf")
"""Formats in which figures of a result are written."""
TILE_FILES: Final = r"tiles\.json|\d+/\d+_\d+\.jpg"
"""Regular expression of the files of an image in tiles."""
CSV_ROWS: Final = 2**16
"""Rows of a table that are made text at once."""


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
    new = beside(target, "new")
    try:
        yield new
        flush(new)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


class _Guarded:
    """A new binary file without a buffer that remembers the first error of a writing and takes no more from then on."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell  # type: ignore[attr-defined]

    def write(self, content: Any) -> int:
        """Write, or pretend to."""
        rest = memoryview(content).cast("B")
        while len(rest) and (written := self._tried(self.file.write, rest)):  # in parts, if a file is nearly too large
            rest = rest[written:]
        return len(content)

    def truncate(self, size: int) -> int:
        """Change the size, or pretend to."""
        return int(self._tried(self.file.truncate, size) or size)

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""

    def _tried(self, action: Callable[[Any], int], argument: Any) -> int | None:
        try:
            return action(argument) if self.error is None else None
        except OSError as error:
            self.error = error
            return None


@contextmanager
def hdf5_file(path: Path) -> Iterator[Any]:
    """Write an HDF5 file; on a full disk it raises an OSError, where HDF5 by itself ends the process.

    Yields
    ------
    The open ``h5py.File``.
    """
    import h5py

    with path.open("wb+", buffering=0) as opened:
        guarded = _Guarded(opened)
        try:
            with h5py.File(guarded, "w") as file:
                yield file
            opened.flush()
        finally:
            if guarded.error is not None:
                raise guarded.error


class Unchanged:
    """Files and stores that are read for a while, and must not be replaced meanwhile.

    Parameters
    ----------
    paths
        What is no path of a file or a .zarr store is left out.
    """

    def __init__(self, paths: Iterable[object]) -> None:
        stores = [path for path in paths if isinstance(path, Path) and (path.is_file() or path.suffix == ".zarr")]
        self._states = {path: _state(path) for path in stores}

    def check(self) -> None:
        """Check that all are as they were.

        Raises
        ------
        InputError
            If one is not.
        """
        for path, state in self._states.items():
            if _state(path) != state:
                raise InputError(
                    f"Expected {path} to stay as it is while it is read, found that it was changed or replaced. "
                    "Nothing was published; start again."
                )


def _state(path: Path) -> list[tuple[str | int, ...]]:
    """Get device, inode, size and time of a file, or of all files of a store; of a missing one, none."""
    states: list[tuple[str | int, ...]] = []
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            if not file.is_dir():
                states.append((str(file), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return states


def beside(target: Path, kind: str) -> Path:
    """Make the path of a temporary file beside the target, with the machine and process that it belongs to."""
    owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name}.{owner}.{kind}{target.suffix}")


def left_behind(target: Path, *kinds: str) -> Iterator[Path]:
    """Find what dead processes on this machine left beside a target, of these kinds, as `beside` names it."""
    pattern = re.compile(
        rf"\.{re.escape(target.name)}\.(?P<node>.*)-(?P<pid>\d+)-[0-9a-f]{{8}}\.({'|'.join(kinds)})"
        + re.escape(target.suffix)
    )
    for path in sorted(target.parent.glob(".*")):
        match = pattern.fullmatch(path.name)
        if match and match["node"] == platform.node() and not alive(int(match["pid"])):
            yield path


def _tidy(target: Path) -> None:
    """Remove files that dead processes on this machine left while they wrote the same target."""
    for path in left_behind(target, "new"):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Check whether a process runs; on Windows, where the check would end it, assume that it does."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def flush(path: Path) -> None:
    """Wait until a file is on disk, so that a power failure after the renaming cannot leave it empty."""
    if path.is_file() and not path.is_symlink():
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
    from stmmr._core.folders import restore

    absolute = Path(path).expanduser().absolute()
    for part in (*reversed(absolute.parents), absolute):  # a kill may have hidden one of them
        if not part.exists():
            restore(part)
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
        reason = reason if isinstance(error, DamagedError) else f"{type(error).__name__}: {reason}"
        raise InputError(
            f"Expected {expected} at {path}, found content that cannot be read ({reason}). "
            "It may be damaged or cut short. Copy or download it again."
        ) from error


def write_csv(table: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as CSV in which no text is a formula: a quote goes before ``= + - @`` at the start of a name.

    Texts that are numbers, such as "-1.5", stay as they are.
    """
    for start in range(0, max(len(table), 1), CSV_ROWS):
        rows = table.iloc[start : start + CSV_ROWS]
        texts = rows.select_dtypes(["object", "string", "category"])
        harmless = {str(name): column.astype(object).map(_harmless) for name, column in texts.items()}
        rows = rows.assign(**harmless).rename(index=_harmless, columns=_harmless)
        rows.to_csv(path, mode="a" if start else "w", header=not start, **options)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", cell, re.IGNORECASE) else f"'{cell}"


def as_written(cell: str) -> str:
    """Take away the quote that `write_csv` sets before a text that would be a formula."""
    return re.sub(r"^'(?=[=+@\t\r-])", "", cell)


@contextmanager
def names_may_repeat() -> Iterator[None]:
    """Silence warnings of anndata about names: repeated ones, of which stmmr warns itself, and numbers as names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Transforming to str index")
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
        if matrix.indptr[-1] < 0:  # scipy takes it for an empty matrix, and checks no more
            raise ValueError("index pointer ends below zero")
        matrix.check_format(full_check=True)
