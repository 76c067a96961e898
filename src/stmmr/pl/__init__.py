"""Plotting: every function draws one result of the other modules and returns its Axes."""

from stmmr.pl._cohort import cell_types, composition_tests, condition_genes, contacts
from stmmr.pl._composition import composition
from stmmr.pl._curves import bandwidth, domain_tree, history, number_of_domains
from stmmr.pl._domain_genes import domain_genes
from stmmr.pl._embedding import embedding
from stmmr.pl._enrichment import enrichment
from stmmr.pl._registration import registration
from stmmr.pl._tissue import domains
from stmmr.pl._trajectory import gene_trends, paga, trajectory
from stmmr.pl._values import values

__all__ = [
    "bandwidth",
    "cell_types",
    "composition",
    "composition_tests",
    "condition_genes",
    "contacts",
    "domain_genes",
    "domain_tree",
    "domains",
    "embedding",
    "enrichment",
    "gene_trends",
    "history",
    "number_of_domains",
    "paga",
    "registration",
    "trajectory",
    "values",
]
