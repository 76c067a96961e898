"""The encoders under the name they had before they got a room of their own."""

from stmmr.encoders import Encoder, HEEncoder

__all__ = ["Encoder", "HEEncoder"]
