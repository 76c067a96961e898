"""What each result was computed from, so that it is removed once that has changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.compat import escaped, renamed, unescaped
from stmmr._core.order import tissue_order
from stmmr._core.record import notes_a_result, record, recorded
from stmmr._core.sources import hashed, is_there, partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData

    from stmmr._core.types import Ints

Step = TypeVar("Step", bound="Callable[..., Any]")
NAMES: dict[str, str] = {
    "X_stmmr_umap": "UMAP",
    "domain_genes_pseudobulk": "domain genes by pseudo-bulk",
    "annotation": "names and notes of domains",
    "alternative": "second answer",
}
"""Names of results in messages, where they are not those of their records."""
ONE: Final = "*"
"""Stands for the name of one result of a kind."""
OF_GENES: Final = (("uns", ONE, "domain"), ("notes", "domain_genes", ONE, "domains"))
HOLD_NAMES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "refine": (("obs", ONE),),
    "alternative": (("obs", ONE),),
    "domain_genes": OF_GENES,
    "domain_genes_pseudobulk": (OF_GENES[0], ("notes", "domain_genes_pseudobulk", ONE, "domains")),
    "enrichment": (("uns", ONE, "domain"),),
    "trajectory": (
        ("obs", keys.BRANCH), ("notes", "trajectory", "domains"), ("notes", "trajectory", "root_domain")
    ),
    "gene_trends": (("notes", "gene_trends", "to_domain"),),
    "composition": (("uns", keys.COMPOSITION, "domain"), ("uns", keys.COMPOSITION_TESTS, "domain")),
    "contact_tests": (("uns", keys.CONTACT_TESTS, "domain"), ("uns", keys.CONTACT_TESTS, "other")),
    "cell_types": (("uns", keys.CELL_TYPES, "domain"),),
    "condition_genes": (("uns", keys.CONDITION_GENES, "domain"), ("notes", "condition_genes", "domains")),
    "evaluation": (),
    "annotation": (("uns", ONE, "domain"), ("notes", "annotation", ONE, "into")),
}  # fmt: skip
"""Where each kind of result holds the names of domains. If domains are only renamed, the names there follow; results of
other kinds are removed."""


def depends(adata: AnnData, result: str, *, on: Iterable[str], writes: Iterable[str], **facts: str) -> None:
    """Record what a result was computed from, after it was written.

    Parameters
    ----------
    adata
        The data that hold both.
    result
        Name of the result; one of several of a kind is named as "domain_genes:my_genes".
    on
        What it was computed from, each as "obs:stmmr_domain"; of "notes:", records in ``uns["stmmr"]``, what decides.
        First the column of domains whose names it holds.
    writes
        What belongs to it, in the same form.
    **facts
        Further facts about it, for `facts_about`.
    """
    if keys.UNS not in adata.uns:  # no result of stmmr
        return
    order = tissue_order(adata)
    sources = [source for source in on if source]
    entry = {
        "on": {source: hashed(adata, source, order) for source in sources},
        "groups": _groups(adata, sources[0], order) if sources and _has_groups(adata, sources[0]) else {},
        "writes": list(writes),
        "n_obs": adata.n_obs,
        "facts": facts,
    }
    _store(adata, {**_entries(adata), result: entry})


def facts_about(adata: AnnData, result: str) -> dict[str, str]:
    """Get further facts about a result."""
    return dict(_entries(adata).get(result, {}).get("facts", {}))


def add_facts(adata: AnnData, result: str, **facts: str) -> None:
    """Add facts about a result."""
    entries = _entries(adata)
    if result in entries:
        _store(adata, {**entries, result: {**entries[result], "facts": {**facts_about(adata, result), **facts}}})


def _entries(adata: AnnData) -> dict[str, Any]:
    """Get what was noted about each result; InputError if something else is there."""
    noted = adata.uns.get(keys.DEPENDS, {})
    if not isinstance(noted, Mapping) or not all(map(notes_a_result, noted.values())):
        raise InputError(
            f"Expected what stmmr notes about its results in uns[{keys.DEPENDS!r}], found something else. Compute the "
            f"domains and their results again, after: del adata.uns[{keys.DEPENDS!r}]."
        )
    return dict(renamed(noted, unescaped))


def _store(adata: AnnData, entries: dict[str, Any]) -> None:
    adata.uns[keys.DEPENDS] = renamed(entries, escaped)


def outdated(adata: AnnData) -> dict[str, list[str]]:
    """Find the results whose sources have changed since, with these sources.

    The order of rows, and that of categories, is no change. After a selection of rows, results of single spots hold.
    """
    entries = {
        result: entry
        for result, entry in _entries(adata).items()
        if any(is_there(adata, written) for written in entry["writes"])
    }
    order = tissue_order(adata) if entries else np.arange(0)
    now: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for result, entry in entries.items():
        if int(entry["n_obs"]) != adata.n_obs:
            changed = [] if all(map(_is_of_spots, entry["writes"])) else ["the selection of rows"]
        else:
            now |= {name: hashed(adata, name, order) for name in entry["on"] if name not in now}
            changed = [_shown(name) for name, before in entry["on"].items() if now[name] != before]
        if changed:
            found[result] = changed
    return found


def drop_outdated(adata: AnnData, *, quiet: bool = False) -> list[str]:
    """Remove results whose sources have changed, so that they are not taken for results of these; get what was removed.

    A warning names them, unless `quiet`. If groups of spots were only renamed, their results follow instead.
    """
    follow_renames(adata)
    entries = _entries(adata)
    there = {name: entry for name, entry in entries.items() if any(is_there(adata, each) for each in entry["writes"])}
    if len(there) < len(entries):
        _store(adata, there)
    dropped: dict[str, list[str]] = {}
    while found := outdated(adata):  # what was computed from a removed result is outdated as well
        for result in found:
            _drop(adata, result)
        dropped |= found
    if dropped and not quiet:
        logger.warning(
            "Removed results that were computed before %s changed: %s. Compute them again.",
            listed(dict.fromkeys(name for names in dropped.values() for name in names)),
            called(*dropped),
        )
    return list(dropped)


def warn_outdated(adata: AnnData, *results: str) -> None:
    """Warn about results that are read although their sources have changed."""
    follow_renames(adata)
    found = outdated(adata)
    for result in results:
        if result in found:
            logger.warning(
                "%s: computed before %s changed. Compute them again.",
                _called(result).capitalize(), listed(found[result]),
            )  # fmt: skip


def follow_renames(adata: AnnData) -> None:
    """Give results the new names of groups that were renamed by hand since they were computed."""
    entries = {result: entry for result, entry in _entries(adata).items() if int(entry["n_obs"]) == adata.n_obs}
    if adata.is_view or not any(entry.get("groups") for entry in entries.values()):
        return
    order, now = tissue_order(adata), dict[str, dict[str, Any]]()
    names: dict[str, tuple[str, Mapping[str, str]]] = {}
    for result, entry in entries.items():
        before = entry.get("groups")
        if not before or not _has_groups(adata, source := str(before["source"])):
            continue
        if source not in now:
            now[source] = _groups(adata, source, order)
        if _only_renamed(before, now[source]):
            names[result] = source, dict(zip(before["names"], now[source]["names"], strict=True))
    rename_groups(adata, names)


def rename_groups(adata: AnnData, names: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
    """Rename groups of spots in results, and in results that were computed from these.

    Parameters
    ----------
    adata
        Its columns of ``obs`` have the new names already.
    names
        For each result the source that holds the groups, and the new name of each.
    """
    remaining = dict(names)
    while remaining:
        result, (source, new) = remaining.popitem()
        kind, _, one = result.partition(":")
        if kind not in HOLD_NAMES:
            continue
        order = tissue_order(adata)
        renamed_parts = [f"{container}:{one if name == ONE else name}" for container, name, *_ in HOLD_NAMES[kind]]
        readers = {
            part: [reader for reader, other in _entries(adata).items() if other["on"].get(part) == now]
            for part in renamed_parts
            if (now := hashed(adata, part, order)) != "missing"
        }
        for path in HOLD_NAMES[kind]:
            _rename_at(adata, [one if part == ONE else part for part in path], new)
        _refresh(adata, result, source)
        remaining |= {reader: (part, new) for part, found in readers.items() for reader in found}


def named_by(adata: AnnData, source: str) -> list[str]:
    """Get the results that hold the names of the groups of a source, such as "obs:stmmr_domain"."""
    return [result for result, entry in _entries(adata).items() if (entry.get("groups") or {}).get("source") == source]


def sources_of_all(adata: AnnData) -> dict[str, list[str]]:
    """Get what each result was computed from."""
    return {result: list(entry["on"]) for result, entry in _entries(adata).items()}


def called(*results: str) -> str:
    """Name results in a message."""
    return listed([_called(result) for result in results], at_most=12)


def _only_renamed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether groups have the same spots as before under other names."""
    old, new = list(before["names"]), list(now["names"])
    return (
        before["partition"] == now["partition"]
        and old != new
        and [not name for name in old] == [not name for name in new]
    )


def _refresh(adata: AnnData, result: str, source: str) -> None:
    """Record a source of a result as it is now."""
    entries, order = _entries(adata), tissue_order(adata)
    entry = entries[result] | {"on": entries[result]["on"] | {source: hashed(adata, source, order)}}
    if _has_groups(adata, source):
        entry["groups"] = _groups(adata, source, order)
    _store(adata, {**entries, result: entry})


def _rename_at(adata: AnnData, path: list[str], new: Mapping[str, str]) -> None:
    """Rename groups in a column of ``obs``, in one of a table in ``uns``, or in a note."""
    container, name, *rest = path
    if container == "notes":
        notes = recorded(adata)
        if name in notes:
            record(adata, **{name: _renamed_inside(notes[name], rest, new)})
    elif name in getattr(adata, container):
        values = getattr(adata, container)[name]
        if rest:
            values = values.assign(**{rest[0]: renamed_names(values[rest[0]].array, new)})
        getattr(adata, container)[name] = values if rest else renamed_names(values.array, new)


def _renamed_inside(note: Any, path: list[str], new: Mapping[str, str]) -> Any:
    if not path:
        names = [new.get(str(name), str(name)) for name in np.ravel(note)]
        return names[0] if isinstance(note, str) else np.array(names, dtype=object)
    return {name: _renamed_inside(part, path[1:], new) if name == path[0] else part for name, part in note.items()}


def renamed_names(values: Any, new: Mapping[str, str]) -> Any:
    """Get a column with other names; "1 to 4", the name of a branch, has two of them."""
    names = pd.Categorical(values)
    categories = [_renamed_name(str(name), new) for name in names.categories]
    renamed_column = pd.Categorical.from_codes(names.codes, pd.Index(categories), ordered=names.ordered)
    return renamed_column if isinstance(values, pd.Categorical) else np.asarray(renamed_column.astype(object))


def _renamed_name(name: str, new: Mapping[str, str]) -> str:
    if name in new:
        return new[name]
    parts = name.split(" to ")
    for i in range(1, len(parts)):
        first, last = " to ".join(parts[:i]), " to ".join(parts[i:])
        if first in new and last in new:
            return f"{new[first]} to {new[last]}"
    return name


def clears_outdated(step: Step) -> Step:
    """Remove results that a step makes outdated, once it has written its own."""

    @wraps(step)
    def clearing(adata: AnnData, *args: Any, **options: Any) -> Any:
        result = step(adata, *args, **options)
        drop_outdated(adata)
        return result

    return cast("Step", clearing)


def _drop(adata: AnnData, result: str) -> None:
    notes = recorded(adata)
    entries = _entries(adata)
    for written in entries.pop(result)["writes"]:
        container, name = str(written).split(":", 1)
        if container == "notes":
            kind, _, one = name.partition(":")
            rest = {key: note for key, note in notes.get(kind, {}).items() if one and key != one}
            notes.pop(kind, None)
            notes |= {kind: rest} if rest else {}
        elif name in getattr(adata, container):
            del getattr(adata, container)[name]
    adata.uns[keys.UNS] = {}
    record(adata, **notes)
    _store(adata, entries)


def _called(result: str) -> str:
    kind, _, one = result.partition(":")
    return NAMES.get(kind, kind.replace("_", " ")) + (f" ({one})" if one and one not in vars(keys).values() else "")


def _shown(source: str) -> str:
    container, _, name = source.partition(":")
    return f"uns[{keys.UNS!r}][{name!r}]" if container == "notes" else f"{container}[{name!r}]"


def _is_of_spots(written: str) -> bool:
    """Check whether values hold for the remaining spots when some are dropped."""
    container, name = str(written).split(":", 1)
    return keys.Key(cast("keys.Container", container), name.split(":")[0], "analysis").survives_subset


def _has_groups(adata: AnnData, source: str) -> bool:
    container, _, name = source.partition(":")
    return container == "obs" and name in adata.obs and not pd.api.types.is_numeric_dtype(adata.obs[name].dtype)


def _groups(adata: AnnData, source: str, order: Ints) -> dict[str, Any]:
    """Describe the groups of a column of ``obs``: which spots are together, and the names in the order of the tissue.

    The name of missing values is empty.
    """
    key = source.partition(":")[2]
    values = pd.Categorical(adata.obs[key])
    first = pd.unique(values.codes[order])
    names = [str(values.categories[int(code)]) if code >= 0 else "" for code in first]
    return {"source": source, "partition": partition_of(adata, key), "names": np.array(names, dtype=object)}
