"""The network in plain torch: layers, losses, and the network read top to bottom. Knows no AnnData."""

from stmmr.nn.network import Batch, Network, NetworkSettings, Outputs

__all__ = ["Batch", "Network", "NetworkSettings", "Outputs"]
