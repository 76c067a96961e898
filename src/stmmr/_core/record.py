"""The record of each step in ``uns["stmmr"]``: its parameters and what it chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.compat import escaped, renamed, unescaped

if TYPE_CHECKING:
    from anndata import AnnData


def record(adata: AnnData, **steps: Any) -> None:
    """Record steps, each under its name; an earlier record of that name is replaced."""
    # a new dict: the one at hand may belong to the AnnData that `adata` is a view of
    adata.uns[keys.UNS] = renamed({**recorded(adata), **steps}, escaped)


def drop_results(adata: AnnData, *steps: keys.Step) -> None:
    """Remove what some steps of an earlier run wrote, so that it is not taken for results of a new one."""
    for key in keys.KEYS:
        if key.step in steps and key.container != "notes" and key.name in getattr(adata, key.container):
            del getattr(adata, key.container)[key.name]
    notes = set(keys.names_of("notes", *steps))
    if notes & set(recorded(adata)):
        left = {name: note for name, note in recorded(adata).items() if name not in notes}
        adata.uns[keys.UNS] = renamed(left, escaped)


def recorded(adata: AnnData) -> dict[str, Any]:
    """Get the records of all steps so far. Do not change them."""
    return dict(renamed(adata.uns.get(keys.UNS, {}), unescaped))
