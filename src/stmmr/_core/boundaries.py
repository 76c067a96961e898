"""Outlines of cells in ``obsm``: a sparse row of x and y for each, subset, joined and written as any matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from stmmr._core.types import Csr, Float64, Ints

MOST: Final = 10_000
"""Vertices of an outline, at most. Every matrix has room for as many, so that those of sections can be joined."""


def packed(vertices: Float64, n_vertices: Ints) -> Csr:
    """Put outlines into one matrix: x, y, x, y, … of each cell, shape (n_cells, 20,000), float32.

    Parameters
    ----------
    vertices
        x and y, one outline after the other, shape (n, 2).
    n_vertices
        Number of vertices of each cell, shape (n_cells,); 0 for a cell without an outline.
    """
    ends = np.concatenate([[0], np.cumsum(2 * n_vertices.astype(np.int64))])
    columns = np.arange(ends[-1]) - np.repeat(ends[:-1], np.diff(ends))
    values = vertices.astype(np.float32).ravel()
    return sparse.csr_matrix((values, columns.astype(np.int32), ends), shape=(len(n_vertices), 2 * MOST))


def outlines(matrix: Csr) -> list[Float64]:
    """Get the outline of each cell from such a matrix, as x and y, shape (n_vertices, 2); empty for a cell without."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return [part.reshape(-1, 2).astype(np.float64) for part in np.split(matrix.data, matrix.indptr[1:-1])]


def areas(vertices: Float64, n_vertices: Ints) -> Float64:
    """Compute the area of each of several outlines, which follow each other, by the shoelace formula."""
    area = np.zeros(len(n_vertices))
    some = n_vertices > 0
    starts = (np.cumsum(n_vertices) - n_vertices)[some].astype(np.int64)
    if not len(starts):
        return area
    following = np.arange(1, len(vertices) + 1)
    following[starts + n_vertices[some] - 1] = starts
    origin = np.repeat(vertices[starts], n_vertices[some], axis=0)
    (x, y), (next_x, next_y) = (vertices - origin).T, (vertices[following] - origin).T
    area[some] = np.abs(np.add.reduceat(x * next_y - next_x * y, starts)) / 2
    return area
