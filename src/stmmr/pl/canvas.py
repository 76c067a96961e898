"""Figures for files: without pyplot and its backend, and with texts as they are."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")
Options = ParamSpec("Options")
LITERAL: Final[Any] = {"text.parse_math": False, "text.usetex": False}
"""Settings of matplotlib by which "$" in the name of a section or gene is no formula."""
_off_screen: ContextVar[bool] = ContextVar("figures for files", default=False)


def literal(draw: Callable[Options, Result]) -> Callable[Options, Result]:
    """Let a function draw texts as they are, never as TeX."""

    @wraps(draw)
    def drawn(*arguments: Options.args, **options: Options.kwargs) -> Result:
        from matplotlib import rc_context

        with rc_context(LITERAL):
            return draw(*arguments, **options)

    return drawn


@contextmanager
def off_screen() -> Iterator[None]:
    """Make new figures outside pyplot, which may have a backend that cannot be used here."""
    before = _off_screen.set(True)
    try:
        yield
    finally:
        _off_screen.reset(before)


def is_off_screen() -> bool:
    """Tell whether new figures are made outside pyplot."""
    return _off_screen.get()
