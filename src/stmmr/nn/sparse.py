"""Targets that are mostly zero: only what is not is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse


class SparseRows(NamedTuple):
    """Values of N places and G genes, those that are not zero, place by place."""

    places: Tensor
    """Place of each value, ascending, (nnz,)."""
    genes: Tensor
    """Gene of each value, ascending within a place, (nnz,)."""
    values: Tensor
    """(nnz,)."""
    starts: NDArray[np.int64]
    """Where the values of each place start, and the end; on the host, as blocks are cut by it, (N + 1,)."""
    n_genes: int

    @classmethod
    def of(cls, matrix: sparse.csr_matrix[Any], *, dtype: torch.dtype = torch.float32) -> SparseRows:
        """Take over a matrix, shape (N, G); entries stored twice are added up, zeros stored are left out."""
        if not (matrix.has_canonical_format and matrix.data.all()):
            matrix = matrix.copy()
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        starts = matrix.indptr.astype(np.int64)
        return cls(
            torch.from_numpy(np.repeat(np.arange(len(starts) - 1), np.diff(starts))),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data).to(dtype),
            starts,
            matrix.shape[1],
        )

    @property
    def shape(self) -> tuple[int, int]:
        """N and G."""
        return len(self.starts) - 1, self.n_genes

    def block(self, start: int, stop: int) -> SparseRows:
        """Cut out the places from `start` to before `stop`."""
        inside = slice(int(self.starts[start]), int(self.starts[stop]))
        return SparseRows(
            self.places[inside] - start,
            self.genes[inside],
            self.values[inside],
            self.starts[start : stop + 1] - inside.start,
            self.n_genes,
        )
