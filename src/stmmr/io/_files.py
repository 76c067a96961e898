"""Finding files in a vendor's folder, and one clear error for whatever a damaged one makes a parser raise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stmmr._core.checks import InputError, listed
from stmmr._core.files import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


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
