"""How a command ends: an error as one sentence, and its exit status."""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

INVALID: Final = 1
"""Exit status after an error of the input or of the machine."""
PARTLY: Final = 3
"""Exit status if only optional parts failed."""


@contextmanager
def errors_as_sentences(worded: Callable[[str], str]) -> Iterator[None]:
    """End the process on an error with one sentence, which `worded` may change, and an exit status."""
    try:
        yield
    except (InputError, ImportError, FloatingPointError, OSError) as error:
        _end(worded("\n".join([_sentence(error), *getattr(error, "__notes__", [])])), INVALID)


def end_partly(failed: Mapping[str, Exception], output: Path, worded: Callable[[str], str]) -> None:
    """End the process with one sentence, which `worded` may change, if optional parts failed."""
    if failed:
        parts = "; ".join(f"{part} failed ({reason_of(error)})" for part, error in failed.items())
        _end(f"{worded(parts)}. All other results are in {output}; stmmr analyse {output} … adds analyses.", PARTLY)


def reason_of(error: Exception) -> str:
    """Get the first line of the message of an error, or what kind of error it is."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _end(sentence: str, status: int) -> None:
    sys.stderr.write(f"stmmr: {sentence}\n")
    sys.exit(status)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            "Expected room for the results, found the disk or your quota full. Free some space or choose another "
            "--output."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"Expected to read and write {error.filename or 'files'}, found: {error.strerror}. Choose another path."
    return str(error)
