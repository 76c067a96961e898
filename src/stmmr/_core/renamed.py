"""Functions under the names that they had before."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def former_names(module: str, **functions: Callable[..., Any]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module that finds renamed functions, with a warning, by their former names."""

    def find(name: str) -> Any:
        if name not in functions:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        function = functions[name]
        warnings.warn(f"{name} was renamed: use {function.__name__}.", FutureWarning, stacklevel=2)
        return function

    return find
