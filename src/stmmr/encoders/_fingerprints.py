"""Fingerprints: short strings that differ between images and models."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from stmmr._core.fingerprints import digest, file_fingerprint, fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stmmr.encoders._protocol import Encoder


def image_fingerprint(image: str | Path | NDArray[np.generic]) -> str:
    """Compute a string that differs between images.

    A file or folder (zarr) is identified by its modification time and its content, of more than 256 MB by sizes, inodes
    and both ends of a file; an array by its values.
    """
    if isinstance(image, (str, Path)):
        return digest({"file": file_fingerprint(Path(image)), "time": Path(image).stat().st_mtime_ns})
    return digest({"shape": list(image.shape), "dtype": str(image.dtype), "values": fingerprint(image)})


def files_fingerprint(files: list[Path]) -> str:
    """Hash files by their names and contents."""
    hashed = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            hashed.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()


def encoder_fingerprint(encoder: Encoder) -> str | None:
    """Get the fingerprint of an encoder, or None if it has none: its features are not stored on disk."""
    fingerprint = getattr(encoder, "fingerprint", None)
    return None if fingerprint is None else str(fingerprint)
