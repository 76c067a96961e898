"""The stMMR network, read top to bottom; N places, F features of a block, B blocks, d the latent width."""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stmmr.nn import losses
from stmmr.nn.decoder import Decoder, Target
from stmmr.nn.layers import Encoded, PropagatedEncoder
from stmmr.nn.pairs import Graph, Partners, exactly, full

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stmmr.settings import Settings


class Shape(NamedTuple):
    """What the network is told of one block of features."""

    name: str
    n_features: int
    """F."""
    n_targets: int = 0
    """Width of what the likelihood is of."""
    likelihood: str | None = None
    """None where the block is read only."""
    weight: float = 1.0
    """Weight in the fusion."""


class Keys(NamedTuple):
    """What one block attends to."""

    features: Tensor
    """A²F of all places, or means of it over clusters of places, (M, F)."""
    landmarks: Landmarks | None = None
    """What the means stand for; None where each stands for itself."""


class Landmarks(NamedTuple):
    """Clusters of places, as normal distributions around their means."""

    log_size: Tensor
    """Logarithm of how many places each stands for, (M,)."""
    axes: Tensor
    """Axes along which the places of a cluster scatter, of the features, (p, F)."""
    variance: Tensor
    """Variance of each cluster along each axis, (M, p)."""


class Features(NamedTuple):
    """What an embedding reads; rows are places."""

    blocks: tuple[Tensor, ...]
    """A²F of each block, (n, F)."""
    keys: tuple[Keys, ...] | None = None
    """What each block attends to; None for the rows here."""


class Batch(NamedTuple):
    """What one training step reads: n of the N places of the tissue."""

    features: Features
    """Of the n places; with `Partners`, of 2n, those of the partners below."""
    targets: tuple[Target, ...]
    """What the likelihoods are of, of the blocks that have one."""
    n_places: int
    """N."""
    graph: Graph | Partners | None
    """A among the places where all of them are here, otherwise the partners that were drawn."""


class Network(nn.Module):
    """Encode each block, attend, align, fuse, decode.

    Zhang et al., GigaScience 2024, doi:10.1093/gigascience/giae089, there for two blocks.

    Parameters
    ----------
    shapes
        The blocks; the first is that of the expression and has a likelihood.
    settings
        Shape and loss weights.
    """

    weights: Tensor
    """Of the blocks in the fusion, (B,)."""

    def __init__(self, shapes: Sequence[Shape], *, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        d, decoded = settings.latent, [shape for shape in shapes if shape.likelihood]
        self.terms = ["likelihood", *(f"likelihood of {shape.name}" for shape in decoded[1:])]
        self.encoders = nn.ModuleList(
            PropagatedEncoder(shape.n_features, hidden=settings.hidden, latent=d) for shape in shapes
        ).requires_grad_(settings.train_encoders)
        self.register_buffer("weights", torch.tensor([shape.weight for shape in shapes]))
        if settings.aligned_weight:
            self.align = nn.Linear(d, d)  # one layer for all blocks
            self.fuse = nn.Linear(len(shapes) * d, d)
        self.decoders = nn.ModuleList(
            Decoder(d, shape.n_targets, hidden=settings.decoder_hidden, likelihood=str(shape.likelihood))
            for shape in decoded
        )

    @torch.no_grad()
    def start_from(self, starts: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set the first weights of encoders without a hidden layer: weight (F, d) and bias (d,) of each block."""
        for encoder, start in zip(self.encoders, starts, strict=True):
            for parameter, first in zip(encoder.parameters(), start, strict=True):
                parameter.copy_(first)

    def encode(self, features: Features) -> tuple[Tensor, list[Tensor]]:
        """Embed places: Z, shape (n, d), and the aligned form of each block where they are aligned."""
        settings = self.settings
        keys = features.keys or [None] * len(features.blocks)
        read = [self._read(*each) for each in zip(self.encoders, features.blocks, keys, strict=True)]
        z = sum_of(weight * attended for weight, (_, attended) in zip(self.weights, read, strict=True))  # (n, d)
        if not settings.aligned_weight:
            return z, []
        aligned = [self._dropped(functional.relu(encoded.linear(self.align))) for encoded, _ in read]  # (n, d) each
        return z + settings.aligned_weight * self.fuse(torch.cat(aligned, dim=1)), aligned

    def _read(self, encoder: nn.Module, features: Tensor, keys: Keys | None) -> tuple[Encoded, Tensor]:
        """Encode one block: E, and what of it enters the fusion, (n, d)."""
        if not self.settings.attention:
            encoded: Encoded = encoder(features)
            return encoded, encoded.dense()
        if keys is None:
            encoded = encoder(features)
            return encoded, self._dropped(encoded.attend(encoded))
        n, of = len(features), keys.landmarks
        if of is None:
            encoded, others = encoder(torch.cat([features, keys.features])).split(n, len(keys.features))
            return encoded, self._dropped(encoded.attend(others))
        nothing = features.new_zeros(1, features.shape[1])  # what an axis is encoded from
        parts = [features, keys.features, of.axes, nothing]
        encoded, others, axes, origin = encoder(torch.cat(parts)).split(*map(len, parts))
        seen = encoded.attend_normal(others, of.log_size, axes=axes.rows - origin.rows, variance=of.variance)
        return encoded, self._dropped(seen)

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.settings.dropout, training=self.training)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the objective, each already times its weight; their sum is minimised."""
        settings = self.settings
        z, aligned = self.encode(batch.features)
        n = len(batch.targets[0].library_size)
        terms = {
            name: settings.likelihood_loss * decoder(z[:n], target)
            for name, decoder, target in zip(self.terms, self.decoders, batch.targets, strict=True)
        }
        with exactly(z):
            if len(aligned) > 1 and settings.contrast_loss:
                pairs = combinations([full(q[:n]) for q in aligned], 2)
                contrast = sum_of(self._contrast(*pair, batch.n_places) for pair in pairs)
                terms["contrast"] = settings.contrast_loss * contrast
            if settings.graph_loss and batch.graph is not None:
                terms["graph"] = settings.graph_loss * self._reconstruction(full(z), batch.graph)
        return terms

    def _contrast(self, first: Tensor, second: Tensor, n_places: int) -> Tensor:
        if self.settings.contrast == "mutual_information":
            return losses.mutual_information_contrast(first, second)
        return losses.similarity_contrast(first, second, n_places=n_places)

    @staticmethod
    def _reconstruction(z: Tensor, graph: Graph | Partners) -> Tensor:
        if isinstance(graph, Graph):
            return losses.graph_reconstruction(z, graph)
        n = len(graph.own)
        return losses.sampled_graph_reconstruction(z[:n], z[n:], graph)


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Add tensors up in their order, at least one."""
    return reduce(torch.add, tensors)
