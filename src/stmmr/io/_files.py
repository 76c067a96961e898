"""Find files in the output folders of platforms."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from stmmr._core.checks import InputError, listed
from stmmr._core.files import existing, visible
from stmmr._core.untrusted import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Match = TypeVar("Match")


def variants(name: str) -> list[str]:
    """List the forms in which a file may lie in a folder: as named, an image as JPEG or TIFF, and each packed."""
    stem, dot, ending = name.rpartition(".")
    forms = [f"{stem}.{form}" for form in ("png", "jpg", "jpeg", "tif", "tiff")] if ending == "png" else [name]
    return [*forms, *(f"{form}.gz" for form in forms if dot and ending != "gz")]


def find(folder: Path, *names: str, prefix: str = "") -> Path | None:
    """Find the first of several names in a folder, alone or behind a sample name, as in ``GSM123_name`` of GEO.

    Files may be packed (``.gz``), images may be JPEG. If the sample name is known (`prefix`), no other is accepted: all
    slides have the same barcodes, so the file of another sample would match unnoticed. Raises InputError if it is
    unknown and several files match.
    """
    for name in [form for each in names for form in variants(each)]:
        for exact in (folder / (prefix + name), folder / name):
            if exact.exists():
                return exact
        # macOS writes hidden files such as "._name" beside each file on other disks
        pattern = f"{escape(prefix)}*{name}"
        paths = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
        if len(paths) > 1 and not prefix:
            raise InputError(
                f"Expected one {name} in {folder}, found {listed(path.name for path in paths)}. Give the count "
                "matrix of one sample itself, or put each sample into its own folder."
            )
        if len(paths) == 1:
            return paths[0]
    return None


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Get a file as it is, or a packed one (``.gz``) unpacked in a temporary folder."""
    if path.suffix.lower() != ".gz":
        yield path
        return
    with TemporaryDirectory(prefix="stmmr_") as folder:
        target = Path(folder) / path.stem
        with open_text(path) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
        yield target


def locate(path: Path, names: Sequence[str], *, inside: Sequence[str] = ("outs",)) -> tuple[Path, str] | None:
    """Find the file that a platform is recognised by, and the sample name in front of it.

    `path` is the file, its folder, or a folder with one of the subfolders `inside`. The best of `names` comes first.
    """
    file: Path | None = path
    if not path.name.endswith(tuple(names)):
        folders = () if path.is_file() else (path, *(path / folder for folder in inside))
        file = next((match for folder in folders if (match := find(folder, *names))), None)
    return None if file is None else (file, sample_name(file, names))


def sample_name(file: Path, names: Iterable[str]) -> str:
    """Get what stands in front of one of `names` in the name of a file; empty if none matches."""
    return next((file.name.removesuffix(name) for name in names if file.name.endswith(name)), "")


def require_match(path: str | Path, find: Callable[[Path], Match | None], expected: str, *, advice: str) -> Match:
    """Find the files of a platform with `find`; raises InputError, with a list of what there is, if there are none."""
    folder = existing(path)
    match = find(folder)
    if match is None:
        raise InputError(f"Expected {expected} in {folder}, found {listed(visible(folder))}. {advice}")
    return match


def companion(file: Path, names: Sequence[str], *, prefix: str, content: str) -> Path:
    """Find the file that belongs to a count table in the same folder; raises InputError if there is none."""
    path = find(file.parent, *names, prefix=prefix)
    if path is None:
        raise missing_companion(file, [prefix + name for name in names], content=content)
    return path


def missing_companion(file: Path, names: Sequence[str], *, content: str) -> InputError:
    """Make the error about a file that should be beside a count table."""
    return InputError(
        f"Expected {content} ({' or '.join(names[:2])}) beside {file}, found {listed(visible(file.parent))}. Put the "
        "file there, as the software of the platform wrote it."
    )


def require_columns(columns: Iterable[str], required: Sequence[str], path: Path | str) -> None:
    """Check that a table has the required columns; raises InputError if not."""
    columns = list(columns)
    if not set(required) <= set(columns):
        raise InputError(
            f"Expected the column{'s' if len(required) > 1 else ''} {listed(required)} in {path}, found "
            f"{listed(columns)}. Use the file as it was exported."
        )
