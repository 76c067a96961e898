"""Categorical columns of ``obs``: their values, titles and colours."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, did_you_mean, listed, require_key

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

# fmt: off
PALETTE: Final = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#6A0000", "#404055", "#6AFFBF",
    "#005540", "#6A0080", "#EAD4FF", "#AABF80", "#956AFF", "#0015FF", "#6A6A40", "#805580", "#804000", "#D4AAAA",
    "#6A0040", "#AA9555", "#AABFD4", "#EA6A80", "#0055FF", "#8080BF", "#80D4BF", "#AAEA80", "#D40095", "#55806A",
    "#D4002A", "#552A2A", "#8095FF", "#1500AA", "#40D455", "#BF15D4", "#406A6A", "#8015BF", "#AA2A55", "#BF6A55",
    "#956A80", "#AA95BF", "#FF4095", "#6A8040", "#95BFBF", "#802A6A", "#AA0095", "#55402A", "#D495AA", "#FFD4AA",
    "#D48000", "#154015", "#AA806A", "#BFBFFF", "#BFAA95", "#D4EAD4", "#551555", "#958095", "#AA5555", "#95552A",
)
# fmt: on
"""Seven colours of Okabe and Ito (2008), then 13 and 10 whose smallest difference (CIEDE2000) is as large as an
exchange of colours makes it, in normal vision and in simulated protanopia, deuteranopia and tritanopia (Machado 2009):
10.6 among the first 20 (17.7 in normal vision), 7.1 among the first 30 (11.8). Each further colour is the one farthest
from all before it. All are coloured, neither very dark nor very light, and far from the grey of missing values."""

ABSENT: Final = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "none", "null"})
"""Texts that stand for a missing value, as `pandas.read_csv` reads them, in lower case."""
UNTOLD: Final = frozenset({"unknown", "unlabelled", "unlabeled", "unassigned", "unannotated", "undefined", "other"})
"""Names that annotators give what they did not name, in lower case. They are labels, and are warned of."""
MISSING: Final = "#D9D9D9"
"""Colour of a missing value."""
MEASURED: Final = frozenset({keys.CONFIDENCE, keys.PSEUDOTIME, keys.LIBRARY_SIZE})
"""Columns of measurements, also where they happen to be whole numbers."""
_TITLES: Final = {
    keys.DOMAIN: "Domain",
    keys.DOMAIN_REFINED: "Domain, refined",
    keys.CONFIDENCE: "Confidence",
    keys.ALTERNATIVE: "Second answer",
    keys.PATCH: "Image shows",
    keys.PSEUDOTIME: "Pseudotime",
    keys.BRANCH: "Branch",
}


def categories(adata: AnnData, key: str, *, hint: str = "", fractions: bool = False) -> pd.Categorical:
    """Get a column of ``obs`` as categories, in which texts such as ``""``, ``"nan"`` and ``"NA"`` count as missing.

    Raises InputError if the column does not exist, or holds measurements, which have `fractions`.
    """
    import pandas as pd

    require_key(adata.obs.columns, key, where="obs", hint=hint)
    values = pd.Categorical(adata.obs[key])
    is_float = adata.obs[key].dtype.kind == "f"
    if not fractions and is_float and (key in MEASURED or (values.categories % 1 != 0).any()):
        raise InputError(
            f"Expected categories in obs[{key!r}], found numbers with {len(values.categories)} different values. Name "
            "a column of labels; stmmr.pl.values draws numbers."
        )
    return values.remove_categories([name for name in values.categories if is_absent(name)])


def is_absent(name: object) -> bool:
    """Check whether a name is a text that stands for a missing value."""
    return str(name).strip().casefold() in ABSENT


def title_of(key: str) -> str:
    """Get the title of a column of ``obs`` in figures."""
    return _TITLES.get(key, key)


def category_colors(adata: AnnData, key: str, categories: pd.Index) -> Float64:
    """Get one colour for each category, the same in every figure.

    Colours come from ``uns[f"{key}_colors"]``, if it has one for each category: in their order, as scanpy writes it, or
    by name. Otherwise they come from the palette: domain "3" always gets the third colour. ``uns`` is not changed.

    Returns
    -------
    Red, green, blue and opacity from 0 to 1, in the order of the categories, shape (n_categories, 4).

    Raises InputError if there are more categories than colours.
    """
    from matplotlib.colors import is_color_like, to_rgba_array

    own: Any = adata.uns.get(f"{key}_colors", [])
    if isinstance(own, Mapping):
        own = [own.get(name, own.get(str(name))) for name in categories]
    elif isinstance(own, str) or not np.ndim(own):
        own = []
    own = list(own)[: len(categories)]
    if len(own) == len(categories) and all(map(is_color_like, own)):
        return np.asarray(to_rgba_array(own))
    if len(categories) > len(PALETTE):
        raise InputError(
            f"Expected at most {len(PALETTE)} categories in obs[{key!r}], one for each colour, found "
            f"{len(categories)}. Choose another column, or set uns[{key + '_colors'!r}]."
        )
    names = [str(name) for name in categories]
    numbered = all(name.isdecimal() and 1 <= int(name) <= len(PALETTE) for name in names)
    index = [int(name) - 1 for name in names] if numbered else range(len(names))
    return np.asarray(to_rgba_array([PALETTE[i] for i in index]))


def hex_colors(adata: AnnData, key: str, categories: pd.Index) -> list[str]:
    """Get the colours of `category_colors` in hexadecimal notation, such as "#0072b2"."""
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in category_colors(adata, key, categories)]


def notes_of_domains(adata: AnnData, domain_key: str = keys.DOMAIN) -> dict[str, str]:
    """Get the text about each domain that has one."""
    import pandas as pd

    table = adata.uns.get(f"{domain_key}_notes")
    if not isinstance(table, pd.DataFrame) or not {"domain", "note"} <= set(table.columns):
        return {}
    return dict(zip(table["domain"].astype(str), table["note"].astype(str), strict=True))


def require_domains(present: Sequence[str], names: Mapping[str, str], domain_key: str) -> None:
    """Check that domains are there, and tell where their new names are there instead."""
    unknown = {str(name): str(text).strip() for name, text in names.items() if str(name) not in present}
    if not unknown:
        return
    advice = "Give the domains by their present names."
    if applied := sorted({text for text in unknown.values() if text in present}):
        advice = (
            f"Of their new names, {listed(map(repr, applied))} exist already: they may have been applied before. Leave "
            "out what was applied, and give other domains by their present names."
        )
    elif close := difflib.get_close_matches(next(iter(unknown)), present, n=1):
        advice = f"{advice}{did_you_mean(close)}"
    raise InputError(
        f"Expected domains of obs[{domain_key!r}], which are {listed(map(repr, present))}, found "
        f"{listed(map(repr, unknown))}. {advice}"
    )
