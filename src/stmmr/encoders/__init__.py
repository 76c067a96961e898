"""From patches of the picture around each place to one row of features per place."""

from stmmr.encoders._fingerprints import encoder_fingerprint, picture_fingerprint
from stmmr.encoders._he import HEEncoder
from stmmr.encoders._protocol import Encoder
from stmmr.encoders._transformers import TransformersEncoder

__all__ = ["Encoder", "HEEncoder", "TransformersEncoder", "encoder_fingerprint", "picture_fingerprint"]
