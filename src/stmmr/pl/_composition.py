"""How much of each section every domain makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmmr import _keys
from stmmr._validate import require_key
from stmmr.pl._axes import add_legend, new_axes, text_width, title_of
from stmmr.pl._palette import category_colors
from stmmr.tl import composition as count_domains

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_BAR: Final = 0.32
"""Inches from one section to the next."""
_ROWS: Final = 10
"""Domains in one column of the legend."""


def composition(
    adata: AnnData, section_key: str | None = None, *, domain_key: str = _keys.DOMAIN, ax: Axes | None = None
) -> Axes:
    """Draw the share of each section that every domain makes up, a bar for each section.

    Parameters
    ----------
    adata
        With domains.
    section_key
        Column of ``obs`` with the section of each place. None: the table that `stmmr.analyse` left.
    domain_key
        Column of ``obs`` with the domains.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    The axes. Save by ``ax.figure.savefig("composition.png", dpi=200, bbox_inches="tight")``.

    Raises
    ------
    InputError
        If there is no table, a column is not there, or a place has no section.
    """
    if section_key is None:
        require_key(
            adata.uns, _keys.COMPOSITION, where="uns", hint="Give section_key, or run stmmr.analyse(adata) first."
        )
        table = adata.uns[_keys.COMPOSITION]
    else:
        table = count_domains(adata, section_key, domain_key=domain_key)
    shares = table.pivot_table("share", "section", "domain", observed=False, sort=False)
    sections, domains = shares.index.astype(str).tolist(), shares.columns
    colors = category_colors(adata, domain_key, domains)
    height = max(1.3, 0.8 + _BAR * len(sections), 0.5 + 0.21 * min(len(domains), _ROWS))
    if ax is None:
        ax = new_axes(5 + text_width(*sections) + text_width(*domains.astype(str), title_of(domain_key)), height)
    left, at = np.zeros(len(sections)), np.arange(len(sections))
    for name, color in zip(domains, colors, strict=True):
        share = shares[name].to_numpy(np.float64)
        ax.barh(at, share, left=left, height=0.78, color=color, edgecolor="white", linewidth=0.6)
        left += share
    ax.set_yticks(at, sections, fontsize="small")
    ax.set(xlim=(0, 1), ylim=(len(sections) - 0.5, -0.5), xlabel="Share of the places")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    entries = dict(zip(pd.Index(domains).astype(str), colors, strict=True))
    add_legend(ax, entries, title=title_of(domain_key), n_columns=-(-len(entries) // _ROWS))
    return ax
