"""What differs between the versions of anndata that stmmr runs on.

``layers`` lists ``X`` under None from anndata 0.13 on, and files take no "/" in a key from then on (zarr stores never
did). In files and in ``uns["stmmr"]`` it is therefore written as "%2F"; what stmmr reads has the names as they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stmmr._core import keys

LIBRARY_PARTS = ("images", "scalefactors", "metadata")
"""Mappings in a library of ``uns["spatial"]``."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from anndata import AnnData


def names_in(matrices: Iterable[str | None]) -> list[str]:
    """List the names in ``layers``, ``obsm`` or ``obsp``, without the None of ``X``."""
    return [name for name in matrices if name is not None]


def layers_of(adata: AnnData) -> dict[str, Any]:
    """Get the layers by name, without ``X``; of a view, copies of its rows."""
    return {name: adata.layers[name] for name in names_in(adata.layers)}


def libraries_of(adata: AnnData) -> dict[str, Any]:
    """Get the libraries of ``uns["spatial"]`` by name: those of the spots that are there, if ``obs`` names them.

    Files of others hold more or less in ``uns["spatial"]``: flags beside the libraries, a library without a name, scale
    factors in arrays of one, the libraries of sections that were left out, or no library at all.
    """
    content = adata.uns.get(keys.SPATIAL)
    if not isinstance(content, Mapping):
        return {}
    if "images" in content or "scalefactors" in content:
        content = {"library": content}
    libraries = dict(_libraries(content))
    if len(libraries) > 1 and (present := _names_in_obs(adata, libraries)):
        return {name: library for name, library in libraries.items() if name in present}
    return libraries


def _libraries(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find libraries in ``uns["spatial"]``; files nest those whose names have a slash."""
    for name, part in content.items():
        if not isinstance(part, Mapping):
            continue
        own = unescaped(f"{prefix}{name}")
        if part and not set(LIBRARY_PARTS) & part.keys() and all(isinstance(value, Mapping) for value in part.values()):
            yield from _libraries(part, f"{own}/")
        else:
            yield own, _library(part)


def _library(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get a library with scale factors that are numbers, and without parts of other types."""
    parts = {name: part for name, part in content.items() if name not in LIBRARY_PARTS or isinstance(part, Mapping)}
    if "images" in parts:  # paths of files, maybe
        parts["images"] = {name: image for name, image in parts["images"].items() if getattr(image, "ndim", 0) > 1}
    if "scalefactors" in parts:
        factors = {name: _number(value) for name, value in parts["scalefactors"].items()}
        parts["scalefactors"] = {name: value for name, value in factors.items() if value is not None}
    return parts


def _number(value: Any) -> Any:
    """Get a scale factor as a number, also from text or an array of one; None from larger arrays and mappings."""
    value = value.item() if getattr(value, "size", 0) == 1 else value
    with suppress(TypeError, ValueError):
        value = float(value) if isinstance(value, str) else value
    return None if hasattr(value, "__len__") else value


def _names_in_obs(adata: AnnData, libraries: Iterable[str]) -> set[str]:
    """Get the names of libraries that a column of ``obs`` gives the spots; empty if there is no such column."""
    for _, column in adata.obs.select_dtypes(["category", "object", "string"]).items():
        names = {unescaped(str(name)) for name in column.dropna().unique()}
        if names and names <= set(libraries):
            return names
    return set()


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
