"""JSON files that stmmr wrote, read again: checked against a dataclass, since anyone can change a file."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from stmmr._core.checks import InputError, shown_bytes
from stmmr._core.untrusted import require_regular

if TYPE_CHECKING:
    from pathlib import Path

Kind = TypeVar("Kind")
LARGEST_JSON: Final = 500_000_000
"""Bytes; a model of all genes has one."""


def read_json(path: Path, *, expected: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        If the file is something else, too large, or nested too deeply.
    """
    require_regular(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(shown_bytes(path.stat().st_size))
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"Expected {expected} at {path}, found other content ({error}). Take the file as stmmr wrote it."
        ) from error
    return content


def from_json(kind: type[Kind], content: object, *, where: str) -> Kind:
    """Make a dataclass of what a JSON file holds.

    Parameters
    ----------
    kind
        The dataclass; fields without a default have to be there.
    content
        The values by the names of its fields. Others are ignored, as later versions may write more.
    where
        What the values are and where, for the message.

    Raises
    ------
    InputError
        If a value is missing, or not of the type of its field.
    """
    try:
        return cast("Kind", _made(kind, content, ""))
    except TypeError as error:
        raise InputError(f"Expected {where}, found {error}. Take the file as stmmr wrote it.") from error


def _made(kind: Any, content: Any, name: str) -> Any:
    """Make a dataclass; a TypeError says what is wrong."""
    if not isinstance(content, dict):
        raise TypeError(f"{_shown(content)} for {name or 'all of it'}")
    hints = get_type_hints(kind)
    missing = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING and f.name not in content]
    if missing:
        raise TypeError(f"no {missing[0]!r}")
    present = [f.name for f in fields(kind) if f.name in content]
    return kind(**{each: _value(hints[each], content[each], f"{name}.{each}".strip(".")) for each in present})


def _value(hint: Any, value: Any, name: str) -> Any:
    """Check a value against a type; dataclasses inside are made."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _made(hint, value, name)
    if origin in (Union, UnionType):
        for choice in arguments:
            try:
                return _value(choice, value, name)
            except TypeError:
                continue
    elif origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], part, f"{name}.{key}") for key, part in value.items()}
    elif origin is list and isinstance(value, list):
        return [_value(arguments[0], part, name) for part in value]
    elif (
        hint is Any
        or (origin is Literal and value in arguments)
        or (hint is NoneType and value is None)
        or (hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
        or (hint in (bool, int, str) and type(value) is hint)
    ):
        return value
    raise TypeError(f"{_shown(value)} for {name}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
