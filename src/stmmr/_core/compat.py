"""What differs between the versions of anndata that stmmr runs on.

``layers`` lists ``X`` under None from anndata 0.13 on, and files take no "/" in a key from then on (zarr stores never
did). In files and in ``uns["stmmr"]`` it is therefore written as "%2F"; what stmmr reads has the names as they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stmmr._core import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData


def names_in(matrices: Iterable[str | None]) -> list[str]:
    """List the names in ``layers``, ``obsm`` or ``obsp``, without the None of ``X``."""
    return [name for name in matrices if name is not None]


def layers_of(adata: AnnData) -> dict[str, Any]:
    """Get the layers by name, without ``X``; of a view, copies of its rows."""
    return {name: adata.layers[name] for name in names_in(adata.layers)}


def libraries_of(adata: AnnData) -> dict[str, Any]:
    """Get the libraries of ``uns["spatial"]`` by name, also of a file that anndata itself read."""
    return {unescaped(name): library for name, library in adata.uns.get(keys.SPATIAL, {}).items()}


def escaped(name: str) -> str:
    """Write a name without "/": "T/NK" as "T%2FNK". A "%2F" that is in it already becomes "%252F"."""
    return re.sub(r"%((?:25)*2F)", r"%25\1", name).replace("/", "%2F")


def unescaped(name: str) -> str:
    """Undo `escaped`."""
    return re.sub(r"%25((?:25)*2F)", r"%\1", name.replace("%2F", "/"))


def renamed(tree: Any, rename: Callable[[str], str]) -> Any:
    """Rename the keys of nested mappings and the columns of the tables in them; what it is given stays as it is."""
    if isinstance(tree, Mapping):
        return {_text(key, rename): renamed(value, rename) for key, value in tree.items()}
    return _table(tree, rename) if _is_table(tree) else tree


def write_escaped(store: Any, key: str, content: Any, **options: Any) -> None:
    """Write an element as ``anndata.io.write_elem`` does, with the names of `escaped`."""
    from anndata.experimental import write_dispatched

    def write(function: Any, group: Any, name: str, element: Any, *, dataset_kwargs: Any, **_: Any) -> None:
        # what `stmmr._core.record` noted has such names already
        if f"/{keys.UNS}/" not in f"{group.name}/{name}/":
            if isinstance(element, Mapping):
                element = {_text(part, escaped): value for part, value in element.items()}
            elif _is_table(element):
                element = _table(element, escaped)
        function(group, name, element, dataset_kwargs=dataset_kwargs)

    write_dispatched(store, key, content, callback=write, **options)


def restore_names(adata: AnnData) -> None:
    """Undo `escaped` in what was read of a file that stmmr wrote."""
    if keys.UNS not in adata.uns:
        return
    adata.obs, adata.var = _table(adata.obs, unescaped), _table(adata.var, unescaped)
    rename_nested(adata, unescaped)


def rename_nested(adata: AnnData, rename: Callable[[str], str]) -> None:
    """Rename the columns of tables in ``obsm`` and ``varm``, and what ``uns`` holds besides the record of stmmr."""
    for matrices in (adata.obsm, adata.varm):
        for name in list(matrices):
            if _is_table(matrices[name]):
                matrices[name] = _table(matrices[name], rename)
    adata.uns = renamed_uns(adata.uns, rename)


def renamed_uns(uns: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Rename what ``uns`` holds besides the record of stmmr, whose names `stmmr._core.record` escapes itself."""
    kept = {name: value for name, value in uns.items() if name == keys.UNS}
    return dict(renamed(uns, rename)) | kept


def _text(name: Any, rename: Callable[[str], str]) -> Any:
    return rename(name) if isinstance(name, str) else name


def _is_table(value: Any) -> bool:
    import pandas as pd  # `import stmmr` stays light

    return isinstance(value, pd.DataFrame)


def _table(table: Any, rename: Callable[[str], str]) -> Any:
    """Rename the columns and the index of a data frame; the same one where no name changes."""
    columns, index = [_text(name, rename) for name in table.columns], _text(table.index.name, rename)
    if columns == list(table.columns) and index == table.index.name:
        return table
    return table.set_axis(columns, axis=1).rename_axis(index=index)
