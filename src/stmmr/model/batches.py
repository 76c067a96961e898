"""The batches of a training: which spots a step reads, and their tensors."""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from stmmr.nn import Batch, Features, Graph, Partners, SparseRows, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stmmr.linear.blocks import CSR
    from stmmr.model.inputs import ModelInputs

ROWS_AHEAD: Final = 2**16
"""Rows of targets that are read at once for the next steps, so that counts on disk are read in long passes."""


def drawn(n: int, size: int, *, generator: torch.Generator) -> Iterator[NDArray[np.intp]]:
    """Draw spots without end, each of n once before any is drawn again; all at once where `size` is 0."""
    while True:
        if not 0 < size < n:
            yield np.arange(n)
            continue
        order = torch.randperm(n, generator=generator)
        for rows in torch.split(order[: n - n % size], size):  # a short last batch would upset the batch norm
            yield rows.numpy()


def dealt(inputs: ModelInputs, size: int, *, random_state: int, numbers: range) -> Iterator[Batch]:
    """Make the batches with some numbers.

    A batch depends on the seed and its number only. So a training can resume at any step, and several processes can
    share the batches.

    Parameters
    ----------
    inputs
        All spots.
    size
        Spots of a batch; 0 for all.
    random_state
        Seed.
    numbers
        Numbers of the batches, in the sequence drawn without end.
    """
    n = inputs.n_obs
    if not 0 < size < n:
        yield from repeat(whole_batch(inputs), len(numbers))
        return
    graph = inputs.graph
    squares = 0.0 if graph is None else float(np.square(graph.data, dtype=np.float64).sum()) / n
    draws = drawn(n, size, generator=torch.Generator().manual_seed(random_state))
    ahead = islice(enumerate(draws), numbers.start, numbers.stop, numbers.step)
    while chunk := list(islice(ahead, max(1, ROWS_AHEAD // size))):
        rows = np.unique(np.concatenate([index for _, index in chunk]))
        targets = inputs.targets(rows)
        for number, index in chunk:
            position = np.searchsorted(rows, index)
            read, partners = index, None
            if graph is not None:
                others = draw_neighbors(graph[index], rng=np.random.default_rng([random_state, number]))
                read = np.concatenate([index, others])
                partners = Partners(torch.from_numpy(others == index), torch.tensor(squares), n)
            values = _targets(inputs, [target[position] for target in targets], index)
            yield Batch(features_at(inputs, read), values, n, partners)


def whole_batch(inputs: ModelInputs) -> Batch:
    """Make one batch of all spots, with the graph among them."""
    index = np.arange(inputs.n_obs)
    graph = None if inputs.graph is None else Graph.of(inputs.graph)
    return Batch(all_features(inputs), _targets(inputs, inputs.targets(index), index), inputs.n_obs, graph)


def _targets(
    inputs: ModelInputs, targets: Sequence[NDArray[np.float32] | CSR], index: NDArray[np.intp]
) -> tuple[Target, ...]:
    """Turn targets, shape (n, G) each, and the library sizes of their spots into tensors."""
    values = (torch.from_numpy(each) if isinstance(each, np.ndarray) else SparseRows.of(each) for each in targets)
    sizes = (torch.from_numpy(block.library_size[index]) for block in inputs.decoded if block.library_size is not None)
    return tuple(Target(*each) for each in zip(values, sizes, strict=True))


def features_at(inputs: ModelInputs, index: NDArray[np.intp] | slice) -> Features:
    """Get the input for an embedding of some spots."""
    return Features(tuple(torch.from_numpy(block.features[index]) for block in inputs.blocks), inputs.keys)


def all_features(inputs: ModelInputs) -> Features:
    """Get the input for an embedding of all spots; without landmarks they attend to each other."""
    each_other = inputs.keys is None or inputs.keys[0].landmarks is None
    features = tuple(torch.from_numpy(block.features) for block in inputs.blocks)
    return Features(features, None if each_other else inputs.keys)


def draw_neighbors(weights: CSR, *, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw one column from each row by its weights, shape (n, N) to (n,)."""
    upto = np.concatenate([[0.0], np.cumsum(weights.data, dtype=np.float64)])
    start, stop = weights.indptr[:-1], weights.indptr[1:]
    level = upto[start] + rng.random(len(start)) * (upto[stop] - upto[start])
    entry = np.clip(np.searchsorted(upto, level, side="right") - 1, start, stop - 1)
    return np.asarray(weights.indices[entry], dtype=np.intp)


def arriving(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to a device, each while the batch before is in use."""
    if device.type == "cpu":
        yield from batches
        return
    ahead: Batch | None = None
    for batch in batches:
        ahead, ready = moved(batch, device), ahead
        if ready is not None:
            yield ready
    if ahead is not None:
        yield ahead


def moved(value: Any, device: torch.device) -> Any:
    """Copy the tensors in nested tuples to a device without waiting for them."""
    if isinstance(value, torch.Tensor):
        if value.device == device or device.type != "cuda":
            return value.to(device)
        return (value.pin_memory() if value.device.type == "cpu" else value).to(device, non_blocking=True)
    if isinstance(value, tuple):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
