"""Landmarks: clusters of spots that attention reads where there are too many spots to read each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from stmmr.linear.noise import principal_components
from stmmr.nn import Keys, Landmarks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.linear.start import Affine
    from stmmr.model.inputs import ModelInputs
    from stmmr.settings import Settings

EXACT_AT_MOST: Final = 50_000
"""Number of spots up to which attention reads all of them, whatever the settings."""
COMPONENTS: Final = 50
"""Principal components of the features in which clusters are found, where the encoders start at random."""
ROUNDS: Final = 5
"""Iterations of k-means."""
HEAVIEST: Final = 20.0
"""Logarithm of the largest weight of a spot in k-means; the smallest is 0."""


def keys_of(inputs: ModelInputs, settings: Settings) -> tuple[Keys, ...] | None:
    """Get the keys of the attention of each block: all spots, or landmarks where there are many."""
    if not settings.attention:
        return None
    starts = [None] * len(inputs.blocks) if inputs.start is None else inputs.start.encoders
    parts = zip(inputs.blocks, starts, strict=True)
    return tuple(_keys(torch.from_numpy(block.features), settings.landmarks, start) for block, start in parts)


def _keys(features: torch.Tensor, n_landmarks: int, start: Affine | None) -> Keys:
    if not 0 < n_landmarks < len(features) or len(features) <= EXACT_AT_MOST:
        return Keys(features)
    return landmarks(features, n_landmarks, start)


def landmarks(features: torch.Tensor, n_landmarks: int, start: Affine | None) -> Keys:
    """Summarise spots by clusters, each a normal distribution around its mean.

    Clusters are found by k-means in the features as their encoder starts. A spot weighs exp(‖e‖²/2√d), the root of its
    share in its own attention, because a spot far out attends to little else. Encoders are affine in the features, so
    mean and variance of a cluster follow the encoder during training; the clusters stay.

    Parameters
    ----------
    features
        A²F of one block, shape (N, F).
    n_landmarks
        M.
    start
        First weights of the encoder. None where they are random, which keeps distances up to a factor: clusters are
        then found in the leading principal components, and all spots weigh the same.
    """
    values: NDArray[np.floating] = features.numpy()
    points = np.asarray(_leading_components(values) if start is None else start(values), dtype=np.float64)
    heavy = None if start is None else np.minimum((points**2).sum(axis=1) / (2 * np.sqrt(points.shape[1])), HEAVIEST)
    members, centres = _clusters(points, n_landmarks, weight=None if heavy is None else np.exp(heavy))
    size = np.bincount(members)  # (M,)
    mean = features.new_zeros(len(size), features.shape[1])
    mean.index_add_(0, torch.from_numpy(members), features).div_(torch.from_numpy(size)[:, None])  # (M, F)
    offset = points - centres[members]
    offset = offset @ np.linalg.eigh(offset.T @ offset)[1]  # (N, p), along axes in which they are uncorrelated
    spread = (offset**2).sum(axis=0)  # (p,)
    real = spread > 1e-12 * (points**2).sum()  # smaller ones are round-off, and axes are divided by them
    offset, spread = offset[:, real], spread[real]
    sums = [np.bincount(members, weights=column**2) for column in offset.T]
    variance = np.reshape(sums, (len(spread), len(size))).T / size[:, None]  # (M, p)
    axes = offset.T @ values / spread[:, None]  # (p, F): regression of the features on the offsets
    parts = (np.log(size), axes, variance)
    return Keys(mean, Landmarks(*(torch.from_numpy(part).to(features.dtype) for part in parts)))


def _clusters(
    points: NDArray[np.float64], n_clusters: int, *, weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Run k-means: the cluster of each point, and the mean of each cluster; no cluster is empty."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    k_means = KMeans(n_clusters, init="random", n_init=1, max_iter=ROUNDS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different points than clusters
        labels = k_means.fit(points, sample_weight=weight).labels_
    _, members, size = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(members, weights=column) for column in points.T], axis=1)
    return members, sums / size[:, None]


def _leading_components(features: NDArray[np.floating]) -> NDArray[np.floating]:
    return features if features.shape[1] <= COMPONENTS else principal_components(features, COMPONENTS)
