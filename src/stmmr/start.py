"""Where the training starts: the linear form of the model, found without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stmmr import _keys
from stmmr._validate import representation, require_key
from stmmr.pp._components import local_noise, principal_components, spatial_components
from stmmr.pp._weights import propagate

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse

LATENT_AT_LEAST = 2
"""Width of the embedding even where nothing stands out from the noise."""
RIDGE = np.logspace(-2, 4, 13)
"""Penalties among which the regression of the expression on the histology chooses."""
FOLDS, BLOCKS = 5, 25
"""Folds of the cross-validation, each of compact blocks of tissue."""


class Affine(NamedTuple):
    """A linear map with an offset."""

    weight: NDArray[np.float64]
    """Shape (F, d)."""
    bias: NDArray[np.float64]
    """Shape (d,)."""

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Map features, shape (N, F), to (N, d)."""
        return np.asarray(features @ self.weight + self.bias)


class LinearStart(NamedTuple):
    """First weights of the encoders, both of which read propagated features."""

    expression: Affine
    histology: Affine | None
    histology_weight: float

    def embed(self, expression: NDArray[Any], histology: NDArray[Any] | None) -> NDArray[np.float64]:
        """Embed propagated features, shape (N, F) and (N, P), without a network; shape (N, d)."""
        z = self.expression(expression)
        if histology is not None and self.histology is not None:
            z = z + self.histology_weight * self.histology(histology)
        return z


def expression_features(adata: AnnData, *, use_rep: str | None, n_components: int) -> NDArray[np.float32]:
    """Get the principal components that stand for the expression, shape (N, F)."""
    if use_rep is not None:
        return principal_components(representation(adata, use_rep), n_components)
    require_key(adata.obsm, _keys.COMPONENTS, where="obsm", hint="Run stmmr.pp.expression(adata) first.")
    return representation(adata, _keys.COMPONENTS)[:, :n_components]


def histology_features(adata: AnnData, *, n_components: int) -> NDArray[np.float32]:
    """Get the principal components of the standardised histology, shape (N, P)."""
    values = representation(adata, _keys.HISTOLOGY)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    return principal_components(values, n_components)


def linear_start(
    expression: NDArray[Any],
    histology: NDArray[Any] | None,
    weights: sparse.csr_matrix[Any],
    xy: NDArray[np.float64],
    *,
    latent: int,
) -> LinearStart:
    """Embed what of the expression stands out from the noise, and regress it on what of the histology does.

    Parameters
    ----------
    expression, histology
        Features before propagation, shape (N, F) and (N, P).
    weights
        A, shape (N, N).
    xy
        Coordinates, shape (N, 2).
    latent
        Width of the embedding; 0: as many directions as stand out.

    Returns
    -------
    The encoders' weights, and as weight of the histology the share of the expression's embedding that it predicts in
    blocks of tissue left out (R², at least 0).
    """
    found = spatial_components(expression, weights, local_noise(expression, xy), at_least=latent or LATENT_AT_LEAST)
    axes = found.axes[:, :latent] if latent else found.axes
    encode = Affine(axes, -found.centre @ axes)
    if histology is None:
        return LinearStart(encode, None, 0.0)
    seen = spatial_components(histology, weights, local_noise(histology, xy), at_least=1)
    read = Affine(seen.axes, -seen.centre @ seen.axes)
    predict, share = regression(read(propagate(weights, histology)), encode(propagate(weights, expression)), xy)
    return LinearStart(encode, Affine(read.weight @ predict.weight, read.bias @ predict.weight + predict.bias), share)


def regression(
    features: NDArray[np.float64], target: NDArray[np.float64], xy: NDArray[np.float64]
) -> tuple[Affine, float]:
    """Regress by ridge, and measure R² in blocks of tissue left out (neighbours would tell each other)."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    model = RidgeCV(RIDGE)
    blocks = KMeans(min(BLOCKS, len(np.unique(xy, axis=0))), n_init=1, random_state=0).fit_predict(xy)
    fitted = model.fit(features, target)
    affine = Affine(np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_))
    if len(np.unique(blocks)) < FOLDS:
        return affine, 0.0
    predicted = cross_val_predict(model, features, target, groups=blocks, cv=GroupKFold(FOLDS))
    rest = ((target - predicted.reshape(target.shape)) ** 2).sum() / ((target - target.mean(axis=0)) ** 2).sum()
    return affine, float(max(0.0, 1 - rest))
