"""Sums of counts, library sizes and normalised values, computed in passes over chunks of rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, require_key, require_step
from stmmr._core.raw import counts_elsewhere, raw_counts
from stmmr._core.rows import as_csr, by_rows, map_rows, slices, take
from stmmr._core.space import rows_called

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.types import Bools, CountRows, Csr, Float32, Float64, Ints

SPARSE_BELOW: Final = 0.12
"""Share of entries that are not zero below which their products are faster one by one than by linear algebra."""
DENSE: Final = 2_048
"""Spots whose values are made dense at a time."""
LARGEST: Final = 1e12
"""Largest count; squares of larger ones overflow."""
SPANS: Final = (0.3, 0.5, 0.75, 1.0)
"""Shares of the genes that the variance trend is fitted to at each point; the first that is not singular is used."""
WHOLE: Final = 1e-3
"""Distance from a whole number that rounding of stored counts may leave."""
CORRECTED: Final = 0.9
"""Share of different values from which fractions are corrected counts and no normalised ones."""
SAME_TOTAL: Final = 1000
"""Mean total from which equal totals of all spots are those of normalised values."""
SAMPLED_ROWS, FEWEST_VALUES = 50, 10
"""Spots of a chunk whose values are compared, and values that each has at least."""


class CountStatistics(NamedTuple):
    """Sums of counts, and signs that the values are no raw counts."""

    size: Float64
    """Total counts of each spot, shape (n_obs,)."""
    seen: NDArray[np.int64]
    """Number of spots with counts of each gene, shape (n_vars,)."""
    total: Float64
    squares: Float64
    """Sum of the counts of each gene, and of their squares; shape (n_vars,)."""
    not_finite: int
    """Number of NaN or infinite entries."""
    smallest: float
    largest: float
    fractions: bool
    """Whether an entry is not a whole number."""
    different: float
    """Of fractions: different values of a spot over its values, in a sample. Those of normalised counts repeat."""

    def check(self, where: str, adata: AnnData) -> None:
        """Check that the values are raw counts, or fractions that a correction left; these are warned of.

        Raises
        ------
        InputError
            If an entry is NaN, infinite or negative, or values look normalised. The message says where counts are.
        """
        if self.not_finite:
            raise InputError(
                f"Expected finite counts in {where}, found {self.not_finite} NaN or infinite entries. Replace them "
                "first."
            )
        if self.smallest < 0:
            raise InputError(
                f"Expected raw counts in {where}, found negative values (smallest {self.smallest:.4g}): these look "
                f"scaled. {counts_elsewhere(adata, where)}"
            )
        if self.largest > LARGEST:
            raise InputError(
                f"Expected raw counts in {where}, found values up to {self.largest:.4g}, more than molecules can be "
                f"counted. {counts_elsewhere(adata, where)}"
            )
        if self.fractions and self.different < CORRECTED:
            raise InputError(
                f"Expected raw counts (whole numbers) in {where}, found fractions (largest value "
                f"{self.largest:.4g}): these look normalised. {counts_elsewhere(adata, where)}"
            )
        if self.fractions:
            logger.warning(
                "The counts in %s are fractions that hardly repeat, as SoupX and SpotClean leave them. They are taken "
                "as corrected counts; of values that were normalised or imputed, give the raw counts instead.",
                where,
            )
        if self.largest == 1 and not self.fractions:
            logger.warning(
                "All values in %s are 0 or 1: they say whether a gene was seen. Give the counts if you have them.",
                where,
            )
        sizes = self.size[self.size > 0]
        if len(sizes) >= FEWEST_VALUES and sizes.mean() >= SAME_TOTAL and np.ptp(sizes) < 1e-3 * sizes.mean():
            logger.warning(
                "All spots have about the same total in %s (%.6g): these look like values that were normalised and "
                "rounded. Give the raw counts if you have them.",
                where,
                sizes.mean(),
            )


def count_statistics(counts: CountRows, *, progress: bool = False) -> CountStatistics:
    """Sum up counts, as `by_rows` returns them, in one pass."""
    parts = list(map_rows(_count_statistics, counts, task="reading counts", progress=progress))
    sizes, seen, total, squares, not_finite, smallest, largest, fractions, different = zip(*parts, strict=True)
    return CountStatistics(
        np.concatenate(sizes),
        np.asarray(np.sum(seen, axis=0)),
        np.asarray(np.sum(total, axis=0), dtype=np.float64),
        np.asarray(np.sum(squares, axis=0), dtype=np.float64),
        sum(not_finite),
        min(smallest),
        max(largest),
        any(fractions),
        max(different),
    )


def _count_statistics(counts: Csr, _: slice) -> CountStatistics:
    values, n_genes = counts.data, counts.shape[1]
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):  # of values that are no counts
        return _sums(counts, finite, n_genes)


def _sums(counts: Csr, finite: Bools, n_genes: int) -> CountStatistics:
    values = counts.data
    known = values if finite.all() else values[finite]
    return CountStatistics(
        np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        np.bincount(counts.indices[values > 0], minlength=n_genes),
        np.bincount(counts.indices, values, minlength=n_genes).astype(np.float64),
        np.bincount(counts.indices, np.square(values, dtype=np.float64), minlength=n_genes).astype(np.float64),
        int((~finite).sum()),
        float(known.min(initial=0)),
        float(known.max(initial=0)),
        not np.allclose(known, np.rint(known), rtol=0, atol=WHOLE),
        _different(counts),
    )


def _different(counts: Csr) -> float:
    """Measure the share of different values among those of a spot, over some spots with enough values; 0 without."""
    rows = [counts.data[counts.indptr[i] : counts.indptr[i + 1]] for i in range(min(counts.shape[0], SAMPLED_ROWS))]
    rows = [row[row > 0] for row in rows]
    shares = [len(np.unique(row)) / len(row) for row in rows if len(row) >= FEWEST_VALUES]
    return float(np.median(shares)) if shares else 0.0


def highly_variable(
    counts: CountRows, statistics: CountStatistics, *, n_top_genes: int, min_spots: int, progress: bool = False
) -> Bools:
    """Select highly variable genes by their variance relative to the trend, counts clipped at √N deviations.

    Same as ``seurat_v3`` of scanpy (Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031), but in chunks.

    Parameters
    ----------
    counts
        From `by_rows`, shape (n_obs, n_vars).
    statistics
        Their sums.
    n_top_genes
        Number of genes; all eligible genes if there are fewer.
    min_spots
        Number of spots in which a gene must be seen to be eligible.
    progress
        Show a progress bar.

    Returns
    -------
    Whether each gene is selected, shape (n_vars,).
    """
    seen = statistics.seen >= min_spots
    if not seen.any():
        seen = statistics.seen > 0
    if seen.sum() <= n_top_genes:
        return seen
    n = counts.shape[0]
    mean = statistics.total / n
    variance = np.maximum(statistics.squares - n * mean**2, 0) / (n - 1)
    spread = np.sqrt(10 ** _trend(mean, variance, seen))
    passes = map_rows(
        partial(_clipped_sums, limits=spread * np.sqrt(n) + mean), counts, task="variable genes", progress=progress
    )
    total, squares = np.sum(list(passes), axis=0)
    scaled = (n * mean**2 + squares - 2 * total * mean) / ((n - 1) * spread**2)
    selected = np.zeros(len(seen), dtype=bool)
    candidates = np.flatnonzero(seen)
    # sums in another order differ by round-off, and genes that are equally variable stay in their order
    ranked = np.argsort(-np.round(scaled[candidates], 9), kind="stable")
    selected[candidates[ranked[:n_top_genes]]] = True
    return selected


def _trend(mean: Float64, variance: Float64, seen: Bools) -> Float64:
    """Fit log10 of the variance as a function of log10 of the mean; zero for genes that do not vary.

    In data of low depth, many genes have the same mean, and a narrow local regression is singular: wider ones are tried
    then, and at last the variance of counts, the mean itself (genes are chosen by their dispersion).
    """
    from skmisc.loess import loess

    varying = seen & (variance > 0)
    trend = np.zeros(len(mean))
    x, y = np.log10(mean[varying]), np.log10(variance[varying])
    trend[varying] = x
    for span in SPANS:
        model = loess(x, y, span=span, degree=2)
        try:
            model.fit()
        except ValueError:  # singular
            continue
        if np.isfinite(model.outputs.fitted_values).all():
            trend[varying] = model.outputs.fitted_values
            break
    return trend


def _clipped_sums(counts: Csr, _: slice, *, limits: Float64) -> Float64:
    clipped = np.minimum(counts.data.astype(np.float64), limits[counts.indices])
    sums = [np.bincount(counts.indices, weights, minlength=len(limits)) for weights in (clipped, clipped**2)]
    return np.array(sums)  # (2, G)


def lognorm(counts: Csr, size: Float64, median: float, *, genes: Bools | None = None) -> Csr:
    """Scale each row to the median library size and take log1p; rows of size 0 become zeros."""
    factor = np.divide(median, size, out=np.zeros_like(size), where=size > 0)
    normalised = as_csr(sparse.diags(factor) @ (counts if genes is None else counts[:, genes])).astype(np.float32)
    np.log1p(normalised.data, out=normalised.data)
    return normalised


class GeneMoments(NamedTuple):
    """Sums of the log-normalised values of the selected genes."""

    totals: Float64
    """Sum over each section, shape (S, G)."""
    products: Float64
    """The upper triangle of XᵀX, shape (G, G); what is below it has no meaning."""


class Normalisation(NamedTuple):
    """Log-normalisation of the selected genes."""

    genes: Bools
    """Whether each gene is selected, shape (n_vars,)."""
    size: Float64
    """Library size of each spot, shape (N,)."""
    median: float
    """Library size that all are scaled to."""
    sections: Ints
    """Section of each spot, shape (N,)."""
    largest: float
    """Largest count."""

    def __call__(self, counts: Csr, rows: slice) -> Csr:
        """Compute the log-normalised values of some rows."""
        return lognorm(counts, self.size[rows], self.median, genes=self.genes)

    def members(self, rows: slice) -> Csr:
        """Get the indicator matrix of the sections of some rows, shape (S, n)."""
        sections = self.sections[rows]
        shape = (int(self.sections.max()) + 1, len(sections))
        return sparse.csr_matrix((np.ones(len(sections)), (sections, np.arange(len(sections)))), shape=shape)

    @property
    def step(self) -> float:
        """Width of the steps that values are rounded to in sums: the smallest that keeps sums of products exact.

        Sums of whole numbers below 2⁵³ are the same in any order and in chunks of any size.
        """
        bound = 1 + np.log1p(self.largest * self.median / self.size[self.size > 0].min())
        return float(2.0 ** np.ceil(np.log2(bound) - (53 - np.log2(len(self.size))) / 2))

    def rounded(self, counts: Csr, rows: slice) -> Csr:
        """Compute the log-normalised values of some rows as whole numbers of steps, float64."""
        values = self(counts, rows).astype(np.float64)
        np.rint(values.data / self.step, out=values.data)
        return values

    def moments(self, counts: Csr, rows: slice) -> GeneMoments:
        """Sum the values of some rows, and their products."""
        values = self.rounded(counts, rows)
        products = _products_of_genes(values)
        return GeneMoments((self.members(rows) @ values).toarray() * self.step, products * self.step**2)

    def totals(self, counts: Csr, rows: slice) -> Float64:
        """Sum the values of some rows by section, shape (S, G)."""
        return np.asarray((self.members(rows) @ self.rounded(counts, rows)).toarray()) * self.step

    def projected(self, counts: Csr, rows: slice, *, centres: Float64, axes: Float64) -> Float32:
        """Project the values of some rows, relative to the centre of their section, on axes of shape (G, n)."""
        scores = self(counts, rows) @ axes - (centres @ axes)[self.sections[rows]]
        return np.asarray(scores, dtype=np.float32)


def _products_of_genes(values: Csr) -> Float64:
    """Compute the upper triangle of XᵀX, shape (G, G), of whole numbers, whose sums are the same in any order."""
    n, n_genes = values.shape
    products = np.zeros((n_genes, n_genes))
    for rows in slices(n, DENSE):
        part = values[rows]
        if values.nnz < SPARSE_BELOW * n * n_genes:
            from stmmr._core.compiled import add_products_of_columns

            part.sort_indices()
            order = np.argsort(part.indices, kind="stable")
            stop = np.repeat(part.indptr[1:], np.diff(part.indptr))[order]
            add_products_of_columns(part.indices, part.data, order, stop, products)
        else:
            dense = part.toarray()
            products += dense.T @ dense
    return products


class GeneRows:
    """Values of the selected genes, read row by row on demand.

    Parameters
    ----------
    counts
        Raw counts of all genes, from `by_rows`.
    genes
        Whether each gene is selected, shape (n_vars,).
    order
        Row of each spot, shape (N,).
    size
        Library size of each spot to normalise by, shape (N,); None leaves counts as they are.
    """

    def __init__(self, counts: CountRows, genes: Bools, *, order: Ints, size: Float64 | None = None) -> None:
        # counts in memory are subset once
        self._counts = counts[:, genes] if isinstance(counts, sparse.csr_matrix) else counts
        self._genes = None if self._counts is not counts else genes
        self._order, self._size = order, size
        self.shape = (int(counts.shape[0]), int(genes.sum()))

    def take(self, index: Ints) -> Csr:
        """Read the rows of some spots, shape (len(index), G)."""
        rows, position = np.unique(self._order[index], return_inverse=True)  # a file is read from start to end
        counts = take(self._counts, rows)
        counts = (counts if self._genes is None else counts[:, self._genes])[position]
        if self._size is None:
            return counts
        return lognorm(counts, self._size[index], float(np.median(self._size[self._size > 0])))


def library_size(adata: AnnData, size: Float64, *, size_key: str | None) -> Float64:
    """Get library sizes, shape (n_obs,): from the column, otherwise `size`, the sums of the counts."""
    if not (size > 0).any():
        raise InputError("Expected counts, found only zeros.")
    if size_key is not None:
        require_key(adata.obs.columns, size_key, where="obs")
        try:
            size = adata.obs[size_key].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"Expected numbers in obs[{size_key!r}], found {adata.obs[size_key].dtype}.") from error
        if not np.isfinite(size).all() or (size < 0).any():
            raise InputError(f"Expected library sizes ≥ 0 in obs[{size_key!r}], found NaN, infinite or negative ones.")
    if not (size > 0).any():
        raise InputError(f"Expected library sizes in obs[{size_key!r}], found only zeros.")
    empty = int((size == 0).sum())
    if empty:
        logger.warning(
            "%d %s have no counts. They are kept and get their embedding from neighbours.", empty, rows_called(adata)
        )
    return size


def gene_rows(adata: AnnData, order: Ints, *, normalised: bool) -> GeneRows:
    """Get the counts of the genes that `stmmr.pp.expression` selected, or their log-normalised values, in an order."""
    step = require_step(adata, "expression", by="stmmr.pp.expression")
    _, counts = raw_counts(adata, str(step["layer"]) or None)
    size = adata.obs[keys.LIBRARY_SIZE].to_numpy(np.float64)[order] if normalised else None
    return GeneRows(by_rows(counts), adata.var[keys.HIGHLY_VARIABLE].to_numpy(), order=order, size=size)
