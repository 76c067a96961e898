"""UMAP of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.caches import provide_caches
from stmmr._core.checks import InputError, logger, representation, require_key
from stmmr._core.depends import depends
from stmmr._core.options import checked
from stmmr._core.order import tissue_order
from stmmr._core.parallel import one_thread
from stmmr._core.pca import principal_scores
from stmmr._core.space import rows_called
from stmmr.tl._graphs import fuzzy_graph

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Csr, Float32, Float64, Ints

LAID_OUT_AT_MOST: Final = 20_000
"""Spots that are laid out, which takes ten seconds. The time for exact neighbours grows almost with the square, and a
figure of a few inches has no room for more dots."""
_N_COMPONENTS: Final = 20
"""Wider embeddings are first reduced to so many principal components, as published (PCA-20 of Z)."""
_N_NEIGHBORS: Final = 15
"""Number of neighbours, including the spot itself, as UMAP counts."""
_FEWEST: Final = 5
"""The spectral start of UMAP needs more spots than dimensions."""
_CURVE: Final = (0.58303, 1.33417)
"""a and b of the weight 1 / (1 + a d²ᵇ) at a distance d, for ``min_dist`` 0.5 and ``spread`` 1."""
_START, _JITTER = 10.0, 1e-3
"""Largest coordinate of the start, and standard deviation of its noise, which moves equal spots apart."""
_EPOCHS: Final = 200
"""Default of UMAP for more than 10,000 spots. Its 500 for fewer preserve no more neighbours and take three times as
long."""


@checked
@one_thread
def umap(adata: AnnData, *, random_state: int = 0, key_added: str = keys.UMAP) -> None:
    """Compute a UMAP of the embedding.

    It uses 15 exact nearest neighbours (fewer if there are fewer spots), and ``min_dist`` 0.5 and ``spread`` 1 as
    :func:`scanpy.tl.umap`. Of more than 20,000 spots, a random sample of 20,000 is laid out; the others are NaN.
    Nothing else in `adata` changes, not even a neighbour graph that is there. Train and embed with
    :class:`stmmr.StMMR` first.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["X_stmmr"]``.
    random_state
        Seed; the same seed gives the same sample and the same layout on one machine.
    key_added
        Key of ``obsm`` to write.

    Returns
    -------
    None. Sets ``obsm[key_added]``, shape (n_obs, 2), float32; NaN for spots that are not in the sample.

    Raises
    ------
    InputError
        If there is no embedding, it has an entry that is not finite, or there are fewer than 5 spots.

    References
    ----------
    McInnes, Healy and Melville (2018), UMAP, arXiv:1802.03426. Kobak and Linderman (2021), on starting from principal
    components, doi:10.1038/s41587-020-00809-z.
    """
    require_key(adata.obsm, keys.EMBEDDING, where="obsm", hint="Train first: stmmr.StMMR(adata).fit().")
    if adata.n_obs < _FEWEST:
        raise InputError(f"Expected at least {_FEWEST} {rows_called(adata)} for a UMAP, found {adata.n_obs}.")
    sample = _sample(adata, random_state)
    # a view reads only these rows of an embedding on disk
    rows, position = np.unique(sample, return_inverse=True)
    points = representation(adata if len(rows) == adata.n_obs else adata[rows], keys.EMBEDDING)[position]
    points = points.astype(np.float64)
    if min(points.shape) > _N_COMPONENTS:
        points, _ = principal_scores(points, _N_COMPONENTS, random_state=random_state)
    layout = np.full((adata.n_obs, 2), np.nan, dtype=np.float32)
    layout[sample] = _layout(np.asarray(points), random_state)
    adata.obsm[key_added] = layout
    depends(adata, f"umap:{key_added}", on=[f"obsm:{keys.EMBEDDING}"], writes=[f"obsm:{key_added}"])


def _sample(adata: AnnData, random_state: int) -> Ints:
    """Draw the spots to lay out, in the order of the tissue."""
    n, spots, order = adata.n_obs, rows_called(adata), tissue_order(adata)
    if n <= LAID_OUT_AT_MOST:
        return order
    logger.info("UMAP lays out a random sample of %s of %s %s.", f"{LAID_OUT_AT_MOST:,}", f"{n:,}", spots)
    drawn = np.random.default_rng(random_state).choice(n, LAID_OUT_AT_MOST, replace=False)
    return np.asarray(order[np.sort(drawn)])


def _layout(points: Float64, random_state: int) -> Float32:
    """Lay out points, shape (N, d), in two dimensions by UMAP."""
    provide_caches()
    from stmmr.tl._umap_epochs import run_epochs

    graph = fuzzy_graph(points, min(_N_NEIGHBORS, len(points)))
    graph.data[graph.data * _EPOCHS < graph.data.max(initial=0)] = 0  # would not be drawn once
    graph.eliminate_zeros()
    draws = np.random.RandomState(random_state)
    layout = draws.normal(scale=_JITTER, size=(len(points), 2))
    start = _start(points, graph, random_state)
    layout[:, : start.shape[1]] += _START * start / max(float(np.abs(start).max()), 1e-12)
    edges, seed = graph.tocoo(), draws.randint(1, 2**31 - 1)
    interval = graph.data.max(initial=0) / edges.data.astype(np.float64)
    run_epochs(layout, np.asarray(edges.row), np.asarray(edges.col), interval, *_CURVE, _EPOCHS, seed)
    return layout.astype(np.float32)


def _start(points: Float64, graph: Csr, random_state: int) -> Float64:
    """Compute the spectral start of UMAP, or, if the graph is in parts, the principal components of the points."""
    from scipy import sparse
    from scipy.sparse import csgraph, linalg

    n = len(points)
    if n > _FEWEST and csgraph.connected_components(graph, directed=False)[0] == 1:
        scale = sparse.diags(1 / np.sqrt(np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()))
        scaled = scale @ graph.astype(np.float64) @ scale
        width = min(n, max(7, int(np.sqrt(n))))
        try:
            _, vectors = linalg.eigsh(scaled, 3, ncv=width, tol=1e-4, v0=np.ones(n), maxiter=5 * n)
        except linalg.ArpackNoConvergence:
            pass
        else:
            return np.asarray(vectors[:, 1::-1])
    return np.asarray(principal_scores(points, min(2, *points.shape), random_state=random_state)[0])
