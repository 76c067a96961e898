"""A view of the embedding in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr import _keys
from stmmr._validate import InputError, representation, require_key
from stmmr.tl._neighbors import neighbor_graph

if TYPE_CHECKING:
    from anndata import AnnData

_N_COMPONENTS: Final = 20
"""Wider embeddings are first brought to as many principal components, as published (PCA-20 of Z)."""
_N_NEIGHBORS: Final = 15
_FEWEST: Final = 5
"""UMAP's spectral start needs more places than dimensions, with some to spare."""


def umap(adata: AnnData, *, random_state: int = 0, key_added: str = _keys.UMAP) -> None:
    """Lay out the embedding in two dimensions by UMAP.

    Of 15 exact neighbours (fewer where there are not as many places). Nothing else of `adata` is touched; the
    user's own neighbour graph stays. Train and embed with :class:`stmmr.StMMR` first.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["X_stmmr"]``.
    random_state
        Seed; the same seed gives the same layout on one machine.
    key_added
        Key of ``obsm`` to write.

    Returns
    -------
    Nothing; writes ``obsm[key_added]``, shape (n_obs, 2), float32.

    Raises
    ------
    InputError
        If there is no embedding, it has an entry that is not finite, or there are fewer than 5 places.

    References
    ----------
    McInnes, Healy and Melville (2018), UMAP, arXiv:1802.03426; by :func:`scanpy.tl.umap`.
    """
    require_key(adata.obsm, _keys.EMBEDDING, where="obsm", hint="Train first: stmmr.StMMR(adata).fit().")
    embedding = representation(adata, _keys.EMBEDDING)
    if len(embedding) < _FEWEST:
        raise InputError(f"Expected at least {_FEWEST} places for a UMAP, found {len(embedding)}.")
    import scanpy as sc
    from anndata import AnnData

    if min(embedding.shape) > _N_COMPONENTS:
        wide = AnnData(embedding)
        sc.pp.pca(wide, n_comps=_N_COMPONENTS, random_state=random_state)
        embedding = wide.obsm["X_pca"]
    light = neighbor_graph(embedding, _N_NEIGHBORS, random_state=random_state)
    sc.tl.umap(light, random_state=random_state)
    adata.obsm[key_added] = light.obsm["X_umap"].astype(np.float32)
