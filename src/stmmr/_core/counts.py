"""What the model needs to know of each gene, in passes over the counts: chunks of places go by, statistics stay."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_key, require_step
from stmmr._core.compat import names_in
from stmmr._core.rows import as_csr, by_rows, map_rows, take

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

SPAN: Final = 0.3
"""Share of the genes that a point of the trend of the variance is fitted to."""


class CountStatistics(NamedTuple):
    """Sums over places, or some of them, and what may be wrong with the values."""

    size: NDArray[np.float64]
    """Counts of each place, shape (N,)."""
    seen: NDArray[np.int64]
    """Places at which each gene is seen, shape (G,)."""
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    """Sum of the counts of each gene, and of their squares; shape (G,)."""
    not_finite: int
    smallest: float
    largest: float
    fractions: bool

    def check(self, where: str) -> None:
        """Check that the values are raw counts.

        Raises
        ------
        InputError
            If an entry is NaN, infinite, negative, or no whole number.
        """
        if self.not_finite:
            raise InputError(
                f"Expected finite counts in {where}, found {self.not_finite} NaN or infinite entries. Remove or fill "
                "them first."
            )
        instead = (
            "Give the raw counts (layer='…' where a layer holds them), or the representation to use instead "
            "(use_rep='…', a key of obsm)."
        )
        if self.smallest < 0:
            raise InputError(
                f"Expected raw counts in {where}, found negative values (smallest {self.smallest:.4g}); this looks "
                f"scaled. {instead}"
            )
        if self.fractions:
            raise InputError(
                f"Expected raw counts (whole numbers) in {where}, found fractions (largest value "
                f"{self.largest:.4g}); this looks normalised. {instead}"
            )


def count_statistics(counts: Any, *, progress: bool = False) -> CountStatistics:
    """Go over the counts once; places × genes as `by_rows` gives them."""
    parts = list(map_rows(_count_statistics, counts, what="reading counts", progress=progress))
    sizes, seen, total, squares, not_finite, smallest, largest, fractions = zip(*parts, strict=True)
    return CountStatistics(
        np.concatenate(sizes),
        np.asarray(np.sum(seen, axis=0)),
        np.asarray(np.sum(total, axis=0), dtype=np.float64),
        np.asarray(np.sum(squares, axis=0), dtype=np.float64),
        sum(not_finite),
        min(smallest),
        max(largest),
        any(fractions),
    )


def _count_statistics(counts: sparse.csr_matrix[Any], _: slice) -> CountStatistics:
    values, n_genes = counts.data, counts.shape[1]
    finite = np.isfinite(values)
    known = values if finite.all() else values[finite]
    return CountStatistics(
        np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        np.bincount(counts.indices[values > 0], minlength=n_genes),
        np.bincount(counts.indices, values, minlength=n_genes).astype(np.float64),
        np.bincount(counts.indices, np.square(values, dtype=np.float64), minlength=n_genes).astype(np.float64),
        int((~finite).sum()),
        float(known.min(initial=0)),
        float(known.max(initial=0)),
        not np.array_equal(known, np.rint(known)),
    )


def highly_variable(
    counts: Any, statistics: CountStatistics, *, n_top_genes: int, min_places: int, progress: bool = False
) -> NDArray[np.bool_]:
    """Mark the most variable genes by the variance of the counts against its trend, counts clipped at √N deviations.

    The ``seurat_v3`` of scanpy (Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031), which reads all counts at once.

    Parameters
    ----------
    counts
        As `by_rows` gives them, shape (N, G).
    statistics
        Their sums.
    n_top_genes
        How many genes; all that are eligible where there are fewer.
    min_places
        Places in which a gene must be seen.
    progress
        Whether to show a progress bar.
    """
    seen = statistics.seen >= min_places
    if not seen.any():
        seen = statistics.seen > 0
    if seen.sum() <= n_top_genes:
        return seen
    n = counts.shape[0]
    mean = statistics.total / n
    variance = np.maximum(statistics.squares - n * mean**2, 0) / (n - 1)
    spread = np.sqrt(10 ** _trend(mean, variance, seen))
    passes = map_rows(
        partial(_clipped_sums, limits=spread * np.sqrt(n) + mean), counts, what="variable genes", progress=progress
    )
    total, squares = np.sum(list(passes), axis=0)
    scaled = (n * mean**2 + squares - 2 * total * mean) / ((n - 1) * spread**2)
    marked = np.zeros(len(seen), dtype=bool)
    candidates = np.flatnonzero(seen)
    marked[candidates[np.argsort(-scaled[candidates])[:n_top_genes]]] = True
    return marked


def _trend(mean: NDArray[np.float64], variance: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fit the logarithm of the variance to that of the mean; zeros where it cannot be told."""
    from skmisc.loess import loess

    varying = seen & (variance > 0)
    trend = np.zeros(len(mean))
    model = loess(np.log10(mean[varying]), np.log10(variance[varying]), span=SPAN, degree=2)
    model.fit()
    trend[varying] = model.outputs.fitted_values
    return trend


def _clipped_sums(counts: sparse.csr_matrix[Any], _: slice, *, limits: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.minimum(counts.data.astype(np.float64), limits[counts.indices])
    sums = [np.bincount(counts.indices, weights, minlength=len(limits)) for weights in (clipped, clipped**2)]
    return np.array(sums)  # (2, G)


def lognorm(
    counts: sparse.csr_matrix[Any], size: NDArray[np.float64], median: float, *, genes: NDArray[np.bool_] | None = None
) -> sparse.csr_matrix[Any]:
    """Scale each place to the median library size and take log1p; places of size 0 become zeros."""
    factor = np.divide(median, size, out=np.zeros_like(size), where=size > 0)
    normalised = as_csr(sparse.diags(factor) @ (counts if genes is None else counts[:, genes])).astype(np.float32)
    np.log1p(normalised.data, out=normalised.data)
    return normalised


class GeneMoments(NamedTuple):
    """Sums of the log-normalised values of the genes that are read."""

    totals: NDArray[np.float64]
    """Of each section, shape (S, G)."""
    products: NDArray[np.float64]
    """XᵀX, shape (G, G)."""


class Normalisation(NamedTuple):
    """How the values of the genes that are read come from the counts."""

    genes: NDArray[np.bool_]
    """Which they are, shape (all genes,)."""
    size: NDArray[np.float64]
    """Library size of each place, shape (N,)."""
    median: float
    """Library size that all are scaled to."""
    sections: NDArray[np.intp]
    """Section of each place, shape (N,)."""

    def __call__(self, counts: sparse.csr_matrix[Any], rows: slice) -> sparse.csr_matrix[Any]:
        """Get the log-normalised values of the genes that are read, at some places."""
        return lognorm(counts, self.size[rows], self.median, genes=self.genes)

    def members(self, rows: slice) -> sparse.csr_matrix[Any]:
        """Say which section each of some places belongs to, shape (S, n)."""
        sections = self.sections[rows]
        shape = (int(self.sections.max()) + 1, len(sections))
        return sparse.csr_matrix((np.ones(len(sections)), (sections, np.arange(len(sections)))), shape=shape)

    def moments(self, counts: sparse.csr_matrix[Any], rows: slice) -> GeneMoments:
        """Sum the values of some places and their products."""
        values = self(counts, rows)
        dense = values.toarray()
        return GeneMoments((self.members(rows) @ values).toarray(), (dense.T @ dense).astype(np.float64))

    def totals(self, counts: sparse.csr_matrix[Any], rows: slice) -> NDArray[np.float64]:
        """Sum the values of some places by section, shape (S, G)."""
        return np.asarray((self.members(rows) @ self(counts, rows)).toarray(), dtype=np.float64)

    def projected(
        self, counts: sparse.csr_matrix[Any], rows: slice, *, centres: NDArray[np.float64], axes: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Project the values of some places, less the mean of their section, on axes of shape (G, n)."""
        scores = self(counts, rows) @ axes - (centres @ axes)[self.sections[rows]]
        return np.asarray(scores, dtype=np.float32)


class GeneRows:
    """Values of the genes that are read, at any places, read when they are asked for.

    Parameters
    ----------
    counts
        Raw counts of all genes, as `by_rows` gives them.
    genes
        Which genes are read, shape (all genes,).
    size
        Library size of each place, to normalise by, shape (N,); None: the counts as they are.
    """

    def __init__(self, counts: Any, genes: NDArray[np.bool_], *, size: NDArray[np.float64] | None = None) -> None:
        # of counts in memory, the genes are picked once; library sizes are given
        self._counts = counts[:, genes] if isinstance(counts, sparse.csr_matrix) else counts
        self._genes = None if self._counts is not counts else genes
        self._size = size
        self.shape = (int(counts.shape[0]), int(genes.sum()))

    def take(self, index: NDArray[np.intp]) -> sparse.csr_matrix[Any]:
        """Read some places, shape (len(index), G); the index ascends."""
        counts = take(self._counts, index)
        counts = counts if self._genes is None else counts[:, self._genes]
        if self._size is None:
            return counts
        return lognorm(counts, self._size[index], float(np.median(self._size[self._size > 0])))


def raw_counts(adata: AnnData, layer: str | None) -> tuple[str, Any]:
    """Find the matrix of raw counts: the layer, otherwise ``layers["counts"]`` where there is one, otherwise ``X``.

    Returns
    -------
    What messages call it, and the matrix, as it is.
    """
    if layer is None and keys.COUNTS in adata.layers:
        layer = keys.COUNTS
    if layer is not None:
        require_key(names_in(adata.layers), layer, where="layers")
    where = "X" if layer is None else f"layers[{layer!r}]"
    given = adata.X if layer is None else adata.layers[layer]
    if given is None:
        raise InputError(f"Expected raw counts in {where}, found nothing there. Name the layer that holds them.")
    return where, given


def library_size(adata: AnnData, size: NDArray[np.float64], *, size_key: str | None) -> NDArray[np.float64]:
    """Get the library sizes: the column, or the sums of the counts."""
    if size_key is not None:
        require_key(adata.obs.columns, size_key, where="obs")
        try:
            size = adata.obs[size_key].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"Expected numbers in obs[{size_key!r}], found {adata.obs[size_key].dtype}.") from error
        if not np.isfinite(size).all() or (size < 0).any():
            raise InputError(f"Expected library sizes ≥ 0 in obs[{size_key!r}], found NaN, infinite or negative ones.")
    if not (size > 0).any():
        raise InputError("Expected counts, found none at any place.")
    empty = int((size == 0).sum())
    if empty:
        logger.warning("%d places have no counts; they are kept, and take their embedding from neighbours.", empty)
    return size


def gene_rows(adata: AnnData, *, normalised: bool) -> GeneRows:
    """Get the counts of the genes that `stmmr.pp.expression` chose, or their log-normalised values."""
    step = require_step(adata, "expression", by="stmmr.pp.expression")
    _, counts = raw_counts(adata, str(step["layer"]) or None)
    size = adata.obs[keys.LIBRARY_SIZE].to_numpy(np.float64)
    return GeneRows(by_rows(counts), adata.var[keys.HIGHLY_VARIABLE].to_numpy(), size=size if normalised else None)
