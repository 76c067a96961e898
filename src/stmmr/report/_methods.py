"""The paragraph on methods: the steps that ran, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr._core import keys as _keys
from stmmr._core.depends import facts_about
from stmmr._core.record import recorded
from stmmr._core.sections import graph_sections
from stmmr._core.sources import partition_of
from stmmr._core.space import graph_um, rows_called
from stmmr._core.version import VERSION
from stmmr.pipeline.analyses import ANALYSES
from stmmr.report._references import WORKS, Work

if TYPE_CHECKING:
    from anndata import AnnData

    Steps = dict[str, Any]
    """Records of the steps in ``uns["stmmr"]``."""


METHODS = {
    "gaussian_mixture": "a Gaussian mixture",
    "kmeans": "k-means",
    "leiden": "Leiden communities",
    "agglomerative": "agglomerative clustering (Ward)",
}
"""Names of the methods of `stmmr.tl.domains`."""


class Cited:
    """Numbers references in the order in which they are cited."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Cite works, as [1, 2]."""
        self.keys += [key for key in keys if key not in self.keys]
        return "[" + ", ".join(str(self.keys.index(key) + 1) for key in keys) + "]"

    @property
    def works(self) -> list[Work]:
        """The cited works in order."""
        return [WORKS[key] for key in self.keys]


def methods_of(adata: AnnData) -> tuple[str, Cited]:
    """Describe the methods from the records of the steps.

    Returns
    -------
    The paragraph, and the works cited in it.
    """
    cite, steps, spots = Cited(), recorded(adata), rows_called(adata)
    sentences = [
        _start(adata, steps, cite),
        _expression(steps, cite, spots),
        _graph(steps, spots),
        _histology(steps, cite, spots),
        _model(steps, cite, spots),
        _number(adata, steps, cite),
        _domains(adata, steps, cite, spots),
        _edited(adata, steps, spots),
        *_analyses(adata, steps, cite),
        _evaluation(steps, cite, spots),
        f"Data were handled with anndata {cite('anndata')}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence), cite


def _start(adata: AnnData, steps: Steps, cite: Cited) -> str:
    preset = steps.get("model", {}).get("preset", "default")
    sections = graph_sections(adata)
    within = f" in {len(sections.categories)} sections" if sections is not None else ""
    genes = f" and {adata.n_vars:,} genes" if adata.n_vars else ""
    return (
        f"Spatial domains were identified with stmmr {VERSION}, an implementation of stMMR {cite('stmmr')}, with "
        f"the preset “{preset}”, from {adata.n_obs:,} {rows_called(adata)}{within}{genes}."
    )


def _expression(steps: Steps, cite: Cited, spots: str) -> str:
    step, rep = steps.get("expression"), steps.get("model", {}).get("use_rep")
    if rep:
        return f"Expression was represented by {rep}, computed beforehand."
    if step is None:
        return ""
    size = f"the library size in {step['size_key']}" if step["size_key"] else "the median library size"
    n_genes = int(step["n_genes_read"])
    if n_genes < int(step["n_top_genes"]):
        genes = f"all {n_genes:,} genes seen in at least {step['min_spots']} {spots} were used"
    else:
        genes = f"{n_genes:,} highly variable genes were selected (seurat_v3 {cite('seurat')})"
    return f"Counts were normalised to {size} and log-transformed; {genes}."


def _graph(steps: Steps, spots: str) -> str:
    graph = steps.get("spatial_graph")
    if graph is None:
        return ""
    um = graph_um(graph)
    width = f"{graph['bandwidth'] * um:.3g} µm" if np.isfinite(um) else f"{graph['bandwidth']:.3g} {graph['unit']}"
    how = "given"
    if "bandwidths_tried" in graph:
        how = (
            f"chosen from the one that best predicted the informative components of {spots} from their neighbours, by "
            "leave-one-out cross-validation"
        )
    kernel = f"a Gaussian kernel of their distance with a bandwidth of {width} ({how})"
    return f"Neighbouring {spots} were weighted by {kernel}."


def _histology(steps: Steps, cite: Cited, spots: str) -> str:
    step, model = steps.get("histology"), steps.get("model", {})
    if step is None or not model.get("use_histology"):
        return ""
    across = " and ".join(f"{diameter:g}" for diameter in np.ravel(step["diameters_um"]))
    encoder = "colour, texture and nuclei" if step["encoder"] == "he" else f"the encoder {step['encoder']}"
    stain = f" after stain normalisation {cite('macenko')}" if step.get("stain") else ""
    image = "The H&E image of each section" if "sections" in step else "The H&E image"
    text = f"{image} was described around each {spots[:-1]} by {encoder} in patches of {across} µm{stain}"
    weight = model.get("histology_weight_used")
    if weight is not None and model.get("preset") == "default":
        text += (
            f"; it entered the embedding with the weight {float(weight):.2f}, the share of the embedding of the "
            "expression that it predicted in parts of the tissue that were left out"
        )
    return f"{text}."


def _model(steps: Steps, cite: Cited, spots: str) -> str:
    model, n_steps = steps.get("model"), len(steps.get("history", {}).get("loss", []))
    if model is None:
        return ""
    blocks = [f"{name} ({block['likelihood'] or 'features'})" for name, block in model.get("blocks", {}).items()]
    more = f" Further modalities were {', '.join(blocks)}." if blocks else ""
    by_default = model["preset"] == "default" and model.get("scaled")
    trained = ""
    if n_steps:
        decoder = f", with a {model['likelihood'].upper()} decoder" if by_default else ""
        trained = f"{decoder}, trained in {n_steps:,} steps of Adam with PyTorch {cite('torch')}"
        trained += f" (seed {model['random_state']})"
    if not by_default:
        return f"The modalities were embedded in {model['latent']} dimensions by graph convolutions{trained}.{more}"
    return (
        f"Principal components, scaled such that the noise between neighbouring {spots} is white, were propagated over "
        f"the graph; the embedding has the {model['latent']} informative components, whose variance exceeds that of "
        f"propagated noise{trained}.{more}"
    )


def _number(adata: AnnData, steps: Steps, cite: Cited) -> str:
    step, name = steps.get("number_of_domains"), "consensus" if "consensus" in steps else "domains"
    found: Steps = steps.get(name, {})
    if facts_about(adata, name).get("number") == "given" and found.get("resolution") is None:
        return f"The number of domains, {int(found['n_domains'])}, was given by the user."
    if step is None or "n_domains" not in found:
        return ""
    return (
        f"The number of domains, {int(step['chosen'])}, was chosen by the Bayesian information criterion {cite('bic')} "
        f"of Gaussian mixtures with 1 to {int(np.max(step['tried']))} domains; {int(step['lowest'])} to "
        f"{int(step['highest'])} were within one standard error of the best {cite('vuong')}."
    )


def _domains(adata: AnnData, steps: Steps, cite: Cited, spots: str) -> str:
    step = steps.get("consensus")
    if step is None:
        other = steps.get("domains", {})
        leiden = f" {cite('leiden', 'scanpy')}" if other.get("method") == "leiden" else ""
        method = METHODS.get(str(other.get("method")), str(other.get("method")).replace("_", " "))
        text = f"Domains were found by {method}{leiden}." if "method" in other else ""
        return " ".join(filter(None, [text, _refined(steps, spots)]))
    scales = np.ravel(step["scales"])
    times = ", ".join(f"{scale:g}" for scale in scales)
    bandwidths = f" at {times} times the bandwidth" if len(scales) > 1 else ""
    text = (
        f"{int(step['n_partitions'])} Gaussian mixtures with {int(step['n_domains'])} domains each {cite('sklearn')}, "
        f"from different starts{bandwidths}, voted on the domain of each {spots[:-1]}. Mixtures that fit worse than "
        f"the best by some standard errors {cite('vuong')} had fewer votes; the share of votes is the confidence. The "
        f"partitions agreed with their consensus by a mean adjusted Rand index {cite('ari')} of "
        f"{float(step['agreement']):.2f}."
    )
    if (other := step.get("alternative")) is not None and other["key_added"] in adata.obs:  # a merge removes it
        text += (
            f" A second answer with {100 * float(other['support']):.0f} % of the votes was kept "
            f"(adjusted Rand index {float(other['similarity']):.2f} with the domains)."
        )
    return " ".join(filter(None, [text, _refined(steps, spots)]))


def _refined(steps: Steps, spots: str) -> str:
    refined = steps.get("refine", {}).get(_keys.DOMAIN_REFINED)
    if refined is None:
        return ""
    return (
        f"For the refined domains, each {spots[:-1]} got the domain of most of its {int(refined['n_neighbors'])} "
        f"nearest neighbours, which changed {100 * float(refined['changed']):.1f} % of the {spots}."
    )


def _edited(adata: AnnData, steps: Steps, spots: str) -> str:
    """Tell whether the domains are still those that were found."""
    if _keys.DOMAIN not in adata.obs:
        return ""
    names = adata.obs[_keys.DOMAIN].dropna().unique()
    if taken_from := steps.get("domains", {}).get("taken_from"):
        return f"The {len(names)} domains are those of the annotation “{taken_from}”, which was made beforehand."
    step = next((name for name in ("consensus", "domains", "transfer") if name in steps), "")
    found: Steps = steps.get(step, {})
    if found.get("key_added") != _keys.DOMAIN:
        return f"The {len(names)} domains were taken from an earlier result." if "model" in steps else ""
    if facts_about(adata, step).get("partition", "") in ("", partition_of(adata, _keys.DOMAIN)):
        return ""
    merges: Steps = steps.get("annotation", {}).get(_keys.DOMAIN_NOTES, {})
    if len(merges.get("merged", ())):
        return _merged(merges, len(names))
    return f"Domains were edited after they were found; the {spots} are now in {len(names)}."


def _merged(merges: Steps, n_domains: int) -> str:
    """Tell which domains were merged by a person."""
    members: dict[str, list[str]] = {}
    for old, into in zip(merges["merged"], merges["into"], strict=True):
        members.setdefault(str(into), []).append(str(old))
    parts = " and ".join(
        f"domains {', '.join(olds[:-1])} and {olds[-1]} were merged into “{name}”" for name, olds in members.items()
    )
    remaining = f"{n_domains} domains remain" if n_domains != 1 else "one domain remains"
    return f"{parts[0].upper()}{parts[1:]} by hand; {remaining}, with the confidence from before."


def _analyses(adata: AnnData, steps: Steps, cite: Cited) -> list[str]:
    """Describe the analyses that ran, each by its row in the table of analyses."""
    ran = [analysis for analysis in ANALYSES if analysis.ran(adata)]
    sentences = [sentence for analysis in ran if (sentence := analysis.methods(adata, steps, cite))]
    if any(analysis.adjusts_pvalues for analysis in ran):
        sentences.append(f"P-values were adjusted by Benjamini and Hochberg {cite('fdr')}.")
    if _keys.UMAP in adata.obsm:
        sentences.append(f"The embedding was laid out by UMAP {cite('umap')}.")
    return sentences


def _evaluation(steps: Steps, cite: Cited, spots: str) -> str:
    scores = steps.get("evaluation", {}).get(_keys.DOMAIN)
    if scores is None:
        return ""
    return (
        "The domains, found without the annotation, agreed with it by an adjusted Rand index of "
        f"{float(scores['ari']):.3f} over {int(scores['n_labelled']):,} {spots} {cite('ari', 'pas')}."
    )
