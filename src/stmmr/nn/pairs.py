"""What the model says over all pairs of places, computed in tiles of rows: exact, and never N × N at once.

Both functions bring their own gradient, so that no tile has to be kept for the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy import sparse
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE_BYTES = 32 * 2**20
"""Largest block of pairs (rows × N) that is held at once."""


def row_tiles(n: int, *, itemsize: int) -> Iterator[slice]:
    """Cut N rows into tiles whose rows × N pairs stay within `TILE_BYTES`."""
    step = max(1, TILE_BYTES // (itemsize * max(n, 1)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


class _Attention(torch.autograd.Function):
    """softmax(Q·Kᵀ)·K, with the weights recomputed on the way back from their log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor) -> Tensor:
        out = torch.empty_like(query)  # (N, r)
        log_sum = query.new_empty(len(query))  # (N,)
        for rows in row_tiles(len(key), itemsize=key.element_size()):
            scores = query[rows] @ key.T  # (t, N)
            log_sum[rows] = scores.logsumexp(dim=1)
            out[rows] = scores.sub_(log_sum[rows, None]).exp_() @ key
        ctx.save_for_backward(query, key, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        query, key, out, log_sum = ctx.saved_tensors
        grad_query, grad_key = torch.empty_like(query), torch.zeros_like(key)
        along = (grad * out).sum(dim=1, keepdim=True)  # (N, 1)
        for rows in row_tiles(len(key), itemsize=key.element_size()):
            weights = (query[rows] @ key.T).sub_(log_sum[rows, None]).exp_()  # (t, N)
            grad_key.addmm_(weights.T, grad[rows])
            weights *= (grad[rows] @ key.T).sub_(along[rows])  # now the gradient of the scores
            grad_query[rows] = weights @ key
            grad_key.addmm_(weights.T, query[rows])
        return grad_query, grad_key


def attention(query: Tensor, key: Tensor) -> Tensor:
    """Attend from every place to all places, softmax(Q·Kᵀ)·K.

    Shapes
    ------
    query, key : (N, r)
    returns : (N, r)
    """
    result: Tensor = _Attention.apply(query, key)  # type: ignore[no-untyped-call]
    return result


class Graph(NamedTuple):
    """What the reconstruction needs of A: its symmetric part S = (A + Aᵀ)/2 as CSR, and ΣA² − ΣS².

    σ(C) is symmetric, so that Σ(σ(C) − A)² = Σ(σ(C) − S)² + ΣA² − ΣS².
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    antisymmetric: Tensor

    @classmethod
    def of(cls, weights: sparse.csr_matrix[Any], *, dtype: torch.dtype = torch.float32) -> Graph:
        """Take over A, shape (N, N)."""
        symmetric = sparse.csr_matrix((weights + weights.T) / 2)
        rest = weights.power(2).sum() - symmetric.power(2).sum()
        return cls(
            torch.from_numpy(symmetric.indptr.astype("int64")),
            torch.from_numpy(symmetric.indices.astype("int64")),
            torch.from_numpy(symmetric.data).to(dtype),
            torch.tensor(float(rest), dtype=dtype),
        )

    def to(self, device: torch.device) -> Graph:
        """Move to a device."""
        return Graph(*(part.to(device) for part in self))

    def dense_rows(self, rows: slice) -> Tensor:
        """Write out some rows of S, shape (t, N)."""
        starts = self.indptr[rows.start : rows.stop + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        dense = self.values.new_zeros(rows.stop - rows.start, len(self.indptr) - 1)
        row = torch.repeat_interleave(torch.arange(len(dense), device=dense.device), starts.diff())
        dense[row, self.indices[inside]] = self.values[inside]
        return dense


class _GraphMismatch(torch.autograd.Function):
    """Σ (σ(C) − A)², C = Ẑ·Ẑᵀ with zero diagonal; the gradient is gathered on the way there."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, graph: Graph) -> Tensor:
        total = graph.antisymmetric.clone()
        gradient = torch.empty_like(unit)  # (N, d)
        for rows in row_tiles(len(unit), itemsize=unit.element_size()):
            share = (unit[rows] @ unit.T).sigmoid_()  # (t, N)
            share[:, rows].fill_diagonal_(0.5)
            off = share - graph.dense_rows(rows)
            total += off.square().sum()
            off.mul_(share).mul_(share.neg_().add_(1))  # (σ − S)·σ(1 − σ)
            off[:, rows].fill_diagonal_(0)
            gradient[rows] = off @ unit
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (4 * grads[0]), None  # each pair is met from both of its places


def graph_mismatch(unit: Tensor, graph: Graph) -> Tensor:
    """Sum over all pairs (σ(C) − A)², where C holds the cosines off the diagonal and zeros on it.

    Shapes
    ------
    unit : (N, d), rows of length one
    graph : (N, N)
    returns : ()
    """
    result: Tensor = _GraphMismatch.apply(unit, graph)  # type: ignore[no-untyped-call]
    return result
