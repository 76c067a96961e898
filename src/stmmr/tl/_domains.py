"""From the embedding to spatial domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr import _keys
from stmmr._record import record, recorded
from stmmr._validate import InputError, require_key
from stmmr.tl._readouts import gaussian_mixture, whitened

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def domains(
    adata: AnnData,
    n_domains: int,
    *,
    use_rep: str = _keys.EMBEDDING,
    whiten: bool | None = None,
    n_components: int = 15,
    random_state: int = 0,
    key_added: str = _keys.DOMAIN,
) -> None:
    """Cut the tissue into spatial domains by a Gaussian mixture with one shared covariance.

    The likeliest of 20 mixtures, each started from k-means.

    Parameters
    ----------
    adata
        With an embedding.
    n_domains
        How many domains.
    use_rep
        Key of ``obsm``.
    whiten
        Whether to read the leading components of the embedding, each scaled to unit variance, instead of the embedding
        itself. ``None``: unless its scales carry meaning, as those of the default preset do.
    n_components
        How many components, where they are scaled.
    random_state
        Seed of the k-means starts.
    key_added
        Where the domains go.

    Returns
    -------
    None. Sets:

    ``obs[key_added]``
        categorical "1" … "K", from the largest domain to the smallest.
    ``uns["stmmr"]["domains"]``
        the parameters.

    Raises
    ------
    InputError
        If there is no such embedding, or fewer places than domains.
    """
    require_key(adata.obsm, use_rep, where="obsm", hint="Fit a model first: stmmr.StMMR(adata).fit().")
    embedding = np.asarray(adata.obsm[use_rep], dtype=np.float64)
    if not np.isfinite(embedding).all():
        raise InputError(f"Expected finite values in obsm[{use_rep!r}], found NaN or infinite ones.")
    if whiten is None:
        whiten = not (use_rep == _keys.EMBEDDING and recorded(adata).get("model", {}).get("scaled", False))
    points = whitened(embedding, n_components, random_state=random_state) if whiten else embedding
    labels = gaussian_mixture(points, n_domains, random_state=random_state)
    adata.obs[key_added] = by_size(labels)
    parameters = {
        "n_domains": n_domains,
        "use_rep": use_rep,
        "whiten": whiten,
        "n_components": n_components if whiten else embedding.shape[1],
        "random_state": random_state,
        "key_added": key_added,
    }
    record(adata, domains=parameters)


def by_size(labels: NDArray[np.intp]) -> pd.Categorical[str]:
    """Name groups "1" … "K", from the largest to the smallest."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    names = [str(i + 1) for i in range(len(sizes))]
    return pd.Categorical.from_codes(rank[codes], categories=pd.Index(names))
