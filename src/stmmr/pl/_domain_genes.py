"""Dot plot of domain genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.categories import MISSING
from stmmr._core.checks import InputError, did_you_mean, listed, require_key
from stmmr._core.genes import close_names, gene_list
from stmmr._core.record import recorded
from stmmr._core.space import rows_called
from stmmr.pl._axes import LEGEND, colors_of, drawing_domains, text_width
from stmmr.pl.canvas import new_axes, pt, pt2
from stmmr.tl import domain_genes_table, leading_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from stmmr._core.types import Float64

    Against = Literal["neighbors", "rest"]

_CELL: Final = 0.22
"""Inches between genes, and between domains."""
_LARGEST: Final = 130.0
"""Area of the largest dot in square points: a little narrower than a cell."""
_SHARES: Final = (0.25, 0.5, 1.0)
_MARGIN: Final = 0.8
"""Space between the dots and the marks of the domains, in cells."""
_ROWS: Final = 11
"""Height of the legends, in cells."""
_BELOW: Final = 6.5
"""Distance of the second legend from the top, in cells."""


@drawing_domains
def domain_genes(
    adata: AnnData,
    genes: Sequence[str] | None = None,
    *,
    n_genes: int = 3,
    against: Literal["neighbors", "rest"] = "rest",
    key: str = keys.DOMAIN_GENES,
    cmap: str | Colormap = "viridis",
    ax: Axes | None = None,
) -> Axes:
    """Draw the leading genes of each domain as dots: size by the share of spots with the gene, colour by its mean.

    Colours are means of the log-normalised values, scaled for each gene from 0 to its highest domain, so that rare and
    common genes can be compared. Genes are grouped by the domain that they lead, which is marked by its colour.

    Parameters
    ----------
    adata
        After :func:`stmmr.tl.domain_genes`.
    genes
        Names of genes, in this order; None: those of :func:`stmmr.tl.leading_genes`.
    n_genes
        Number of genes of each domain.
    against
        Comparison of the leading genes: "rest" or "neighbors".

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If there is no table, it has no shares and means (as that of `stmmr.tl.domain_genes_pseudobulk`), or a gene is
        not in it.
    """
    table = domain_genes_table(adata, against=against, key=key)
    require_key(table.columns, "share", where=f"the columns of uns[{key!r}]", hint="Run stmmr.tl.domain_genes first.")
    table["domain"] = table["domain"].cat.remove_unused_categories()
    led = _leading(adata, int(n_genes), against, key) if genes is None else dict.fromkeys(_in_table(table, genes), "")
    share, mean = (_matrix(table, list(led), name) for name in ("share", "mean"))
    highest = mean.max(axis=1, keepdims=True)
    relative = np.divide(mean, highest, out=np.zeros_like(mean), where=highest > 0)
    domains = table["domain"].cat.categories
    if ax is None:
        labels = text_width(*led), text_width(*domains.astype(str))
        ax = new_axes(1.8 + labels[0] + _CELL * len(domains), 0.8 + labels[1] + _CELL * max(len(led), _ROWS))
    _dots(ax, relative, share, cmap)
    _name(ax, adata, key, domains, led)
    _explain(ax, rows_called(adata))
    return ax


def _leading(adata: AnnData, n_genes: int, against: Against, key: str) -> dict[str, str]:
    """Choose the leading genes, and get the domain of each; a gene that leads two is drawn once."""
    best = leading_genes(adata, n_genes=n_genes, against=against, key=key)
    led: dict[str, str] = {}
    for domain, genes in best.items():
        led |= {gene: domain for gene in genes if gene not in led}
    if not led:
        raise InputError("Expected genes with a higher mean in a domain than outside, found none.")
    return led


def _in_table(table: pd.DataFrame, genes: Sequence[str]) -> list[str]:
    """Get the names of genes, checked to be in the table."""
    chosen = gene_list(genes)
    names = table["gene"].cat.categories.astype(str).tolist()
    missing = [gene for gene in chosen if gene not in set(names)]
    if missing:
        hint = did_you_mean(close_names(missing[0], names))
        raise InputError(f"Expected genes of the table, found others: {listed(missing)}.{hint}")
    return chosen


def _matrix(table: pd.DataFrame, genes: list[str], column: str) -> Float64:
    """Get a column of the table as genes × domains."""
    rows = table[table["gene"].isin(genes)]
    wide = rows.pivot_table(column, "gene", "domain", observed=False, aggfunc="first")
    return wide.reindex(index=genes, columns=table["domain"].cat.categories).to_numpy(np.float64)


def _dots(ax: Axes, color: Float64, share: Float64, cmap: str | Colormap) -> None:
    gene, domain = np.indices(color.shape)
    ax.scatter(
        domain.ravel(),
        gene.ravel(),
        c=color.ravel(),
        s=pt2(_LARGEST * share.ravel()),
        cmap=cmap,
        vmin=0,
        vmax=1,
        linewidths=0,
        clip_on=False,
    )
    n_genes, n_domains = color.shape
    ax.set(xlim=(-_MARGIN, n_domains - 0.5), ylim=(max(n_genes, _ROWS) - 0.5, -_MARGIN))


def _name(ax: Axes, adata: AnnData, key: str, domains: pd.Index, led: dict[str, str]) -> None:
    """Label genes and domains, mark domains by their colours, and separate the genes of different domains."""
    names = domains.astype(str).tolist()
    ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize="small")
    ax.set_yticks(range(len(led)), list(led), fontsize="small", style="italic")
    ax.xaxis.tick_top()
    ax.tick_params(length=0, pad=pt(9))
    ax.tick_params(axis="y", pad=pt(9))
    step = recorded(adata).get("domain_genes", {}).get(key, {})
    colors = colors_of(adata, str(step.get("domain_key", keys.DOMAIN)), domains)
    on_top, at_left = ax.get_xaxis_transform(), ax.get_yaxis_transform()
    ax.scatter(range(len(names)), [1.0] * len(names), c=colors, s=pt2(36), marker="s", transform=on_top, clip_on=False)
    leaders = list(led.values())
    marks = [(i, colors[names.index(domain)]) for i, domain in enumerate(leaders) if domain]
    if marks:
        rows, mark_colors = zip(*marks, strict=True)
        ax.scatter(
            [0.0] * len(rows),
            rows,
            c=np.array(mark_colors),
            s=pt2(36),
            marker="s",
            transform=at_left,
            clip_on=False,
        )
    for i in range(1, len(leaders)):
        if leaders[i] != leaders[i - 1]:
            ax.axhline(i - 0.5, color=MISSING, linewidth=pt(0.8), zorder=0)
    ax.spines[:].set_visible(False)


def _explain(ax: Axes, spots: str) -> None:
    """Add the legends of sizes and of colours to the right of the axes."""
    from matplotlib.lines import Line2D

    def dot(share: float, color: Any, label: str) -> Line2D:
        size = pt(np.sqrt(_LARGEST * share))
        return Line2D([], [], linestyle="", marker="o", color=color, markersize=size, label=label)

    sizes = [dot(share, "black", f"{share:.0%}") for share in _SHARES]
    first = ax.legend(handles=sizes, title=f"Share of {spots}\nwith the gene", bbox_to_anchor=(1.02, 1), **LEGEND)
    ax.add_artist(first)
    colors = ax.collections[0].cmap
    means = [dot(0.5, colors(mean), label) for mean, label in ((1.0, "highest"), (0.5, "half of it"), (0.0, "0"))]
    below = 1 - _BELOW / abs(float(np.diff(ax.get_ylim())[0]))
    ax.legend(handles=means, title="Mean\nexpression", bbox_to_anchor=(1.02, below), **LEGEND)
