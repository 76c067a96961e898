"""The layers of the network; N spots, F features, d the width of the embedding."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stmmr.nn.pairs import attention


class Encoded(NamedTuple):
    """An embedding E of shape (N, d), kept as the product `rows` (N, r) · `weight` (r, d) where r < d.

    The next layers are linear or attention: in this form they give the same numbers and cost r instead of d.
    """

    rows: Tensor
    weight: Tensor | None = None

    @property
    def width(self) -> int:
        """Width d of the embedding."""
        return (self.rows if self.weight is None else self.weight).shape[1]

    def dense(self) -> Tensor:
        """E, shape (N, d)."""
        return self._combined(self.rows)

    def linear(self, layer: nn.Linear) -> Tensor:
        """Apply a linear layer to E, shape (N, out)."""
        if self.weight is None:
            out: Tensor = layer(self.rows)
            return out
        return self.rows @ functional.linear(self.weight, layer.weight) + layer.bias

    def attend(self, keys: Encoded, *, dropout: float = 0.0) -> Tensor:
        """dropout(softmax(E·E_Kᵀ/√d))·E_K over keys of the same encoder, shape (n, d)."""
        return self._combined(attention(self._query(), keys.rows, dropout=dropout))

    def attend_normal(self, keys: Encoded, log_size: Tensor, *, axes: Tensor, variance: Tensor) -> Tensor:
        """Attend to clusters of spots instead of single spots, shape (n, d).

        If the spots of a cluster are normally distributed with mean k and covariance S, the mean of exp(q·x) over them
        is exp(q·k + ½qᵀSq), and the mean of exp(q·x)·x is (k + Sq) times that. With S = GᵀVG for axes G that all
        clusters share, and u = Gq, this is an attention from queries (q, u²) to keys (k, ½V), which are also its
        values.

        Shapes
        ------
        keys : (M, r) rows
        log_size : (M,), logarithm of the number of spots in a cluster
        axes : (p, r), G
        variance : (M, p), the diagonals V
        """
        query, r = self._query(), keys.rows.shape[1]
        along = query @ axes.T  # (n, p), u
        key = torch.cat([keys.rows, variance / 2], dim=1)  # (M, r + p)
        seen = attention(torch.cat([query, along.square()], dim=1), key, log_size=log_size)  # (n, r + p)
        return self._combined(seen[:, :r] + (2 * seen[:, r:] * along) @ axes)

    def _query(self) -> Tensor:
        """Compute the query Q for which Q·(rows of the keys)ᵀ = E·E_Kᵀ/√d; shape (n, r)."""
        scale = 1 / math.sqrt(self.width)
        return self.rows * scale if self.weight is None else self.rows @ (self.weight @ self.weight.T * scale)

    def _combined(self, rows: Tensor) -> Tensor:
        """Multiply rows, shape (n, r), by the weight; shape (n, d)."""
        return rows if self.weight is None else rows @ self.weight

    def split(self, *sizes: int) -> list[Encoded]:
        """Split the rows into consecutive groups of the given sizes."""
        return [Encoded(rows, self.weight) for rows in torch.split(self.rows, list(sizes))]


class PropagatedEncoder(nn.Module):
    """Two graph convolutions without a nonlinearity, E = A(A·F·W₁ + b₁)W₂ + b₂.

    The rows of A sum to 1, so E = (A²F)W₁W₂ + b₁W₂ + b₂: the input is the propagated features A²F, and each row is
    computed on its own. With `hidden` = 0 there is one layer, E = (A²F)W + b.
    """

    def __init__(self, n_features: int, *, hidden: int, latent: int) -> None:
        super().__init__()
        widths = [n_features, hidden, latent] if hidden else [n_features, latent]
        shapes = list(itertools.pairwise(widths))
        self.weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.empty(out) for _, out in shapes)
        for parameter in self.parameters():
            bound = 1 / math.sqrt(parameter.shape[-1])
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, propagated: Tensor) -> Encoded:
        """Encode propagated features A²F, shape (N, F)."""
        bias = self.biases[0]
        for weight, following in zip(list(self.weights)[1:], list(self.biases)[1:], strict=True):
            bias = bias @ weight + following  # (d,)
        if propagated.shape[1] + 1 < len(bias):
            ones = propagated.new_ones(len(propagated), 1)
            weight = torch.linalg.multi_dot([*self.weights]) if len(self.weights) > 1 else self.weights[0]
            return Encoded(torch.cat([propagated, ones], dim=1), torch.cat([weight, bias[None]]))
        return Encoded(torch.linalg.multi_dot([propagated, *self.weights]) + bias)
