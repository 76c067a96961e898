"""Checks of data and options; their errors say what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
import importlib
import logging
import math
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from anndata import AnnData

    from stmmr._core.types import Float32

logger = logging.getLogger("stmmr")
FIRST: Final = {
    **dict.fromkeys((keys.DOMAIN, keys.CONFIDENCE, keys.ALTERNATIVE, keys.EMBEDDING), "stmmr.run"),
    **dict.fromkeys((keys.PSEUDOTIME, keys.BRANCH), "stmmr.tl.trajectory"),
    keys.DOMAIN_REFINED: "stmmr.tl.refine",
    keys.PATCH: "stmmr.pp.histology",
    keys.UMAP: "stmmr.tl.umap",
}
"""Function that writes a key, where the caller names none."""
ROWS = 2**17
"""Rows that are checked at a time."""


class InputError(ValueError):
    """The data or an option cannot be used; the message says what to do."""


def shown_bytes(n_bytes: float) -> str:
    """Write a size in kB, MB or GB, such as "1.5 GB" and "300 MB"."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e6 else f"{max(n_bytes / 1e3, 1):.0f} kB"


def printable(text: str) -> str:
    """Write line breaks and other control characters, such as those that steer a terminal, as in Python."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(names: Iterable[object], *, at_most: int = 12) -> str:
    """Join names for a message; of more than `at_most`, the first ones and their number."""
    texts = [printable(str(name)) for name in names]
    more = f", … ({len(texts)} in all)" if len(texts) > at_most else ""
    return (", ".join(texts[:at_most]) or "nothing") + more


def did_you_mean(close: Iterable[str]) -> str:
    """Ask about similar names at the end of a message; empty if there are none."""
    names = " or ".join(map(repr, close))
    return f" Did you mean {names}?" if names else ""


def require_key(mapping: Mapping[str, Any] | Iterable[str], key: str, *, where: str, hint: str = "") -> None:
    """Check that a key exists.

    Raises InputError if it does not; the message lists the keys that exist and suggests a similar one.
    """
    names = [str(name) for name in mapping]
    if isinstance(key, str) and key in names:
        return
    hint = hint or (f"Run {FIRST[key]}(adata) first." if isinstance(key, str) and key in FIRST else "")
    # the key of a step that did not run is no misspelling
    is_step = where == "uns['stmmr']" or str(key) in keys.OUTPUTS
    close = [] if is_step else difflib.get_close_matches(str(key), names, n=1)
    raise InputError(
        f"Expected the key {key!r} in {where}, found {listed(names)}.{did_you_mean(close)}{' ' + hint if hint else ''}"
    )


def require_step(adata: AnnData, name: str, *, by: str) -> dict[str, Any]:
    """Get the record of a step in ``uns["stmmr"]``.

    Raises InputError if the step did not run; the message names the function `by` that runs it.
    """
    steps = recorded(adata)
    require_key(steps, name, where="uns['stmmr']", hint=f"Run {by}(adata) first.")
    return _Notes(name, by, steps[name])


class _Notes(dict[str, Any]):
    """The record of a step, in which a missing note is an InputError."""

    def __init__(self, step: str, by: str, notes: Mapping[str, Any]) -> None:
        super().__init__(notes)
        self._step, self._by = step, by

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"Expected {key!r} among the notes of uns['stmmr'][{self._step!r}], found {listed(self)}. Run "
            f"{self._by}(adata) again."
        )


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
    """Import an optional package.

    Raises ImportError if it is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]  # maybe a package that this one imports
        raise ImportError(f"{missing} is not installed; run: pip install 'stmmr-kit[{extra}]'") from error


def unique_names(adata: AnnData) -> None:
    """Make the names of spots and genes unique, with a warning if they were not; ``raw`` gets the same names."""
    from stmmr._core.space import rows_called

    as_in_raw = adata.raw is not None and adata.raw.var_names.equals(adata.var_names)
    for named, names, make_unique in (
        (rows_called(adata)[:-1], adata.obs_names, adata.obs_names_make_unique),
        ("gene", adata.var_names, adata.var_names_make_unique),
    ):
        if not names.is_unique:
            repeated = int(names.duplicated().sum())
            logger.warning("%d %s names occur more than once; they were made unique by a suffix.", repeated, named)
            make_unique()
            if named == "gene" and as_in_raw:
                adata.raw.var.index = adata.var_names


def representation(adata: AnnData, key: str) -> Float32:
    """Get a representation of ``obsm``, checked, shape (n_obs, n_components).

    Raises InputError if it does not exist, has no columns, or holds values that are not finite.
    """
    import numpy as np

    from stmmr._core.space import rows_called

    require_key(adata.obsm, key, where="obsm")
    matrix: Any = adata.obsm[key]
    values = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected a matrix with columns in obsm[{key!r}], found shape {values.shape}.")
    starts = range(0, len(values), ROWS)
    bad = sum(int((~np.isfinite(values[start : start + ROWS])).any(axis=1).sum()) for start in starts)
    if bad:
        raise InputError(
            f"Expected finite values in obsm[{key!r}], found NaN or infinite ones in {bad} {rows_called(adata)}."
        )
    return values
