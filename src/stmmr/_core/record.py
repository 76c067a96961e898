"""The record of each step in ``uns["stmmr"]``: its parameters and what it chose."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.compat import escaped, renamed, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

RECORDS: Final = frozenset(keys.names_of("notes")) - {"mode"}
"""Steps whose records are mappings."""


def record(adata: AnnData, **steps: Any) -> None:
    """Record steps, each under its name; an earlier record of that name is replaced."""
    # a new dict: the one at hand may belong to the AnnData that `adata` is a view of
    adata.uns[keys.UNS] = renamed({**recorded(adata), **steps}, escaped)


def drop_results(adata: AnnData, written: Iterable[keys.Key]) -> None:
    """Remove what earlier steps wrote, so that it is not taken for results of a new run."""
    notes = set()
    for key in written:
        if key.container == "notes":
            notes.add(key.name)
        elif key.name in getattr(adata, key.container):
            del getattr(adata, key.container)[key.name]
    if notes & set(recorded(adata)):
        left = {name: note for name, note in recorded(adata).items() if name not in notes}
        adata.uns[keys.UNS] = renamed(left, escaped)


def recorded(adata: AnnData) -> dict[str, Any]:
    """Get the records of all steps so far. Do not change them.

    Raises
    ------
    InputError
        If something else is there.
    """
    from stmmr._core.checks import InputError

    steps = adata.uns.get(keys.UNS, {})
    if isinstance(steps, Mapping):
        names = sorted(RECORDS & steps.keys())
        wrong = [f"{keys.UNS!r}][{name!r}" for name in names if not isinstance(steps[name], Mapping)]
    else:
        wrong = [f"{keys.UNS!r}"]
    if wrong:
        raise InputError(
            f"Expected what stmmr notes about its steps in uns[{wrong[0]}], found something else. Remove it: "
            f"del adata.uns[{wrong[0]}]."
        )
    return dict(renamed(steps, unescaped))


def notes_a_result(entry: object) -> bool:
    """Check that an entry of ``uns["stmmr_depends"]`` has the parts that `stmmr._core.depends` writes."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("n_obs"), Integral):
        return False
    on, groups, facts = (entry.get(part, {}) for part in ("on", "groups", "facts"))
    if "on" not in entry or not all(isinstance(part, Mapping) for part in (on, groups, facts)):
        return False
    texts = [*on.values(), *facts.values(), *(groups.get(part) for part in ("source", "partition") if groups)]
    lists = [entry.get("writes"), groups.get("names", ())]
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(values, list | tuple) or getattr(values, "ndim", 0) == 1 for values in lists
    )
