"""A view of the embedding in two dimensions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, representation, require_key
from stmmr._core.pca import principal_scores
from stmmr.tl._graphs import fuzzy_graph

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

LAID_OUT_AT_MOST: Final = 20_000
"""Places that are laid out: ten seconds. The time for exact neighbours grows almost with the square, and a figure of a
few inches has no room for more dots."""
_N_COMPONENTS: Final = 20
"""Wider embeddings are first brought to as many principal components, as published (PCA-20 of Z)."""
_N_NEIGHBORS: Final = 15
"""Counted as UMAP does, with the place itself."""
_FEWEST: Final = 5
"""UMAP's spectral start needs more places than dimensions, with some to spare."""
_MIN_DIST: Final = 0.5
_SPREAD: Final = 1.0
_EPOCHS: Final = 200
"""UMAP's own number for more than 10,000 places. The 500 it takes below keep no more neighbours together and three
times as long."""


def umap(adata: AnnData, *, random_state: int = 0, key_added: str = keys.UMAP) -> None:
    """Lay out the embedding in two dimensions by UMAP.

    Of 15 exact neighbours (fewer where there are not as many places), at the ``min_dist`` of 0.5 and the ``spread`` of
    1 that :func:`scanpy.tl.umap` has. Of more than 20,000 places a sample of 20,000 is laid out, drawn by the seed;
    the others are NaN. Nothing else of `adata` is touched; the user's own neighbour graph stays. Train and embed with
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
    Nothing; writes ``obsm[key_added]``, shape (n_obs, 2), float32; NaN where a place is not of the sample.

    Raises
    ------
    InputError
        If there is no embedding, it has an entry that is not finite, or there are fewer than 5 places.

    References
    ----------
    McInnes, Healy and Melville (2018), UMAP, arXiv:1802.03426; by umap-learn.
    """
    require_key(adata.obsm, keys.EMBEDDING, where="obsm", hint="Train first: stmmr.StMMR(adata).fit().")
    if adata.n_obs < _FEWEST:
        raise InputError(f"Expected at least {_FEWEST} places for a UMAP, found {adata.n_obs}.")
    places = _drawn(adata.n_obs, random_state)
    # a view takes no more than these rows of an embedding on disk
    points = representation(adata if len(places) == adata.n_obs else adata[places], keys.EMBEDDING)
    laid_out = np.full((adata.n_obs, 2), np.nan, dtype=np.float32)
    laid_out[places] = _layout(_narrowed(points, random_state), random_state)
    adata.obsm[key_added] = laid_out


def _drawn(n_places: int, random_state: int) -> NDArray[np.intp]:
    """Draw the places to lay out, ascending; all where they are no more."""
    if n_places <= LAID_OUT_AT_MOST:
        return np.arange(n_places)
    logger.info("A sample of %d of %d places is laid out by UMAP; the others are NaN.", LAID_OUT_AT_MOST, n_places)
    return np.sort(np.random.default_rng(random_state).choice(n_places, LAID_OUT_AT_MOST, replace=False))


def _narrowed(points: NDArray[np.float32], random_state: int) -> NDArray[np.float64]:
    """Bring wide points to their principal components."""
    narrow = points.astype(np.float64)
    if min(points.shape) > _N_COMPONENTS:
        narrow, _ = principal_scores(narrow, _N_COMPONENTS, random_state=random_state)
    return np.asarray(narrow)


def _layout(points: NDArray[np.float64], random_state: int) -> NDArray[np.float32]:
    """Lay out points, shape (N, d), in two dimensions by UMAP."""
    with warnings.catch_warnings():
        # nobody asked for Tensorflow; and groups far from each other are laid out one by one
        warnings.simplefilter("ignore", ImportWarning)
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        from umap import umap_

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
