"""Features on disk that are there again after a kill, and in the next run."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stmmr._core.parallel import in_parallel, progress_bar
from stmmr._core.rows import empty
from stmmr.encoders._fingerprints import array_fingerprint, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

FORMAT: Final = 1
"""Version of what is in the folder."""
VALUES: Final = "features.npy"
MANIFEST: Final = "manifest.json"
UNFIT: Final = re.compile(r"[^\w.-]+")
"""What a folder is not called."""


@dataclass
class FeatureCache:
    """Features of places, filled batch by batch, in a file or in memory.

    Its folder is named after what the features follow from, so that those of anything else are never read:

    ``features.npy``
        Features, shape (n_places, width), float32.
    ``manifest.json``
        What they follow from, and which rows are done. It is replaced after these rows have reached the disk, so
        that a killed process leaves a state to go on from. Two processes at once write the same values.
    """

    values: NDArray[np.float32]
    """Shape (n_places, width); rows that are not done hold anything."""
    facts: dict[str, Any]
    """What the features follow from."""
    folder: Path | None = None
    """Where they are; None: in memory."""
    done: list[tuple[int, int]] = field(default_factory=list)
    """Rows that are there, from and up to, ascending and apart."""

    @classmethod
    def open(
        cls,
        folder: str | Path | None,
        *,
        picture: str,
        encoder: str | None,
        geometry: Mapping[str, Any],
        centres: NDArray[np.float64],
        width: int,
        name: str = "features",
    ) -> Self:
        """Open what there is of the features, or start them.

        Parameters
        ----------
        folder
            Folder for the features of any picture and encoder; None keeps them in memory.
        picture, encoder
            Their fingerprints, see `picture_fingerprint` and `encoder_fingerprint`. An encoder without one
            is kept in memory.
        geometry
            What else the patches follow from: their size, µm per pixel, stain normalisation; anything that JSON
            holds.
        centres
            Places in the picture, shape (n_places, 2).
        width
            Number of features.
        name
            Start of the name of the features' own folder.
        """
        shape = (len(centres), width)
        facts = {
            "format": FORMAT,
            "picture": picture,
            "encoder": encoder,
            "geometry": dict(geometry),
            "centres": array_fingerprint(np.asarray(centres, dtype=np.float64)),
            "shape": list(shape),
        }
        if folder is None or encoder is None:
            return cls(empty(shape), facts)
        own = Path(folder) / f"{UNFIT.sub('_', name)}-{digest(facts)[:20]}"
        if own.is_dir() and not _whole(own, facts):
            logger.warning("The features in %s are damaged and made anew.", own)
            shutil.rmtree(own)
        if not own.is_dir():
            _create(own, facts)
        values = np.load(own / VALUES, mmap_mode="r")
        done = [(int(start), int(stop)) for start, stop in _manifest(own)["done"]]
        return cls(values, facts, own, done)

    def missing(self, batch_size: int) -> Iterator[slice]:
        """Go through the rows that are not there, in batches.

        Batches start at the same rows whatever is there: the second run of one size sees the batches of the first.
        """
        for start in range(0, len(self.values), batch_size):
            stop = min(start + batch_size, len(self.values))
            if not any(first <= start and stop <= last for first, last in self.done):
                yield slice(start, stop)

    def put(self, rows: slice, values: NDArray[np.float32]) -> None:
        """Keep the features of some rows: on the disk, before they count as done."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        expected = (rows.stop - rows.start, self.values.shape[1])
        if values.shape != expected or not np.isfinite(values).all():
            raise ValueError(
                f"Expected finite features of shape {expected}, found shape {values.shape}, "
                f"{int((~np.isfinite(values)).sum())} of them not finite."
            )
        if self.folder is None:
            self.values[rows] = values
        else:
            offset = int(getattr(self.values, "offset", 0)) + rows.start * self.values.strides[0]
            with (self.folder / VALUES).open("r+b") as file:
                file.seek(offset)
                file.write(values.data)
                file.flush()
                os.fsync(file.fileno())
        self.done = _joined([*self.done, (rows.start, rows.stop)])
        if self.folder is not None:
            _write_manifest(self.folder, self.facts | {"done": self.done})

    def fill(
        self, encode: Callable[[slice], NDArray[np.float32]], *, batch_size: int, progress: bool = True
    ) -> NDArray[np.float32]:
        """Encode what is missing, batch by batch in threads, and get all features.

        Parameters
        ----------
        encode
            From rows to their features.
        batch_size
            Rows at a time: bounds the memory.
        progress
            Whether to show a progress bar where it takes longer than two seconds.
        """
        batches = list(self.missing(batch_size))
        if self.done and batches:
            logger.info("%d of %d places are encoded already.", sum(b - a for a, b in self.done), len(self.values))
        with progress_bar(sum(b.stop - b.start for b in batches), "histology", "places", shown=progress) as bar:
            for rows, values in zip(batches, in_parallel(encode, ((b,) for b in batches)), strict=True):
                self.put(rows, values)
                bar.update(len(values))
        return self.features()

    def features(self) -> NDArray[np.float32]:
        """Get all features, shape (n_places, width), once none is missing; those of a file are mapped."""
        if self.done != [(0, len(self.values))] and len(self.values):
            raise RuntimeError(f"Features of {len(self.values)} places are not all there: rows {self.done}.")
        if self.folder is None:
            return self.values
        # mapped anew: on some file systems the first map does not show what was written since
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


def _create(own: Path, facts: dict[str, Any]) -> None:
    """Make the folder of some features, whole or not at all."""
    own.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{own.name}-", dir=own.parent))
    try:
        shape = tuple(facts["shape"])
        with (new / VALUES).open("wb") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 4 * shape[0] * shape[1])
        _write_manifest(new, facts | {"done": []})
        new.rename(own)
    except OSError:
        if not own.is_dir():  # another process that was faster is as good
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _whole(own: Path, facts: dict[str, Any]) -> bool:
    """Tell whether a folder holds these features, and files of the right size."""
    try:
        found = _manifest(own)
        values = np.load(own / VALUES, mmap_mode="r")
    except (OSError, ValueError, KeyError):
        return False
    same = {name: found.get(name) for name in facts} == json.loads(json.dumps(facts))
    return same and list(values.shape) == facts["shape"] and values.dtype == np.float32 and "done" in found


def _manifest(own: Path) -> dict[str, Any]:
    """Read the manifest."""
    return dict(json.loads((own / MANIFEST).read_text(encoding="utf-8")))


def _write_manifest(own: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest as a whole."""
    new = own / f".{MANIFEST}.{os.getpid()}"
    with new.open("w", encoding="utf-8") as file:
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(own / MANIFEST)
