"""Hashes of what results were computed from, each named as "obs:stmmr_domain"."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core.fingerprints import fingerprint
from stmmr._core.order import taken, tissue_order
from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from stmmr._core.types import Ints

DECISIVE: Final = {"spatial_graph": ("use", "coordinates", "bandwidth", "tolerance", "section_key")}
"""What results depend on of the records that they are computed from; the rest describes these."""
_kept: ContextVar[tuple[AnnData, dict[str, str]] | None] = ContextVar("hashes of unchanged data", default=None)


@contextmanager
def unchanged(adata: AnnData) -> Iterator[None]:
    """Hash each source of data only once in a block that changes none: of a million spots, each takes half a second."""
    before = _kept.set((adata, {}))
    try:
        yield
    finally:
        _kept.reset(before)


def is_there(adata: AnnData, name: str) -> bool:
    """Check whether the data have what is named."""
    container, name = str(name).split(":", 1)
    kind, _, one = name.partition(":")
    if container == "notes":
        note = recorded(adata).get(kind)
        return note is not None and (not one or one in note)
    return name in getattr(adata, container)


def hashed(adata: AnnData, source: str, order: Ints) -> str:
    """Hash the values of a source, whatever the order of rows and categories."""
    data, hashes = _kept.get() or (None, {})
    if data is not adata:
        return _hashed(adata, source, order)
    if source not in hashes:
        hashes[source] = _hashed(adata, source, order)
    return hashes[source]


def _hashed(adata: AnnData, source: str, order: Ints) -> str:
    container, name = source.split(":", 1)
    if not is_there(adata, source) or (container == "notes" and name not in DECISIVE):
        return "missing"
    if container == "notes":
        note = recorded(adata)[name]
        return fingerprint([str(note.get(field, "")) for field in DECISIVE[name]])
    values: Any = getattr(adata, container)[name]
    if container == "uns":
        return fingerprint(pd.util.hash_pandas_object(values).to_numpy())
    if container == "obs" and not pd.api.types.is_numeric_dtype(values.dtype):
        used = pd.Categorical(values).remove_unused_categories()
        names = used.categories.astype(str)
        rank = np.append(np.argsort(np.argsort(names)), -1)
        return fingerprint([sorted(names), rank[used.codes][order]])
    return fingerprint(taken(np.asarray(values) if isinstance(values, pd.DataFrame | pd.Series) else values, order))


def partition_of(adata: AnnData, key: str) -> str:
    """Hash the groups of a column of ``obs``, whatever their names."""
    order = tissue_order(adata)
    codes = pd.factorize(pd.Categorical(adata.obs[key]).codes[order])[0]
    return fingerprint(codes)
