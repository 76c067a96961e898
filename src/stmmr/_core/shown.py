"""Another column of domains in the place of those of stmmr, for figures, tables and the report."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import require_key
from stmmr._core.colors import set_colors
from stmmr._core.compat import escaped, renamed
from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData

OF_FOUND: Final = ("consensus", "domains", "transfer", "number_of_domains", "refine")
"""Notes that describe how the domains of stmmr were found."""


DESCRIBED: Final[dict[str, tuple[str, ...]]] = {
    keys.DOMAIN_GENES: ("domain_genes", keys.DOMAIN_GENES),
    keys.ENRICHMENT: ("domain_genes", keys.DOMAIN_GENES),
    keys.DOMAIN_GENES_PSEUDOBULK: ("domain_genes_pseudobulk", keys.DOMAIN_GENES_PSEUDOBULK),
    keys.COMPOSITION: ("composition",),
    keys.CONTACT_TESTS: ("contact_tests",),
    keys.CELL_TYPES: ("cell_types",),
    keys.CONDITION_GENES: ("condition_genes",),
}
"""Tables in ``uns`` about domains, and where the notes tell of which."""


def domain_key_of(adata: AnnData, result: str) -> str:
    """Get the column of domains that a result describes; that of stmmr if it does not tell.

    `result` is a key of its table in ``uns``, "trajectory" or "domain_tree".
    """
    step: Any = recorded(adata)
    for name in DESCRIBED.get(result, (result,)):
        step = step.get(name) or {}
    return str(step.get("domain_key", keys.DOMAIN))


@contextmanager
def domains_shown(adata: AnnData, domain_key: str) -> Iterator[AnnData]:
    """Let a column of ``obs`` be the domains, without results that describe others, and put all back at the end.

    Yields
    ------
    The data; a copy, if they are a view.
    """
    require_key(adata.obs.columns, domain_key, where="obs", hint="Run stmmr.run(adata) first.")
    others = _of_other_domains(adata, domain_key)
    if domain_key == keys.DOMAIN and not others:
        yield adata
        return
    if adata.is_view:
        adata = adata.copy()
    obs, uns = adata.obs, adata.uns
    try:
        adata.obs = obs.drop(columns=[name for name in others if name in obs])
        adata.uns = {name: value for name, value in uns.items() if name not in (*others, keys.DEPENDS)}
        adata.uns[keys.UNS] = renamed(_notes(recorded(adata), others, domain_key), escaped)
        if domain_key != keys.DOMAIN:
            _take_place(adata, domain_key)
        yield adata
    finally:
        adata.obs, adata.uns = obs, uns


def _of_other_domains(adata: AnnData, domain_key: str) -> set[str]:
    """Get the keys and notes that describe other domains."""
    others: set[str] = set()
    for table in DESCRIBED:
        if table in adata.uns and domain_key_of(adata, table) != domain_key:
            others |= {table, keys.COMPOSITION_TESTS} if table == keys.COMPOSITION else {table}
    notes = recorded(adata)
    if "trajectory" in notes and domain_key_of(adata, "trajectory") != domain_key:
        others |= {"trajectory", "gene_trends", keys.PSEUDOTIME, keys.BRANCH}
    if "domain_tree" in notes and domain_key_of(adata, "domain_tree") != domain_key:
        others.add("domain_tree")
    if domain_key != keys.DOMAIN:
        others |= {
            keys.CONFIDENCE,
            keys.ALTERNATIVE,
            keys.DOMAIN_REFINED,
            keys.DOMAIN_COLORS,
            keys.DOMAIN_NOTES,
            *OF_FOUND,
        }
    return others - {domain_key}


def _notes(notes: dict[str, Any], others: set[str], domain_key: str) -> dict[str, Any]:
    """Get the notes about the domains, as if they were those of stmmr."""
    kept = {name: note for name, note in notes.items() if name not in others}
    for kind in ("domain_genes", "domain_genes_pseudobulk", "annotation", "evaluation", "enrichment"):
        if kind in kept:
            kept[kind] = _renamed({one: part for one, part in kept[kind].items() if one not in others}, domain_key)
    for kind in ("trajectory", "composition", "domain_tree", "contact_tests", "cell_types", "condition_genes"):
        if kind in kept:
            kept[kind] = _as_domains(kept[kind], domain_key)
    if domain_key != keys.DOMAIN:
        kept["domains"] = {"taken_from": domain_key}
    return kept


def _renamed(parts: Mapping[str, Any], domain_key: str) -> dict[str, Any]:
    """Get notes about a column of domains under the name of those of stmmr."""
    if domain_key != keys.DOMAIN:
        parts = {name: part for name, part in parts.items() if name not in (keys.DOMAIN, keys.DOMAIN_NOTES)}
    names = {domain_key: keys.DOMAIN, f"{domain_key}_notes": keys.DOMAIN_NOTES}
    return {names.get(name, name): _as_domains(part, domain_key) for name, part in parts.items()}


def _as_domains(note: Any, domain_key: str) -> Any:
    return note | {"domain_key": keys.DOMAIN} if note.get("domain_key") == domain_key else note


def _take_place(adata: AnnData, domain_key: str) -> None:
    values = categories(adata, domain_key)
    values = values.rename_categories({name: str(name) for name in values.categories})
    adata.obs[keys.DOMAIN] = values
    for ending in ("colors", "notes"):
        if f"{domain_key}_{ending}" in adata.uns:
            adata.uns[f"{keys.DOMAIN}_{ending}"] = adata.uns[f"{domain_key}_{ending}"]
    own: Any = adata.uns.get(keys.DOMAIN_COLORS)
    if own is None or len(own) < len(values.categories):
        set_colors(adata, keys.DOMAIN)
