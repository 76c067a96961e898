"""Training: one step, and the loop around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from stmmr._validate import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stmmr.nn import Batch, Network


def training_step(network: Network, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Take one step downhill and report the terms of the objective before it."""
    optimizer.zero_grad()
    terms = network.loss_terms(batch, network(batch))
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        raise FloatingPointError(
            "Expected a finite loss, found "
            + ", ".join(f"{name} = {float(term):.4g}" for name, term in terms.items())
            + ". Lower learning_rate, or look for extreme values in the input."
        )
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}


def drawn(batch: Batch, size: int, *, generator: torch.Generator) -> Iterator[Batch]:
    """Draw places without end, each once before any comes again; all of them at once where `size` is 0."""
    n = len(batch.expression)
    while True:
        if not 0 < size < n:
            yield batch
            continue
        order = torch.randperm(n, generator=generator)
        for rows in torch.split(order[: n - n % size], size):  # a short last batch would upset the batch norm
            yield batch.rows(rows)


def train(network: Network, batch: Batch, *, random_state: int, progress: bool) -> dict[str, list[float]]:
    """Train a network; labels are never here.

    Parameters
    ----------
    network
        Changed in place and left in evaluation mode.
    batch
        All places.
    random_state
        Seed of the dropout; torch's global state is put back afterwards.
    progress
        Whether to show a progress bar.

    Returns
    -------
    The objective and its terms per step.
    """
    settings = network.settings
    optimizer = torch.optim.Adam(
        (p for p in network.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    history: dict[str, list[float]] = {}
    network.train()
    with torch.random.fork_rng(devices=[]), tqdm(range(settings.steps), disable=not progress, unit="step") as bar:
        torch.manual_seed(random_state)
        draws = drawn(batch, settings.batch_size, generator=torch.Generator().manual_seed(random_state))
        for _ in bar:
            terms = training_step(network, next(draws), optimizer)
            for name, value in terms.items():
                history.setdefault(name, []).append(value)
            bar.set_postfix(loss=f"{terms['loss']:.4f}")
    network.eval()
    if history:
        logger.info("Trained %d steps: loss %.4f to %.4f.", settings.steps, history["loss"][0], history["loss"][-1])
    return history
