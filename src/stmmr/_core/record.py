"""What each step notes about itself in ``uns["stmmr"]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmmr._core import keys
from stmmr._core.compat import escaped, renamed, unescaped

if TYPE_CHECKING:
    from anndata import AnnData


def record(adata: AnnData, **steps: Any) -> None:
    """Note what steps did, each under its name; a name that is there already is replaced."""
    # a new dict: the one at hand may belong to the AnnData that `adata` is a view of
    adata.uns[keys.UNS] = renamed({**recorded(adata), **steps}, escaped)


def recorded(adata: AnnData) -> dict[str, Any]:
    """Get what the steps so far have noted, to be read only."""
    return dict(renamed(adata.uns.get(keys.UNS, {}), unescaped))
