"""Composition of sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stmmr._core import keys
from stmmr._core.categories import title_of
from stmmr._core.checks import require_key
from stmmr._core.depends import warn_outdated
from stmmr._core.space import rows_called
from stmmr.pl._axes import add_legend, colors_of, drawing_domains, text_width, wrapped
from stmmr.pl.canvas import new_axes, pt
from stmmr.tl import composition as composition_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_ROW: Final = 0.3
"""Inches from one section to the next."""
_BAR: Final = 0.8
"""Share of this distance that the bar takes."""


@drawing_domains
def composition(
    adata: AnnData, section_key: str | None = None, *, domain_key: str = keys.DOMAIN, ax: Axes | None = None
) -> Axes:
    """Draw the share of every domain in each section as a bar for each section.

    Spots without a domain are left out, so that all bars have the same length. The number of spots is at its end.

    Parameters
    ----------
    adata
        With domains.
    section_key
        Column of ``obs`` with the section of each spot. None: the table of `stmmr.analyse`.
    domain_key
        Column of ``obs`` with the domains; colours are those of every other figure.

    Raises
    ------
    InputError
        If there is no table, a column does not exist, or a spot has no section.
    """
    if section_key is None:
        hint = "Give section_key, or run stmmr.analyse(adata) first."
        require_key(adata.uns, keys.COMPOSITION, where="uns", hint=hint)
        warn_outdated(adata, "composition")
        table = adata.uns[keys.COMPOSITION]
    else:
        table = composition_of(adata, section_key, domain_key=domain_key)
    share = table.pivot_table("share", "section", "domain", observed=False, sort=False)
    sizes = table.groupby("section", observed=False, sort=False)["n_obs"].sum()
    names, domains = [wrapped(str(name), 30) for name in share.index], share.columns
    colors = dict(zip(map(str, domains), colors_of(adata, domain_key, domains), strict=True))
    if ax is None:
        ax = new_axes(4.2 + text_width(*names) + text_width(*colors), 0.7 + _ROW * max(len(names), 3))
    start = share.cumsum(axis=1) - share
    for domain, column in zip(map(str, domains), share, strict=True):
        ax.barh(range(len(names)), share[column], _BAR, left=start[column], color=colors[domain])
    for row, n in enumerate(sizes):
        ax.annotate(
            f"{n:,}", (1, row), (pt(4), 0), textcoords="offset points", va="center", fontsize="small", color="0.35"
        )
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set(xlim=(0, 1.12), ylim=(len(names) - 0.5, -0.5), xlabel=f"Share of {rows_called(adata)}")
    ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"], fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    add_legend(ax, colors, title=title_of(domain_key), n_columns=1 + (len(colors) - 1) // 12)
    return ax
