"""Preprocessing: from counts, coordinates and images to the inputs of the model."""

from stmmr._core.renamed import former_names
from stmmr.encoders import Encoder, HEEncoder, encoder_of, encoders
from stmmr.io._concat import concat_sections
from stmmr.pp._align import align_sections
from stmmr.pp._expression import expression
from stmmr.pp._graph import spatial_graph
from stmmr.pp._histology import has_image, histology

__all__ = [
    "Encoder",
    "HEEncoder",
    "align_sections",
    "concat_sections",
    "encoder_of",
    "encoders",
    "expression",
    "has_image",
    "histology",
    "spatial_graph",
]

__getattr__ = former_names(__name__, has_picture=has_image)
