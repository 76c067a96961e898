"""The paragraph on methods, of what ran and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr._core import keys as _keys
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.version import VERSION
from stmmr.report._references import WORKS, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData


class Cited:
    """Numbers references in the order in which they are cited."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Cite works, as [1, 2]."""
        self.keys += [key for key in keys if key not in self.keys]
        return "[" + ", ".join(str(self.keys.index(key) + 1) for key in keys) + "]"

    @property
    def works(self) -> list[tuple[str, Work]]:
        """The works with their keys, in order."""
        return [(key, WORKS[key]) for key in self.keys]


def methods_of(adata: AnnData) -> tuple[str, Cited]:
    """Write what was done, from the notes that the steps left.

    Returns
    -------
    The paragraph, and the works cited in it.
    """
    cite = Cited()
    told: list[Callable[[AnnData, dict[str, Any], Cited], str]] = [
        _start,
        _expression,
        _graph,
        _histology,
        _model,
        _number,
        _domains,
        _later,
        _evaluation,
        _software,
    ]
    sentences = [tell(adata, recorded(adata), cite) for tell in told]
    return " ".join(sentence for sentence in sentences if sentence), cite


def _start(adata: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    preset = steps.get("model", {}).get("preset", "default")
    sections = graph_sections(adata)
    of = f" in {len(sections.categories)} sections" if sections is not None else ""
    genes = f" and {adata.n_vars:,} genes" if adata.n_vars else ""
    return (
        f"Spatial domains were identified with stmmr {VERSION}, an implementation of stMMR "
        f"{cite('stmmr')}, with the "
        f"preset “{preset}”, from {adata.n_obs:,} spots{of}{genes}."
    )


def _expression(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    step = steps.get("expression")
    if step is None:
        rep = steps.get("model", {}).get("use_rep")
        return f"Expression was represented by {rep}, computed beforehand." if rep else ""
    size = f"the library size in {step['size_key']}" if step["size_key"] else "the median library size"
    said = f"Counts were normalised to {size} and log-transformed; "
    fewer = int(step["n_genes_read"]) < int(step["n_top_genes"])
    if fewer:
        return said + f"{int(step['n_genes_read']):,} genes seen in at least {step['min_spots']} spots were read."
    return said + f"{int(step['n_genes_read']):,} highly variable genes were read (seurat_v3 {cite('seurat')})."


def _graph(_: AnnData, steps: dict[str, Any], __: Cited) -> str:
    graph = steps.get("spatial_graph")
    if graph is None:
        return ""
    um = float(graph["um_per_unit"] if graph["um_per_unit"] is not None else np.nan)
    width = f"{graph['bandwidth'] * um:.3g} µm" if np.isfinite(um) else f"{graph['bandwidth']:.3g} {graph['unit']}"
    how = "given"
    if "bandwidths_tried" in graph:
        how = (
            "the smallest whose error in predicting the expression of spots from their neighbours (leave-one-out "
            "cross-validation) was within one standard error of the least"
        )
    return f"Spots were connected by a Gaussian kernel of their distance with a bandwidth of {width} ({how})."


def _histology(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    step, model = steps.get("histology"), steps.get("model", {})
    if step is None or not model.get("use_histology"):
        return ""
    across = " and ".join(f"{d:g}" for d in np.ravel(step["diameters_um"]))
    encoder = "colour, texture and nuclei" if step["encoder"] == "he" else f"the encoder {step['encoder']}"
    stain = f" after stain normalisation {cite('macenko')}" if step.get("stain") else ""
    which = "The H&E picture of each section" if "sections" in step else "The H&E picture"
    said = f"{which} was described around each spot by {encoder} in patches of {across} µm{stain}."
    weight = model.get("histology_weight_used")
    if weight is None or model.get("preset") != "default":
        return said
    return said[:-1] + (
        f"; it entered the embedding with the weight {float(weight):.2f}, the share of the embedding of the expression "
        "that it predicts in parts of the tissue left out."
    )


def _model(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    model, n = steps.get("model"), len(steps.get("history", {}).get("loss", []))
    if model is None:
        return ""
    blocks = [f"{name} ({block['likelihood'] or 'features'})" for name, block in model.get("blocks", {}).items()]
    more = f" Further measurements were {', '.join(blocks)}." if blocks else ""
    trained = (
        f", trained in {n:,} steps of Adam with PyTorch {cite('torch')} (seed {model['random_state']})" if n else ""
    )
    if model["preset"] == "default" and model.get("scaled"):
        said = (
            "Principal components, scaled so that the noise between neighbouring spots is white, were "
            "propagated over "
            f"the graph; the embedding has the {model['latent']} directions that stand out from what noise "
            "keeps over the "
            f"same graph, with a {model['likelihood'].upper()} decoder{trained}."
        )
    else:
        said = f"The modalities were embedded in {model['latent']} dimensions by graph convolutions{trained}."
    return said + more


def _number(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    found = steps.get("number_of_domains")
    if found is None:
        return ""
    return (
        f"The number of domains, {int(found['chosen'])}, was chosen by the Bayesian information criterion "
        f"{cite('bic')} of "
        f"Gaussian mixtures of 1 to {int(np.max(found['tried']))} domains; {int(found['lowest'])} to "
        f"{int(found['highest'])} were within one standard error of the best {cite('vuong')}."
    )


def _domains(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    step = steps.get("consensus")
    if step is None:
        other = steps.get("domains", {})
        leiden = f" {cite('leiden', 'scanpy')}" if other.get("method") == "leiden" else ""
        return f"Domains were found by {str(other['method']).replace('_', ' ')}{leiden}." if "method" in other else ""
    scales = np.ravel(step["scales"])
    times = ", ".join(f"{scale:g}" for scale in scales)
    at = f" at {times} times the bandwidth" if len(scales) > 1 else ""
    said = (
        f"{int(step['n_partitions'])} Gaussian mixtures with {int(step['n_domains'])} domains each "
        f"{cite('sklearn')}, from "
        f"different starts{at}, voted on the domain of each spot; the share of votes is its confidence. "
        "Partitions agreed "
        f"with their consensus by a mean adjusted Rand index {cite('ari')} of {float(step['agreement']):.2f}."
    )
    refined = steps.get("refine", {}).get(_keys.DOMAIN_REFINED)
    if refined is not None:
        said += (
            f" In the refined domains, each spot has the domain of most of its {int(refined['n_neighbors'])} nearest "
            f"neighbours, which changed {100 * float(refined['changed']):.1f} % of the spots."
        )
    return said


def _later(adata: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    said = []
    if _keys.DOMAIN_GENES in adata.uns:
        said.append(
            "Genes specific to domains were found by rank-sum tests on normalised values against "
            "neighbouring domains and "
            f"the rest, with the filters of SpaGCN {cite('spagcn')}."
        )
    trajectory = steps.get("trajectory")
    if trajectory is not None:
        said.append(
            f"Domains were connected by PAGA {cite('paga')} and spots ordered by diffusion pseudotime "
            f"{cite('dpt')} in "
            f"scanpy {cite('scanpy')}, with the root in domain {trajectory['root_domain']}"
            f"{', one end of the longest path' if trajectory.get('root') == 'tree' else ''}."
        )
    said += _genes(adata, steps, cite)
    if _keys.UMAP in adata.obsm:
        said.append(f"The embedding was laid out by UMAP {cite('umap')}.")
    return " ".join(said)


def _genes(adata: AnnData, steps: dict[str, Any], cite: Cited) -> list[str]:
    said = []
    if "gene_trends" in steps:
        said.append(
            f"The rate of each of {len(steps['gene_trends']['table']):,} genes was fitted as a smooth curve of "
            f"pseudotime and tested against a constant one {cite('tradeseq')}."
        )
    if _keys.MORAN_I in adata.var:
        said.append(f"Spatially variable genes were ranked by Moran's I {cite('moran')} of their normalised values.")
    if _keys.ENRICHMENT in adata.uns:
        gmt = steps.get("enrichment", {}).get(_keys.ENRICHMENT, {}).get("gmt", "")
        of = f" of {gmt}" if gmt else ""
        said.append(f"Gene sets{of} were tested for over-representation by the hypergeometric distribution.")
    if said or _keys.DOMAIN_GENES in adata.uns:
        said.append(f"P-values were adjusted by Benjamini and Hochberg {cite('fdr')}.")
    return said


def _evaluation(_: AnnData, steps: dict[str, Any], cite: Cited) -> str:
    scores = steps.get("evaluation", {}).get(_keys.DOMAIN)
    if scores is None:
        return ""
    return (
        "With the annotation, which was read after everything was decided, the domains agreed by an "
        "adjusted Rand index "
        f"of {float(scores['ari']):.3f} over {int(scores['n_labelled']):,} spots {cite('ari', 'pas')}."
    )


def _software(_: AnnData, __: dict[str, Any], cite: Cited) -> str:
    return f"Data were handled with anndata {cite('anndata')}."
