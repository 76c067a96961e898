"""What a trained network says of each place, in blocks of places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from stmmr.nn.network import row_blocks
from stmmr.train._batches import moved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmmr.data import ModelInputs
    from stmmr.nn import Network

ROWS: Final = 2**16
"""Places that are embedded at once."""


@torch.no_grad()
def embedded(network: Network, inputs: ModelInputs, index: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Embed some places, or all, where the network is; shape (n, d)."""
    device = next(network.parameters()).device
    inputs = replace(inputs, keys=moved(inputs.keys, device))
    whole = index is None and inputs.n_places <= ROWS
    index = np.arange(inputs.n_places) if index is None else index
    out = np.empty((len(index), network.settings.latent), dtype=np.float32)
    for start in range(0, len(index), ROWS):
        rows = slice(start, start + ROWS)
        features = inputs.all_features() if whole else inputs.features(index[rows])
        z, _ = network.encode(moved(features, device))
        out[rows] = z.float().cpu().numpy()
    return out


@torch.no_grad()
def means(network: Network, inputs: ModelInputs) -> NDArray[np.float32]:
    """Decode the mean of the likelihood at all places, shape (N, G)."""
    n, n_targets = inputs.target.shape
    out = np.empty((n, n_targets), dtype=np.float32)
    z = torch.from_numpy(embedded(network, inputs))
    for start, stop in row_blocks(n, n_targets):
        out[start:stop] = network.mean_of(z[start:stop], inputs.library_size[start:stop]).numpy()
    return out
