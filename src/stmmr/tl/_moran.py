"""Spatially variable genes by Moran's I."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, require_choice, require_key, unique_names
from stmmr._core.genes import gene_columns
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.options import checked
from stmmr._core.parallel import in_threads
from stmmr._core.record import record
from stmmr._core.rows import slices
from stmmr._core.sections import graph_sections, laid_apart, section_codes, sections_of
from stmmr._core.space import coordinates, rows_called
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Csc, Csr, Float64, Ints

Null = Literal["randomization", "normality"]
FEWEST: Final = 4
"""Fewest spots of a section for the variance by randomisation."""
TASKS: Final = 32
"""Parts of a block of genes, each for a thread at a time."""
TIE: Final = 1.01
"""Ratio of distances that count as equal."""


class _Moments(NamedTuple):
    """Sums over the weights of a section, with W_ii = 0."""

    n: int
    s0: float
    """ΣW_ij."""
    s1: float
    """Σ(W_ij + W_ji)²/2."""
    s2: float
    """Σ_i(Σ_j W_ij + Σ_j W_ji)²."""

    def variance(self, kurtosis: Float64 | None) -> Float64:
        """Compute the variance of I under the null: of random permutations with the kurtosis b₂, else of normals."""
        n, s0, s1, s2 = self.n, self.s0, self.s1, self.s2
        expected = -1 / (n - 1)
        if kurtosis is None:
            return np.asarray((n**2 * s1 - n * s2 + 3 * s0**2) / ((n**2 - 1) * s0**2) - expected**2)
        first = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
        second = (n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2
        return np.asarray((first - kurtosis * second) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - expected**2)


class Moran(NamedTuple):
    """Results for G genes."""

    i: Float64
    """Moran's I, shape (G,); NaN if all values are the same."""
    z: Float64
    """Moran's I in standard deviations above its expectation, shape (G,)."""


@checked
def spatially_variable_genes(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    graph_key: str | None = None,
    section_key: str | None = None,
    layer: str | None = None,
    null: Null = "randomization",
    progress: bool = False,
) -> None:
    r"""Rank genes by spatial autocorrelation, Moran's I of their log-normalised values.

    .. math:: I = \frac{N}{\sum_{ij} W_{ij}} \frac{\sum_{ij} W_{ij} z_i z_j}{\sum_i z_i^2}

    with z the values minus their mean and W the graph with rows scaled to sum 1. I is near 0 for a gene without spatial
    pattern and near 1 for one that varies smoothly. With several sections, sums are within sections and values relative
    to the mean of each, so that a shift between sections is no pattern. Counts may be in a file; ``X`` stays unchanged.

    Parameters
    ----------
    adata
        Annotated data with raw counts and coordinates.
    n_neighbors
        Number of nearest neighbours, and all that are as near as the last one (within 1 %: 8 on a square grid).
    graph_key
        Key of ``obsp`` with weights to use instead. Rows are scaled to sum 1; the diagonal and edges between sections
        do not count.
    section_key
        Column of ``obs`` with the section of each spot; None: that of the spatial graph.
    layer
        Layer with the raw counts, as in :func:`stmmr.tl.domain_genes`.
    null
        Variance of I under the null: that of random permutations ("randomization"), which accounts for many zeros, or
        that of normal values ("normality", as in squidpy).

    Returns
    -------
    None. Sets:

    ``var["stmmr_moran_i"]``, ``var["stmmr_moran_z"]``
        I, and I in standard deviations above its expectation −1/(N − 1); NaN for a gene with the same value everywhere.
    ``var["stmmr_moran_pval"]``, ``var["stmmr_moran_pval_adj"]``
        One-sided p-value for similar neighbours, and adjusted (Benjamini and Hochberg).
    ``uns["stmmr"]["spatially_variable_genes"]``
        Parameters.

    Raises
    ------
    InputError
        If there are no raw counts, coordinates or sections, fewer than four spots, or a weight is negative.

    References
    ----------
    Moran (1950), doi:10.1093/biomet/37.1-2.17; Cliff and Ord (1981), Spatial Processes, for both variances.
    """
    from scipy import stats

    require_choice(null, get_args(Null), name="null")
    unique_names(adata)
    graph = _graph(adata, graph_key, section_key, n_neighbors=n_neighbors)
    columns = gene_columns(adata, layer, progress=progress)
    parts = [
        morans_i(values, graph, null=null) for _, values in columns.lognormalised(progress=progress, task="Moran's I")
    ]
    i, z = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pval = stats.norm.sf(z)
    adata.var[keys.MORAN_I], adata.var[keys.MORAN_Z] = i, z
    adata.var[keys.MORAN_P], adata.var[keys.MORAN_P_ADJUSTED] = pval, fdr_bh(pval)
    step = {
        "n_neighbors": n_neighbors,
        "graph_key": graph_key or "",
        "section_key": section_key or "",
        "null": null,
        "n_constant": int(np.isnan(i).sum()),
    }
    record(adata, spatially_variable_genes=step)


@dataclass(frozen=True)
class Graph:
    """The weights between spots, none of them between sections, with rows scaled to sum 1."""

    weights: Csr
    """W, shape (N, N)."""
    section: Ints
    """Section of each spot, shape (N,)."""
    moments: list[_Moments]
    """Of each section."""

    @cached_property
    def of_spot(self) -> Float64:
        """Sum of the weights that begin or end at each spot, shape (N,)."""
        ends = [np.asarray(self.weights.sum(axis=axis)).ravel() for axis in (0, 1)]
        return np.asarray(ends[0] + ends[1], dtype=np.float64)


def morans_i(values: Csc, graph: Graph, *, null: Null) -> Moran:
    """Compute Moran's I of genes, shape (N, G), from their values that are not zero; several genes in parallel."""
    from stmmr._core.compiled import moments_over_neighbours

    weights = graph.weights
    columns = (values.indices, values.data.astype(np.float32, copy=False))
    edges = (weights.indptr, weights.indices, weights.data, graph.of_spot, graph.section)
    parts = slices(values.shape[1], max(-(-values.shape[1] // TASKS), 1))
    tasks = ((values.indptr[genes.start : genes.stop + 1], *columns, *edges) for genes in parts)
    sums = np.concatenate(list(in_threads(moments_over_neighbours, tasks)), axis=2)  # (3, S, G)
    each = [_expected(sums[:, s], moments, null=null) for s, moments in enumerate(graph.moments)]
    mean_weight = sum(moments.s0 for moments in graph.moments) / sum(moments.n for moments in graph.moments)
    return _combined(np.sum(each, axis=0), mean_weight)


def _expected(sums: Float64, moments: _Moments, *, null: Null) -> Float64:
    """Compute Σ W z z over a section, its expectation and variance, and Σ z², (4, G), from Σz², Σz⁴ and Σ W z z."""
    squares, fourth, product = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        kurtosis = np.nan_to_num(moments.n * fourth / squares**2) if null == "randomization" else None
    unit = squares * moments.s0 / moments.n  # Σ W z z is I times this
    return np.stack([product, -unit / (moments.n - 1), unit**2 * moments.variance(kurtosis), squares])


def _combined(sums: Float64, weight: float) -> Moran:
    """Convert the sums over all sections into I and z; `weight` is ΣW/N."""
    product, expected, variance, squares = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return Moran(product / (weight * squares), (product - expected) / np.sqrt(variance))


def _moments(weights: Csr) -> _Moments:
    both = weights + weights.T
    ends = np.asarray(weights.sum(axis=0)).ravel() + np.asarray(weights.sum(axis=1)).ravel()
    return _Moments(weights.shape[0], float(weights.sum()), float((both.data**2).sum() / 2), float((ends**2).sum()))


def _graph(adata: AnnData, graph_key: str | None, section_key: str | None, *, n_neighbors: int) -> Graph:
    """Get the weights between the spots of each section, rows scaled to sum 1, checked."""
    sections = graph_sections(adata) if section_key is None else sections_of(adata, section_key)
    if graph_key is None:
        weights = neighbor_weights(laid_apart(coordinates(adata), sections), n_neighbors)
    else:
        weights = _stored_weights(adata, graph_key)
    codes = section_codes(sections, adata.n_obs)
    weights = _row_scaled(weights if sections is None else _within(weights, codes))
    moments = []
    for code in range(int(codes.max()) + 1):
        spots = np.flatnonzero(codes == code)
        among = weights if sections is None else weights[spots][:, spots]
        if len(spots) < FEWEST or among.nnz == 0:
            where = "" if sections is None else f" in section {sections.categories[code]!r}"
            raise InputError(
                f"Expected at least {FEWEST} {rows_called(adata)} with neighbours{where}, found {len(spots)} with "
                f"{among.nnz} edges. Remove sections that are smaller."
            )
        moments.append(_moments(among))
    return Graph(weights, codes, moments)


def _within(weights: Csr, codes: Ints) -> Csr:
    """Keep the weights between spots of the same section."""
    edges = weights.tocoo()
    same = codes[edges.row] == codes[edges.col]
    return sparse.csr_matrix((edges.data[same], (edges.row[same], edges.col[same])), shape=weights.shape)


def neighbor_weights(xy: Float64, n_neighbors: int) -> Csr:
    """Connect each spot with its nearest neighbours and all as near as the last one; CSR of ones, shape (N, N)."""
    n = len(xy)
    # twice as many contain all equally near ones on any regular grid
    n_searched, n_wanted = min(2 * n_neighbors, n - 1), min(n_neighbors, n - 1)
    rows, columns = [], []
    for spots, neighbors in nearest_in_chunks(xy, n_searched):
        distance = np.linalg.norm(xy[neighbors] - xy[spots, None], axis=2)
        row, column = np.nonzero(distance <= TIE * np.sort(distance, axis=1)[:, [n_wanted - 1]])
        rows.append(spots[row])
        columns.append(neighbors[row, column])
    ends = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.ones(len(ends[0])), ends), shape=(n, n))


def _stored_weights(adata: AnnData, key: str) -> Csr:
    require_key(adata.obsp, key, where="obsp")
    weights = sparse.csr_matrix(adata.obsp[key], dtype=np.float64, copy=True)
    if weights.nnz and (weights.data.min() < 0 or not np.isfinite(weights.data).all()):
        raise InputError(f"Expected weights ≥ 0 in obsp[{key!r}], found NaN, infinite or negative ones.")
    weights.setdiag(0)
    weights.eliminate_zeros()
    return weights


def _row_scaled(weights: Csr) -> Csr:
    """Scale rows to sum 1; empty rows stay empty."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    factor = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
    return sparse.csr_matrix(sparse.diags(factor) @ weights)
