"""Tables of the page: evaluation, settings, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.categories import title_of
from stmmr._core.record import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

SCORES: Final = {
    "ari": ("Adjusted Rand index", "1"),
    "nmi": ("Normalised mutual information", "1"),
    "homogeneity": ("Homogeneity", "1"),
    "completeness": ("Completeness", "1"),
    "chaos": ("CHAOS, scatter in space", "0"),
    "pas": ("PAS, share of abnormal spots", "0"),
    "n_labelled": ("Number annotated", ""),
    "n_domains": ("Domains", ""),
}
LONG: Final = 12
"""Largest number of entries of a list that is shown."""


def evaluation_table(adata: AnnData) -> tuple[list[str], list[tuple[str, str, list[str]]]] | None:
    """Get the scores of each evaluated column; None without an evaluation."""
    evaluation: Mapping[str, Mapping[str, float]] = recorded(adata).get("evaluation", {})
    if not evaluation:
        return None
    rows = [(*SCORES[name], [shown(scores.get(name)) for scores in evaluation.values()]) for name in SCORES]
    return [title_of(key) for key in evaluation], rows


def settings_groups(adata: AnnData, facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Get the settings of each step without long lists, which are drawn as curves."""
    options = {name: value for name, value in facts.get("options", {}).items() if value is not None}
    groups = [("options", options)] if options else []
    steps = {name: step for name, step in recorded(adata).items() if name != "history"}
    single = {name: step for name, step in steps.items() if not isinstance(step, dict)}
    costs = {name.replace("_", " "): steps.pop(name) for name in ("seconds", "peak_memory_mb") if name in steps}
    groups += [(name.replace("_", " "), step) for name, step in steps.items() if name not in single]
    groups.append(("time and memory", costs | single))
    return [(name, rows) for name, step in groups if (rows := _flat(step))]


def _flat(step: Mapping[str, object], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in step.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{name}: ")
        elif np.size(np.asarray(value, dtype=object)) <= LONG:
            rows.append((before + str(name), shown(value)))
    return rows


def shown(value: object) -> str:
    """Format a value."""
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(shown(entry) for entry in np.ravel(np.asarray(value, dtype=object))) or "none"
    if value is None or (isinstance(value, str) and not value):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)
