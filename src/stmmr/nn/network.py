"""The stMMR network, read top to bottom; N places, F and P features, G targets, d the latent width."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stmmr.nn import losses
from stmmr.nn.layers import Decoder, Encoded, PropagatedEncoder
from stmmr.nn.pairs import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from stmmr.settings import Settings

LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "zinb": losses.zinb,
    "nb": losses.nb,
    "gaussian": losses.gaussian,
}
CONTRASTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "similarity": losses.similarity_contrast,
    "mutual_information": losses.mutual_information_contrast,
}
HEADS: dict[str, tuple[str, ...]] = {
    "zinb": ("dropout", "dispersion", "mean"),
    "nb": ("mean",),
    "gaussian": ("mean",),
}


class Batch(NamedTuple):
    """What one training step reads; rows are places."""

    expression: Tensor
    """A²F of the expression, (N, F)."""
    histology: Tensor | None
    """A²F of the histology, (N, P)."""
    target: Tensor
    """What the likelihood is of, (N, G)."""
    library_size: Tensor
    """Library size relative to its median, (N, 1); read by counts likelihoods."""
    graph: Graph | None
    """A among these places."""

    def rows(self, index: Tensor) -> Batch:
        """Take some places; what is said over all pairs of them is left out."""
        histology = None if self.histology is None else self.histology[index]
        return Batch(self.expression[index], histology, self.target[index], self.library_size[index], None)


class Outputs(NamedTuple):
    """What the network computes for a batch."""

    z: Tensor
    """Embedding, (N, d)."""
    aligned: tuple[Tensor, Tensor] | None
    """Q of expression and of histology, (N, d) each."""
    parameters: dict[str, Tensor]
    """Parameters of the likelihood, (N, G) or (G,) each."""


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
        self.has_histology = n_histology > 0
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

    def encode(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Embed a batch: Z, shape (N, d), and the aligned pair where there are two modalities to align."""
        settings = self.settings
        encoded = [self.encode_expression(batch.expression)]
        if self.has_histology:
            encoded.append(self.encode_histology(batch.histology))
        z = settings.expression_weight * self._attended(encoded[0])  # (N, d)
        if self.has_histology:
            z = z + self.histology_weight * self._attended(encoded[1])
        if not settings.aligned_weight:
            return z, None
        aligned = [self._dropped(functional.relu(e.linear(self.align))) for e in encoded]  # (N, d) each
        z = z + settings.aligned_weight * self.fuse(torch.cat(aligned, dim=1))
        return z, (aligned[0], aligned[1]) if self.has_histology else None

    def _attended(self, encoded: Encoded) -> Tensor:
        return self._dropped(encoded.self_attention()) if self.settings.attention else encoded.dense()

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.settings.dropout, training=self.training)

    def decode(self, z: Tensor, library_size: Tensor) -> dict[str, Tensor]:
        """Turn embeddings, shape (N, d), into the parameters of the likelihood."""
        raw: dict[str, Tensor] = self.decoder(z)
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

    def forward(self, batch: Batch) -> Outputs:
        """Embed and decode a batch."""
        z, aligned = self.encode(batch)
        return Outputs(z, aligned, self.decode(z, batch.library_size))

    def loss_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """Compute the terms of the objective, each already times its weight; their sum is minimised."""
        settings = self.settings
        likelihood = LIKELIHOODS[settings.likelihood]
        terms = {"likelihood": settings.likelihood_loss * likelihood(batch.target, **outputs.parameters)}
        if outputs.aligned is not None and settings.contrast_loss:
            contrast = CONTRASTS[settings.contrast]
            terms["contrast"] = settings.contrast_loss * contrast(*outputs.aligned)
        if settings.graph_loss and batch.graph is not None:
            terms["graph"] = settings.graph_loss * losses.graph_reconstruction(outputs.z, batch.graph)
        return terms
