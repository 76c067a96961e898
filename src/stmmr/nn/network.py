"""The stMMR network, read top to bottom; N places, F and P features, G targets, d the latent width."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stmmr.nn import losses
from stmmr.nn.layers import Decoder, Encoded, PropagatedEncoder
from stmmr.nn.pairs import Graph, Partners, exactly, full
from stmmr.nn.sparse import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stmmr.settings import Settings

LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "zinb": losses.zinb,
    "nb": losses.nb,
    "gaussian": losses.gaussian,
}
HEADS: dict[str, tuple[str, ...]] = {
    "zinb": ("dropout", "dispersion", "mean"),
    "nb": ("mean",),
    "gaussian": ("mean",),
}


BLOCK_ENTRIES = 2**24
"""Largest block of places × genes whose likelihood is computed at once; of more, blocks are computed anew on the way
back."""


class Keys(NamedTuple):
    """What one modality attends to."""

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

    expression: Tensor
    """A²F of the expression, (n, F)."""
    histology: Tensor | None
    """A²F of the histology, (n, P)."""
    keys: tuple[Keys, Keys | None] | None = None
    """What expression and histology attend to; None for the rows here."""


class Batch(NamedTuple):
    """What one training step reads: n of the N places of the tissue."""

    features: Features
    """Of the n places; with `Partners`, of 2n, those of the partners below."""
    target: Tensor | SparseRows
    """What the likelihood is of, (n, G); sparse for counts."""
    library_size: Tensor
    """Library size relative to its median, (n, 1); read by count likelihoods."""
    n_places: int
    """N."""
    graph: Graph | Partners | None
    """A among the places where all of them are here, otherwise the partners that were drawn."""


class Network(nn.Module):
    """Encode each modality, attend, align, fuse, decode.

    Zhang et al., GigaScience 2024, doi:10.1093/gigascience/giae089.

    Parameters
    ----------
    n_expression
        F, width of the expression features.
    n_histology
        P, width of the histology features; 0 where there is no picture.
    n_targets
        G, width of what the likelihood is of.
    settings
        Shape and loss weights.
    """

    histology_weight: Tensor

    def __init__(self, n_expression: int, n_histology: int, n_targets: int, *, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        hidden, d = settings.hidden, settings.latent
        self.encode_expression = PropagatedEncoder(n_expression, hidden=hidden, latent=d)
        self.encode_expression.requires_grad_(settings.train_encoders)
        if n_histology:
            self.encode_histology = PropagatedEncoder(n_histology, hidden=hidden, latent=d)
            self.encode_histology.requires_grad_(settings.train_encoders)
        self.register_buffer("histology_weight", torch.tensor(float(settings.histology_weight or 0)))
        if settings.aligned_weight:
            self.align = nn.Linear(d, d)  # one layer for both modalities
            self.fuse = nn.Linear(2 * d if n_histology else d, d)
        self.decoder = Decoder(d, hidden=settings.decoder_hidden, n_targets=n_targets, heads=HEADS[settings.likelihood])
        if settings.likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(n_targets))

    @torch.no_grad()
    def start_from(
        self, expression: tuple[Tensor, Tensor], histology: tuple[Tensor, Tensor] | None, *, histology_weight: float
    ) -> None:
        """Set the first weights of encoders without a hidden layer, and that of the histology.

        Shapes
        ------
        expression, histology : weight (F, d) and bias (d,); (P, d) and (d,)
        """
        starts = [(self.encode_expression, expression)]
        if histology is not None:
            starts.append((self.encode_histology, histology))
        for encoder, (first_weight, first_bias) in starts:
            (weight,), (bias,) = encoder.weights, encoder.biases
            weight.copy_(first_weight)
            bias.copy_(first_bias)
        self.histology_weight.fill_(histology_weight)

    def encode(self, features: Features) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Embed places: Z, shape (n, d), and the aligned pair where there are two modalities to align."""
        settings = self.settings
        keys, image_keys = features.keys or (None, None)
        encoded, attended = self._read(self.encode_expression, features.expression, keys)
        both = [encoded]
        z = settings.expression_weight * attended  # (n, d)
        if features.histology is not None:
            encoded, attended = self._read(self.encode_histology, features.histology, image_keys)
            both.append(encoded)
            z = z + self.histology_weight * attended
        if not settings.aligned_weight:
            return z, None
        aligned = [self._dropped(functional.relu(e.linear(self.align))) for e in both]  # (n, d) each
        z = z + settings.aligned_weight * self.fuse(torch.cat(aligned, dim=1))
        return z, (aligned[0], aligned[1]) if len(aligned) > 1 else None

    def _read(self, encoder: PropagatedEncoder, features: Tensor, keys: Keys | None) -> tuple[Encoded, Tensor]:
        """Encode one modality: E, and what of it enters the fusion, (n, d)."""
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

    def _distribution(self, h: Tensor, library_size: Tensor) -> dict[str, Tensor]:
        """Turn the decoder's hidden layer, shape (n, hidden), into the parameters of the likelihood, (n, G) or (G,)."""
        raw = {name: full(values) for name, values in self.decoder.raw(h).items()}
        match self.settings.likelihood:
            case "zinb":
                return {
                    "mean": raw["mean"].exp().clamp(1e-5, 1e6),
                    "dispersion": functional.softplus(raw["dispersion"]).clamp(1e-4, 1e4),
                    "dropout": raw["dropout"].sigmoid(),
                }
            case "nb":
                dispersion = self.log_dispersion.exp().clamp(1e-4, 1e4)
                return {"mean": (raw["mean"].clamp(-16, 16)).exp() * library_size, "dispersion": dispersion}
            case _:
                return raw

    def _misfit(self, h: Tensor, target: Tensor | SparseRows, library_size: Tensor) -> Tensor:
        """Sum up the negative log-likelihood of some places."""
        parameters = self._distribution(h, library_size)
        with exactly(h):
            return LIKELIHOODS[self.settings.likelihood](target, **parameters)

    def _mean_misfit(self, z: Tensor, batch: Batch) -> Tensor:
        """Mean over n × G of the negative log-likelihood; in blocks of places where n × G is large."""
        n, n_targets = batch.target.shape
        h, blocks = self.decoder(z), list(row_blocks(n, n_targets))
        if len(blocks) == 1:
            return self._misfit(h, batch.target, batch.library_size) / (n * n_targets)
        sizes = [stop - start for start, stop in blocks]
        parts = zip(torch.split(h, sizes), _cut(batch.target, blocks), batch.library_size.split(sizes), strict=True)  # type: ignore[no-untyped-call]
        sums: list[Tensor] = [
            checkpoint(self._misfit, *part, use_reentrant=False, preserve_rng_state=False) for part in parts
        ]
        return torch.stack(sums).sum() / (n * n_targets)

    def mean_of(self, z: Tensor, library_size: Tensor) -> Tensor:
        """Decode embeddings, shape (n, d), to the mean of the likelihood, shape (n, G)."""
        return self._distribution(self.decoder(z), library_size)["mean"]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the objective, each already times its weight; their sum is minimised."""
        settings = self.settings
        z, aligned = self.encode(batch.features)
        n = len(batch.library_size)
        terms = {"likelihood": settings.likelihood_loss * self._mean_misfit(z[:n], batch)}
        with exactly(z):
            if aligned is not None and settings.contrast_loss:
                first, second = (full(q[:n]) for q in aligned)
                terms["contrast"] = settings.contrast_loss * self._contrast(first, second, batch.n_places)
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


def row_blocks(n: int, n_targets: int) -> Iterator[tuple[int, int]]:
    """Cut n places into blocks of at most `BLOCK_ENTRIES` values."""
    step = max(1, BLOCK_ENTRIES // max(n_targets, 1))
    for start in range(0, n, step):
        yield start, min(start + step, n)


def _cut(target: Tensor | SparseRows, blocks: list[tuple[int, int]]) -> list[Tensor | SparseRows]:
    if isinstance(target, SparseRows):
        return [target.block(*block) for block in blocks]
    return [target[start:stop] for start, stop in blocks]
