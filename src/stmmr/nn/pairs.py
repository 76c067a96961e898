"""Attention and graph reconstruction over all pairs of spots, computed exactly in tiles of rows.

No N × N matrix is ever in memory. Both functions define their own gradient, so no tile is stored for the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE_BYTES = 32 * 2**20
"""Size of the largest tile of pairs (rows × N) in memory."""
SDPA_WIDTH = 256
"""Largest width for which CUDA has an attention kernel that never stores the scores."""


def row_tiles(n: int, *, others: int, itemsize: int) -> Iterator[slice]:
    """Split n rows into tiles whose pairs, rows × others, stay within `TILE_BYTES`."""
    step = max(1, TILE_BYTES // (itemsize * max(others, 1)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


class _Attention(torch.autograd.Function):
    """dropout(softmax(Q·Kᵀ + b))·K; the backward pass recomputes weights and dropout instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        out = torch.empty_like(query)  # (n, r)
        log_sum = query.new_empty(len(query))  # (n,)
        ctx.dropout, ctx.seed = dropout, int(torch.randint(2**62, ())) if dropout else 0
        kept = _Kept(ctx.seed, dropout, query)
        for rows in row_tiles(len(query), others=len(key), itemsize=key.element_size()):
            scores = _scores(query[rows], key, bias)  # (t, M)
            log_sum[rows] = scores.logsumexp(dim=1)
            weights = scores.sub_(log_sum[rows, None]).exp_()
            out[rows] = kept.of_next(weights) @ key
        ctx.save_for_backward(query, key, bias, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grads
        query, key, bias, out, log_sum = ctx.saved_tensors
        grad_query, grad_key = torch.empty_like(query), torch.zeros_like(key)
        along = (grad * out).sum(dim=1, keepdim=True)  # (n, 1)
        kept = _Kept(ctx.seed, ctx.dropout, query)
        for rows in row_tiles(len(query), others=len(key), itemsize=key.element_size()):
            weights = _scores(query[rows], key, bias).sub_(log_sum[rows, None]).exp_()  # (t, M)
            dropped = kept.of_next(weights)
            grad_key.addmm_(dropped.T, grad[rows])
            scores = dropped * (grad[rows] @ key.T) - weights * along[rows]  # the gradient of the scores
            grad_query[rows] = scores @ key
            grad_key.addmm_(scores.T, query[rows])
        return grad_query, grad_key, None, None


class _Kept:
    """Dropout of tiles of weights, the same each time they are visited in order."""

    def __init__(self, seed: int, rate: float, like: Tensor) -> None:
        self.rate = rate
        self.generator = torch.Generator(like.device).manual_seed(seed) if rate else None

    def of_next(self, weights: Tensor) -> Tensor:
        """Set a share of the weights of the next tile to 0, and scale the others so that their mean stays."""
        if self.generator is None:
            return weights
        keep = torch.empty_like(weights, dtype=torch.float32).bernoulli_(1 - self.rate, generator=self.generator)
        return weights * keep.to(weights.dtype).div_(1 - self.rate)


def _scores(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key.T
    return scores if bias is None else scores.add_(bias)


def attention(query: Tensor, key: Tensor, *, log_size: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Attend from every query to all keys, dropout(softmax(Q·Kᵀ + log n))·K.

    Shapes
    ------
    query : (n, r)
    key : (M, r)
    log_size : (M,), logarithm of the number of spots each key stands for; 1 spot each if None
    returns : (n, r)
    """
    if query.is_cuda and log_size is None and query.shape[1] <= SDPA_WIDTH:
        return attention_by_torch(query, key, dropout=dropout)
    with exactly(query):
        result: Tensor = _Attention.apply(full(query), full(key), log_size, dropout)  # type: ignore[no-untyped-call]
    return result


def attention_by_torch(query: Tensor, key: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Compute dropout(softmax(Q·Kᵀ))·K by the fused kernels of PyTorch; (n, r) and (M, r) to (n, r)."""
    q, k = query[None, None], key[None, None]  # (1, 1, n, r), (1, 1, M, r)
    return functional.scaled_dot_product_attention(q, k, k, scale=1.0, dropout_p=dropout)[0, 0]


def exactly(values: Tensor) -> torch.autocast:
    """Switch mixed precision off in a block: sums over many pairs or genes need full precision."""
    return torch.autocast(values.device.type, enabled=False)


def full(values: Tensor) -> Tensor:
    """Convert values of lower precision to float32; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Graph(NamedTuple):
    """The graph A as the reconstruction needs it: S = (A + Aᵀ)/2 as CSR, and ΣA² − ΣS².

    σ(C) is symmetric, so Σ(σ(C) − A)² = Σ(σ(C) − S)² + ΣA² − ΣS².
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    antisymmetric: Tensor

    @classmethod
    def of(cls, weights: sparse.csr_matrix[Any], *, dtype: torch.dtype = torch.float32) -> Graph:
        """Convert A, shape (N, N)."""
        symmetric = sparse.csr_matrix((weights + weights.T) / 2)
        rest = weights.power(2).sum() - symmetric.power(2).sum()
        return cls(
            torch.from_numpy(symmetric.indptr.astype("int64")),
            torch.from_numpy(symmetric.indices.astype("int64")),
            torch.from_numpy(symmetric.data).to(dtype),
            torch.tensor(float(rest), dtype=dtype),
        )

    def dense_rows(self, rows: slice) -> Tensor:
        """Get rows of S as a dense tensor, shape (t, N)."""
        starts = self.indptr[rows.start : rows.stop + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        dense = self.values.new_zeros(rows.stop - rows.start, len(self.indptr) - 1)
        row = torch.repeat_interleave(torch.arange(len(dense), device=dense.device), starts.diff())
        dense[row, self.indices[inside]] = self.values[inside]
        return dense


class Partners(NamedTuple):
    """A sample of the graph A: one partner of each spot, drawn from its row of weights."""

    own: Tensor
    """Whether the partner is the spot itself, (n,)."""
    squares: Tensor
    """ΣA²/N over all N spots, ()."""
    n_obs: int
    """N."""


class _GraphMismatch(torch.autograd.Function):
    """Σ (σ(C) − A)², C = Ẑ·Ẑᵀ with zero diagonal; the forward pass computes the gradient too."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, graph: Graph | None) -> Tensor:
        total = unit.new_zeros(()) if graph is None else graph.antisymmetric.clone()
        gradient = torch.empty_like(unit)  # (N, d)
        for rows in row_tiles(len(unit), others=len(unit), itemsize=unit.element_size()):
            share = (unit[rows] @ unit.T).sigmoid_()  # (t, N)
            share[:, rows].fill_diagonal_(0.5)
            off = share.clone() if graph is None else share - graph.dense_rows(rows)
            total += off.square().sum()
            off.mul_(share).mul_(share.neg_().add_(1))  # (σ − S)·σ(1 − σ)
            off[:, rows].fill_diagonal_(0)
            gradient[rows] = off @ unit
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (4 * grads[0]), None  # each pair counts from both of its spots


def graph_mismatch(unit: Tensor, graph: Graph | None) -> Tensor:
    """Sum (σ(C) − A)² over all pairs, where C has the cosines off the diagonal and zeros on it; A is 0 if None.

    Shapes
    ------
    unit : (N, d), rows of length one
    graph : (N, N)
    returns : ()
    """
    result: Tensor = _GraphMismatch.apply(unit, graph)  # type: ignore[no-untyped-call]
    return result
