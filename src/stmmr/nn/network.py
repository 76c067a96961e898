"""The stMMR network; N spots, F features of a block, B blocks, d the width of the embedding."""

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
    """Sizes and likelihood of one block, from which the network makes its layers."""

    name: str
    n_features: int
    """F."""
    n_targets: int = 0
    """Number of values that the likelihood describes (genes, proteins); 0 without a likelihood."""
    likelihood: str | None = None
    """None for a block that is not decoded."""
    weight: float = 1.0
    """Weight in the fusion."""


class Keys(NamedTuple):
    """The keys of the attention of one block."""

    features: Tensor
    """A²F of all spots, or its means over clusters of spots, (M, F)."""
    landmarks: Landmarks | None = None
    """The clusters; None where each key is one spot."""


class Landmarks(NamedTuple):
    """Clusters of spots, as normal distributions around their means."""

    log_size: Tensor
    """Logarithm of the number of spots in each cluster, (M,)."""
    axes: Tensor
    """Axes, in the space of the features, along which the spots of a cluster scatter, (p, F)."""
    variance: Tensor
    """Variance of each cluster along each axis, (M, p)."""


class Features(NamedTuple):
    """Input of the embedding; rows are spots."""

    blocks: tuple[Tensor, ...]
    """A²F of each block, (n, F)."""
    keys: tuple[Keys, ...] | None = None
    """Keys of the attention of each block; None: these rows attend to each other."""


class Batch(NamedTuple):
    """Input of one training step: n of the N spots."""

    features: Features
    """Of the n spots; with `Partners`, followed by those of the n partners."""
    targets: tuple[Target, ...]
    """Values of each block with a likelihood."""
    n_obs: int
    """N."""
    graph: Graph | Partners | None
    """The graph where the batch has all spots, otherwise the sampled partners."""


class Network(nn.Module):
    """Encode each block, attend, align, fuse, decode.

    Zhang et al., GigaScience 2024, doi:10.1093/gigascience/giae089, there for two blocks.

    Parameters
    ----------
    shapes
        The blocks; the first is the expression and has a likelihood.
    settings
        Widths of the layers and weights of the losses.
    """

    weights: Tensor
    """Weights of the blocks in the fusion, (B,)."""

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
        """Set the first weights of encoders without a hidden layer: weight (F, d) and bias (d,) for each block."""
        for encoder, start in zip(self.encoders, starts, strict=True):
            for parameter, first in zip(encoder.parameters(), start, strict=True):
                parameter.copy_(first)

    def encode(self, features: Features) -> tuple[Tensor, list[Tensor]]:
        """Embed spots: Z, shape (n, d), and the aligned representation of each block if there is an alignment."""
        settings = self.settings
        keys = features.keys or [None] * len(features.blocks)
        parts = [self._encode_block(*part) for part in zip(self.encoders, features.blocks, keys, strict=True)]
        z = sum_of(weight * attended for weight, (_, attended) in zip(self.weights, parts, strict=True))  # (n, d)
        if not settings.aligned_weight:
            return z, []
        aligned = [self._dropped(functional.relu(encoded.linear(self.align))) for encoded, _ in parts]  # (n, d) each
        return z + settings.aligned_weight * self.fuse(torch.cat(aligned, dim=1)), aligned

    def _encode_block(self, encoder: nn.Module, features: Tensor, keys: Keys | None) -> tuple[Encoded, Tensor]:
        """Encode one block: E, and its contribution to the fusion, (n, d)."""
        if not self.settings.attention:
            encoded: Encoded = encoder(features)
            return encoded, encoded.dense()
        dropout = self.settings.dropout if self.training else 0.0
        if keys is None:
            encoded = encoder(features)
            return encoded, encoded.attend(encoded, dropout=dropout)
        n, clusters = len(features), keys.landmarks
        if clusters is None:
            encoded, others = encoder(torch.cat([features, keys.features])).split(n, len(keys.features))
            return encoded, encoded.attend(others, dropout=dropout)
        zero = features.new_zeros(1, features.shape[1])  # axes are directions: the bias of the encoder is taken off
        parts = [features, keys.features, clusters.axes, zero]
        encoded, others, axes, origin = encoder(torch.cat(parts)).split(*map(len, parts))
        axes = axes.rows - origin.rows
        seen = encoded.attend_normal(others, clusters.log_size, axes=axes, variance=clusters.variance)
        return encoded, seen  # a cluster is many spots, over which dropout averages out

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.settings.dropout, training=self.training)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the loss, each times its weight; training minimises their sum."""
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
                contrast = sum_of(self._contrast(*pair, batch.n_obs) for pair in pairs)
                terms["contrast"] = settings.contrast_loss * contrast
            if settings.graph_loss and batch.graph is not None:
                terms["graph"] = settings.graph_loss * self._reconstruction(full(z), batch.graph)
        return terms

    def _contrast(self, first: Tensor, second: Tensor, n_obs: int) -> Tensor:
        if self.settings.contrast == "mutual_information":
            return losses.mutual_information_contrast(first, second)
        return losses.similarity_contrast(first, second, n_obs=n_obs)

    @staticmethod
    def _reconstruction(z: Tensor, graph: Graph | Partners) -> Tensor:
        if isinstance(graph, Graph):
            return losses.graph_reconstruction(z, graph)
        n = len(graph.own)
        return losses.sampled_graph_reconstruction(z[:n], z[n:], graph)


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Add tensors in their order; at least one is needed."""
    return reduce(torch.add, tensors)
