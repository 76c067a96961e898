"""Embedding and decoding by a trained network, in blocks of spots."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch

from stmmr.model.batches import all_features, features_at, moved
from stmmr.nn import Features
from stmmr.nn.decoder import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stmmr.model.inputs import ModelInputs
    from stmmr.nn import Network
    from stmmr.nn.decoder import Decoder

ROWS: Final = 2**16
"""Spots that are embedded at once."""


def embedded(network: Network, inputs: ModelInputs, index: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Embed all spots, or some, on the device of the network; shape (n, d)."""
    inputs = replace(inputs, keys=moved(inputs.keys, next(network.parameters()).device))
    if index is None and inputs.n_obs <= ROWS:
        return _by_rows(network, inputs.n_obs, lambda _: all_features(inputs))
    chosen = np.arange(inputs.n_obs) if index is None else index
    return _by_rows(network, len(chosen), lambda rows: features_at(inputs, chosen[rows]))


def embedded_features(network: Network, features: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Embed spots from the propagated features of each block, shape (N, F), without attention; shape (N, d)."""
    blocks = [torch.from_numpy(block) for block in features]
    return _by_rows(network, len(features[0]), lambda rows: Features(tuple(block[rows] for block in blocks)))


@torch.no_grad()
def _by_rows(network: Network, n_obs: int, features_of: Callable[[slice], Features]) -> NDArray[np.float32]:
    """Embed spots in blocks of rows, on the device of the network; shape (n_obs, d)."""
    device = next(network.parameters()).device
    embedding = np.empty((n_obs, network.settings.latent), dtype=np.float32)
    for start in range(0, n_obs, ROWS):
        rows = slice(start, start + ROWS)
        z, _ = network.encode(moved(features_of(rows), device))
        embedding[rows] = z.float().cpu().numpy()
    return embedding


@torch.no_grad()
def means(
    network: Network, inputs: ModelInputs, position: int = 0, *, columns: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Decode the mean of a likelihood for all spots, shape (N, G), or some of its columns.

    `position` is that of the block among the blocks with a likelihood.
    """
    block, decoder = inputs.decoded[position], cast("Decoder", network.decoders[position])
    n_obs, n_targets = inputs.n_obs, block.shape.n_targets
    size = torch.ones(n_obs, 1) if block.library_size is None else torch.from_numpy(block.library_size)
    decoded = np.empty((n_obs, n_targets if columns is None else len(columns)), dtype=np.float32)
    kept = slice(None) if columns is None else columns
    z = torch.from_numpy(embedded(network, inputs))
    for start, stop in row_blocks(n_obs, n_targets):
        decoded[start:stop] = decoder.mean(z[start:stop], size[start:stop]).numpy()[:, kept]
    return decoded
