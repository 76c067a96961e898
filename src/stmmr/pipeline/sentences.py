"""Sentences of analyses in the methods text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmmr._core import keys

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr.pipeline.analysis import Cite


def genes_sentence(adata: AnnData, steps: dict[str, Any], cite: Cite) -> str:
    """Tell how genes of domains were found."""
    from stmmr._core.space import rows_called

    share = steps.get("domain_genes", {}).get(keys.DOMAIN_GENES, {}).get("min_share")
    seen = "" if share is None else f", in at least {float(share):.0%} of the {rows_called(adata)} of the domain"
    return (
        "Genes specific to domains were found by rank-sum tests on normalised values against neighbouring domains and "
        f"the rest, with the thresholds of SpaGCN {cite('spagcn')}{seen}."
    )


def gene_sets_sentence(_: AnnData, steps: dict[str, Any], __: Cite) -> str:
    """Tell how gene sets were tested."""
    file = steps.get("enrichment", {}).get(keys.ENRICHMENT, {}).get("gmt", "")
    origin = f" of {file}" if file else ""
    return f"Gene sets{origin} were tested for over-representation by the hypergeometric distribution."


def trajectory_sentence(adata: AnnData, steps: dict[str, Any], cite: Cite) -> str:
    """Tell how the trajectory was found."""
    from stmmr._core.space import rows_called

    step = steps["trajectory"]
    end = ", one end of the longest path" if step.get("root") == "tree" else ""
    return (
        f"Domains were connected by PAGA {cite('paga')} and {rows_called(adata)} ordered by diffusion pseudotime "
        f"{cite('dpt')} in scanpy {cite('scanpy')}, with the root in domain {step['root_domain']}{end}."
    )
