"""Features on disk: a run that was killed continues from them, and a later run reads them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stmmr._core.checks import InputError, logger
from stmmr._core.files import atomic_write
from stmmr._core.fingerprints import digest, fingerprint
from stmmr._core.folders import Kind, publish_folder
from stmmr._core.parallel import in_threads, progress_bar
from stmmr._core.rows import empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

FORMAT: Final = 3
"""Version of the content of the folder."""
VALUES: Final = "features.npy"
MANIFEST: Final = "manifest.json"
FEATURES: Final = Kind("image features", MANIFEST, frozenset(), r"features\.npy|manifest\.json")
"""A folder with features; damaged ones are ours as well."""
SECONDS: Final = 1.0
"""Time between two commits to the disk; a killed process computes at most so much again."""
NOT_IN_NAMES: Final = re.compile(r"[^\w.-]+")
"""Characters that are replaced in the name of a folder."""


@dataclass
class FeatureCache:
    """Features of spots (or cells, or bins), filled batch by batch, in a file or in memory.

    The name of the folder has a hash of all that determines the features, so that no others are read:

    ``features.npy``
        Features, shape (n_obs, width), float32.
    ``manifest.json``
        What determines the features, which rows are done, and a checksum of these. It is replaced after these rows are
        on the disk, so that a killed process can continue. Two processes at once write the same values.
    """

    values: NDArray[np.float32]
    """Shape (n_obs, width); rows that are not done have arbitrary values."""
    facts: dict[str, object]
    """What determines the features."""
    folder: Path | None = None
    """The folder of these features; None: in memory."""
    done: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of rows that are done, as start and stop, ascending and disjoint."""
    checksum: int = 0
    """Sum of the hashes of the rows that are done, modulo 2⁶⁴."""

    @classmethod
    def open(
        cls,
        folder: str | Path | None,
        *,
        image: str,
        encoder: str | None,
        geometry: Mapping[str, object],
        centres: NDArray[np.float64],
        width: int,
        name: str = "features",
    ) -> Self:
        """Open features that were written before, or start new ones.

        Parameters
        ----------
        folder
            Folder for the features of any image and encoder; None keeps them in memory.
        image, encoder
            Their fingerprints, see `image_fingerprint` and `encoder_fingerprint`. Features of an encoder without one
            stay in memory.
        geometry
            What else determines the patches: size, µm per pixel, stain normalisation; anything that JSON can hold.
        centres
            Spots in the image, shape (n_obs, 2).
        width
            Number of features.
        name
            Start of the name of the features' own folder.
        """
        shape = (len(centres), width)
        facts: dict[str, object] = {
            "format": FORMAT,
            "image": image,
            "encoder": encoder,
            "geometry": dict(geometry),
            "centres": fingerprint(np.asarray(centres, dtype=np.float64)),
            "shape": list(shape),
        }
        if folder is None or encoder is None:
            return cls(empty(shape), facts)
        path = Path(folder) / f"{NOT_IN_NAMES.sub('_', name)}-{digest(facts)[:20]}"
        if not _valid(path, facts):
            if path.is_dir():
                logger.warning("The features in %s are damaged and are computed again.", path)
                (path / MANIFEST).touch()  # it may be what is missing, and marks the folder as ours
            _create(path, facts, shape)
        values = np.load(path / VALUES, mmap_mode="r")
        manifest = _manifest(path)
        return cls(values, facts, path, _ranges(manifest), int(manifest["checksum"]))

    def missing(self, batch_size: int) -> Iterator[slice]:
        """Yield batches of rows that are not done.

        Batches start at the same rows whatever is done: a second run of one size has the batches of the first.
        """
        for start in range(0, len(self.values), batch_size):
            stop = min(start + batch_size, len(self.values))
            if not any(first <= start and stop <= last for first, last in self.done):
                yield slice(start, stop)

    def put(self, rows: slice, values: NDArray[np.float32]) -> None:
        """Store the features of some rows; on disk, they count as done from the next `commit` on."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        expected = (rows.stop - rows.start, self.values.shape[1])
        if values.shape != expected or not np.isfinite(values).all():
            raise ValueError(
                f"Expected finite features of shape {expected}, found shape {values.shape}, "
                f"{int((~np.isfinite(values)).sum())} of them not finite."
            )
        new = [row for row in range(rows.start, rows.stop) if not any(a <= row < b for a, b in self.done)]
        checksum = (self.checksum + _checksum(values[[row - rows.start for row in new]], new)) % 2**64
        done = _joined([*self.done, (rows.start, rows.stop)])
        if self.folder is None:
            self.values[rows] = values
        else:
            with (self.folder / VALUES).open("r+b") as file:
                file.seek(int(getattr(self.values, "offset", 0)) + rows.start * self.values.strides[0])
                file.write(values.data)
        self.done, self.checksum = done, checksum

    def commit(self) -> None:
        """Write to the disk which rows are done, after their features."""
        if self.folder is None:
            return
        with (self.folder / VALUES).open("r+b") as file:
            os.fsync(file.fileno())
        _write_manifest(self.folder, self.facts | {"done": self.done, "checksum": self.checksum})

    def fill(
        self, encode: Callable[[slice], NDArray[np.float32]], *, batch_size: int, progress: bool = True
    ) -> NDArray[np.float32]:
        """Encode the missing rows, batch by batch in threads, and return all features.

        Parameters
        ----------
        encode
            From rows to their features.
        batch_size
            Rows at a time; limits the memory.
        progress
            Whether to show a progress bar if it takes longer than two seconds.
        """
        batches = list(self.missing(batch_size))
        if self.done and batches:
            logger.info("%d of %d spots are already encoded.", sum(b - a for a, b in self.done), len(self.values))
        with (
            ExitStack() as stack,
            progress_bar(sum(b.stop - b.start for b in batches), "histology", "spots", shown=progress) as bar,
        ):
            stack.callback(self.commit)
            committed = time.monotonic()
            for rows, values in zip(batches, in_threads(encode, ((b,) for b in batches)), strict=True):
                self.put(rows, values)
                bar.update(len(values))
                if time.monotonic() - committed > SECONDS:
                    self.commit()
                    committed = time.monotonic()
        return self.features()

    def features(self) -> NDArray[np.float32]:
        """Return all features, shape (n_obs, width), mapped if they are in a file.

        Raises
        ------
        RuntimeError
            If some are missing.
        """
        if self.done != [(0, len(self.values))] and len(self.values):
            raise RuntimeError(f"Features of {len(self.values)} spots are not complete: rows {self.done} are done.")
        if self.folder is None:
            return self.values
        # mapped again: on some file systems, the first map does not show what was written since
        return np.load(self.folder / VALUES, mmap_mode="r")  # type: ignore[no-any-return]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch or overlap."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _create(path: Path, facts: dict[str, object], shape: tuple[int, int]) -> None:
    """Make the folder of some features, complete or not at all."""
    try:
        with publish_folder(path, FEATURES, overwrite=path.is_dir() and not _valid(path, facts)) as new:
            np.lib.format.open_memmap(new / VALUES, mode="w+", dtype=np.float32, shape=shape)
            _write_manifest(new, facts | {"done": [], "checksum": 0})
    except InputError:
        if not _valid(path, facts):  # another process may have been faster
            raise


def _valid(path: Path, facts: dict[str, object]) -> bool:
    """Tell whether a folder holds these features, as they were written."""
    try:
        manifest, values = _manifest(path), np.load(path / VALUES, mmap_mode="r")
        found = sum(_checksum(values[start:stop], range(start, stop)) for start, stop in _ranges(manifest)) % 2**64
        intact = found == int(manifest["checksum"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return False
    same = {name: manifest.get(name) for name in facts} == json.loads(json.dumps(facts))
    return intact and same and list(values.shape) == facts["shape"] and values.dtype == np.float32


def _ranges(manifest: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(int(start), int(stop)) for start, stop in manifest["done"]]


def _checksum(values: NDArray[np.float32], rows: Iterable[int]) -> int:
    """Sum the hashes of rows, each with its number."""
    hashed = (
        hashlib.blake2b(row.tobytes(), digest_size=8, salt=number.to_bytes(8, "little"))
        for number, row in zip(rows, values, strict=True)
    )
    return sum(int.from_bytes(each.digest(), "little") for each in hashed)


def _manifest(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / MANIFEST).read_text(encoding="utf-8")))


def _write_manifest(path: Path, manifest: Mapping[str, object]) -> None:
    with atomic_write(path / MANIFEST) as new:
        new.write_text(json.dumps(manifest), encoding="utf-8")
