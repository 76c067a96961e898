"""Where the training starts: the linear form of the model, found without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stmmr._core.rows import CHUNK, empty, slices
from stmmr.linear.noise import local_noise, propagated_with_level, spatial_components

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel
    from stmmr.settings import Block

LATENT_AT_LEAST = 2
"""Width of the embedding even where nothing stands out from the noise."""
RIDGE = np.logspace(-2, 4, 13)
"""Penalties among which the regression of an embedding on a picture chooses."""
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
    """What the linear start reads of one modality, or of several side by side."""

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

    def components(self, cuts: Sequence[int], *, at_least: int, at_most: int | None = None) -> list[Affine]:
        """Map propagated features on what of them stands out from the noise; a map for each group of columns."""
        found = spatial_components(self.propagated, self.noise, self.level, at_least=at_least)
        groups = zip(np.split(found.axes[:, :at_most], cuts), np.split(found.centre, cuts), strict=True)
        return [Affine(axes, -centre @ axes) for axes, centre in groups]

    def prediction(
        self, target: NDArray[np.float64], xy: NDArray[np.float64], *, weight: float | None
    ) -> tuple[Affine, float]:
        """Map propagated features on what they tell of an embedding, shape (N, d), and say how much that is."""
        (read,) = self.components([], at_least=1)
        seen = read(self.propagated)
        predict = regression(seen, target)
        share = predicted_share(seen, target, xy) if weight is None else weight
        return Affine(read.weight @ predict.weight, read.bias @ predict.weight + predict.bias), share


class LinearStart(NamedTuple):
    """First weights of the encoders, all of which read propagated features."""

    encoders: list[Affine]
    """Of each block."""
    weights: list[float]
    """Of each block in the fusion."""

    @property
    def latent(self) -> int:
        """Width of the embedding."""
        return len(self.encoders[0].bias)

    def embed(self, features: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the propagated features of all blocks, shape (N, F) each, without a network; shape (N, d)."""
        embedding = empty((len(features[0]), self.latent))
        for rows in slices(len(embedding), CHUNK):
            parts = zip(self.weights, self.encoders, features, strict=True)
            embedding[rows] = sum(weight * encode(values[rows]) for weight, encode, values in parts)
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
    """Embed what of the measured blocks stands out from the noise, and regress it on what of the pictures does.

    Measured are the blocks with a likelihood. Their features are read side by side, so that a direction counts that
    stands out in one of them alone or in several together. Noise is taken off with all its correlations: cells that lie
    mixed, which several blocks show, do not become signal by that.

    Parameters
    ----------
    features
        Of each block, shape (N, F).
    blocks
        Likelihoods and weights of the blocks. None as weight: 1 with a likelihood; of a picture, the share of the
        embedding of the measured blocks that it predicts in blocks of tissue left out (R², at least 0).
    kernel
        The graph.
    xy
        Coordinates, shape (N, 2).
    latent
        Width of the embedding; 0: as many directions as stand out.
    progress
        Whether to show progress bars.

    Returns
    -------
    The start, and the propagated features of each block, shape (N, F).
    """
    measured = [at for at, block in enumerate(blocks) if block.likelihood]
    beside = [features[at] for at in measured]
    cuts = [int(cut) for cut in np.cumsum([values.shape[1] for values in beside])[:-1]]
    joint = Modality.of(np.hstack(beside) if cuts else beside[0], kernel, xy, progress=progress)
    found = joint.components(cuts, at_least=latent or LATENT_AT_LEAST, at_most=latent or None)
    encoders = dict(zip(measured, found, strict=True))
    propagated = dict(zip(measured, np.split(joint.propagated, cuts, axis=1), strict=True))
    weights = {at: 1.0 if (given := blocks[at].weight) is None else given for at in measured}
    for at in sorted(set(range(len(blocks))) - set(measured)):
        picture = Modality.of(features[at], kernel, xy, progress=progress)
        target = np.asarray(sum(encoders[i](propagated[i]) for i in measured))
        encoders[at], weights[at] = picture.prediction(target, xy, weight=blocks[at].weight)
        propagated[at] = picture.propagated
    order = range(len(blocks))
    start = LinearStart([encoders[at] for at in order], [weights[at] for at in order])
    return start, [propagated[at] for at in order]


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
