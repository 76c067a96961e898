"""Preprocessing: from counts, coordinates and images to the inputs of the model."""

import warnings

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


def __getattr__(name: str) -> object:
    """Find a name that was renamed."""
    if name == "has_picture":
        warnings.warn("has_picture was renamed: use has_image.", FutureWarning, stacklevel=2)
        return has_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
