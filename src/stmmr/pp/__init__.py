"""From what was measured to what the model reads."""

from stmmr.pp._encoders import Encoder, HEEncoder
from stmmr.pp._expression import expression
from stmmr.pp._graph import spatial_graph
from stmmr.pp._histology import has_picture, histology

__all__ = ["Encoder", "HEEncoder", "expression", "has_picture", "histology", "spatial_graph"]
