"""From patches of the picture around each place to one row of features per place."""

from stmmr.encoders._cache import FeatureCache
from stmmr.encoders._fingerprints import encoder_fingerprint, picture_fingerprint
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
    "picture_fingerprint",
]
