"""Rows of a count matrix, a chunk at a time: in memory, in an .h5ad or .zarr file, or in a dask array."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakSet

import numpy as np
from scipy import sparse

from stmmr._core.checks import InputError
from stmmr._core.files import check_indices
from stmmr._core.parallel import in_parallel, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike

    from stmmr._core.types import CountRows, Csr, Ints, Numbers

CHUNK: Final = 8_192
"""Rows that are read at a time: bounds the memory of every pass over the counts."""
BLOCKS_AT_ONCE: Final = 8
"""Blocks of a dask array that are computed at a time."""
Result = TypeVar("Result")
Options = ParamSpec("Options")
IN_MEMORY_AT_MOST: Final = 2**30
"""Size of the largest array that is kept in memory, in bytes."""
IN_MEMORY_BESIDE_DISK: Final = 2**24
"""The same while counts are on disk."""
_folder: ContextVar[Path | None] = ContextVar("scratch folder", default=None)
_at_most: ContextVar[int | None] = ContextVar("bytes of an array in memory", default=None)
_mapped: WeakSet[mmap.mmap] = WeakSet()


class OnDisk:
    """A matrix in a file, which another process can open again after unpickling.

    Parameters
    ----------
    dataset
        The matrix in a backed AnnData: a sparse dataset of anndata, or a dense one of h5py or zarr.

    Raises
    ------
    InputError
        If it is sparse and stored by columns.
    """

    def __init__(self, dataset: Any) -> None:
        node = getattr(dataset, "group", dataset)
        if getattr(dataset, "format", "csr") != "csr":
            raise InputError(
                f"Expected counts stored by rows (CSR) in the file, found {dataset.format.upper()}, which is stored by "
                "columns. Read them into memory (adata.to_memory(), --mode memory), or write them again as CSR."
            )
        self.in_h5 = hasattr(node, "file")
        self.path = file_of(dataset)
        self.name = str(node.name if self.in_h5 else node.path)
        self.shape = tuple(dataset.shape)

    @cached_property
    def dataset(self) -> Any:
        """The open matrix."""
        import h5py
        import zarr
        from anndata.io import sparse_dataset

        node = (h5py.File(self.path) if self.in_h5 else zarr.open_group(self.path, mode="r"))[self.name]
        return sparse_dataset(node) if hasattr(node, "keys") else node

    def __getitem__(self, rows: slice) -> Any:
        """Read a range of rows; raises InputError if they are damaged, as scipy would read other memory."""
        part = self.dataset[rows]
        try:
            check_indices(part)
        except ValueError as error:
            raise InputError(
                f"Expected whole counts in {self.path}, found damaged ones ({error}). Copy or download the file again."
            ) from error
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Get the state to pickle, without the open file."""
        return {name: value for name, value in self.__dict__.items() if name != "dataset"}


def is_on_disk(matrix: Any) -> bool:
    """Check whether a matrix of an AnnData is in a file."""
    return hasattr(matrix, "group") or type(matrix).__module__.split(".")[0] in {"h5py", "zarr"}


def file_of(matrix: Any) -> str:
    """Get the file or store that holds a matrix."""
    node = getattr(matrix, "group", matrix)
    return str(node.file.filename if hasattr(node, "file") else node.store_path.store.root)


def is_dask(matrix: Any) -> bool:
    """Check whether a matrix is a dask array."""
    return hasattr(matrix, "to_delayed")


def by_rows(matrix: Any) -> Any:
    """Prepare a matrix for reading rows.

    Returns
    -------
    CSR if the matrix is in memory, `OnDisk` if it is in a file; a dask array gets chunks of whole rows.
    """
    if is_dask(matrix):
        return matrix.rechunk({1: -1})
    if is_on_disk(matrix):
        return OnDisk(matrix)
    return as_csr(matrix)


def as_csr(rows: Any) -> Csr:
    """Convert rows to CSR, without a copy if they are CSR.

    Raises
    ------
    InputError
        If they hold no numbers.
    """
    dtype = np.dtype(getattr(rows, "dtype", "f4"))
    if dtype.kind not in "biuf":
        raise InputError(f"Expected a matrix of numbers, found values of the type {dtype}. Convert them first.")
    # scipy knows no half precision and only the byte order of this machine
    known = np.dtype("f4") if dtype == np.float16 else dtype.newbyteorder("=")
    rows = rows if known == dtype and dtype.isnative else rows.astype(known)
    return rows if isinstance(rows, sparse.csr_matrix) else sparse.csr_matrix(rows)


def map_rows(
    function: Callable[Concatenate[Csr, slice, Options], Result],
    matrix: CountRows,
    *,
    task: str,
    progress: bool,
) -> Iterator[Result]:
    """Call a function with each chunk of rows, and get results in the order of the rows.

    Parameters
    ----------
    function
        Takes a chunk of rows as CSR, and the slice of their indices.
    matrix
        From `by_rows`. Chunks of a dask array are its blocks, which its scheduler computes: on the workers of a
        ``dask.distributed`` client if there is one.
    task
        Name of the progress bar.
    progress
        Show a progress bar.
    """
    work = _map_blocks if is_dask(matrix) else _map_chunks
    with progress_bar(matrix.shape[0], task, "spots", shown=progress) as bar:
        for rows, result in work(function, matrix):
            bar.update(rows.stop - rows.start)
            yield result
    release()


def _map_chunks(function: Callable[..., Result], matrix: Any) -> Iterator[tuple[slice, Result]]:
    chunks = list(slices(matrix.shape[0], CHUNK))
    sources = ((matrix, rows) if isinstance(matrix, OnDisk) else (matrix[rows], rows) for rows in chunks)
    return zip(chunks, in_parallel(partial(_apply, function), sources), strict=True)


def _map_blocks(function: Callable[..., Result], matrix: Any) -> Iterator[tuple[slice, Result]]:
    from dask import base
    from dask.delayed import delayed

    ends = np.cumsum(matrix.chunks[0]).tolist()
    chunks = [slice(end - size, end) for end, size in zip(ends, matrix.chunks[0], strict=True)]
    call = delayed(partial(_apply, function))
    calls = (call(block, rows) for block, rows in zip(matrix.to_delayed()[:, 0], chunks, strict=True))
    batches = iter(lambda: list(islice(calls, BLOCKS_AT_ONCE)), [])
    results = chain.from_iterable(base.compute(*batch) for batch in batches)  # type: ignore[no-untyped-call]
    return zip(chunks, results, strict=True)


def _apply(function: Callable[..., Result], source: Any, rows: slice) -> Result:
    return function(as_csr(source[rows] if isinstance(source, OnDisk) else source), rows)


def slices(n: int, size: int) -> Iterator[slice]:
    """Divide 0 … n − 1 into slices of a size; the last one may be shorter."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def take(matrix: Any, index: Ints) -> Csr:
    """Read rows of a matrix in one pass from the first to the last.

    Parameters
    ----------
    matrix
        From `by_rows`, shape (N, G).
    index
        Indices of the rows, ascending, shape (n,).

    Returns
    -------
    The rows, shape (n, G).
    """
    if not isinstance(matrix, OnDisk) and not is_dask(matrix):
        return as_csr(matrix[index])
    parts: list[Csr] = []
    for rows in slices(matrix.shape[0], CHUNK):
        inside = index[index.searchsorted(rows.start) : index.searchsorted(rows.stop)]
        if len(inside):
            chunk = matrix[int(inside[0]) : int(inside[-1]) + 1]
            parts.append(as_csr(chunk.compute() if is_dask(chunk) else chunk)[inside - inside[0]])
    return as_csr(sparse.vstack(parts, format="csr")) if parts else as_csr(np.zeros((0, matrix.shape[1])))


@contextmanager
def scratch_folder(folder: Path | None, *, beside_disk: bool = False) -> Iterator[None]:
    """Put large arrays into files in a folder; None: the folder of the system for temporary files.

    With counts on disk (`beside_disk`), these are all but small arrays.
    """
    before = _folder.set(folder), _at_most.set(IN_MEMORY_BESIDE_DISK if beside_disk else None)
    try:
        yield
    finally:
        _folder.reset(before[0])
        _at_most.reset(before[1])


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Numbers:
    """Make an uninitialised array: in memory, or, if large, mapped to a temporary file without a name."""
    if np.prod(shape) * np.dtype(dtype).itemsize <= (_at_most.get() or IN_MEMORY_AT_MOST):
        return np.empty(shape, dtype)
    release()
    with tempfile.TemporaryFile(dir=_folder.get(), prefix="stmmr_") as file:
        _reserve(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize)
        array = np.memmap(file, dtype, mode="w+", shape=shape)
    _mapped.add(array.base)  # type: ignore[arg-type]  # its mmap
    return np.asarray(array)  # anndata writes no np.memmap


def release() -> None:
    """Take the pages of arrays in files, and memory that was freed, out of this process.

    The system keeps or writes the pages. Threads leave freed memory in heaps of their own, which grow otherwise.
    """
    if sys.platform == "linux":
        for mapped in list(_mapped):
            mapped.madvise(mmap.MADV_DONTNEED)
        with suppress(AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).malloc_trim(0)


def _reserve(file: int, size: int) -> None:
    """Take the room for an array on the disk, so that a full one is an error now and does not end the process later."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that cannot
                raise
