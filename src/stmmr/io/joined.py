"""Counts of several sections, copied from their files into one, a chunk of spots at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core.files import atomic_write, hdf5_file
from stmmr._core.rows import CHUNK, OnDisk, as_csr, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import h5py
    import pandas as pd
    from numpy.typing import DTypeLike

    from stmmr._core.types import Bools, Csr

AT_ONCE: Final = 2**18
"""Values of a compressed block of the file."""


class Part(NamedTuple):
    """The counts of one section."""

    counts: Any
    """Matrix on disk; as `OnDisk`, it is opened when it is copied, so that not all files are open at once."""
    genes: pd.Index
    """Name of each column."""
    kept: Bools
    """Whether each row is copied."""
    dtype: DTypeLike = np.float32


def write_joined(parts: Sequence[Part], genes: pd.Index, target: Path) -> None:
    """Write a file with ``X``: the counts of sections one below the other, for some genes.

    Raises OSError if the file cannot be written.
    """
    with atomic_write(target) as new, hdf5_file(new) as file:
        if parts:
            dtype = np.result_type(np.int8, *(part.dtype for part in parts))
            rows = (chunk for part in parts for chunk in chunks_of(part, genes))
            write_csr(file.create_group("X"), rows, dtype=dtype, n_columns=len(genes))


def chunks_of(part: Part, genes: pd.Index) -> Iterator[Csr]:
    """Read the kept rows of a section, with its columns in the order of the genes."""
    counts = part.counts if isinstance(part.counts, OnDisk) else OnDisk(part.counts)
    columns = part.genes.get_indexer(genes)
    in_order = np.array_equal(columns, np.arange(counts.shape[1]))
    for rows in slices(counts.shape[0], CHUNK):
        chunk = as_csr(counts[rows])[part.kept[rows]]
        if not in_order:
            chunk = sparse.csr_matrix(chunk[:, columns])
        chunk.sort_indices()
        yield chunk
    counts.__dict__.pop("dataset", None)  # closes the file


def write_csr(group: h5py.Group, chunks: Iterable[Csr], *, dtype: DTypeLike, n_columns: int) -> None:
    """Write a matrix as anndata stores CSR, growing with each chunk of rows."""
    pointers = [np.zeros(1, dtype=np.int64)]
    for name, kind in (("data", np.float32 if dtype == np.float16 else dtype), ("indices", np.int32)):
        group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(AT_ONCE,), compression="lzf", shuffle=True)
    written = 0
    for chunk in chunks:
        for name, values in (("data", chunk.data), ("indices", chunk.indices)):
            group[name].resize((written + chunk.nnz,))
            group[name][written:] = values
        pointers.append(chunk.indptr[1:].astype(np.int64) + written)
        written += chunk.nnz
    indptr = np.concatenate(pointers)
    group.create_dataset("indptr", data=indptr)
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array([len(indptr) - 1, n_columns])
