"""The model as users meet it, its inputs, training and embedding."""

from stmmr.model.model import StMMR

__all__ = ["StMMR"]
