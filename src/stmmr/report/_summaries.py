"""Figures of all domains together: graph, genes and composition, drawn by `stmmr.pl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from stmmr import pl
from stmmr._core import keys
from stmmr._core.record import recorded
from stmmr._core.sections import section_key_of
from stmmr._core.space import rows_called
from stmmr.report._curves import Curve, drawn, svg_of
from stmmr.tl import leading_genes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

LED: Final = 3
"""Genes of each domain."""


def summaries_of(adata: AnnData, failed: list[Exception]) -> list[Curve]:
    """Draw leading genes, the graph of the domains and their shares, as far as they are known."""
    return drawn(adata, [_dots, _graph, _composition], failed)


def _width(names: Iterable[object]) -> float:
    """Estimate the width of the longest of several small texts, in inches."""
    return 0.075 * max(len(str(name)) for name in names)


def _dots(adata: AnnData) -> Curve | None:
    table = adata.uns.get(keys.DOMAIN_GENES)
    if not isinstance(table, pd.DataFrame) or not {"share", "mean", "z"} <= set(table.columns):
        return None
    if not any(leading_genes(adata, n_genes=LED).values()):
        return None
    n = table["domain"].nunique()
    size = (
        2 + _width(table["gene"].unique()) + 0.28 * n,
        1 + _width(table["domain"].unique()) + 0.22 * max(LED * n, 12),
    )
    svg = svg_of(lambda ax: pl.domain_genes(adata, n_genes=LED, ax=ax), "dots", size=size)
    spots = rows_called(adata)
    text = f"Up to {LED} leading genes of each domain: size by the share of {spots} with the gene, colour by its mean."
    return Curve("Leading genes", text, svg)


def _graph(adata: AnnData) -> Curve | None:
    step = recorded(adata).get("trajectory", {})
    if step.get("domain_key") != keys.DOMAIN or "connectivities" not in step:
        return None
    svg = svg_of(lambda ax: pl.paga(adata, ax=ax), "paga", size=(5.2, 3.4))
    text = (
        f"PAGA from domain {step['root_domain']} at the left: straight lines are its tree, arcs other links, and wider "
        "lines stronger links."
    )
    return Curve("Graph of the domains", text, svg)


def _composition(adata: AnnData) -> Curve | None:
    key = section_key_of(adata)
    if key is None or adata.obs[key].nunique() < 2:
        return None
    width = 4.2 + _width(adata.obs[key].unique()) + _width(adata.obs[keys.DOMAIN].unique())
    size = (width, 0.9 + 0.3 * max(adata.obs[key].nunique(), 4))
    svg = svg_of(lambda ax: pl.composition(adata, key, ax=ax), "composition", size=size)
    return Curve("Composition of the sections", f"Share of each domain in the {rows_called(adata)} of a section.", svg)
