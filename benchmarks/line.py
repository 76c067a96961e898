"""The linear line, the baseline of every table: A·A·PCs, whitened, k-means, tied Gaussian mixture."""

import numpy as np
from anndata import AnnData
from sklearn.decomposition import PCA

from stmmr import _keys
from stmmr.tl._domains import gaussian_mixture


def linear_line(adata: AnnData, n_domains: int, *, seed: int) -> np.ndarray:
    """Cluster prepared data (expression, graph) without a network."""
    genes = adata.var[_keys.HIGHLY_VARIABLE].to_numpy()
    values = adata.layers[_keys.LOGNORM][:, genes].toarray()
    scores = PCA(min(50, min(values.shape) - 1), random_state=seed).fit_transform(values)
    weights = adata.obsp[_keys.GRAPH]
    return gaussian_mixture(np.asarray(weights @ (weights @ scores)), n_domains, random_state=seed)
