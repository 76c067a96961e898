"""The linear embedding, computed without training: the default, and the first weights of a model that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stmmr._core.parallel import one_thread
from stmmr._core.rows import CHUNK, empty, slices
from stmmr.linear.noise import local_noise, propagated_with_level, spatial_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel
    from stmmr.settings import Block

LATENT_AT_LEAST = 2
"""Smallest width of the embedding, even if no component is informative."""
RIDGE = np.logspace(-2, 4, 13)
"""Penalties that the ridge regression of the embedding on an image chooses from."""
FOLDS, AREAS = 5, 25
"""Folds of the cross-validation, and the compact areas of tissue that they are made of."""


class Affine(NamedTuple):
    """A linear map with an offset."""

    weight: NDArray[np.floating]
    """Shape (F, d)."""
    bias: NDArray[np.floating]
    """Shape (d,)."""

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map features, shape (N, F), to (N, d)."""
        return np.asarray(features @ self.weight + self.bias)

    def single(self) -> Affine:
        """Convert to float32."""
        return Affine(self.weight.astype(np.float32), self.bias.astype(np.float32))


class Modality(NamedTuple):
    """The features of one block, or of several blocks side by side, and their noise."""

    propagated: NDArray[np.float32]
    """A²F, shape (N, F)."""
    noise: NDArray[np.float64]
    """Covariance of the noise before propagation, shape (F, F)."""
    level: float
    """Largest variance that propagated white noise of the same width has."""

    @classmethod
    def of(
        cls, features: NDArray[np.floating], kernel: Kernel, xy: NDArray[np.float64], *, progress: bool = False
    ) -> Modality:
        """Propagate features, shape (N, F), and measure their noise between neighbouring spots at `xy`."""
        smooth, level = propagated_with_level(features, kernel, progress=progress)
        return cls(smooth, local_noise(features, xy), level)

    def components(self, cuts: Sequence[int], *, at_least: int, at_most: int | None = None) -> list[Affine]:
        """Get the map of propagated features on their informative components; one map for each group of columns."""
        components = spatial_components(self.propagated, self.noise, self.level, at_least=at_least)
        groups = zip(np.split(components.axes[:, :at_most], cuts), np.split(components.centre, cuts), strict=True)
        return [Affine(axes, -centre @ axes) for axes, centre in groups]

    def prediction(
        self, target: NDArray[np.floating], xy: NDArray[np.float64], *, weight: float | None
    ) -> tuple[Affine, float]:
        """Get the map of propagated features that predicts an embedding, shape (N, d), and the block's weight."""
        (informative,) = self.components([], at_least=1)
        scores = informative(self.propagated)
        predict = regression(scores, target)
        share = predicted_share(scores, target, xy) if weight is None else weight
        return Affine(informative.weight @ predict.weight, informative.bias @ predict.weight + predict.bias), share


class LinearStart(NamedTuple):
    """A linear map of the propagated features of each block, whose weighted sum is the embedding."""

    encoders: list[Affine]
    """One for each block."""
    weights: list[float]
    """Weight of each block in the fusion."""

    @property
    def latent(self) -> int:
        """Width of the embedding."""
        return len(self.encoders[0].bias)

    @one_thread
    def embed(self, features: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
        """Embed the propagated features of all blocks, shape (N, F) each, in float32; shape (N, d)."""
        parts = [
            (np.float32(weight), encoder.single(), values)
            for weight, encoder, values in zip(self.weights, self.encoders, features, strict=True)
        ]
        embedding = empty((len(features[0]), self.latent))
        for rows in slices(len(embedding), CHUNK):
            embedding[rows] = sum(weight * encoder(values[rows]) for weight, encoder, values in parts)
        return embedding


def linear_start(
    features: Sequence[NDArray[np.float32]],
    blocks: Sequence[Block],
    kernel: Kernel,
    *,
    xy: NDArray[np.float64],
    latent: int = 0,
    progress: bool = False,
) -> tuple[LinearStart, list[NDArray[np.float32]]]:
    """Embed the informative components of the measured blocks, and predict this embedding from the images.

    Blocks with a likelihood are the measured ones. Their features are read side by side: a component counts if it is
    informative in one block or in several together. Noise is removed with its correlations, so mixed cells that several
    blocks show do not become signal.

    Parameters
    ----------
    features
        Of each block, shape (N, F).
    blocks
        Likelihoods and weights of the blocks. A weight of None is 1 with a likelihood; for an image it is the share of
        the embedding of the measured blocks that the image predicts in held-out areas (R², at least 0).
    kernel
        The graph.
    xy
        Coordinates, shape (N, 2).
    latent
        Width of the embedding; 0: the number of informative components.
    progress
        Whether to show progress bars.

    Returns
    -------
    The linear start, and the propagated features of each block, shape (N, F).
    """
    measured = [position for position, block in enumerate(blocks) if block.likelihood]
    side_by_side = [features[i] for i in measured]
    cuts = [int(cut) for cut in np.cumsum([values.shape[1] for values in side_by_side])[:-1]]
    joint = Modality.of(np.hstack(side_by_side) if cuts else side_by_side[0], kernel, xy, progress=progress)
    maps = joint.components(cuts, at_least=latent or LATENT_AT_LEAST, at_most=latent or None)
    encoders = dict(zip(measured, maps, strict=True))
    propagated = dict(zip(measured, np.split(joint.propagated, cuts, axis=1), strict=True))
    weights = {i: 1.0 if (weight := blocks[i].weight) is None else weight for i in measured}
    for i in sorted(set(range(len(blocks))) - set(measured)):
        image = Modality.of(features[i], kernel, xy, progress=progress)
        target = np.asarray(sum(encoders[j](propagated[j]) for j in measured))
        encoders[i], weights[i] = image.prediction(target, xy, weight=blocks[i].weight)
        propagated[i] = image.propagated
    order = range(len(blocks))
    start = LinearStart([encoders[i] for i in order], [weights[i] for i in order])
    return start, [propagated[i] for i in order]


def regression(features: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """Fit a ridge regression of a target, shape (N, d), on features, shape (N, F)."""
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(RIDGE).fit(features, target)
    return Affine(np.atleast_2d(fitted.coef_).T, np.atleast_1d(fitted.intercept_))


def predicted_share(features: NDArray[np.floating], target: NDArray[np.floating], xy: NDArray[np.float64]) -> float:
    """Measure the cross-validated R² of the regression, at least 0.

    Compact areas of tissue are held out: single spots could be predicted from their neighbours.
    """
    from sklearn.cluster import KMeans
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    areas = KMeans(min(AREAS, len(np.unique(xy, axis=0))), n_init=1, random_state=0).fit_predict(xy)
    if len(np.unique(areas)) < FOLDS:
        return 0.0
    predicted = cross_val_predict(RidgeCV(RIDGE), features, target, groups=areas, cv=GroupKFold(FOLDS))
    rest = ((target - predicted.reshape(target.shape)) ** 2).sum() / ((target - target.mean(axis=0)) ** 2).sum()
    return float(max(0.0, 1 - rest))
