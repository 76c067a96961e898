"""Which places a step reads, and how they get to it."""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy import sparse

    from stmmr.model.inputs import ModelInputs
    from stmmr.nn import Batch

ROWS_AHEAD: Final = 2**16
"""Rows of targets that are read at once for the steps to come, so that a source on disk is read in passes."""


def drawn(n: int, size: int, *, generator: torch.Generator) -> Iterator[NDArray[np.intp]]:
    """Draw places without end, each once before any comes again; all of them at once where `size` is 0."""
    while True:
        if not 0 < size < n:
            yield np.arange(n)
            continue
        order = torch.randperm(n, generator=generator)
        for rows in torch.split(order[: n - n % size], size):  # a short last batch would upset the batch norm
            yield rows.numpy()


def dealt(inputs: ModelInputs, size: int, *, random_state: int, numbers: range) -> Iterator[Batch]:
    """Give out the batches of some numbers.

    What is drawn follows from the seed and the number of the batch, so that training may go on from any step, and
    several processes may deal the batches out among them.

    Parameters
    ----------
    inputs
        All places.
    size
        Places of a batch; 0 for all.
    random_state
        Seed.
    numbers
        Which of the batches that could be drawn without end.
    """
    n = inputs.n_places
    if not 0 < size < n:
        yield from repeat(inputs.whole(), len(numbers))
        return
    draws = drawn(n, size, generator=torch.Generator().manual_seed(random_state))
    ahead = islice(enumerate(draws), numbers.start, numbers.stop, numbers.step)
    while some := list(islice(ahead, max(1, ROWS_AHEAD // size))):
        rows = np.unique(np.concatenate([index for _, index in some]))
        targets = inputs.targets(rows)
        for number, index in some:
            partners = None
            if inputs.graph is not None:
                partners = neighbours_drawn(inputs.graph[index], rng=np.random.default_rng([random_state, number]))
            at = np.searchsorted(rows, index)
            yield inputs.batch(index, [target[at] for target in targets], partners=partners)


def neighbours_drawn(weights: sparse.csr_matrix[Any], *, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw one column from each row by its weights, shape (n, N), to shape (n,)."""
    upto = np.concatenate([[0.0], np.cumsum(weights.data, dtype=np.float64)])
    start, stop = weights.indptr[:-1], weights.indptr[1:]
    at = upto[start] + rng.random(len(start)) * (upto[stop] - upto[start])
    entry = np.clip(np.searchsorted(upto, at, side="right") - 1, start, stop - 1)
    return np.asarray(weights.indices[entry], dtype=np.intp)


def arriving(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to a device, each while the one before is worked on."""
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
    """Bring the tensors of a tuple, and of tuples in it, to a device, without waiting for them."""
    if isinstance(value, torch.Tensor):
        if value.device == device or device.type != "cuda":
            return value.to(device)
        return (value.pin_memory() if value.device.type == "cpu" else value).to(device, non_blocking=True)
    if isinstance(value, tuple):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
