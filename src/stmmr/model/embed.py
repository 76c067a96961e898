"""What a trained network says of each place, in blocks of places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch

from stmmr.model.batches import moved
from stmmr.nn import Features
from stmmr.nn.decoder import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stmmr.model.inputs import ModelInputs
    from stmmr.nn import Network
    from stmmr.nn.decoder import Decoder

ROWS: Final = 2**16
"""Places that are embedded at once."""


def embedded(network: Network, inputs: ModelInputs, index: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Embed some places, or all, where the network is; shape (n, d)."""
    inputs = replace(inputs, keys=moved(inputs.keys, next(network.parameters()).device))
    if index is None and inputs.n_places <= ROWS:
        return _by_rows(network, inputs.n_places, lambda _: inputs.all_features())
    chosen = np.arange(inputs.n_places) if index is None else index
    return _by_rows(network, len(chosen), lambda rows: inputs.features(chosen[rows]))


def embedded_features(network: Network, features: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Embed places by their propagated features, shape (N, F) of each block, where they attend to none; (N, d)."""
    blocks = [torch.from_numpy(block) for block in features]
    return _by_rows(network, len(features[0]), lambda rows: Features(tuple(block[rows] for block in blocks)))


@torch.no_grad()
def _by_rows(network: Network, n_places: int, take: Callable[[slice], Features]) -> NDArray[np.float32]:
    """Embed places in blocks of rows, where the network is; shape (n_places, d)."""
    device = next(network.parameters()).device
    out = np.empty((n_places, network.settings.latent), dtype=np.float32)
    for start in range(0, n_places, ROWS):
        rows = slice(start, start + ROWS)
        z, _ = network.encode(moved(take(rows), device))
        out[rows] = z.float().cpu().numpy()
    return out


@torch.no_grad()
def means(
    network: Network, inputs: ModelInputs, at: int = 0, *, columns: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Decode the mean of a likelihood at all places, shape (N, G), or of some of its columns.

    `at` counts the blocks that have one.
    """
    block, decoder = inputs.decoded[at], cast("Decoder", network.decoders[at])
    n_targets = block.shape.n_targets
    size = torch.ones(inputs.n_places, 1) if block.library_size is None else block.library_size
    out = np.empty((inputs.n_places, n_targets if columns is None else len(columns)), dtype=np.float32)
    kept = slice(None) if columns is None else columns
    z = torch.from_numpy(embedded(network, inputs))
    for start, stop in row_blocks(inputs.n_places, n_targets):
        out[start:stop] = decoder.mean(z[start:stop], size[start:stop]).numpy()[:, kept]
    return out
