"""The record of each step in ``uns["stmmr"]``: its parameters and what it chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.compat import escaped, renamed, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData


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
    """Get the records of all steps so far. Do not change them."""
    return dict(renamed(adata.uns.get(keys.UNS, {}), unescaped))
