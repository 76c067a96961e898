"""Training in one process or several, and what a trained network says of each place."""

from stmmr.train._batches import dealt, drawn
from stmmr.train._embed import embedded, embedded_features, means
from stmmr.train._landmarks import keys_of
from stmmr.train._loop import OneProcess, train, training_step
from stmmr.train._processes import Devices, RankError, train_and_embed

__all__ = [
    "Devices",
    "OneProcess",
    "RankError",
    "dealt",
    "drawn",
    "embedded",
    "embedded_features",
    "keys_of",
    "means",
    "train",
    "train_and_embed",
    "training_step",
]
