"""Log-normalised values gene by gene, wherever the counts are: blocks of columns that fit in memory."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.counts import CountStatistics, count_statistics, library_size, lognorm, raw_counts
from stmmr._core.record import recorded
from stmmr._core.rows import as_csr, by_rows, map_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

VALUES_AT_ONCE: Final = 2**24
"""Values other than zero of a block of genes: 134 MB, three times that while it is put together."""


LAYER_NOTED_BY: Final = ("expression", "mapped", "counts")
"""Steps that note the layer with the counts; the last is a run that read a representation instead."""


class GeneColumns(NamedTuple):
    """Counts that are read gene by gene: every block of genes takes a pass over the rows."""

    counts: Any
    """As `by_rows` gives them, shape (N, G)."""
    statistics: CountStatistics
    size: NDArray[np.float64]
    """Library size of each place, shape (N,)."""

    @property
    def median(self) -> float:
        """Library size that all are scaled to."""
        return float(np.median(self.size[self.size > 0]))

    def blocks(self) -> Iterator[slice]:
        """Cut the genes into blocks of at most so many values; one gene at least."""
        ends = np.cumsum(self.statistics.seen)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = max(int(np.searchsorted(ends, before + VALUES_AT_ONCE, side="right")), start + 1)
            yield slice(start, stop)
            start = stop

    def lognormalised(self, *, progress: bool = False, what: str = "genes") -> Iterator[tuple[slice, Any]]:
        """Read log-normalised values block by block.

        Yields
        ------
        Which genes, and their values as CSC without stored zeros, shape (N, g).
        """
        for genes in self.blocks():
            yield genes, self.of(genes, progress=progress, what=what)

    def of(self, genes: slice, *, progress: bool = False, what: str = "genes") -> sparse.csc_matrix[Any]:
        """Read the log-normalised values of some genes as CSC without stored zeros, shape (N, g)."""
        read = partial(_normalised, genes=genes, size=self.size, median=self.median)
        rows = list(map_rows(read, self.counts, what=what, progress=progress))
        columns = sparse.csc_matrix(sparse.vstack(rows, format="csr"))
        columns.eliminate_zeros()
        return columns


def _normalised(
    counts: sparse.csr_matrix[Any], rows: slice, *, genes: slice, size: NDArray[np.float64], median: float
) -> sparse.csr_matrix[Any]:
    some = counts if genes == slice(0, counts.shape[1]) else as_csr(counts[:, genes])
    return lognorm(some, size[rows], median)


def gene_columns(adata: AnnData, layer: str | None = None, *, progress: bool = False) -> GeneColumns:
    """Prepare raw counts for reading them gene by gene, log-normalised as `stmmr.pp.expression` does.

    Parameters
    ----------
    adata
        With raw counts, in memory or in a file.
    layer
        Layer that holds them; None: that which `counts_layer` finds, otherwise ``layers["counts"]``, otherwise ``X``.
        Library sizes are those of `stmmr.pp.expression` where it ran, otherwise the sums.
    progress
        Whether to show progress bars.

    Raises
    ------
    InputError
        If there are no genes, or the values are no raw counts.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(f"Expected places and genes, found {adata.n_obs} × {adata.n_vars}.")
    where, given = raw_counts(adata, layer or counts_layer(adata))
    counts = by_rows(given)
    statistics = count_statistics(counts, progress=progress)
    statistics.check(where)
    size_key = keys.LIBRARY_SIZE if keys.LIBRARY_SIZE in adata.obs.columns else None
    return GeneColumns(counts, statistics, library_size(adata, statistics.size, size_key=size_key))


def counts_layer(adata: AnnData) -> str | None:
    """Get the layer with the raw counts, as the run, `stmmr.pp.expression` or a mapping was told; None without one."""
    steps = recorded(adata)
    return next((str(steps[name].get("layer") or "") or None for name in LAYER_NOTED_BY if name in steps), None)


def gene_values(adata: AnnData, gene: str, *, layer: str | None = None) -> NDArray[np.float64]:
    """Get the values of one gene at all places, shape (N,).

    Parameters
    ----------
    adata
        With the gene.
    gene
        Its name; of several genes of this name, the first.
    layer
        Layer to take it from, as it is; None: log-normalised values, from ``layers["stmmr_lognorm"]`` where they are,
        otherwise from the counts.
    """
    require_gene(adata, gene)
    at = int(np.flatnonzero(adata.var_names.astype(str) == gene)[0])
    if layer is None and keys.LOGNORM not in adata.layers:
        column: Any = gene_columns(adata).of(slice(at, at + 1))
    else:
        column = adata.layers[layer or keys.LOGNORM][:, at]
    dense = column.toarray() if hasattr(column, "toarray") else column
    return np.asarray(dense, dtype=np.float64).ravel()


def lognormalised_rows(adata: AnnData) -> Iterator[sparse.csr_matrix[Any]]:
    """Read the log-normalised values of all genes, some places at a time; `stmmr.pp.expression` ran."""
    if keys.LOGNORM in adata.layers:
        return map_rows(_as_they_are, by_rows(adata.layers[keys.LOGNORM]), what="genes", progress=False)
    _, counts = raw_counts(adata, str(recorded(adata)["expression"]["layer"]) or None)
    size = adata.obs[keys.LIBRARY_SIZE].to_numpy(np.float64)
    read = partial(_normalised, genes=slice(0, adata.n_vars), size=size, median=float(np.median(size[size > 0])))
    return map_rows(read, by_rows(counts), what="genes", progress=False)


def _as_they_are(rows: sparse.csr_matrix[Any], _: slice) -> sparse.csr_matrix[Any]:
    return rows


def require_gene(adata: AnnData, gene: str) -> None:
    """Check that a gene is there.

    Raises
    ------
    InputError
        If it is not; names those that are called much the same.
    """
    names = adata.var_names.astype(str)  # numbers, where somebody set them so
    if gene not in names:
        close = close_names(gene, names.tolist())
        if close:
            hint = f"Did you mean {' or '.join(map(repr, close))}?"
        elif adata.n_vars:
            hint = f"Genes are called like {listed(names[:3])}."
        else:
            hint = "Data without genes have an embedding only."
        raise InputError(f"Expected the gene {gene!r} among the {adata.n_vars} of the data, found none. {hint}")


def gene_list(genes: Iterable[str], *, may_be_empty: bool = False) -> list[str]:
    """Get the names of genes, each once.

    Raises
    ------
    InputError
        If a single name is given, whose letters would pass for names, or there is none.
    """
    names = [] if isinstance(genes, str) else list(dict.fromkeys(map(str, genes)))
    if isinstance(genes, str) or not (names or may_be_empty):
        hint = f" Write [{genes!r}]." if isinstance(genes, str) else ""
        raise InputError(f"Expected a list of names of genes, found {genes or names!r}.{hint}")
    return names


def require_genes(adata: AnnData, genes: Iterable[str], *, may_be_empty: bool = False) -> list[str]:
    """Get the names of genes, each once, and check that all are among those of the data."""
    names = gene_list(genes, may_be_empty=may_be_empty)
    for name in names:
        require_gene(adata, name)
    return names


def close_names(name: str, names: list[str]) -> list[str]:
    """Find up to three names that are written much like one, whatever their case."""
    folded: dict[str, list[str]] = {}
    for other in names:
        folded.setdefault(other.casefold(), []).append(other)
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.7)
    return [other for key in close for other in folded[key]][:3]
