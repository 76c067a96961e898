"""What no file could hold: changed or left out before a run, so that this is known before it and not after it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import logger
from stmmr._core.compat import write_escaped
from stmmr.io._flat import storable

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

SMALL_ROWS: Final = 100
"""Rows that are tried of arrays and tables; of text and objects, all are."""


def leave_out_unstorable(adata: AnnData) -> None:
    """Change what files hold in another form, and leave out, with a warning, what no file could hold.

    Columns of several types become text, columns without any value missing numbers, and keys of mappings text. Each
    part is then tried on a small copy in memory.
    """
    adata.obs, adata.var = _named(adata.obs, "obs"), _named(adata.var, "var")
    if adata.raw is not None:
        _make_raw_storable(adata)
    for name in ("obsm", "varm", "uns"):
        container = getattr(adata, name)
        for key in list(container):
            value = container[key]
            changed = _storable_parts(value)
            if changed is not value or not isinstance(key, str):
                del container[key]
                container[str(key)] = changed
    _try_each(adata)


def _try_each(adata: AnnData) -> None:
    """Write each part of an AnnData to memory, and leave out those that cannot be written."""
    import h5py

    with h5py.File(io.BytesIO(), "w") as file:
        number = 0
        for name in ("obs", "var", "obsm", "varm", "uns"):
            container = getattr(adata, name)
            for key in list(container):
                number += 1
                try:
                    value = _small(container[[key]] if name in ("obs", "var") else container[key])
                    write_escaped(file, str(number), value)
                except Exception as error:  # noqa: BLE001 - whatever a writer raises
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    logger.warning("%s[%r] cannot be stored in a file and is left out (%s).", name, key, reason)
                    del container[key]


def _named(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Give columns names that files can hold: each once, and none without one."""
    table = table.copy()
    if not table.columns.is_unique:
        logger.warning("Columns of %s that are there twice get a number.", where)
        seen: dict[object, int] = {}
        names = []
        for name in table.columns:
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}-{seen[name] - 1}")
        table = table.set_axis(names, axis=1)
    if "" in table.columns:
        logger.warning("A column of %s without a name is left out.", where)
        table = table.drop(columns="")
    return storable(table)


def _make_raw_storable(adata: AnnData) -> None:
    from anndata import AnnData

    var = storable(adata.raw.var.copy())
    if not var.equals(adata.raw.var):
        adata.raw = AnnData(adata.raw.X, obs=adata.obs[[]], var=var)


def _storable_parts(value: Any) -> Any:
    """Change tables and keys, also those in mappings, into what files can hold; the same where nothing changes."""
    if isinstance(value, Mapping):
        parts = {str(key): _storable_parts(part) for key, part in value.items()}
        is_same = list(parts) == list(value) and all(parts[key] is value[key] for key in parts)
        return value if is_same else parts
    if hasattr(value, "select_dtypes") and len(text := value.select_dtypes(["object", "string"]).columns):
        table = storable(value.copy())
        missing = [name for name in text if table[name].dtype == object and table[name].isna().any()]
        return table.astype(dict.fromkeys(missing, "category"))
    return value


def _small(value: Any) -> Any:
    """Get the beginning of arrays and tables, also of those in mappings."""
    if isinstance(value, Mapping):
        return {key: _small(part) for key, part in value.items()}
    is_long = getattr(value, "ndim", 0) and hasattr(value, "dtype") and getattr(value.dtype, "kind", "") != "O"
    part = value[:SMALL_ROWS] if is_long else value
    if hasattr(part, "select_dtypes"):  # text is written as categories
        part = part.astype(dict.fromkeys(part.select_dtypes(["object", "string"]).columns, "category"))
    return part
