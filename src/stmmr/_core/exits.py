"""How a command ends: an error as one sentence, and its exit status."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

INVALID: Final = 1
"""Exit status after an error of the input or of the machine."""
PARTLY: Final = 3
"""Exit status if parts failed that others do not need."""
UNEXPECTED: Final = 70
"""Exit status after any other error."""
REPORTS: Final = "https://github.com/stmmr/stmmr-kit/issues"


@contextmanager
def errors_as_sentences(worded: Callable[[str], str], *, command: str) -> Iterator[None]:
    """End the process on an error with one sentence and an exit status.

    Parameters
    ----------
    worded
        Changes the sentence.
    command
        The command, for the log of an unexpected error.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has ended, as in stmmr info … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 and the number of the signal, as shells count
    except KeyboardInterrupt:
        _end("interrupted. The same command continues after the last finished step.", 130)
    except (InputError, ImportError, FloatingPointError, OSError, MemoryError) as error:
        _end(worded("\n".join([_sentence(error), *getattr(error, "__notes__", [])])), INVALID)
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        _end(_unexpected(error, command), UNEXPECTED)


def end_partly(
    failed: Mapping[str, Exception], output: Path, worded: Callable[[str], str], *, advice: str = ""
) -> None:
    """End the process with one sentence, which `worded` may change, if parts failed."""
    if failed:
        parts = "; ".join(f"{part} failed ({reason_of(error)})" for part, error in failed.items())
        advice = advice or f"stmmr analyse {output} … adds analyses"
        _end(f"{worded(parts)}. All other results are in {output}; {advice}.", PARTLY)


def reason_of(error: Exception) -> str:
    """Get the first line of the message of an error, or what kind of error it is."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _end(sentence: str, status: int) -> None:
    sys.stderr.write(f"stmmr: {sentence}\n")
    sys.exit(status)


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return (
            "Expected enough memory, found too little. Leave the counts on disk (--mode disk, for .h5ad and .zarr), or "
            "use a machine with more memory."
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            "Expected room for the results, found the disk or your quota full. Free some space or choose another "
            "--output."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"Expected to read and write {error.filename or 'files'}, found: {error.strerror}. Choose another path."
    return str(error)


def _unexpected(error: Exception, command: str) -> str:
    """Write the traceback of an unexpected error to a log, and say where it is and how to report it."""
    from stmmr._core.version import versions

    file, path = tempfile.mkstemp(prefix="stmmr-error-", suffix=".log")
    with open(file, "w", encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - it is open already
        log.write(f"{command}\n{versions()}\n" + "".join(traceback.format_exception(error)))
    return (
        f"an error that stmmr does not expect ({type(error).__name__}: {reason_of(error)[:200]}). The details are in "
        f"{path}; please report it with this file at {REPORTS}."
    )
