"""Counts of all genes, packed for the page: quantised, sparse, in blocks of genes that are read on demand."""

from __future__ import annotations

import base64
import zlib
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.counts import count_statistics
from stmmr._core.genes import VALUES_AT_ONCE, gene_columns
from stmmr._core.parallel import in_threads
from stmmr._core.rows import as_csr, by_rows, map_rows
from stmmr.report._layers import packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.counts import CountStatistics
    from stmmr._core.types import CountRows, Csc, Csr, Float64, Ints

BYTES: Final = 16_000_000
"""Largest size of all genes, 21 MB as text of the page."""
BLOCK: Final = 2**18
"""Values of a block: it is read in a few milliseconds."""
EXACT: Final = 128
"""Counts up to this are kept as they are; larger ones in steps that grow with them, of 3 % at 10,000."""
LONGEST: Final = 255
"""Longest step to the next spot that one byte holds; longer ones take more bytes."""
TRIED: Final = 40
"""Genes that are packed to measure how many bytes a value takes."""


class Source(NamedTuple):
    """Values of genes to pack."""

    rows: CountRows
    statistics: CountStatistics
    size: Float64 | None
    """Library size of each spot; None if the values are log-normalised already."""


class PackedGenes(NamedTuple):
    """Genes as the page reads them."""

    names: list[str]
    blocks: list[str]
    """Each the genes from one of `starts` on, as base64 of zlib: the number of values and of bytes of steps for each
    gene, as uint32; all steps; all codes."""
    starts: list[int]
    levels: Float64
    """Value of each code."""
    size: Float64 | None
    """Library size of each spot, None if the values are log-normalised."""

    def description(self, order: Ints) -> dict[str, object]:
        """Describe the genes for the page, without their blocks; spots are in an order."""
        scaled = None
        if self.size is not None:
            median = float(np.median(self.size[self.size > 0])) if (self.size > 0).any() else 1.0
            scale = np.divide(median, self.size, out=np.zeros_like(self.size), where=self.size > 0)
            scaled = packed(scale[order].astype("<f4"))
        return {
            "names": packed("\n".join(self.names)),
            "starts": self.starts,
            "levels": [float(f"{level:.6g}") for level in self.levels],
            "scale": scaled,
            "n": len(order),
        }


def source_of(adata: AnnData) -> Source | None:
    """Find raw counts, or else log-normalised values; None without either."""
    if adata.n_vars == 0:
        return None
    try:
        columns = gene_columns(adata)
    except InputError:
        if keys.LOGNORM not in adata.layers:
            return None
        rows = by_rows(adata.layers[keys.LOGNORM])
        return Source(rows, count_statistics(rows), None)
    return Source(columns.counts, columns.statistics, columns.size)


def pack(
    adata: AnnData, source: Source, first: list[str], order: Ints, *, only: list[str] | None = None
) -> PackedGenes:
    """Pack the genes that fit: the `first` ones, then those with the largest variance for their mean.

    With `only`, these genes. Spots are numbered by their position in `order`.
    """
    levels = levels_of(source.statistics)
    genes = _fitting(adata, source, first, levels=levels, order=order)
    if only is not None:
        first_of = {str(name): gene for gene, name in reversed(list(enumerate(adata.var_names)))}
        genes = np.array([first_of[name] for name in only])
    genes = np.sort(genes)
    blocks: list[str] = []
    starts: list[int] = []
    done = 0
    for columns in _read(source, genes, order):
        parts = list(_blocks(columns))
        starts += [done + part.start for part in parts]
        blocks += in_threads(_packed, ((columns[:, part], levels) for part in parts))
        done += columns.shape[1]
    return PackedGenes([str(adata.var_names[gene]) for gene in genes], blocks, starts, levels, source.size)


def levels_of(statistics: CountStatistics) -> Float64:
    """Choose the values that codes from 0 to 255 stand for."""
    largest = float(statistics.largest)
    if statistics.fractions:
        return np.append(0.0, np.geomspace(min(1e-3 * largest, 0.01), largest, 255)) if largest > 0 else np.zeros(1)
    if largest < 256:
        return np.arange(256.0)
    return np.append(np.arange(EXACT + 1.0), np.geomspace(EXACT + 1, largest, 255 - EXACT))


def _fitting(adata: AnnData, source: Source, first: list[str], *, levels: Float64, order: Ints) -> Ints:
    """Choose the genes that fit into the size, measured on some of them."""
    statistics, n = source.statistics, len(order)
    seen = np.flatnonzero(statistics.seen > 0)
    mean = statistics.total[seen] / n
    variable = (statistics.squares[seen] / n - mean**2) / mean
    named = np.isin(adata.var_names[seen].astype(str), first)
    if keys.HIGHLY_VARIABLE in adata.var:
        named = named + 0.5 * adata.var[keys.HIGHLY_VARIABLE].to_numpy(bool)[seen]
    seen = seen[np.lexsort((-variable, -named.astype(float)))]
    if statistics.seen.sum() < BYTES // 4:
        return seen
    some = np.sort(np.random.default_rng(0).choice(seen, min(TRIED, len(seen)), replace=False))
    each_gene = (
        (columns[:, [gene]], levels) for columns in _read(source, some, order) for gene in range(columns.shape[1])
    )
    tried = sum(len(text) * 3 / 4 for text in in_threads(_packed, each_gene))
    each = tried / statistics.seen[some].sum()
    return np.asarray(seen[np.cumsum(statistics.seen[seen] * each) <= BYTES])


def _read(source: Source, genes: Ints, order: Ints) -> Iterator[Csc]:
    """Read the values of genes for the spots in an order, as many genes at a time as fit into memory."""
    group = np.cumsum(source.statistics.seen[genes]) // VALUES_AT_ONCE
    for number in np.unique(group):
        taken = genes[group == number]
        rows = list(map_rows(partial(_columns, genes=taken), source.rows, task="genes of the report", progress=False))
        columns = sparse.csc_matrix(sparse.vstack(rows, format="csr")[order])
        columns.eliminate_zeros()
        yield columns


def _columns(rows: Csr, _: slice, *, genes: Ints) -> Csr:
    return rows if len(genes) == rows.shape[1] else as_csr(rows[:, genes])


def _blocks(columns: Csc) -> Iterator[slice]:
    """Divide genes into blocks of a limited number of values, each of one gene at least."""
    ends, start = columns.indptr[1:], 0
    while start < columns.shape[1]:
        stop = max(int(np.searchsorted(ends, columns.indptr[start] + BLOCK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _packed(columns: Csc, levels: Float64) -> str:
    """Pack a block of genes."""
    n = np.diff(columns.indptr)
    rows = columns.indices.astype(np.int64)
    before = np.append(-1, rows)[:-1]
    before[columns.indptr[:-1][n > 0]] = -1
    steps = rows - before - 1
    more = steps // LONGEST
    as_bytes: NDArray[np.uint8] = np.full(int(more.sum()) + len(steps), LONGEST, dtype=np.uint8)
    ends = np.cumsum(more + 1)
    as_bytes[ends - 1] = steps % LONGEST
    n_bytes = np.diff(np.append(0, ends)[columns.indptr])
    codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, columns.data).astype(np.uint8)
    head = np.column_stack([n, n_bytes]).astype("<u4")
    raw = head.tobytes() + as_bytes.tobytes() + codes.tobytes()
    return base64.b64encode(zlib.compress(raw, 6)).decode()
