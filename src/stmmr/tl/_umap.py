"""UMAP of the embedding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

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

    from stmmr._core.types import Float32, Float64, Ints

LAID_OUT_AT_MOST: Final = 20_000
"""Spots that are laid out, which takes ten seconds. The time for exact neighbours grows almost with the square, and a
figure of a few inches has no room for more dots."""
_N_COMPONENTS: Final = 20
"""Wider embeddings are first reduced to so many principal components, as published (PCA-20 of Z)."""
_N_NEIGHBORS: Final = 15
"""Number of neighbours, including the spot itself, as UMAP counts."""
_FEWEST: Final = 5
"""The spectral start of UMAP needs more spots than dimensions."""
_MIN_DIST: Final = 0.5
_SPREAD: Final = 1.0
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
    McInnes, Healy and Melville (2018), UMAP, arXiv:1802.03426; by umap-learn.
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
    with warnings.catch_warnings():
        # Tensorflow is not needed, and groups far from each other are laid out one by one
        warnings.simplefilter("ignore", ImportWarning)
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        provide_caches()
        from umap import layouts, umap_

        epoch: Any = getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None)
        if hasattr(epoch, "enable_caching"):  # compiled by the first run, for all others; otherwise by each
            epoch.enable_caching()
        a, b = umap_.find_ab_params(_SPREAD, _MIN_DIST)
        layout, _ = umap_.simplicial_set_embedding(
            points,
            fuzzy_graph(points, min(_N_NEIGHBORS, len(points))),
            n_components=2,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=_EPOCHS,
            init="spectral",
            random_state=np.random.RandomState(random_state),
            metric="euclidean",
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
        )
    return np.asarray(layout, dtype=np.float32)
