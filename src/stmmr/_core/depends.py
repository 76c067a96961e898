"""What each result was computed from, so that it is removed once that has changed."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import listed, logger
from stmmr._core.compat import escaped, renamed, unescaped
from stmmr._core.fingerprints import fingerprint
from stmmr._core.order import taken, tissue_order
from stmmr._core.record import record, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData

    from stmmr._core.types import Ints

Step = TypeVar("Step", bound="Callable[..., Any]")
NAMES: Final = {"X_stmmr_umap": "UMAP", "domain_genes_pseudobulk": "domain genes by pseudo-bulk"}
"""Names of results in messages, where they are not those of their records."""
DECISIVE: Final = {"spatial_graph": ("use", "coordinates", "bandwidth", "tolerance", "section_key")}
"""What results depend on of the records that they are computed from; the rest describes these."""


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
    writes
        What belongs to it, in the same form.
    **facts
        Further facts about it, for `facts_about`.
    """
    if keys.UNS not in adata.uns:  # no result of stmmr
        return
    order = tissue_order(adata)
    entry = {
        "on": {source: _fingerprint(adata, source, order) for source in on if source},
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
    return dict(renamed(adata.uns.get(keys.DEPENDS, {}), unescaped))


def _store(adata: AnnData, entries: dict[str, Any]) -> None:
    adata.uns[keys.DEPENDS] = renamed(entries, escaped)


def outdated(adata: AnnData) -> dict[str, list[str]]:
    """Find the results whose sources have changed since, with these sources.

    The order of rows, and that of categories, is no change. After a selection of rows, results of single spots hold.
    """
    entries = {
        result: entry
        for result, entry in _entries(adata).items()
        if any(_is_there(adata, written) for written in entry["writes"])
    }
    order = tissue_order(adata) if entries else np.arange(0)
    now: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for result, entry in entries.items():
        if int(entry["n_obs"]) != adata.n_obs:
            changed = [] if all(map(_is_of_spots, entry["writes"])) else ["the selection of rows"]
        else:
            now |= {name: _fingerprint(adata, name, order) for name in entry["on"] if name not in now}
            changed = [_shown(name) for name, before in entry["on"].items() if now[name] != before]
        if changed:
            found[result] = changed
    return found


def partition_of(adata: AnnData, key: str) -> str:
    """Hash the groups of a column of ``obs``, whatever their names."""
    order = tissue_order(adata)
    codes = pd.factorize(pd.Categorical(adata.obs[key]).codes[order])[0]
    return fingerprint(codes)


def drop_outdated(adata: AnnData) -> None:
    """Remove results whose sources have changed, with a warning, so that they are not taken for results of these."""
    entries = _entries(adata)
    there = {name: entry for name, entry in entries.items() if any(_is_there(adata, each) for each in entry["writes"])}
    if len(there) < len(entries):
        _store(adata, there)
    dropped: dict[str, list[str]] = {}
    while found := outdated(adata):  # what was computed from a removed result is outdated as well
        for result in found:
            _drop(adata, result)
        dropped |= found
    if dropped:
        logger.warning(
            "Removed results that were computed before %s changed: %s. Compute them again.",
            listed(dict.fromkeys(name for names in dropped.values() for name in names)),
            listed([_called(result) for result in dropped], at_most=12),
        )


def warn_outdated(adata: AnnData, *results: str) -> None:
    """Warn about results that are read although their sources have changed."""
    found = outdated(adata)
    for result in results:
        if result in found:
            logger.warning(
                "%s: computed before %s changed. Compute them again.",
                _called(result).capitalize(), listed(found[result]),
            )  # fmt: skip


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


def _is_there(adata: AnnData, written: str) -> bool:
    container, name = str(written).split(":", 1)
    kind, _, one = name.partition(":")
    if container == "notes":
        note = recorded(adata).get(kind)
        return note is not None and (not one or one in note)
    return name in getattr(adata, container)


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


def _fingerprint(adata: AnnData, source: str, order: Ints) -> str:
    """Hash the values of a source, whatever the order of rows and categories."""
    container, name = source.split(":", 1)
    if not _is_there(adata, source):
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
