"""The checks behind every clear error: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import importlib
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr import _keys
from stmmr._record import recorded

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
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"Expected {name} to be a positive number, found {value!r}.")


def require_extra(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or name the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]  # maybe of what the package itself imports
        raise ImportError(f"{missing} is not installed; run: pip install 'stmmr[{extra}]'") from error


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


def coordinates(adata: AnnData) -> NDArray[np.float64]:
    """Get the coordinates of the places, checked.

    ``obsm["spatial"]`` where there is one, otherwise ``array_col`` and ``array_row`` of ``obs``. On a hexagonal
    array, such as Visium's, rows lie √3 columns apart: there y is √3 ``array_row``, so that the six neighbours of
    a place are equally far.

    Returns
    -------
    Coordinates, shape (n_obs, 2), as x, y; without ``obsm["spatial"]`` in steps of ``array_col``.

    Raises
    ------
    InputError
        If there are none, one is missing, or all places lie at one point.
    """
    if _keys.SPATIAL in adata.obsm:
        where = f"obsm[{_keys.SPATIAL!r}]"
        xy = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    elif {_keys.ARRAY_ROW, _keys.ARRAY_COL} <= set(adata.obs.columns):
        where = "obs['array_col'] and obs['array_row']"
        xy = adata.obs[[_keys.ARRAY_COL, _keys.ARRAY_ROW]].to_numpy(dtype=np.float64)
    else:
        raise InputError(
            "Expected coordinates in obsm['spatial'] (x, y), or array_row and array_col in obs; found obsm keys: "
            f"{listed(adata.obsm)}; obs columns: {listed(adata.obs.columns)}. Put the coordinates in "
            "adata.obsm['spatial']."
        )
    if xy.ndim != 2 or xy.shape[1] < 2:
        raise InputError(f"Expected {where} with two columns (x, y), found shape {xy.shape}.")
    xy = xy[:, :2]
    if _keys.SPATIAL not in adata.obsm and is_hexagonal(xy):
        xy = xy * [1, math.sqrt(3)]
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        raise InputError(
            f"Expected finite coordinates in {where}, found {int(bad.sum())} of {len(xy)} places without "
            f"(first: {adata.obs_names[int(bad.argmax())]}). Drop these places first."
        )
    if len(xy) > 1 and np.ptp(xy, axis=0).max() == 0:
        raise InputError(
            f"Expected places that lie apart in {where}, found all {len(xy)} at one point ({xy[0, 0]:g}, {xy[0, 1]:g})."
        )
    return xy


def is_hexagonal(array: NDArray[np.float64]) -> bool:
    """Tell whether array positions, shape (n_obs, 2), are those of a hexagonal array.

    There, even rows have even columns only and odd rows odd ones, or the other way round.
    """
    parity = array % 2
    whole = np.isin(parity, (0, 1)).all()
    # rows of one parity only are as well every second row of a square array
    return bool(whole and np.ptp(parity[:, 1]) == 1 and np.ptp(parity.sum(axis=1) % 2) == 0)


def representation(adata: AnnData, key: str) -> NDArray[np.float32]:
    """Get a representation of ``obsm`` as float32, checked."""
    require_key(adata.obsm, key, where="obsm")
    found: Any = adata.obsm[key]
    values = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected obsm[{key!r}] with one row per place, found shape {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise InputError(f"Expected finite values in obsm[{key!r}], found NaN or infinite ones at {bad} places.")
    return values
