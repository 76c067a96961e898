"""The network in plain PyTorch (extra ``torch``): layers, losses and the network itself. Knows no AnnData."""

from stmmr.nn.decoder import Target
from stmmr.nn.network import Batch, Features, Keys, Landmarks, Network, Shape
from stmmr.nn.pairs import Graph, Partners
from stmmr.nn.sparse import SparseRows

__all__ = ["Batch", "Features", "Graph", "Keys", "Landmarks", "Network", "Partners", "Shape", "SparseRows", "Target"]
