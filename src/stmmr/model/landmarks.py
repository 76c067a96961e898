"""What attention reads where it cannot read all places: landmarks that stand for clusters of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from stmmr.nn import Keys, Landmarks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.linear.start import Affine
    from stmmr.model.inputs import ModelInputs
    from stmmr.settings import Settings

EXACT_AT_MOST: Final = 50_000
"""Places up to which attention reads all of them, whatever the settings say of landmarks."""
SEEN: Final = 50
"""Directions of the features that clusters are found in, where the encoders start at random."""
ROUNDS: Final = 5
"""Of k-means."""
HEAVIEST: Final = 20.0
"""Logarithm of the largest weight of a place in k-means; the smallest is 0."""


def keys_of(inputs: ModelInputs, settings: Settings) -> tuple[Keys, ...] | None:
    """Find what each block attends to: all places, or landmarks where there are many."""
    if not settings.attention:
        return None
    starts = [None] * len(inputs.blocks) if inputs.start is None else inputs.start.encoders
    parts = zip(inputs.blocks, starts, strict=True)
    return tuple(_keys(block.features, settings.landmarks, start) for block, start in parts)


def _keys(features: torch.Tensor, n_landmarks: int, start: Affine | None) -> Keys:
    if not 0 < n_landmarks < len(features) or len(features) <= EXACT_AT_MOST:
        return Keys(features)
    return landmarks(features, n_landmarks, start)


def landmarks(features: torch.Tensor, n_landmarks: int, start: Affine | None) -> Keys:
    """Sum up places by normal distributions around the means of clusters.

    Clusters are found in the features as their encoder starts, by k-means in which a place weighs exp(‖e‖²/2√d): the
    root of what it adds to its own attention, since a place far out attends to little else. Encoders are affine in the
    features, so that mean and variance follow the encoder as it trains; the clusters stay.

    Parameters
    ----------
    features
        A²F of one block, shape (N, F).
    n_landmarks
        M.
    start
        First weights of the encoder; None where they are drawn at random, which keeps distances up to a factor: then
        clusters are found in the largest directions of the features, and all places weigh the same.
    """
    points = _largest_directions(features.numpy()) if start is None else start(features.numpy())
    heavy = None if start is None else np.minimum((points**2).sum(axis=1) / (2 * np.sqrt(points.shape[1])), HEAVIEST)
    members, centres = _clusters(points, n_landmarks, weight=None if heavy is None else np.exp(heavy))
    size = np.bincount(members)  # (M,)
    mean = features.new_zeros(len(size), features.shape[1])
    mean.index_add_(0, torch.from_numpy(members), features).div_(torch.from_numpy(size)[:, None])  # (M, F)
    off = points - centres[members]
    off = off @ np.linalg.eigh(off.T @ off)[1]  # (N, p), in the axes in which they are uncorrelated on the whole
    spread = (off**2).sum(axis=0)  # (p,)
    real = spread > 1e-12 * (points**2).sum()  # less is round-off, by which axes would be divided
    off, spread = off[:, real], spread[real]
    sums = [np.bincount(members, weights=column**2) for column in off.T]
    variance = np.reshape(sums, (len(spread), len(size))).T / size[:, None]  # (M, p)
    axes = off.T @ features.numpy() / spread[:, None]  # (p, F): the features regressed on them
    of = [torch.from_numpy(part).to(features.dtype) for part in (np.log(size), axes, variance)]
    return Keys(mean, Landmarks(*of))


def _clusters(
    points: NDArray[np.float64], n_clusters: int, *, weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find clusters by k-means: the cluster of each point, and the means of clusters, none of them empty."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    k_means = KMeans(n_clusters, init="random", n_init=1, max_iter=ROUNDS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different points than clusters
        found = k_means.fit(points, sample_weight=weight).labels_
    _, members, size = np.unique(found, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(members, weights=column) for column in points.T], axis=1)
    return members, sums / size[:, None]


def _largest_directions(features: NDArray[np.float32]) -> NDArray[np.float64]:
    from stmmr.linear.noise import principal_components

    return np.asarray(features if features.shape[1] <= SEEN else principal_components(features, SEEN), dtype=np.float64)
