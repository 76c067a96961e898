"""The linear baseline: components smoothed over the graph and whitened, k-means, a mixture with one covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.kernel import gaussian_weights, nearest_neighbour_distance, propagate
from stmmr._core.sections import tissue_coordinates

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Ints

N_COMPONENTS: Final = 15


def linear_baseline(adata: AnnData, n_domains: int, *, seed: int) -> Ints:
    """Cluster data after `stmmr.pp.expression` without a network, at a bandwidth of one distance between spots.

    Returns
    -------
    Domain of each spot as a number from 0, shape (n_obs,).
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    xy = tissue_coordinates(adata)
    weights = gaussian_weights(xy, bandwidth=nearest_neighbour_distance(xy), tolerance=4e-5)
    smooth = propagate(weights, adata.obsm[keys.COMPONENTS]).astype(float)
    scores, _, _ = np.linalg.svd(smooth - smooth.mean(axis=0), full_matrices=False)
    white = scores[:, :N_COMPONENTS] * np.sqrt(len(scores))
    start = KMeans(n_domains, n_init=20, random_state=seed).fit(white)
    residuals = white - start.cluster_centers_[start.labels_]
    mixture = GaussianMixture(
        n_domains,
        covariance_type="tied",
        means_init=start.cluster_centers_,
        weights_init=np.bincount(start.labels_) / len(white),
        precisions_init=np.linalg.inv(residuals.T @ residuals / len(white) + 1e-6 * np.eye(white.shape[1])),
        max_iter=300,
    )
    return np.asarray(mixture.fit_predict(white))
