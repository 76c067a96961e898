"""What the command line says of options that it cannot read: what it expected, what it found, what to do."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from cyclopts import CycloptsError
from cyclopts import exceptions as refused

from stmmr._core.checks import InputError, did_you_mean, listed

if TYPE_CHECKING:
    from cyclopts import App, Token

VALUES: Final[dict[Any, str]] = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
"""What options of a type take."""


def refusal(error: CycloptsError, app: App) -> InputError:
    """Turn an error of the command line into one with a sentence of ours."""
    command = " ".join(["stmmr", *(error.command_chain or [])])
    if isinstance(error, refused.UnknownCommandError):
        commands = [name for name in app if not name.startswith("-")]
        found = (error.unused_tokens or [""])[0]
        close = difflib.get_close_matches(found, commands, n=1)
        return InputError(f"Expected a command ({listed(commands)}), found {found!r}.{did_you_mean(close)}")
    if isinstance(error, refused.UnknownOptionError):
        found = error.token.keyword or error.token.value
        options = [name for argument in error.argument_collection for name in argument.names if argument.parse]
        close = difflib.get_close_matches(found.partition("=")[0], options, n=1)
        hint = f" Did you mean {close[0]}?" if close else f" {command} --help lists them."
        return InputError(f"Expected options of {command}, found {found}.{hint}")
    if isinstance(error, refused.UnusedCliTokensError):
        found = listed(error.unused_tokens or [])
        return InputError(
            f"Expected no further inputs for {command}, found {found}. Run it once for each; put names with spaces in "
            "quotation marks."
        )
    if isinstance(error, refused.MissingArgumentError) and error.argument is not None:
        named = error.keyword or next((t.keyword for t in reversed(error.argument.tokens) if t.keyword), None)
        name = error.argument.name
        name = name if error.argument.index is None else name.lstrip("-").upper()
        text = str(error.argument.parameter.help or "").split(". ")[0].rstrip(".")
        meaning = f" ({text[:1].lower()}{text[1:]})" if text else ""
        if named:
            return InputError(f"Expected a value after {named}{meaning}, found none.")
        return InputError(f"Expected {name}{meaning} for {command}, found none. Add it; {command} --help shows how.")
    if isinstance(error, refused.CoercionError) and error.argument is not None:
        token = error.token or next(iter(error.argument.tokens), None)
        return InputError(_wrong_value(error.argument.hint, error.argument.name, token))
    error.verbose = False
    return InputError(" ".join(str(error).split()))


def _wrong_value(hint: Any, name: str, token: Token | None) -> str:
    """Tell what an option takes, and what it was given, where."""
    found = "nothing" if token is None else repr(token.value)
    source = f" in {token.source}" if token is not None and token.source not in ("", "cli") else ""
    called = name.lstrip("-").replace("-", "_") if source else name
    choices = [str(choice) for choice in _choices(hint)]
    close = difflib.get_close_matches(token.value, choices, n=1) if token is not None else []
    return f"Expected {called} to be {_described(hint)}, found {found}{source}.{did_you_mean(close)}"


def _parts(hint: Any) -> list[Any]:
    """Take a type apart into those that a value may have."""
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType, list, tuple):
        return [part for each in get_args(hint) if each not in (NoneType, Ellipsis) for part in _parts(each)]
    return [hint]


def _choices(hint: Any) -> list[Any]:
    return [choice for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]


def _described(hint: Any) -> str:
    words = [VALUES[part] for part in _parts(hint) if part in VALUES]
    words += [f'"{choice}"' for choice in _choices(hint)]
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "a text"
