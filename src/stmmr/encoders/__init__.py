"""Encoders: from patches of the image around each spot (or cell, or bin) to one row of features for each spot."""

from stmmr._core.renamed import former_names
from stmmr.encoders._cache import FeatureCache
from stmmr.encoders._fingerprints import encoder_fingerprint, image_fingerprint
from stmmr.encoders._he import HEEncoder
from stmmr.encoders._lazyslide import LazySlideEncoder
from stmmr.encoders._protocol import Encoder
from stmmr.encoders._registry import encoder_of, encoders
from stmmr.encoders._timm import TimmEncoder
from stmmr.encoders._transformers import TransformersEncoder

__all__ = [
    "Encoder",
    "FeatureCache",
    "HEEncoder",
    "LazySlideEncoder",
    "TimmEncoder",
    "TransformersEncoder",
    "encoder_fingerprint",
    "encoder_of",
    "encoders",
    "image_fingerprint",
]

__getattr__ = former_names(__name__, picture_fingerprint=image_fingerprint)
