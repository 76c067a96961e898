"""Genes: their values in blocks of columns that fit in memory, and checks of their names."""

from __future__ import annotations

import difflib
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.counts import CountStatistics, count_statistics, library_size, lognorm
from stmmr._core.raw import raw_counts
from stmmr._core.record import recorded
from stmmr._core.rows import OnDisk, as_csr, by_rows, empty, map_rows, release
from stmmr._core.space import rows_called

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anndata import AnnData

    from stmmr._core.types import CountRows, Csc, Csr, Float64, Ints, Numbers

ENSEMBL: Final = re.compile(r"ENS[A-Z]*G\d{6,}")
"""Ensembl gene identifiers of any species."""
VALUES_AT_ONCE: Final = 2**24
"""Nonzero values of a block of genes: 134 MB, three times as much while the block is assembled."""

_shared: ContextVar[dict[tuple[int, str | None], tuple[AnnData, GeneColumns]] | None]
_shared = ContextVar("genes that analyses share", default=None)

BYTES_OF_VALUE: Final = 16
"""Free space for each value of a copy by genes, which takes half of it."""
LAYER_NOTED_BY: Final = ("expression", "mapped", "counts")
"""Steps that record the layer with the counts; "counts" is of a run on a representation."""


class GenesInFile(NamedTuple):
    """Log-normalised values in a scratch file: of each chunk of spots the values of one gene after the other."""

    values: Numbers
    """Shape (nnz,), float32."""
    spots: Numbers
    """Row of each value, shape (nnz,), int32."""
    ends: Ints
    """Where the values of each gene of a chunk begin, and where the last ends, shape (chunks, G + 1)."""
    n_obs: int

    @classmethod
    def of(cls, parts: Iterable[Csc], n_values: int, n_obs: int) -> GenesInFile:
        """Write the chunks of spots one after the other."""
        values, spots = empty((n_values,)), empty((n_values,), np.int32)
        ends: list[Ints] = []
        done = first = 0
        for part in parts:
            own = slice(done, done + part.nnz)
            values[own], spots[own] = part.data, part.indices + first
            ends.append(done + part.indptr.astype(np.int64))
            done, first = own.stop, first + part.shape[0]
            release()
        return cls(values, spots, np.array(ends), n_obs)

    def columns(self, genes: slice) -> Csc:
        """Read the values of some genes, shape (n_obs, g)."""
        ends = self.ends[:, genes.start : genes.stop + 1]
        sizes = np.diff(ends, axis=1)  # (chunks, g)
        indptr = np.append(0, np.cumsum(sizes.sum(axis=0)))
        values, spots = np.empty(indptr[-1], np.float32), np.empty(indptr[-1], np.int32)
        place = indptr[:-1] + np.cumsum(sizes, axis=0) - sizes  # of the first value of each gene of a chunk
        for begins, own, first in zip(ends, sizes, place, strict=True):
            position = np.repeat(first - (begins[:-1] - begins[0]), own) + np.arange(own.sum())
            values[position] = self.values[begins[0] : begins[-1]]
            spots[position] = self.spots[begins[0] : begins[-1]]
        release()
        return sparse.csc_matrix((values, spots, indptr), shape=(self.n_obs, len(indptr) - 1))


class GeneColumns(NamedTuple):
    """Counts that are read gene by gene: every block of genes takes one pass over the rows."""

    counts: CountRows
    """From `by_rows`, shape (n_obs, n_vars)."""
    statistics: CountStatistics
    size: Float64
    """Library size of each spot, shape (n_obs,)."""
    in_file: list[GenesInFile] | None = None
    """The copy of counts on disk by genes, once it is made; None: each block of genes takes a pass over the rows."""

    @property
    def median(self) -> float:
        """Library size that all are scaled to."""
        return float(np.median(self.size[self.size > 0]))

    def blocks(self) -> Iterator[slice]:
        """Divide the genes into blocks of a limited number of values, each of one gene at least."""
        ends = np.cumsum(self.statistics.seen)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = max(int(np.searchsorted(ends, before + VALUES_AT_ONCE, side="right")), start + 1)
            yield slice(start, stop)
            start = stop

    def lognormalised(self, *, progress: bool = False, task: str = "genes") -> Iterator[tuple[slice, Csc]]:
        """Read log-normalised values block by block.

        Yields
        ------
        The genes of a block, and their values as CSC without stored zeros, shape (n_obs, g).
        """
        for genes in self.blocks():
            yield genes, self.of(genes, progress=progress, task=task)

    def of(self, genes: slice, *, progress: bool = False, task: str = "genes") -> Csc:
        """Read the log-normalised values of some genes as CSC without stored zeros, shape (n_obs, g)."""
        if self.in_file is not None:
            if not self.in_file:
                by_gene = partial(_by_gene, size=self.size, median=self.median)
                parts = map_rows(by_gene, self.counts, task=task, progress=progress)
                self.in_file.append(GenesInFile.of(parts, int(self.statistics.seen.sum()), len(self.size)))
            return self.in_file[0].columns(genes)
        read = partial(_normalised, genes=genes, size=self.size, median=self.median)
        rows = list(map_rows(read, self.counts, task=task, progress=progress))
        columns = sparse.csc_matrix(sparse.vstack(rows, format="csr"))
        columns.eliminate_zeros()
        return columns


def _normalised(counts: Csr, rows: slice, *, genes: slice, size: Float64, median: float) -> Csr:
    selected = counts if genes == slice(0, counts.shape[1]) else as_csr(counts[:, genes])
    return lognorm(selected, size[rows], median)


def _by_gene(counts: Csr, rows: slice, *, size: Float64, median: float) -> Csc:
    columns = sparse.csc_matrix(lognorm(counts, size[rows], median))
    columns.eliminate_zeros()
    return columns


@contextmanager
def genes_read_once() -> Iterator[None]:
    """Let analyses of the same counts share their sums and, if counts are on disk, one copy by genes.

    Within another such block, they share those of all of it.
    """
    before = _shared.set({} if (shared := _shared.get()) is None else shared)
    try:
        yield
    finally:
        _shared.reset(before)


def gene_columns(adata: AnnData, layer: str | None = None, *, progress: bool = False) -> GeneColumns:
    """Prepare raw counts for reading gene by gene, log-normalised as by `stmmr.pp.expression`.

    Library sizes are those of `stmmr.pp.expression` if it ran, otherwise the sums of the counts.

    Parameters
    ----------
    adata
        With raw counts, in memory or in a file.
    layer
        Layer that holds them; None: that of `counts_layer`, otherwise ``layers["counts"]``, otherwise ``X``.
    progress
        Show progress bars.

    Raises
    ------
    InputError
        If there are no genes, or the values are no raw counts.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(f"Expected {rows_called(adata)} and genes, found a matrix of {adata.n_obs} × {adata.n_vars}.")
    shared, layer = _shared.get(), layer or counts_layer(adata)
    if shared is not None and (id(adata), layer) in shared:
        return shared[id(adata), layer][1]
    where, matrix = raw_counts(adata, layer)
    counts = by_rows(matrix)
    statistics = count_statistics(counts, progress=progress)
    statistics.check(where, adata)
    size_key = keys.LIBRARY_SIZE if keys.LIBRARY_SIZE in adata.obs.columns else None
    columns = GeneColumns(counts, statistics, library_size(adata, statistics.size, size_key=size_key))
    if shared is not None:
        n_values = int(statistics.seen.sum())
        fits = shutil.disk_usage(tempfile.gettempdir()).free > BYTES_OF_VALUE * n_values
        copies = isinstance(counts, OnDisk) and n_values > VALUES_AT_ONCE and fits
        columns = columns._replace(in_file=[] if copies else None)
        shared[id(adata), layer] = adata, columns
    return columns


def counts_layer(adata: AnnData) -> str | None:
    """Get the layer with the raw counts that the run, `stmmr.pp.expression` or a mapping used; None if it used none."""
    steps = recorded(adata)
    return next((str(steps[name].get("layer") or "") or None for name in LAYER_NOTED_BY if name in steps), None)


def gene_values(adata: AnnData, gene: str, *, layer: str | None = None) -> Float64:
    """Get the values of one gene, shape (n_obs,).

    Parameters
    ----------
    adata
        With the gene.
    gene
        Name of the gene; if several have this name, the first is taken.
    layer
        Layer to take values from as they are; None: log-normalised values, from ``layers["stmmr_lognorm"]`` if it
        exists, otherwise from the counts.
    """
    require_gene(adata, gene)
    index = int(np.flatnonzero(adata.var_names.astype(str) == gene)[0])
    if layer is None and keys.LOGNORM not in adata.layers:
        column: Any = gene_columns(adata).of(slice(index, index + 1))
    else:
        column = adata.layers[layer or keys.LOGNORM][:, index]
    dense = column.toarray() if hasattr(column, "toarray") else column
    return np.asarray(dense, dtype=np.float64).ravel()


def require_gene(adata: AnnData, gene: str) -> None:
    """Check that a gene is in the data.

    Raises
    ------
    InputError
        If it is not; the message suggests similar names.
    """
    names = adata.var_names.astype(str)  # they may be numbers
    if gene not in names:
        close = close_names(gene, names.tolist())
        if close:
            hint = f"Did you mean {' or '.join(map(repr, close))}?"
        elif adata.n_vars:
            hint = f"Gene names look like {listed(names[:3])}."
        else:
            hint = "These data have no genes, only an embedding."
        raise InputError(f"Expected the gene {gene!r} among the {adata.n_vars} genes of the data, found none. {hint}")


def gene_list(genes: Iterable[str], *, may_be_empty: bool = False) -> list[str]:
    """Get the names of genes, each once.

    Raises
    ------
    InputError
        If it is a single name, whose letters would be taken for names, or the list is empty.
    """
    is_list = isinstance(genes, Iterable) and not isinstance(genes, str)
    names = list(dict.fromkeys(map(str, genes))) if is_list else []
    if not is_list or not (names or may_be_empty):
        hint = f" Write [{genes!r}]." if isinstance(genes, str) else ""
        raise InputError(f"Expected a list of gene names, found {genes or names!r}.{hint}")
    return names


def require_genes(adata: AnnData, genes: Iterable[str], *, may_be_empty: bool = False) -> list[str]:
    """Get the names of genes, each once, and check that all are in the data."""
    names = gene_list(genes, may_be_empty=may_be_empty)
    for name in names:
        require_gene(adata, name)
    return names


def close_names(name: str, names: list[str]) -> list[str]:
    """Find up to three names that are similar to one, ignoring case."""
    folded: dict[str, list[str]] = {}
    for other in names:
        folded.setdefault(other.casefold(), []).append(other)
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.7)
    return [other for key in close for other in folded[key]][:3]
