"""From the embedding to the likelihood of one block; N spots, G targets, d the width of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stmmr.nn import losses
from stmmr.nn.pairs import exactly, full
from stmmr.nn.sparse import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "zinb": losses.zinb,
    "nb": losses.nb,
    "bernoulli": losses.bernoulli,
    "gaussian": losses.gaussian,
}
HEADS: dict[str, tuple[str, ...]] = {
    "zinb": ("dropout", "dispersion", "mean"),
    "nb": ("mean",),
    "bernoulli": ("logit",),
    "gaussian": ("mean",),
}

BLOCK_ENTRIES = 2**24
"""Largest number of values (spots × genes) whose likelihood is computed at once. Larger matrices are computed in
blocks, and each block once more in the backward pass instead of being stored."""


class Target(NamedTuple):
    """The values that a likelihood describes; rows are spots."""

    values: Tensor | SparseRows
    """(n, G); sparse for counts."""
    library_size: Tensor
    """Library size relative to its median, (n, 1); used by likelihoods of counts."""


class Decoder(nn.Module):
    """From the embedding to the parameters of the likelihood: h = relu(BN(Z·W + b)), then one linear head each."""

    def __init__(self, latent: int, n_targets: int, *, hidden: int, likelihood: str) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.hidden = nn.Linear(latent, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, n_targets) for name in HEADS[likelihood]})
        if likelihood == "nb":
            self.log_dispersion = nn.Parameter(torch.zeros(n_targets))

    def forward(self, z: Tensor, target: Target) -> Tensor:
        """Compute the mean negative log-likelihood over n × G values, in blocks of rows where n × G is large."""
        n, n_targets = target.values.shape
        h, blocks = self._hidden(z), list(row_blocks(n, n_targets))
        if len(blocks) == 1:
            return self._misfit(h, *target) / (n * n_targets)
        sizes = [stop - start for start, stop in blocks]
        parts = zip(torch.split(h, sizes), _cut(target.values, blocks), target.library_size.split(sizes), strict=True)  # type: ignore[no-untyped-call]
        sums: list[Tensor] = [
            checkpoint(self._misfit, *part, use_reentrant=False, preserve_rng_state=False) for part in parts
        ]
        return torch.stack(sums).sum() / (n * n_targets)

    def mean(self, z: Tensor, library_size: Tensor) -> Tensor:
        """Decode embeddings, shape (n, d), into the mean of the likelihood, shape (n, G)."""
        parameters = self._distribution(self._hidden(z), library_size)
        return parameters["logit"].sigmoid() if self.likelihood == "bernoulli" else parameters["mean"]

    def _hidden(self, z: Tensor) -> Tensor:
        h: Tensor = functional.relu(self.norm(self.hidden(z)))
        return h

    def _distribution(self, h: Tensor, library_size: Tensor) -> dict[str, Tensor]:
        """Turn the hidden layer, shape (n, hidden), into the parameters of the likelihood, (n, G) or (G,)."""
        raw = {name: full(head(h)) for name, head in self.heads.items()}
        match self.likelihood:
            case "zinb":
                return {
                    "mean": raw["mean"].exp().clamp(1e-5, 1e6),
                    "dispersion": functional.softplus(raw["dispersion"]).clamp(1e-4, 1e4),
                    "dropout": raw["dropout"].sigmoid(),
                }
            case "nb":
                dispersion = self.log_dispersion.exp().clamp(1e-4, 1e4)
                return {"mean": (raw["mean"].clamp(-16, 16)).exp() * library_size, "dispersion": dispersion}
            case "bernoulli":  # the odds grow with the library size
                return {"logit": raw["logit"] + library_size.log()}
            case _:
                return raw

    def _misfit(self, h: Tensor, values: Tensor | SparseRows, library_size: Tensor) -> Tensor:
        """Sum the negative log-likelihood over a block of rows."""
        parameters = self._distribution(h, library_size)
        with exactly(h):
            return LIKELIHOODS[self.likelihood](values, **parameters)


def row_blocks(n: int, n_targets: int) -> Iterator[tuple[int, int]]:
    """Split n rows into blocks of at most `BLOCK_ENTRIES` values."""
    step = max(1, BLOCK_ENTRIES // max(n_targets, 1))
    for start in range(0, n, step):
        yield start, min(start + step, n)


def _cut(values: Tensor | SparseRows, blocks: list[tuple[int, int]]) -> list[Tensor | SparseRows]:
    if isinstance(values, SparseRows):
        return [values.block(*block) for block in blocks]
    return [values[start:stop] for start, stop in blocks]
