"""Sparse targets: only the values that are not zero are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse


class SparseRows(NamedTuple):
    """The values of a matrix of N spots × G genes that are not zero, row by row."""

    rows: Tensor
    """Row of each value, ascending, (nnz,)."""
    columns: Tensor
    """Column of each value, ascending within a row, (nnz,)."""
    values: Tensor
    """(nnz,)."""
    starts: NDArray[np.int64]
    """Position of the first value of each row, and the total number of values, (N + 1,); kept in main memory, where
    blocks of rows are cut out."""
    n_columns: int

    @classmethod
    def of(cls, matrix: sparse.csr_matrix[Any], *, dtype: torch.dtype = torch.float32) -> SparseRows:
        """Convert a matrix of shape (N, G); duplicate entries are summed, stored zeros are dropped."""
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
        return len(self.starts) - 1, self.n_columns

    def block(self, start: int, stop: int) -> SparseRows:
        """Get the rows from `start` to before `stop`."""
        inside = slice(int(self.starts[start]), int(self.starts[stop]))
        return SparseRows(
            self.rows[inside] - start,
            self.columns[inside],
            self.values[inside],
            self.starts[start : stop + 1] - inside.start,
            self.n_columns,
        )
