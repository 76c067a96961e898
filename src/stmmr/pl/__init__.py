"""Figures of what ``stmmr.tl`` and the model stored: every function draws one thing and returns its Axes."""

from stmmr.pl._bandwidth import bandwidth
from stmmr.pl._composition import composition
from stmmr.pl._domain_genes import domain_genes
from stmmr.pl._domains import domains
from stmmr.pl._embedding import embedding
from stmmr.pl._gene_trends import gene_trends
from stmmr.pl._history import history
from stmmr.pl._number import number_of_domains
from stmmr.pl._paga import paga
from stmmr.pl._registration import registration
from stmmr.pl._trajectory import trajectory
from stmmr.pl._tree import domain_tree
from stmmr.pl._values import values

__all__ = [
    "bandwidth",
    "composition",
    "domain_genes",
    "domain_tree",
    "domains",
    "embedding",
    "gene_trends",
    "history",
    "number_of_domains",
    "paga",
    "registration",
    "trajectory",
    "values",
]
