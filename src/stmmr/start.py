"""Where the training starts: the linear form of the model, found without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stmmr import _keys
from stmmr._scratch import empty
from stmmr._validate import representation
from stmmr.pp._components import local_noise, principal_components, propagated_with_level, spatial_components
from stmmr.pp._rows import CHUNK, slices
from stmmr.pp._sections import centred, graph_sections

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.pp._weights import Kernel

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


class Modality(NamedTuple):
    """What the linear start reads of one modality."""

    propagated: NDArray[np.float32]
    """A²F, shape (N, F)."""
    noise: NDArray[np.float64]
    """Covariance of its noise before propagation, shape (F, F)."""
    level: float
    """Largest variance that propagated white noise of the same width has."""

    @classmethod
    def of(cls, features: NDArray[Any], kernel: Kernel, xy: NDArray[np.float64], *, progress: bool = False) -> Modality:
        """Propagate features, shape (N, F), and measure their noise among places at `xy`."""
        smooth, level = propagated_with_level(features, kernel, progress=progress)
        return cls(smooth, local_noise(features, xy), level)

    def components(self, *, at_least: int, at_most: int | None = None) -> Affine:
        """Map propagated features on what of them stands out from the noise."""
        found = spatial_components(self.propagated, self.noise, self.level, at_least=at_least)
        axes = found.axes[:, :at_most]
        return Affine(axes, -found.centre @ axes)


class LinearStart(NamedTuple):
    """First weights of the encoders, both of which read propagated features."""

    expression: Affine
    histology: Affine | None
    histology_weight: float

    def embed(self, expression: NDArray[Any], histology: NDArray[Any] | None) -> NDArray[np.float32]:
        """Embed propagated features, shape (N, F) and (N, P), without a network; shape (N, d)."""
        embedding = empty((len(expression), len(self.expression.bias)))
        for rows in slices(len(expression), CHUNK):
            z = self.expression(expression[rows])
            if histology is not None and self.histology is not None:
                z = z + self.histology_weight * self.histology(histology[rows])
            embedding[rows] = z
        return embedding


def histology_features(adata: AnnData, *, n_components: int) -> NDArray[np.float32]:
    """Get the principal components of the standardised histology, shape (N, P), the mean of each section taken off."""
    values = centred(representation(adata, _keys.HISTOLOGY), graph_sections(adata))
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    return principal_components(values, n_components)


def linear_start(
    expression: Modality,
    histology: Modality | None,
    xy: NDArray[np.float64],
    *,
    latent: int,
    histology_weight: float | None,
) -> LinearStart:
    """Embed what of the expression stands out from the noise, and regress it on what of the histology does.

    Parameters
    ----------
    expression, histology
        The modalities.
    xy
        Coordinates, shape (N, 2).
    latent
        Width of the embedding; 0: as many directions as stand out.
    histology_weight
        Weight of the histology; None: the share of the expression's embedding that it predicts in blocks of tissue left
        out (R², at least 0).
    """
    encode = expression.components(at_least=latent or LATENT_AT_LEAST, at_most=latent or None)
    if histology is None:
        return LinearStart(encode, None, histology_weight or 0.0)
    read = histology.components(at_least=1)
    seen, target = read(histology.propagated), encode(expression.propagated)
    predict = regression(seen, target)
    if histology_weight is None:
        histology_weight = predicted_share(seen, target, xy)
    both = Affine(read.weight @ predict.weight, read.bias @ predict.weight + predict.bias)
    return LinearStart(encode, both, histology_weight)


def regression(features: NDArray[np.float64], target: NDArray[np.float64]) -> Affine:
    """Regress by ridge."""
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(RIDGE).fit(features, target)
    return Affine(np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_))


def predicted_share(features: NDArray[np.float64], target: NDArray[np.float64], xy: NDArray[np.float64]) -> float:
    """Measure R² of the regression in blocks of tissue left out (neighbours would tell each other), at least 0."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    blocks = KMeans(min(BLOCKS, len(np.unique(xy, axis=0))), n_init=1, random_state=0).fit_predict(xy)
    if len(np.unique(blocks)) < FOLDS:
        return 0.0
    predicted = cross_val_predict(RidgeCV(RIDGE), features, target, groups=blocks, cv=GroupKFold(FOLDS))
    rest = ((target - predicted.reshape(target.shape)) ** 2).sum() / ((target - target.mean(axis=0)) ** 2).sum()
    return float(max(0.0, 1 - rest))
