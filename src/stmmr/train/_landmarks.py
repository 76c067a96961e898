"""What attention reads where it cannot read all places: landmarks that stand for clusters of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from stmmr.nn import Keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.data import ModelInputs
    from stmmr.settings import Settings
    from stmmr.start import Affine

EXACT_AT_MOST: Final = 20_000
"""Places up to which attention reads all of them, whatever the settings say of landmarks."""
SEEN: Final = 50
"""Directions of the features that clusters are found in, where the encoders start at random."""


def keys_of(inputs: ModelInputs, settings: Settings) -> tuple[Keys, Keys | None] | None:
    """Find what each modality attends to: all places, or landmarks where there are many."""
    if not settings.attention:
        return None
    first, second = (None, None) if inputs.start is None else (inputs.start.expression, inputs.start.histology)
    expression = _keys(inputs.expression, settings.landmarks, first)
    return expression, None if inputs.histology is None else _keys(inputs.histology, settings.landmarks, second)


def _keys(features: torch.Tensor, n_landmarks: int, start: Affine | None) -> Keys:
    if not 0 < n_landmarks < len(features) or len(features) <= EXACT_AT_MOST:
        return Keys(features, None)
    return landmarks(features, seen_as(features.numpy(), start), n_landmarks)


def seen_as(features: NDArray[np.float32], start: Affine | None) -> NDArray[np.float32]:
    """Look at features, shape (N, F), as their encoder starts.

    Where it starts at random it keeps distances up to a factor, and most of those lie in the largest directions.
    """
    if start is not None:
        return np.asarray(start(features), dtype=np.float32)
    if features.shape[1] <= SEEN:
        return features
    from stmmr.pp._components import principal_components

    return principal_components(features, SEEN)


def landmarks(features: torch.Tensor, points: NDArray[Any], n_landmarks: int) -> Keys:
    """Take the mean features of clusters of places, and how many places each stands for.

    Encoders are affine in the features, so that a landmark is encoded as the mean of its places for all their weights.

    Shapes
    ------
    features : (N, F)
    points : (N, d), where clusters are found
    returns : (M, F) and (M,)
    """
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(n_landmarks, n_init=1, batch_size=4096, random_state=0).fit(points)
    members = torch.from_numpy(fitted.labels_.astype(np.int64))
    size = torch.bincount(members, minlength=n_landmarks).to(features.dtype)  # (M,)
    kept = size > 0
    sums = features.new_zeros(n_landmarks, features.shape[1]).index_add_(0, members, features)  # (M, F)
    return Keys(sums[kept] / size[kept, None], size[kept].log())
