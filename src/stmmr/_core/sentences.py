"""Errors as one sentence each."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def sentence_of(error: Exception) -> str:
    """Describe an error that ends a command."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            "Expected room for the results, found the disk or your quota full. Free some space or choose another "
            "--output."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"Expected to read and write {error.filename or 'files'}, found: {error.strerror}. Choose another path."
    return str(error)


def reason_of(error: Exception) -> str:
    """Get the first line of the message of an error, or what kind of error it is."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def sentence_of_parts(failed: Mapping[str, Exception], output: Path) -> str:
    """Describe which optional parts of a result failed."""
    parts = "; ".join(f"{part} failed ({reason_of(error)})" for part, error in failed.items())
    return f"{parts}. All other results are in {output}; stmmr analyse {output} … adds analyses."
