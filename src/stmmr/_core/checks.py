"""The checks behind every clear error: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import importlib
import logging
import math
from typing import TYPE_CHECKING, Any

from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")


class InputError(ValueError):
    """The data or an option cannot be used as given; the message says what to do."""


def listed(names: Iterable[object], *, at_most: int = 12) -> str:
    """Join names for a message, cut after a dozen."""
    texts = [str(name) for name in names]
    more = f", … ({len(texts)} in all)" if len(texts) > at_most else ""
    return (", ".join(texts[:at_most]) or "nothing") + more


def require_key(mapping: Mapping[str, Any] | Iterable[str], key: str, *, where: str, hint: str = "") -> None:
    """Check that a key is there.

    Raises
    ------
    InputError
        If it is not; names the keys there are and, where one is close, a suggestion.
    """
    names = [str(name) for name in mapping]
    if key in names:
        return
    close = difflib.get_close_matches(key, names, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    raise InputError(
        f"Expected the key {key!r} in {where}, found {listed(names)}.{suggestion}{' ' + hint if hint else ''}"
    )


def require_step(adata: AnnData, name: str, *, by: str) -> dict[str, Any]:
    """Get what a step noted in ``uns["stmmr"]``, or name the function `by` that runs it."""
    steps = recorded(adata)
    require_key(steps, name, where="uns['stmmr']", hint=f"Run {by}(adata) first.")
    return dict(steps[name])


def require_choice(value: str, choices: Iterable[str], *, name: str) -> None:
    """Check that an option is one of its choices."""
    choices = list(choices)
    if value not in choices:
        raise InputError(f"Expected {name} to be one of {listed(choices)}, found {value!r}.")


def require_positive(value: float, *, name: str) -> None:
    """Check that a number is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"Expected {name} to be a positive number, found {value!r}.")


def require_extra(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or name the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]  # maybe of what the package itself imports
        raise ImportError(f"{missing} is not installed; run: pip install 'stmmr-kit[{extra}]'") from error


def unique_names(adata: AnnData) -> None:
    """Make the names of places and genes unique, with a warning where they were not."""
    for what, index in (("place", adata.obs_names), ("gene", adata.var_names)):
        if index.is_unique:
            continue
        repeated = int(index.duplicated().sum())
        logger.warning("%d %s names occur more than once; they were made unique by a suffix.", repeated, what)
        if what == "place":
            adata.obs_names_make_unique()
        else:
            adata.var_names_make_unique()


def representation(adata: AnnData, key: str) -> NDArray[np.float32]:
    """Get a representation of ``obsm`` as float32, checked."""
    import numpy as np

    require_key(adata.obsm, key, where="obsm")
    found: Any = adata.obsm[key]
    values = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected obsm[{key!r}] with one row per place, found shape {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise InputError(f"Expected finite values in obsm[{key!r}], found NaN or infinite ones at {bad} places.")
    return values
