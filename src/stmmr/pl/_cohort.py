"""Comparisons between groups of sections, cell types of domains, and genes of conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING
from stmmr._core.checks import InputError, require_key
from stmmr._core.depends import warn_outdated
from stmmr._core.record import recorded
from stmmr.pl._axes import add_legend, drawing, text_width
from stmmr.pl.canvas import new_axes, pt, pt2
from stmmr.tl.designs import section_groups

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_CELL: Final = 0.26
"""Inches from one row or column of a heat map to the next."""
_ROW: Final = 0.36
"""Inches from one domain to the next."""
_SIGNIFICANT: Final = 0.05
_GROUP_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito, which people with colour blindness tell apart."""


@drawing
def composition_tests(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the share of each domain in each section as dots, and the mean of each group of sections as a line.

    Domains whose adjusted p-value is below 0.05 are marked by a star.

    Parameters
    ----------
    adata
        After `stmmr.analyse` with `group_key`.

    Raises
    ------
    InputError
        If there is no table.
    """
    tests = _table(adata, keys.COMPOSITION_TESTS, "composition", by="stmmr.analyse(adata, group_key='…')")
    step, table = recorded(adata)["composition"], adata.uns[keys.COMPOSITION]
    group = section_groups(adata, str(step["section_key"]), group_key=str(step["group_key"]))
    share = table.pivot_table("share", "section", "domain", observed=False, sort=False)
    share.index, share.columns = share.index.astype(str), share.columns.astype(str)
    names = sorted(map(str, group.unique()))
    colors = {name: _GROUP_COLORS[i % len(_GROUP_COLORS)] for i, name in enumerate(names)}
    domains = [name for name in tests["domain"].astype(str) if name in share]
    if ax is None:
        ax = new_axes(4.0 + text_width(*domains) + text_width(*names), 0.8 + _ROW * max(len(domains), 3))
    for number, (name, color) in enumerate(colors.items()):
        sections = group.index[group.astype(str) == name].astype(str)
        offset = 0.5 * ((number + 1) / (len(names) + 1) - 0.5)
        for row, domain in enumerate(domains):
            values = share.loc[sections, domain].to_numpy()
            ax.scatter(values, np.full(len(values), row + offset), pt2(12), color=color, linewidths=0)
            ax.vlines(values.mean(), row + offset - 0.12, row + offset + 0.12, color=color, linewidth=pt(1.5))
    adjusted = tests.set_index(tests["domain"].astype(str))["pval_adj"]
    labels = [f"{domain} *" if adjusted[domain] < _SIGNIFICANT else domain for domain in domains]
    ax.set_yticks(range(len(domains)), labels, fontsize="small")
    ax.set(ylim=(len(domains) - 0.5, -0.5), xlabel="Share of the section", ylabel="Domain (*: adjusted p < 0.05)")
    ax.spines[["right", "top"]].set_visible(False)
    add_legend(ax, colors, title=str(step["group_key"]))
    return ax


@drawing
def contacts(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the statistic of each pair of domains that `stmmr.tl.compare_contacts` tested, as a heat map.

    Pairs whose adjusted p-value is below 0.05 are marked by a star.

    Parameters
    ----------
    adata
        After `stmmr.tl.compare_contacts`.

    Raises
    ------
    InputError
        If there is no table.
    """
    table = _table(adata, keys.CONTACT_TESTS, "contact_tests", by="stmmr.tl.compare_contacts(adata, …)")
    both = pd.concat([table, table.rename(columns={"domain": "other", "other": "domain"})])
    first, *others = [name.removeprefix("log2_ratio_") for name in map(str, table) if name.startswith("log2_ratio_")]
    label = f"t: more in {first} > 0, more in {others[0]} < 0" if len(others) == 1 else "F"
    return _heat_map(both, rows="domain", columns="other", value="statistic", label=label, ax=ax)


@drawing
def cell_types(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw how much more frequent each cell type is in each domain than in all of the tissue, as a heat map.

    Entries whose adjusted p-value is below 0.05 are marked by a star.

    Parameters
    ----------
    adata
        After `stmmr.tl.cell_types`.

    Raises
    ------
    InputError
        If there is no table.
    """
    table = _table(adata, keys.CELL_TYPES, "cell_types", by="stmmr.tl.cell_types(adata, …)")
    label = "log₂ share / share in all"
    return _heat_map(table, rows="domain", columns="cell_type", value="log2_ratio", label=label, ax=ax)


@drawing
def condition_genes(adata: AnnData, *, n_genes: int = 3, ax: Axes | None = None) -> Axes:
    """Draw the fold changes of the genes that differ most between conditions, in each domain, as a heat map.

    Of several conditions, the first one against the reference is drawn. Entries whose adjusted p-value is below 0.05
    are marked by a star.

    Parameters
    ----------
    adata
        After `stmmr.tl.condition_genes`.
    n_genes
        Number of genes of each domain.

    Raises
    ------
    InputError
        If there is no table, or no gene has a p-value.
    """
    table = _table(adata, keys.CONDITION_GENES, "condition_genes", by="stmmr.tl.condition_genes(adata, …)")
    table = table[(table["condition"] == table["condition"].iloc[0]) & table["pval"].notna()]
    if table.empty:
        raise InputError("Expected genes with a p-value, found none.")
    best = table.groupby("domain", observed=True, sort=False).head(int(n_genes))["gene"].unique()
    shown = table[table["gene"].isin(best)].astype({"gene": str, "domain": str})
    label = f"log₂ fold change, {table['condition'].iloc[0]} against {table['against'].iloc[0]}"
    return _heat_map(shown, rows="domain", columns="gene", value="log2_fold_change", label=label, ax=ax)


def _table(adata: AnnData, key: str, result: str, *, by: str) -> pd.DataFrame:
    """Get the table of a result, with a warning if it is outdated; `by` is the call that writes it."""
    require_key(adata.uns, key, where="uns", hint=f"Run {by} first.")
    warn_outdated(adata, result)
    table: pd.DataFrame = adata.uns[key]
    return table


def _heat_map(table: pd.DataFrame, *, rows: str, columns: str, value: str, label: str, ax: Axes | None) -> Axes:
    """Draw values of pairs, centred on 0, with a star where the adjusted p-value is small."""
    table = table.drop_duplicates([rows, columns])
    values = table.pivot_table(value, rows, columns, observed=True, sort=False, dropna=False)
    adjusted = table.pivot_table("pval_adj", rows, columns, observed=True, sort=False, dropna=False)
    adjusted = adjusted.reindex_like(values)
    names, others = values.index.astype(str).tolist(), values.columns.astype(str).tolist()
    if ax is None:
        ax = new_axes(1.6 + text_width(*names) + _CELL * len(others), 0.7 + text_width(*others) + _CELL * len(names))
    largest = float(np.nanmax(np.abs(values.to_numpy()), initial=0)) or 1.0
    ax.set_facecolor(MISSING)
    image = ax.imshow(values.to_numpy(np.float64), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    for row, column in zip(*np.nonzero(adjusted.to_numpy() < _SIGNIFICANT), strict=True):
        ax.text(column, row, "*", ha="center", va="center", fontsize="small")
    ax.set_xticks(range(len(others)), others, rotation=90, fontsize="small")
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.tick_params(length=0)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.04)
    bar.set_label(label, fontsize="small")
    return ax
