"""The checks behind every clear error: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import importlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

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
    """Check that a key exists.

    Raises
    ------
    InputError
        If it does not; the message lists the keys and suggests a similar one.
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
    """Get the record of a step in ``uns["stmmr"]``, or raise an error that names the function `by` to run."""
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
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"Expected {name} to be a positive number, found {value!r}.")


def require_extra(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or name the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]  # or a package that it imports
        raise ImportError(f"{missing} is not installed; run: pip install 'stmmr[{extra}]'") from error


def unique_names(adata: AnnData) -> None:
    """Make ``obs_names`` and ``var_names`` unique, with a warning if they were not."""
    for attribute, kind in (("obs_names", "row"), ("var_names", "gene")):
        names = getattr(adata, attribute)
        if not names.is_unique:
            repeated = int(names.duplicated().sum())
            logger.warning("%d %s names occur more than once; they were made unique by a suffix.", repeated, kind)
            getattr(adata, f"{attribute}_make_unique")()


def representation(adata: AnnData, key: str) -> NDArray[np.float32]:
    """Get a representation of ``obsm`` as float32, checked."""
    require_key(adata.obsm, key, where="obsm")
    matrix: Any = adata.obsm[key]
    values = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected obsm[{key!r}] with one row per spot, found shape {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise InputError(f"Expected finite values in obsm[{key!r}], found NaN or infinite ones in {bad} rows.")
    return values
