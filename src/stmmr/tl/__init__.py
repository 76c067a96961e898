"""From the embedding to domains, and what is asked of them."""

from stmmr.tl._composition import compare_composition, composition
from stmmr.tl._consensus import consensus
from stmmr.tl._domains import domains
from stmmr.tl._enhance import enhance
from stmmr.tl._gene_trends import gene_trends
from stmmr.tl._metrics import evaluate
from stmmr.tl._number import number_of_domains
from stmmr.tl._refine import refine
from stmmr.tl._trajectory import trajectory
from stmmr.tl._transfer import match_domains, transfer_domains
from stmmr.tl._tree import cut_tree, domain_tree
from stmmr.tl._umap import umap

__all__ = [
    "compare_composition",
    "composition",
    "consensus",
    "cut_tree",
    "domain_tree",
    "domains",
    "enhance",
    "evaluate",
    "gene_trends",
    "match_domains",
    "number_of_domains",
    "refine",
    "trajectory",
    "transfer_domains",
    "umap",
]
