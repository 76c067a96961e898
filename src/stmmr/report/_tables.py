"""The tables of the page: domains, evaluation, settings, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.categories import categories, hex_colors, title_of
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.version import VERSION
from stmmr.report._genes import top_genes
from stmmr.report._layers import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

OF_RESULTS: Final = ("anndata", "numpy", "scanpy", "scikit-image", "scikit-learn", "scipy", "torch")
PACKAGES: Final = tuple(sorted((*OF_RESULTS, "bokeh", "umap-learn")))
"""Packages that shape the results, and the page as well."""
SCORES: Final = {
    "ari": ("Adjusted Rand index", "1 is best"),
    "nmi": ("Normalised mutual information", "1 is best"),
    "homogeneity": ("Homogeneity", "1 is best"),
    "completeness": ("Completeness", "1 is best"),
    "chaos": ("CHAOS, scatter in space", "0 is best"),
    "pas": ("PAS, spots unlike their neighbours", "0 is best"),
    "n_labelled": ("Spots with a label", ""),
    "n_domains": ("Domains", ""),
}
LONG: Final = 12
"""Entries of a list that are written out."""


def domain_rows(adata: AnnData) -> list[dict[str, Any]]:
    """Describe each domain that has spots, in the order of the categories."""
    domains = categories(adata, keys.DOMAIN)
    colors = hex_colors(adata, keys.DOMAIN, domains.categories)
    sure = numbers_of(adata, keys.CONFIDENCE) if keys.CONFIDENCE in adata.obs else np.full(adata.n_obs, np.nan)
    sections, genes = graph_sections(adata), top_genes(adata)
    rows = []
    for code, name in enumerate(domains.categories):
        inside = domains.codes == code
        if not inside.any():
            continue
        known = sure[inside & np.isfinite(sure)]
        rows.append(
            {
                "code": code,
                "name": str(name),
                "color": colors[code],
                "n": int(inside.sum()),
                "share": float(inside.mean()),
                "confidence": float(known.mean()) if len(known) else None,
                "sections": None if sections is None else len(np.unique(sections.codes[inside])),
                "genes": genes.get(str(name), []),
            }
        )
    return rows


def evaluation_table(adata: AnnData) -> tuple[list[str], list[tuple[str, str, list[str]]]] | None:
    """Get the scores by what was compared; None where nothing was."""
    found: Mapping[str, Mapping[str, Any]] = recorded(adata).get("evaluation", {})
    if not found:
        return None
    rows = [(*SCORES[name], [shown(scores.get(name)) for scores in found.values()]) for name in SCORES]
    return [title_of(key) for key in found], rows


def settings_groups(adata: AnnData, facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Get the settings of each step; long lists, which the curves show, are left out."""
    options = {name: value for name, value in facts.get("options", {}).items() if value is not None}
    groups = [("options of the run", options)] if options else []
    steps = {name: step for name, step in recorded(adata).items() if name != "history"}
    single = {name: step for name, step in steps.items() if not isinstance(step, dict)}
    of_run = {name.replace("_", " "): steps.pop(name) for name in ("seconds", "peak_memory_mb") if name in steps}
    groups += [(name.replace("_", " "), step) for name, step in steps.items() if name not in single]
    groups.append(("time and memory", of_run | single))
    return [(name, rows) for name, step in groups if (rows := _flat(step))]


def _flat(step: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in step.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{name}: ")
        elif np.size(value) <= LONG:
            rows.append((before + str(name), shown(value)))
    return rows


def shown(value: Any) -> str:
    """Write a value for readers."""
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(shown(some) for some in np.ravel(np.asarray(value, dtype=object))) or "none"
    if value is None or (isinstance(value, str) and not value):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Collect the versions of what shapes a result; by default of what shapes this page as well."""
    found = {"stmmr": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
