"""Genes that vary over the tissue, by Moran's I."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, require_choice, require_key, require_positive, unique_names
from stmmr._core.genes import gene_columns
from stmmr._core.kernel import nearest_in_chunks
from stmmr._core.record import record
from stmmr._core.rows import slices
from stmmr._core.sections import graph_sections, laid_apart, sections_of
from stmmr._core.space import coordinates
from stmmr._core.stats import fdr_bh

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Null = Literal["randomization", "normality"]
FEWEST: Final = 4
"""Places of a section for the variance by randomisation."""
_DENSE_AT_ONCE: Final = 2**23
"""Values of some genes at all places that are written out at once: 67 MB, and as much for their neighbours."""
TIE: Final = 1.01
"""Ratio of distances that count as the same."""


class _Moments(NamedTuple):
    """Sums over the weights of a section, W_ij ≠ 0 for i ≠ j only."""

    n: int
    s0: float
    """ΣW_ij."""
    s1: float
    """Σ(W_ij + W_ji)²/2."""
    s2: float
    """Σ_i(Σ_j W_ij + Σ_j W_ji)²."""

    def variance(self, kurtosis: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Compute the variance of I if nothing depends on place; with the kurtosis b₂, over all ways to permute."""
        n, s0, s1, s2 = self.n, self.s0, self.s1, self.s2
        expected = -1 / (n - 1)
        if kurtosis is None:
            return np.asarray((n**2 * s1 - n * s2 + 3 * s0**2) / ((n**2 - 1) * s0**2) - expected**2)
        first = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
        second = (n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2
        return np.asarray((first - kurtosis * second) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - expected**2)


class Moran(NamedTuple):
    """Of G genes."""

    i: NDArray[np.float64]
    """Moran's I, shape (G,); NaN where all values are the same."""
    z: NDArray[np.float64]
    """How many standard deviations it lies above what chance gives, shape (G,)."""


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
    r"""Measure how alike each gene is at neighbouring places, by Moran's I of its log-normalised values.

    .. math:: I = \frac{N}{\sum_{ij} W_{ij}} \frac{\sum_{ij} W_{ij} z_i z_j}{\sum_i z_i^2}

    with z the values less their mean and W the graph with rows scaled to sum 1. Near 0 where the gene varies without
    regard to place, towards 1 where it varies smoothly. Of several sections the sums run within each, from its own
    mean, so that a shift between sections is no pattern. Counts may lie in a file; ``X`` is left as it is.

    Parameters
    ----------
    adata
        Annotated data with raw counts and coordinates.
    n_neighbors
        Nearest places of a place, and all as near as the last of them (within 1 %; a square grid has eight for six).
    graph_key
        Key of ``obsp`` with weights to take instead; rows are scaled to sum 1, the diagonal and edges between sections
        do not count.
    section_key
        Column of ``obs`` that names the section of each place. None: that of the spatial graph.
    layer
        Layer with the raw counts, as in :func:`stmmr.tl.domain_genes`.
    null
        Variance of I where nothing depends on place: over all ways to permute the values ("randomization"), which
        counts it in that most values are 0, or as if they were normal ("normality", as squidpy does).
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    Nothing; writes

    ``var["stmmr_moran_i"]``, ``var["stmmr_moran_z"]``
        I, and how many standard deviations it lies above its mean by chance, −1/(N − 1); NaN for a gene that has the
        same value everywhere.
    ``var["stmmr_moran_pval"]``, ``var["stmmr_moran_pval_adj"]``
        One-sided, for neighbours that are alike; the second adjusted by Benjamini and Hochberg.
    ``uns["stmmr"]["spatially_variable_genes"]``
        The parameters.

    Raises
    ------
    InputError
        If there are no raw counts, coordinates or sections, fewer than four places, or a weight is negative.

    References
    ----------
    Moran (1950), doi:10.1093/biomet/37.1-2.17; Cliff and Ord (1981), Spatial Processes, for both variances.
    """
    from scipy import stats

    require_choice(null, get_args(Null), name="null")
    require_positive(n_neighbors, name="n_neighbors")
    unique_names(adata)
    graph = _graph(adata, graph_key, section_key, n_neighbors=n_neighbors)
    columns = gene_columns(adata, layer, progress=progress)
    parts = [
        morans_i(values, graph, null=null) for _, values in columns.lognormalised(progress=progress, task="Moran's I")
    ]
    i, z = (np.concatenate(some) for some in zip(*parts, strict=True))
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


Sections = list[tuple["NDArray[np.intp]", "sparse.csr_matrix[Any]"]]
"""Places of each section and the weights among them."""


def morans_i(values: sparse.csc_matrix[Any], graph: Sections, *, null: Null) -> Moran:
    """Compute Moran's I of genes, shape (N, G), over the weights of each section, rows scaled to sum 1.

    Some genes are written out at a time, so that memory is bounded.
    """
    step = max(_DENSE_AT_ONCE // values.shape[0], 1)
    moments = [_moments(weights) for _, weights in graph]
    parts = []
    for genes in slices(values.shape[1], step):
        dense = values[:, genes].toarray().astype(np.float64)
        sums = [
            _section_sums(dense[places], weights, of, null=null)
            for (places, weights), of in zip(graph, moments, strict=True)
        ]
        parts.append(_combined(np.sum(sums, axis=0), sum(of.s0 for of in moments) / sum(of.n for of in moments)))
    return Moran(*(np.concatenate(some) for some in zip(*parts, strict=True)))


def _section_sums(
    values: NDArray[np.float64], weights: sparse.csr_matrix[Any], of: _Moments, *, null: Null
) -> NDArray[np.float64]:
    """Sum over a section Σ W z z, its mean and variance by chance, and Σ z²; shape (4, G)."""
    z = values - values.mean(axis=0)
    z[:, (values == values[:1]).all(axis=0)] = 0  # round-off would be taken for a pattern
    product = np.einsum("ij,ij->j", z, weights @ z)
    squared = np.square(z, out=z)
    squares = squared.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fourth = np.einsum("ij,ij->j", squared, squared)
        kurtosis = np.nan_to_num(of.n * fourth / squares**2) if null == "randomization" else None
    unit = squares * of.s0 / of.n  # Σ W z z is I times this
    return np.stack([product, -unit / (of.n - 1), unit**2 * of.variance(kurtosis), squares])


def _combined(sums: NDArray[np.float64], weight: float) -> Moran:
    """Turn the sums over all sections into I and z; `weight` is ΣW/N."""
    product, expected, variance, squares = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return Moran(product / (weight * squares), (product - expected) / np.sqrt(variance))


def _moments(weights: sparse.csr_matrix[Any]) -> _Moments:
    both = weights + weights.T
    ends = np.asarray(weights.sum(axis=0)).ravel() + np.asarray(weights.sum(axis=1)).ravel()
    return _Moments(weights.shape[0], float(weights.sum()), float((both.data**2).sum() / 2), float((ends**2).sum()))


def _graph(adata: AnnData, graph_key: str | None, section_key: str | None, *, n_neighbors: int) -> Sections:
    """Get the weights among the places of each section, rows scaled to sum 1; checked."""
    sections = graph_sections(adata) if section_key is None else sections_of(adata, section_key)
    if graph_key is None:
        weights = neighbor_weights(laid_apart(coordinates(adata), sections), n_neighbors)
    else:
        weights = _given_weights(adata, graph_key)
    codes = np.zeros(adata.n_obs, dtype=np.intp) if sections is None else sections.codes
    parts = []
    for code in range(int(codes.max()) + 1):
        places = np.flatnonzero(codes == code)
        among = _row_scaled(weights if sections is None else weights[places][:, places])
        if len(places) < FEWEST or among.nnz == 0:
            where = "" if sections is None else f" in each section, as in {sections.categories[code]!r}"
            raise InputError(
                f"Expected at least {FEWEST} places with neighbours{where}, found {len(places)} with {among.nnz} "
                "edges. Drop sections that are smaller."
            )
        parts.append((places, among))
    return parts


def neighbor_weights(xy: NDArray[np.float64], n_neighbors: int) -> sparse.csr_matrix[Any]:
    """Connect each place with its nearest and all as near as the last of them; CSR of ones, shape (N, N)."""
    n_places = len(xy)
    # twice as many hold all that are as near on any regular grid
    asked, wanted = min(2 * n_neighbors, n_places - 1), min(n_neighbors, n_places - 1)
    rows, columns = [], []
    for places, near in nearest_in_chunks(xy, asked):
        distance = np.linalg.norm(xy[near] - xy[places, None], axis=2)
        row, which = np.nonzero(distance <= TIE * np.sort(distance, axis=1)[:, [wanted - 1]])
        rows.append(places[row])
        columns.append(near[row, which])
    ends = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.ones(len(ends[0])), ends), shape=(n_places, n_places))


def _given_weights(adata: AnnData, key: str) -> sparse.csr_matrix[Any]:
    require_key(adata.obsp, key, where="obsp")
    weights = sparse.csr_matrix(adata.obsp[key], dtype=np.float64, copy=True)
    if weights.nnz and (weights.data.min() < 0 or not np.isfinite(weights.data).all()):
        raise InputError(f"Expected weights ≥ 0 in obsp[{key!r}], found NaN, infinite or negative ones.")
    weights.setdiag(0)
    weights.eliminate_zeros()
    return weights


def _row_scaled(weights: sparse.csr_matrix[Any]) -> sparse.csr_matrix[Any]:
    """Scale rows to sum 1; those without entries stay as they are."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    factor = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
    return sparse.csr_matrix(sparse.diags(factor) @ weights)
