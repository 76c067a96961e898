"""Messages of the package: warnings and results are shown, unless the program that uses it handles logs itself."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

RESULT: Final = 25
"""Level of the line that says what a run found: above information, below warnings."""
LEVELS: Final = (logging.ERROR, RESULT, logging.INFO, logging.DEBUG)
"""Level from which on messages are shown, by ``stmmr.settings.verbosity``."""
logging.addLevelName(RESULT, "RESULT")
_logger = logging.getLogger("stmmr")


class _Shown(logging.Handler):
    """Print messages where nobody else does: not once the program has set up logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        if not logging.getLogger().handlers:
            prefix = "Warning: " if record.levelno == logging.WARNING else ""
            print(prefix + record.getMessage(), file=sys.stderr)  # noqa: T201


def show_messages() -> None:
    """Print warnings and results from now on; once is enough."""
    if not any(isinstance(handler, _Shown) for handler in _logger.handlers):
        _logger.addHandler(_Shown())
    if _logger.level == logging.NOTSET:
        _logger.setLevel(RESULT)


def verbosity() -> int:
    """Get which messages are shown, 0 to 3."""
    return sum(_logger.level <= level for level in LEVELS) - 1


def set_verbosity(level: int) -> None:
    """Choose which messages are shown.

    Raises ValueError if the level is not 0, 1, 2 or 3.
    """
    if level not in range(len(LEVELS)):
        raise ValueError(
            f"Expected a verbosity of 0 (errors), 1 (warnings and results), 2 (steps) or 3, found {level!r}."
        )
    _logger.setLevel(LEVELS[level])


@contextmanager
def kept_messages() -> Iterator[list[tuple[int, str]]]:
    """Keep level and text of messages, from information on."""
    messages: list[tuple[int, str]] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append((record.levelno, record.getMessage()))  # type: ignore[method-assign]
    level, propagate = _logger.level, _logger.propagate
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    try:
        yield messages
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(level)
        _logger.propagate = propagate


def print_messages(worded: Callable[[str], str]) -> None:
    """Print messages of all packages to the terminal, in the words that `worded` makes of them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # µ and × on a terminal without them
            stream.reconfigure(errors="replace")
    handler = logging.StreamHandler()
    handler.setFormatter(Worded(worded))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own message about a damaged file says less, better


class Worded(logging.Formatter):
    """The text of a message, in other words."""

    def __init__(self, worded: Callable[[str], str]) -> None:
        super().__init__()
        self._worded = worded

    def format(self, record: logging.LogRecord) -> str:
        """Write the text."""
        text = record.getMessage()
        if hasattr(record, "reason_follows"):  # in the sentence at the end
            text = text.partition(" failed: ")[0] + " failed."
        return self._worded(text)


def with_options(text: str, options: Mapping[str, str]) -> str:
    """Name options as on the command line, in a message that names the arguments of Python as well or instead.

    `options` has the option of each argument: "random_state=1 (--seed 1)" becomes "--seed 1", and "random_state" alone
    "--seed". A single word, such as "image", may be one of the sentence: it is replaced at the start only.
    """
    any_name, value = "|".join(options), r"""=('[^']*'|"[^"]*"|\[[^]]*\]|[^\s()]+)"""
    text = re.sub(rf"\b({any_name})({value})? \((--[^()]*)\)", r"\4", text)
    text = re.sub(rf"\(({any_name})({value})?, (--[^()]*)\)", r"(\4)", text)
    text = re.sub(rf"^Expected ({any_name})(?= to be )", lambda match: f"Expected {options[match[1]]}", text)
    words = "|".join(name for name in options if "_" in name)
    # not in a call of Python, nor in a key or the name of a file
    text = re.sub(rf"(?<![\w.'\"/(])(?<!, )({words})=", lambda match: f"{options[match[1]]} ", text)
    return re.sub(rf"(?<![\w.'\"/])({words})(?![\w'\"=(]|\.\w)", lambda match: options[match[1]], text)
