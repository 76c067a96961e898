"""Figures of what ``stmmr.tl`` and the model stored: every function draws one thing and returns its Axes."""

from stmmr.pl._bandwidth import bandwidth
from stmmr.pl._domains import domains
from stmmr.pl._embedding import embedding
from stmmr.pl._history import history
from stmmr.pl._values import values

__all__ = ["bandwidth", "domains", "embedding", "history", "values"]
