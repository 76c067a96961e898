"""Public files, downloaded once and checked by their SHA-256."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, logger
from stmmr._core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

SECONDS: Final = 30.0
"""Time that a server may be silent."""


def download(url: str, target: Path, *, sha256: str) -> None:
    """Download a file, unless it is there already.

    Parameters
    ----------
    url
        Its address.
    target
        Where it is kept. It appears once it is complete and its content is right.
    sha256
        Hash of its content.

    Raises
    ------
    InputError
        If the server cannot be reached, or sends something else.
    """
    from urllib.error import URLError
    from urllib.request import urlopen

    if target.is_file() and _sha256(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Downloading %s.", url)
    with atomic_write(target) as new:
        try:
            with urlopen(url, timeout=SECONDS) as source, new.open("wb") as file:  # noqa: S310 - addresses are ours
                shutil.copyfileobj(source, file)
        except (URLError, TimeoutError, ConnectionError) as error:
            raise InputError(
                f"Expected a connection to download {url}, found none ({getattr(error, 'reason', error)}). Download it "
                f"on another machine and put it at {target}."
            ) from error
        if (found := _sha256(new)) != sha256:
            raise InputError(
                f"Expected the file with the SHA-256 {sha256[:12]}… at {url}, found {found[:12]}…. The download is "
                "damaged, or the file was replaced. Try again later."
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
