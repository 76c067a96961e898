"""Archives: .zip, .tar and .gz of any input, unpacked into a temporary folder that is removed after reading."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Final

from stmmr._core.checks import InputError, logger
from stmmr._core.exits import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".h5ad.gz", ".h5.gz", ".h5mu.gz", ".gef.gz")
"""Ends of the names of archives; .gz of a text table is read as it is."""
MOST_FILES: Final = 200_000
"""Files of an archive, at most; a zarr store has one for each chunk."""
LARGEST_RATIO: Final = 200
"""Size of the content over that of the archive, at most, beyond `ALWAYS`; HDF5 and text stay far below."""
ALWAYS: Final = 2 * 2**30
"""Bytes that an archive may always unpack to."""


def archive_ending(path: Path) -> str | None:
    """Get the ending by which a file is an archive; None if it is none."""
    name = path.name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), None)


@contextmanager
def unpacked_archive(path: Path) -> Iterator[Path]:
    """Unpack an archive into a temporary folder, and get its content: a folder named after it, or the only file.

    Links and special files are left out. Raises InputError if a name leads out of the folder, the content is too large
    for the disk or suspiciously large for its archive, or the archive is damaged.
    """
    ending = archive_ending(path) or ""
    stem = path.name[: -len(ending)] or "archive"
    with TemporaryDirectory(prefix="stmmr_") as temporary:
        folder = Path(temporary) / (path.resolve().parent.name or "archive") / stem  # may name the sample
        folder.parent.mkdir()
        room = _Room(path, shutil.disk_usage(temporary).free)
        try:
            if not ending.endswith(".gz") or ".tar" in ending:
                folder.mkdir()
            if ending == ".zip":
                with zipfile.ZipFile(path) as archive:
                    _unpack_zip(archive, folder, room)
            elif ".tar" in ending or ending == ".tgz":
                with tarfile.open(path) as archive:
                    _unpack_tar(archive, folder, room)
            else:
                folder = folder.with_name(stem + ending.removesuffix(".gz"))
                with gzip.open(path) as source, folder.open("wb") as target:
                    room.copy(source, target)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
            raise InputError(
                f"Expected an archive ({ending}) at {path}, found content that cannot be unpacked "
                f"({reason_of(error)}). It may be damaged, cut short or encrypted. Copy or download it again, or "
                "unpack it yourself."
            ) from error
        if stem.endswith(".zarr") and not _is_store(folder):  # the store as a folder in the archive
            folder = next((child for child in folder.iterdir() if child.is_dir() and _is_store(child)), folder)
        yield folder


class _Room:
    """How much an archive may still unpack to."""

    def __init__(self, path: Path, free: int) -> None:
        self._path, self._files = path, 0
        self._left = min(int(0.9 * free), max(ALWAYS, LARGEST_RATIO * path.stat().st_size))

    def target(self, folder: Path, name: str) -> Path:
        """Get the path of a file in the folder."""
        parts = PurePosixPath(name.replace("\\", "/"))
        self._files += 1
        if parts.is_absolute() or ".." in parts.parts or ":" in name or "\0" in name:
            raise InputError(
                f"Expected an archive whose files stay in their folder at {self._path}, found {name!r}. Unpack it with "
                "a program that you trust, and give the folder."
            )
        if self._files > MOST_FILES:
            raise InputError(f"Expected at most {MOST_FILES:,} files in {self._path}, found more. Unpack it yourself.")
        target = folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def copy(self, source: IO[bytes] | gzip.GzipFile, target: IO[bytes]) -> None:
        """Copy a file in parts, as long as there is room."""
        while part := source.read(1 << 20):
            self._left -= len(part)
            if self._left < 0:
                raise InputError(
                    f"Expected content that fits on the disk and suits the size of the archive {self._path}, found "
                    "more. Unpack it yourself if it is right, and give the folder."
                )
            target.write(part)


def _unpack_zip(archive: zipfile.ZipFile, folder: Path, room: _Room) -> None:
    for member in archive.infolist():
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if member.is_dir() or is_link:
            continue
        target = room.target(folder, member.filename)
        with archive.open(member) as source, target.open("wb") as file:
            room.copy(source, file)


def _unpack_tar(archive: tarfile.TarFile, folder: Path, room: _Room) -> None:
    left_out = 0
    for member in archive:
        source = archive.extractfile(member) if member.isreg() else None
        if source is None:
            left_out += not member.isdir()
            continue
        target = room.target(folder, member.name)
        with source, target.open("wb") as file:
            room.copy(source, file)
    if left_out:
        logger.warning("%d links or special files in %s are left out.", left_out, archive.name)


def _is_store(folder: Path) -> bool:
    return any((folder / name).exists() for name in (".zgroup", "zarr.json", ".zattrs"))
