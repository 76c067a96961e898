"""Finding files in a vendor's folder, and one clear error for whatever a damaged one makes a parser raise."""

from __future__ import annotations

import difflib
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import sparse

from stmmr._validate import InputError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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


def find(folder: Path, name: str, *, prefix: str = "") -> Path | None:
    """Find a file or folder by its name, which repositories such as GEO put a sample's name in front of.

    Parameters
    ----------
    folder
        Where to look; not in its subfolders.
    name
        The name as the vendor's pipeline writes it.
    prefix
        The sample's name where it is known.

    Returns
    -------
    ``prefix + name`` where it exists, else ``name``, else, without a prefix, the only one that ends with
    ``name``, else None.

    Raises
    ------
    InputError
        If several end with ``name``.
    """
    for exact in (folder / (prefix + name), folder / name):
        if exact.exists():
            return exact
    if prefix:  # the barcodes of all slides are the same: another sample's file would fit without a sign
        return None
    # hidden ones are what macOS writes beside each file on foreign disks ("._name")
    found = sorted(path for path in folder.glob(f"*{name}") if not path.name.startswith("."))
    if len(found) > 1:
        raise InputError(
            f"Expected one {name} in {folder}, found {listed(path.name for path in found)}. Give the count "
            "matrix of one sample itself, or put each sample into a folder of its own."
        )
    return found[0] if found else None


def locate(path: Path, names: Sequence[str], *, inside: Sequence[str] = ("outs",)) -> tuple[Path, str] | None:
    """Find the file that an input is recognised by.

    Parameters
    ----------
    path
        The file itself, the folder that holds it, or one above.
    names
        As the vendor's pipeline writes them, the best first; a sample's name may stand in front.
    inside
        Folders to look into as well.

    Returns
    -------
    The file and the sample's name in front of it, or None.

    Raises
    ------
    InputError
        If several files end with the same name.
    """
    if path.is_file() or path.name.endswith(tuple(names)):
        found = (path for name in names if path.name.endswith(name))
    else:
        found = (
            at for folder in (path, *(path / name for name in inside)) for name in names if (at := find(folder, name))
        )
    file = next(found, None)
    if file is None:
        return None
    return file, file.name.removesuffix(next(name for name in names if file.name.endswith(name)))


def companion(file: Path, names: Sequence[str], *, prefix: str, what: str) -> Path:
    """Find the file that belongs to another one in the same folder.

    Parameters
    ----------
    file
        The file at hand.
    names
        What the other may be called, the best first.
    prefix
        The sample's name in front of both.
    what
        What it holds, for the message.

    Raises
    ------
    InputError
        If it is not there.
    """
    found = next((at for name in names if (at := find(file.parent, name, prefix=prefix))), None)
    if found is None:
        wanted = " or ".join(prefix + name for name in names[:2])
        raise InputError(
            f"Expected {what} ({wanted}) beside {file}, found {listed(visible(file.parent))}. Put it there, as the "
            "vendor's software wrote it."
        )
    return found


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
