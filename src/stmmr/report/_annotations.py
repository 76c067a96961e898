"""Cell types and labels of experts in ``obs``, and what they say about a domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import PALETTE, UNTOLD, categories, hex_colors
from stmmr._core.sections import section_key_of

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Bools, Ints

ANNOTATION: Final = re.compile(r"cell.?(type|class)|annot|ground.?truth|label|layer|region|subclass", re.IGNORECASE)
"""Names of columns with cell types or labels of experts."""
ANNOTATIONS_AT_MOST: Final = 3
LIKE_FROM: Final = 0.5
"""Share of the annotated spots of a domain from which a label names it."""
LIKE_ENRICHED: Final = 1.5
"""Ratio of this share to that in all annotated spots."""
ANNOTATED_FROM: Final = 0.5
"""Share of the spots of a domain that must be annotated."""
PARTS: Final = 5
"""Number of labels of a domain that are named."""


class Part(NamedTuple):
    """A share of a domain."""

    name: str
    share: float
    color: str = ""


def annotation_keys(adata: AnnData) -> list[str]:
    """Find the columns of ``obs`` with cell types or labels of experts: first those that domains were compared with."""
    compared = [
        source.removeprefix("obs:")
        for step, entry in adata.uns.get(keys.DEPENDS, {}).items()
        if str(step).startswith("evaluation:")
        for source in entry.get("on", {})
    ]
    named = [str(name) for name in adata.obs.columns if ANNOTATION.search(str(name))]
    found: list[str] = []
    seen: list[Ints] = []
    for key in dict.fromkeys([*compared, *named]):
        if key not in adata.obs or key.startswith("stmmr_") or key == section_key_of(adata):
            continue
        if pd.api.types.is_numeric_dtype(adata.obs[key].dtype):
            continue
        if _same_names(adata.obs[key], adata.obs[keys.DOMAIN]):
            continue  # a column that is the domains tells nothing about them
        used = categories(adata, key).remove_unused_categories()
        if 2 <= len(used.categories) <= len(PALETTE) and not any(same_partition(used.codes, codes) for codes in seen):
            found.append(key)
            seen.append(used.codes)
    return found[:ANNOTATIONS_AT_MOST]


def _same_names(column: pd.Series, other: pd.Series) -> bool:
    """Check whether all spots have the same text in two columns, a pair of texts at a time."""
    values = [pd.Categorical(texts) for texts in (column, other)]
    names, others = (np.append(texts.categories.astype(str), "nan") for texts in values)
    pairs = pd.DataFrame({"name": values[0].codes, "other": values[1].codes}).drop_duplicates().to_numpy()
    return bool((names[pairs[:, 0]] == others[pairs[:, 1]]).all())


def same_partition(codes: Ints, others: Ints) -> bool:
    """Check whether two columns divide the spots in the same way."""
    pairs = len(pd.DataFrame({"code": codes, "other": others}).drop_duplicates())
    return pairs == len(np.unique(codes)) == len(np.unique(others))


def like_of(inside: Bools, column: pd.Categorical) -> str:
    """Get the label that most annotated spots of a domain have, if it tells the domain from the rest."""
    codes = column.codes[inside & (column.codes >= 0)]
    if len(codes) < ANNOTATED_FROM * inside.sum():
        return ""
    most = int(np.bincount(codes).argmax())
    share, overall = np.mean(codes == most), np.mean(column.codes[column.codes >= 0] == most)
    name = str(column.categories[most])
    if share < LIKE_FROM or share < LIKE_ENRICHED * overall or name.strip().casefold() in UNTOLD:
        return ""
    return f"{name.replace('_', ' ')}-like"


def parts_of(adata: AnnData, key: str, inside: Bools, column: pd.Categorical) -> list[Part]:
    """Get the most frequent labels of a domain, with their share of its annotated spots."""
    colors = hex_colors(adata, key, column.categories)
    counts = np.bincount(column.codes[inside & (column.codes >= 0)], minlength=len(column.categories))
    order = [code for code in np.argsort(-counts, kind="stable")[:PARTS] if counts[code]]
    return [Part(str(column.categories[code]), float(counts[code] / counts.sum()), colors[code]) for code in order]
