"""What the model says over all pairs of places, computed in tiles of rows: exact, and never N × N at once.

Both functions bring their own gradient, so that no tile has to be kept for the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
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
    result: Tensor = _Attention.apply(query, key)
    return result


class _GraphReconstruction(torch.autograd.Function):
    """Σ (σ(C) − A)², C = Ẑ·Ẑᵀ with zero diagonal; the gradient is gathered on the way there."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, graph: Tensor) -> Tensor:
        total = unit.new_zeros(())
        gradient = torch.empty_like(unit)  # (N, d)
        transposed = graph.transpose(0, 1).to_sparse_csr()
        for rows in row_tiles(len(unit), itemsize=unit.element_size()):
            ahead = _dense_rows(graph, rows)  # (t, N), A of these rows
            back = _dense_rows(transposed, rows)  # (t, N), Aᵀ of these rows
            cosine = unit[rows] @ unit.T  # (t, N)
            cosine[:, rows].fill_diagonal_(0)
            share = cosine.sigmoid_()
            total += (share - ahead).square_().sum()
            slope = share * (1 - share)
            slope[:, rows].fill_diagonal_(0)
            # place i meets j in row i and in row j: d/dẐ_i = Σ_j [2(σ − A_ij) + 2(σ − A_ji)] σ' Ẑ_j
            gradient[rows] = (slope.mul_(share.mul_(4).sub_(ahead, alpha=2).sub_(back, alpha=2))) @ unit
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None


def _dense_rows(graph: Tensor, rows: slice) -> Tensor:
    """Write out some rows of a CSR tensor, shape (t, N)."""
    starts = graph.crow_indices()[rows.start : rows.stop + 1]
    inside = slice(int(starts[0]), int(starts[-1]))
    dense = graph.values().new_zeros(rows.stop - rows.start, graph.shape[1])
    row = torch.repeat_interleave(torch.arange(len(dense), device=dense.device), starts.diff())
    dense[row, graph.col_indices()[inside]] = graph.values()[inside]
    return dense


def graph_mismatch(unit: Tensor, graph: Tensor) -> Tensor:
    """Sum over all pairs (σ(C) − A)², where C holds the cosines off the diagonal and zeros on it.

    Shapes
    ------
    unit : (N, d), rows of length one
    graph : (N, N), sparse CSR
    returns : ()
    """
    result: Tensor = _GraphReconstruction.apply(unit, graph)
    return result
