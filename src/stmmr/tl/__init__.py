"""Tools: domains from the embedding, and analyses of domains."""

from stmmr.tl._alternatives import alternatives
from stmmr.tl._annotation import merge_domains, rename_domains
from stmmr.tl._cell_types import cell_types
from stmmr.tl._composition import compare_composition, composition
from stmmr.tl._condition_genes import condition_genes
from stmmr.tl._consensus import consensus
from stmmr.tl._contacts import compare_contacts
from stmmr.tl._domains import domains
from stmmr.tl._enhance import enhance
from stmmr.tl._enrichment import enrichment, gene_set_enrichment
from stmmr.tl._gene_trends import gene_trends
from stmmr.tl._genes import domain_genes, domain_genes_table, leading_genes
from stmmr.tl._integrate import integrate
from stmmr.tl._metrics import evaluate
from stmmr.tl._moran import spatially_variable_genes
from stmmr.tl._number import number_of_domains
from stmmr.tl._outlines import domain_outlines
from stmmr.tl._pseudobulk import domain_genes_pseudobulk
from stmmr.tl._refine import refine
from stmmr.tl._trajectory import trajectory
from stmmr.tl._transfer import match_domains, transfer_domains
from stmmr.tl._tree import cut_tree, domain_tree
from stmmr.tl._umap import umap

__all__ = [
    "alternatives",
    "cell_types",
    "compare_composition",
    "compare_contacts",
    "composition",
    "condition_genes",
    "consensus",
    "cut_tree",
    "domain_genes",
    "domain_genes_pseudobulk",
    "domain_genes_table",
    "domain_outlines",
    "domain_tree",
    "domains",
    "enhance",
    "enrichment",
    "evaluate",
    "gene_set_enrichment",
    "gene_trends",
    "integrate",
    "leading_genes",
    "match_domains",
    "merge_domains",
    "number_of_domains",
    "refine",
    "rename_domains",
    "spatially_variable_genes",
    "trajectory",
    "transfer_domains",
    "umap",
]
