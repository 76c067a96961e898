"""The network in plain torch: layers, losses, and the network read top to bottom. Knows no AnnData."""

from stmmr.nn.network import Batch, Network, Outputs
from stmmr.nn.pairs import Graph

__all__ = ["Batch", "Graph", "Network", "Outputs"]
