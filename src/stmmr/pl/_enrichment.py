"""Bar plot of enriched gene sets."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, require_key
from stmmr._core.depends import warn_outdated
from stmmr._core.record import recorded
from stmmr.pl._axes import add_legend, colors_of, drawing_domains, n_lines, text_width, wrapped
from stmmr.pl.canvas import new_axes, pt

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_ROW: Final = 0.24
"""Inches from one set to the next."""
_LONGEST: Final = 48
"""Letters of the name of a set; longer names are shortened."""
_LINE: Final = 34
"""Letters of a line of it."""
_LEAST: Final = 1e-300
"""Smallest p-value that is drawn."""


@drawing_domains
def enrichment(
    adata: AnnData, *, n_sets: int = 3, max_pval_adj: float = 0.05, key: str = keys.ENRICHMENT, ax: Axes | None = None
) -> Axes:
    """Draw the most enriched gene sets of each domain: the longer the bar, the smaller the adjusted p-value.

    The number of genes of the domain in the set, and the size of the set, are at the end of each bar.

    Parameters
    ----------
    adata
        After :func:`stmmr.tl.enrichment`.
    n_sets
        Largest number of sets of each domain.
    max_pval_adj
        Largest adjusted p-value of a set that is drawn.

    Raises
    ------
    InputError
        If there is no table, or no set has so small a p-value.
    """
    require_key(adata.uns, key, where="uns", hint="Run stmmr.tl.enrichment(adata, gmt) first.")
    warn_outdated(adata, f"enrichment:{key}")
    table = _leading(adata.uns[key], int(n_sets), max_pval_adj)
    domains = pd.Index(table["domain"].astype(str).unique())
    step = recorded(adata).get("domain_genes", {}).get(keys.DOMAIN_GENES, {})
    colors = dict(zip(domains, colors_of(adata, str(step.get("domain_key", keys.DOMAIN)), domains), strict=True))
    names = [textwrap.shorten(str(name).replace("_", " "), _LONGEST, placeholder="…") for name in table["gene_set"]]
    names = [wrapped(name, _LINE) for name in names]
    if ax is None:
        row = _ROW * n_lines(*names) ** 0.6
        ax = new_axes(3.4 + text_width(*names) + text_width(*domains), 0.7 + row * max(len(table), 5))
    length = -np.log10(np.maximum(table["pval_adj"].to_numpy(np.float64), _LEAST))
    ax.barh(range(len(table)), length, 0.75, color=[colors[str(domain)] for domain in table["domain"]])
    for row, (shared, size) in enumerate(zip(table["n_shared"], table["n_set"], strict=True)):
        text, end = f"{shared} of {size}", (float(length[row]), row)
        ax.annotate(text, end, (pt(4), 0), textcoords="offset points", va="center", fontsize="x-small", color="0.35")
    ax.set_yticks(range(len(table)), names, fontsize="small")
    ax.set(xlim=(0, 1.3 * length.max()), ylim=(len(table) - 0.5, -0.5), xlabel="−log₁₀ adjusted p-value")
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    add_legend(ax, colors, title="Domain")
    return ax


def _leading(table: pd.DataFrame, n_sets: int, max_pval_adj: float) -> pd.DataFrame:
    """Choose the best sets of each domain, domains in the order of the table."""
    small = table[table["pval_adj"] <= max_pval_adj].sort_values("pval_adj", kind="stable")
    if small.empty:
        raise InputError(
            f"Expected gene sets with an adjusted p-value of at most {max_pval_adj:g}, found none among {len(table)}. "
            "Use a larger max_pval_adj, or a file with other sets."
        )
    order = pd.Series({domain: i for i, domain in enumerate(table["domain"].astype(str).unique())})
    best = small.groupby("domain", observed=True, sort=False).head(n_sets)
    return best.iloc[np.argsort(order[best["domain"].astype(str)].to_numpy(), kind="stable")]
