"""Find files in the output folders of platforms."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeVar

from stmmr._core.checks import InputError, listed
from stmmr._core.files import existing, visible
from stmmr._core.untrusted import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Match = TypeVar("Match")
ALIKE: Final = (("png", "jpg", "jpeg", "tif", "tiff"), ("csv", "tsv", "txt"))
"""Endings of files that are read alike."""
MOST_LISTED: Final = 2000
"""Files of a folder up to which names in another form are looked for."""


def variants(name: str) -> list[str]:
    """List the forms in which a file may lie in a folder: as named, of a like ending (JPEG, text), and each packed."""
    stem, dot, ending = name.rpartition(".")
    alike = next((endings for endings in ALIKE if ending in endings), (ending,))
    forms = [name, *(f"{stem}.{form}" for form in alike if dot and form != ending)]
    return [*forms, *(f"{form}.gz" for form in forms if dot and ending != "gz")]


def find(folder: Path, *names: str, prefix: str = "") -> Path | None:
    """Find the first of several names in a folder, alone or behind a sample name, as in ``GSM123_name`` of GEO.

    Files may be packed (``.gz``), images may be JPEG. A name in other letters, or with the sample behind it
    (``name_A1.csv``), is taken if there is none in front. If the sample name is known (`prefix`), no other is accepted:
    all slides have the same barcodes, so the file of another sample would match unnoticed. Raises InputError if it is
    unknown and several files match.
    """
    forms = [form for each in names for form in variants(each)]
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in forms:
        for exact in (prefix + name, name):
            if exact in there and (folder / exact).exists():
                return folder / exact
        behind_a_sample = [file for file in there if file.startswith(prefix) and file.endswith(name)]
        if path := _only(behind_a_sample, folder, name, prefix):
            return path
    for name in (form for form in forms if "." in form and len(there) <= MOST_LISTED):
        pattern = re.compile(_other_forms(name, prefix), re.IGNORECASE)
        others = [file for file in there if pattern.fullmatch(file) and (folder / file).is_file()]
        if path := _only(others, folder, name, prefix):
            return path
    return None


def _other_forms(name: str, prefix: str) -> str:
    """Get a pattern of names in which a sample stands behind or in front: that of the prefix, if there is one."""
    stem, ending = re.fullmatch(r"(.*?)((?:\.\w+)?(?:\.gz)?)", name).groups()  # type: ignore[union-attr]
    stem, ending, sample = re.escape(stem), re.escape(ending), re.escape(prefix.strip("_-. "))
    if not sample:
        return rf"(.*[_.-])?{stem}([ _.-].*)?{ending}"
    return rf"{re.escape(prefix)}.*{stem}([ _.-].*)?{ending}|(.*[_.-])?{stem}[_.-]?{sample}{ending}"


def _only(files: list[str], folder: Path, name: str, prefix: str) -> Path | None:
    """Get the only one of the files that is not hidden; raises InputError if there are several, and no known sample."""
    # macOS writes hidden files such as "._name" beside each file on other disks
    files = [file for file in files if not file.startswith(".")]
    if len(files) > 1 and not prefix:
        raise InputError(
            f"Expected one {name} in {folder}, found {listed(files)}. Give the count matrix of one sample itself, or "
            "put each sample into its own folder."
        )
    return folder / files[0] if len(files) == 1 else None


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
