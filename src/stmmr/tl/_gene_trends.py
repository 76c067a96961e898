"""Gene expression along pseudotime: smooth curves with confidence bands, and a test of each gene."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from stmmr._core import keys
from stmmr._core.categories import categories
from stmmr._core.checks import InputError, require_key, require_step
from stmmr._core.depends import depends
from stmmr._core.genes import require_genes
from stmmr._core.options import checked
from stmmr._core.raw import raw_counts
from stmmr._core.record import record, recorded
from stmmr._core.rows import by_rows, map_rows
from stmmr._core.space import rows_called
from stmmr._core.stats import fdr_bh
from stmmr.tl._graphs import Rooted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from stmmr._core.types import Bools, CountRows, Csr, Float64, Ints

    Matrix = Float64

N_BINS: Final = 200
"""Bins of pseudotime within which the rate of a gene is taken as constant."""
N_GRID: Final = 100
"""Points at which a curve is stored."""
SPOTS_PER_COEFFICIENT: Final = 5
"""Fewest spots for each coefficient."""
_ITERATIONS: Final = 50
_STEP: Final = 2.0
"""Largest step of the log rate: Newton's method would overshoot from a constant."""


@checked
def gene_trends(
    adata: AnnData,
    *,
    genes: Sequence[str] | None = None,
    to_domain: str | None = None,
    pseudotime_key: str = keys.PSEUDOTIME,
    n_knots: int = 4,
    confidence: float = 0.95,
    progress: bool = False,
) -> None:
    """Fit a smooth curve of each gene over pseudotime, and test whether the gene changes along it.

    The log rate of a gene is a cubic spline of pseudotime with knots at quantiles. Counts vary like overdispersed
    Poisson ones (quasi-likelihood) around the rate times the library size. The F test compares the curve with a
    constant rate. One pseudo-count, spread over all spots, keeps curves finite where a gene was never seen. Counts on
    disk are read once, a chunk of spots at a time.

    Pseudotime comes from the same counts, and neighbouring spots are not independent: use the test to rank genes, not
    as proof of a trajectory.

    Parameters
    ----------
    adata
        After `stmmr.pp.expression` and `stmmr.tl.trajectory`.
    genes
        Names of genes; None: the highly variable ones (``var["stmmr_highly_variable"]``).
    to_domain
        Domain at which to end. Only spots of domains on the path to it through the tree are used, so that other
        branches do not blur the curve. None: all spots.
    pseudotime_key
        Column of ``obs``; spots with NaN are left out.
    n_knots
        Number of knots of the spline, which has 2 coefficients more.
    confidence
        Confidence level of the bands, pointwise.
    progress
        Show a progress bar.

    Returns
    -------
    None. Sets ``uns["stmmr"]["gene_trends"]``, drawn by `stmmr.pl.gene_trends`:

    ``"table"``
        DataFrame by gene, smallest p-value first: ``mean`` (counts at the median library size), ``log2_range`` (highest
        over lowest point of the curve), ``log2_change`` (end over start), ``peak`` (pseudotime of the highest point),
        ``f``, ``pval`` and ``pval_adj`` (Benjamini and Hochberg).
    ``"pseudotime"``, ``"curve"``, ``"low"``, ``"high"``
        Points of pseudotime, shape (100,), and the rate of each gene of the table with its band, shape (n_genes, 100),
        float32, in counts at the median library size.

    Raises
    ------
    InputError
        If there is no pseudotime, no such gene or domain, an option is out of range, or there are too few spots.

    References
    ----------
    Van den Berge et al. 2020, doi:10.1038/s41467-020-14766-3 (tradeSeq); McCullagh & Nelder 1989, chapter 9.
    """
    require_key(adata.obs.columns, pseudotime_key, where="obs", hint="Run stmmr.tl.trajectory(adata) first.")
    if n_knots < 2:
        raise InputError(f"Expected n_knots of at least 2, found {n_knots!r}.")
    expression = require_step(adata, "expression", by="stmmr.pp.expression")
    columns = _columns(adata, genes)
    size = adata.obs[keys.LIBRARY_SIZE].to_numpy(np.float64)
    median = float(np.median(size[size > 0]))
    if not pd.api.types.is_numeric_dtype(adata.obs[pseudotime_key]):
        raise InputError(f"Expected numbers in obs[{pseudotime_key!r}], found {adata.obs[pseudotime_key].dtype}.")
    time = adata.obs[pseudotime_key].to_numpy(np.float64, na_value=np.nan)
    used = np.isfinite(time) & (size > 0) & _on_path(adata, to_domain)
    fewest = SPOTS_PER_COEFFICIENT * (n_knots + 2)
    if used.sum() < fewest or np.ptp(time[used]) == 0:
        raise InputError(
            f"Expected at least {fewest} {rows_called(adata)} along pseudotime, found {int(used.sum())}"
            f"{'' if used.sum() < fewest else ' at a single value'}."
        )
    _, counts = raw_counts(adata, str(expression["layer"]) or None)
    sums = Sums.of(by_rows(counts), columns, size / median, np.where(used, time, np.nan), progress=progress)
    basis, grid = _basis(time[used], sums.time, n_knots)
    trends = fit(sums, basis, grid=grid.basis, confidence=confidence)
    table = pd.DataFrame(trends.columns(grid.time), index=adata.var_names[columns].astype(str))
    order = np.lexsort((-trends.f, trends.pval))
    table.insert(0, "mean", trends.mean)
    step = {
        "table": table.iloc[order],
        "pseudotime": grid.time,
        "curve": trends.curve[order].astype(np.float32),
        "low": trends.low[order].astype(np.float32),
        "high": trends.high[order].astype(np.float32),
        "to_domain": to_domain or "",
        "pseudotime_key": pseudotime_key,
        "n_knots": n_knots,
        "confidence": confidence,
        "n_spots": int(used.sum()),
    }
    record(adata, gene_trends=step)
    path = f"obs:{recorded(adata)['trajectory']['domain_key']}" if to_domain is not None else ""
    depends(adata, "gene_trends", on=[path, f"obs:{pseudotime_key}"], writes=["notes:gene_trends"])


class Sums(NamedTuple):
    """Sums of counts over the spots of each bin of pseudotime."""

    time: Matrix
    """Mean pseudotime of each of the B bins, (B,)."""
    size: Matrix
    """Sum of relative library sizes s, (B,)."""
    counts: Matrix
    """Sum of counts y, (G, B)."""
    squares: Matrix
    """Sum of y², (G, B)."""
    crossed: Matrix
    """Sum of y·s, (G, B)."""
    size_squares: Matrix
    """Sum of s², (B,)."""
    n_spots: int

    @classmethod
    def of(cls, counts: CountRows, columns: Ints, size: Matrix, time: Matrix, *, progress: bool = False) -> Sums:
        """Sum up bins with equal numbers of spots; spots with NaN in `time` are left out."""
        used = np.flatnonzero(np.isfinite(time))
        n_bins = min(N_BINS, len(used))
        bins = np.full(len(time), -1, dtype=np.intp)
        bins[used[np.argsort(time[used], kind="stable")]] = np.arange(len(used)) * n_bins // len(used)
        add = partial(_sums, columns=columns, size=size, bins=bins, n_bins=n_bins)
        total = np.zeros((3, n_bins, len(columns)))
        for part in map_rows(add, counts, task="gene trends", progress=progress):
            total += part
        index, n_each = bins[used], np.bincount(bins[used])
        times, sizes, squares = (np.asarray(np.bincount(index, v[used]), np.float64) for v in (time, size, size**2))
        y, yy, ys = (sums.T for sums in total)
        return cls(times / n_each, sizes, y, yy, ys, squares, len(used))


def _sums(rows: Csr, where: slice, *, columns: Ints, size: Matrix, bins: Ints, n_bins: int) -> Matrix:
    """Sum up counts, their squares, and counts times size in a chunk of rows, shape (3, B, G)."""
    own = bins[where]
    used = np.flatnonzero(own >= 0)
    counts = sparse.csr_matrix(rows[used][:, columns], dtype=np.float64)
    ends = own[used], np.arange(len(used))
    members, sized = (
        sparse.csr_matrix((weight, ends), shape=(n_bins, len(used)))
        for weight in (np.ones(len(used)), size[where][used])
    )
    return np.stack([(members @ counts).toarray(), (members @ counts.power(2)).toarray(), (sized @ counts).toarray()])


class Grid(NamedTuple):
    """Points at which curves are stored, and the splines there."""

    time: Matrix
    basis: Matrix


def _basis(time: Matrix, bins: Matrix, n_knots: int) -> tuple[Matrix, Grid]:
    """Evaluate cubic B-splines, which sum to 1, at the bins of pseudotime and on a grid."""
    from sklearn.preprocessing import SplineTransformer

    knots = np.unique(np.quantile(time, np.linspace(0, 1, n_knots)))
    splines = SplineTransformer(degree=3, knots=knots[:, None]).fit(time[:, None])
    grid = np.linspace(time.min(), time.max(), N_GRID)
    return splines.transform(bins[:, None]), Grid(grid, splines.transform(grid[:, None]))


class Fit(NamedTuple):
    """Curves of G genes at P points, in counts at the median library size."""

    mean: Matrix
    curve: Matrix
    low: Matrix
    high: Matrix
    f: Matrix
    pval: Matrix

    def columns(self, time: Matrix) -> dict[str, Matrix]:
        """Describe the curves in a table."""
        log2 = np.log2(self.curve)
        return {
            "log2_range": np.ptp(log2, axis=1),
            "log2_change": log2[:, -1] - log2[:, 0],
            "peak": time[log2.argmax(axis=1)],
            "f": self.f,
            "pval": self.pval,
            "pval_adj": fdr_bh(self.pval),
        }


def fit(sums: Sums, basis: Matrix, *, grid: Matrix, confidence: float) -> Fit:
    """Fit quasi-Poisson curves log rate = basis · β to all genes at once.

    The splines have p columns that sum to 1: `basis` at the B bins, `grid` at the points where curves are evaluated.

    Notes
    -----
    φ = Σ(y − μ)²/Σμ · N/(N − p), at least 1, which keeps the test valid if large libraries vary more than the
    quasi-Poisson variance φμ; F = (D₀ − D₁) / (p − 1) / φ with the deviances D of the constant rate and of the curve;
    the variance of log rate is φ·xᵀ(XᵀWX)⁻¹x.
    """
    from scipy import stats

    n, p = sums.n_spots, basis.shape[1]
    seen = sums.counts.sum(axis=1)
    counts = sums.counts + sums.size / sums.size.sum()
    constant = np.log(counts.sum(axis=1) / sums.size.sum())  # (G,)
    beta = _newton(counts, sums.size, basis, constant)
    log_rate = np.clip(beta @ basis.T, -30, 30)  # (G, B)
    rate = np.exp(log_rate)
    residual = (sums.squares - 2 * rate * sums.crossed + rate**2 * sums.size_squares).sum(axis=1)
    spread = np.maximum(residual / (rate * sums.size).sum(axis=1) * n / (n - p), 1)
    gain = 2 * (counts * (log_rate - constant[:, None])).sum(axis=1)
    gain -= 2 * ((rate - np.exp(constant)[:, None]) * sums.size).sum(axis=1)
    f = np.maximum(gain, 0) / (p - 1) / spread
    information = _information(rate * sums.size, basis)
    covariance = np.linalg.pinv(information, hermitian=True)
    deviation = np.sqrt(np.einsum("ap,gpq,aq->ga", grid, covariance, grid, optimize=True).clip(0) * spread[:, None])
    reach = stats.t.ppf((1 + confidence) / 2, n - p) * deviation
    curve = np.clip(beta @ grid.T, -30, 30)
    low, high = np.exp(np.maximum(curve - reach, -60)), np.exp(np.minimum(curve + reach, 60))
    pval = np.asarray(stats.f.sf(f, p - 1, n - p))
    return Fit(seen / sums.size.sum(), np.exp(curve), low, high, f, pval)


def _newton(counts: Matrix, size: Matrix, basis: Matrix, constant: Matrix) -> Matrix:
    """Maximise the Poisson likelihood of each gene, starting from a constant rate, shape (G, p)."""
    beta = np.repeat(constant[:, None], basis.shape[1], axis=1)
    for _ in range(_ITERATIONS):
        mean = np.exp(beta @ basis.T) * size
        slope = (counts - mean) @ basis
        step = (np.linalg.pinv(_information(mean, basis), hermitian=True) @ slope[:, :, None])[:, :, 0]
        longest = np.abs(step @ basis.T).max(axis=1, keepdims=True)
        beta = beta + step * np.minimum(1, _STEP / np.maximum(longest, _STEP))
        if longest.max() < 1e-8:
            break
    return beta


def _information(mean: Matrix, basis: Matrix) -> Matrix:
    """Compute XᵀWX of each gene, shape (G, p, p); the means W have shape (G, B)."""
    p = basis.shape[1]
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), p * p)
    return np.asarray((mean @ products).reshape(-1, p, p))


def _columns(adata: AnnData, genes: Sequence[str] | None) -> Ints:
    """Get the column indices of genes, checked."""
    if genes is None:
        return np.flatnonzero(adata.var[keys.HIGHLY_VARIABLE].to_numpy())
    names = adata.var_names.astype(str)
    return np.array([int(np.flatnonzero(names == gene)[0]) for gene in require_genes(adata, genes)])


def _on_path(adata: AnnData, to_domain: str | None) -> Bools:
    """Mark the spots in domains on the path from the root to one; None marks all."""
    if to_domain is None:
        return np.ones(adata.n_obs, dtype=bool)
    step = require_step(adata, "trajectory", by="stmmr.tl.trajectory")
    names = [str(name) for name in step["domains"]]
    require_key(names, to_domain, where="the domains of the trajectory")
    rooted = Rooted.at(np.asarray(step["tree"]), names.index(str(step["root_domain"])))
    if rooted.depth[names.index(to_domain)] < 0:
        raise InputError(
            f"Expected a domain that is connected to {step['root_domain']!r} in the tree, found {to_domain!r}. "
            "Choose another root or another domain."
        )
    path = {names[node] for node in rooted.path(names.index(to_domain))}
    return np.array([str(name) in path for name in categories(adata, str(step["domain_key"]))])
