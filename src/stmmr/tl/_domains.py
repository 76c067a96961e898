"""From the embedding to spatial domains."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stmmr import _keys
from stmmr._record import record
from stmmr._validate import InputError, logger, require_key, require_positive

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def domains(
    adata: AnnData,
    n_domains: int,
    *,
    use_rep: str = _keys.EMBEDDING,
    n_components: int = 15,
    random_state: int = 0,
    key_added: str = _keys.DOMAIN,
) -> None:
    """Cut the tissue into spatial domains by a Gaussian mixture with one shared covariance.

    The embedding's leading components are scaled to unit variance; k-means there (20 starts) starts the mixture.

    Parameters
    ----------
    adata
        With an embedding.
    n_domains
        How many domains.
    use_rep
        Key of ``obsm``.
    n_components
        Principal components of the embedding that are read.
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
    labels = gaussian_mixture(embedding, n_domains, n_components=n_components, random_state=random_state)
    order = np.argsort(-np.bincount(labels, minlength=n_domains), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(n_domains)
    names = [str(i + 1) for i in range(n_domains)]
    adata.obs[key_added] = pd.Categorical.from_codes(rank[labels], categories=pd.Index(names))
    parameters = {
        "n_domains": n_domains,
        "use_rep": use_rep,
        "n_components": n_components,
        "random_state": random_state,
        "key_added": key_added,
    }
    record(adata, domains=parameters)


def whitened(embedding: NDArray[np.float64], n_components: int, *, random_state: int) -> NDArray[np.float64]:
    """Take the leading components that vary, each at unit variance; shape (n_obs, ≤ n_components)."""
    from sklearn.decomposition import PCA

    n = min(n_components, *embedding.shape)
    scores = PCA(n, random_state=random_state).fit_transform(embedding)
    spread = scores.std(axis=0)
    varying = spread > 1e-6 * max(float(spread[0]), np.finfo(np.float64).tiny)
    return np.asarray(scores[:, varying] / spread[varying])


def gaussian_mixture(
    embedding: NDArray[np.float64], n_domains: int, *, n_components: int = 15, random_state: int = 0
) -> NDArray[np.intp]:
    """Cluster by a tied-covariance Gaussian mixture on the whitened embedding, started from k-means.

    Returns
    -------
    Labels 0 … K − 1, shape (n_obs,).

    Raises
    ------
    InputError
        If there are fewer different places than domains.
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    require_positive(n_domains, name="n_domains")
    distinct = len(np.unique(embedding, axis=0))
    if n_domains > distinct:
        raise InputError(f"Expected at most as many domains as different places ({distinct}), found {n_domains}.")
    if n_domains == 1:
        return np.zeros(len(embedding), dtype=np.intp)
    white = whitened(embedding, n_components, random_state=random_state)
    start: Any = KMeans(n_domains, n_init=20, random_state=random_state).fit(white)
    inside = white - start.cluster_centers_[start.labels_]
    covariance = inside.T @ inside / len(white) + 1e-6 * np.eye(white.shape[1])
    mixture: Any = GaussianMixture(
        n_domains,
        covariance_type="tied",
        means_init=start.cluster_centers_,
        weights_init=np.bincount(start.labels_, minlength=n_domains) / len(white),
        precisions_init=np.linalg.inv(covariance),
        max_iter=300,
        tol=1e-3,
        random_state=random_state,
    )
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(white)
    if not mixture.converged_:
        logger.warning("The Gaussian mixture did not settle in 300 rounds; its last state is used.")
    return np.asarray(mixture.predict(white), dtype=np.intp)
