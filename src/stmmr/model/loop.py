"""The training: one step, and the loop around it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from tqdm.auto import tqdm

from stmmr._core.checks import logger
from stmmr.model.batches import arriving, dealt, moved
from stmmr.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stmmr.model.inputs import ModelInputs
    from stmmr.nn import Batch, Network

LOOKS: Final = 10
"""Steps between two looks at the loss, where a look has to wait for a GPU or for other processes."""


class Processes(Protocol):
    """What the loop asks of the processes that train together: a part of Lightning Fabric."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    @property
    def world_size(self) -> int:
        """How many processes there are."""

    @property
    def global_rank(self) -> int:
        """Which of them this is."""

    def setup(self, module: Any, *optimizers: Any) -> Any:
        """Make the processes share their gradients."""

    def backward(self, tensor: torch.Tensor) -> None:
        """Compute the gradients."""

    def all_reduce(self, data: Any, *, reduce_op: str) -> Any:
        """Sum up, or average ("mean"), over the processes."""


class OneProcess:
    """One process by itself, which needs no Fabric."""

    world_size = 1
    global_rank = 0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def setup(self, module: Any, *optimizers: Any) -> Any:
        """Leave network and optimizers as they are."""
        return module, *optimizers

    def backward(self, tensor: torch.Tensor) -> None:
        """Compute the gradients."""
        tensor.backward()  # type: ignore[no-untyped-call]

    def all_reduce(self, data: Any, *, reduce_op: str) -> Any:
        """Take what there is."""
        return data


class History:
    """The objective and its terms per step, kept on the device until someone looks."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        self.values = values
        self._names: list[str] = list(values)
        self._new: list[torch.Tensor] = []

    def add(self, terms: dict[str, torch.Tensor]) -> None:
        """Note a step."""
        self._names = list(terms)
        self._new.append(torch.stack(list(terms.values())))

    def look(self, processes: Processes) -> None:
        """Fetch what is new, averaged over the processes.

        Raises
        ------
        FloatingPointError
            If a term is not finite.
        """
        rows = processes.all_reduce(torch.stack(self._new), reduce_op="mean").tolist() if self._new else []
        self._new.clear()
        for row in rows:
            terms = dict(zip(self._names, row, strict=True))
            if not all(map(math.isfinite, row)):
                raise FloatingPointError(
                    "Expected a finite loss, found "
                    + ", ".join(f"{name} = {term:.4g}" for name, term in terms.items() if name != "loss")
                    + ". Lower learning_rate, or look for extreme values in the input."
                )
            for name, value in terms.items():
                self.values.setdefault(name, []).append(value)


def training_step(
    network: Network, batch: Batch, optimizer: torch.optim.Optimizer, *, processes: Processes, precision: str | None
) -> dict[str, torch.Tensor]:
    """Take one step downhill and give back the objective and its terms before it, on the device."""
    optimizer.zero_grad()
    with torch.autocast(processes.device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        terms = network(batch)
    loss = torch.stack(list(terms.values())).sum()
    processes.backward(loss)
    optimizer.step()
    return {"loss": loss.detach()} | {name: term.detach() for name, term in terms.items()}


def train(
    network: Network,
    inputs: ModelInputs,
    *,
    random_state: int,
    progress: bool,
    checkpoint: Path | None = None,
    processes: Processes | None = None,
    precision: str | None = None,
    on_step: Callable[[int], object] | None = None,
) -> dict[str, list[float]]:
    """Train a network; labels are never here.

    Several processes deal the batches out among them and average their gradients, so that they take that many times
    fewer steps.

    Parameters
    ----------
    network
        Changed in place and left in evaluation mode, on the device of the processes.
    inputs
        All places.
    random_state
        Seed of the draws and of the dropout; torch's global state is put back afterwards.
    progress
        Whether to show a progress bar.
    checkpoint
        File to keep the state of the training in, and to go on from where it is there; the end is then the same bit by
        bit as without an interruption.
    processes
        Those that train together; None: this one by itself, on the CPU.
    precision
        None, or "bf16-mixed" for products of matrices in bfloat16.
    on_step
        Called with the number of each step that is done.

    Returns
    -------
    The objective and its terms per step, averaged over the processes.

    Raises
    ------
    InputError
        If the checkpoint is damaged or of another training.
    FloatingPointError
        If the objective is not finite.
    """
    processes = processes or OneProcess()
    device, world, rank, settings = processes.device, processes.world_size, processes.global_rank, network.settings
    steps = -(-settings.steps // world)
    looks = 1 if world == 1 and device.type == "cpu" else LOOKS
    inputs = replace(inputs, keys=moved(inputs.keys, device))
    network.to(device).train()
    optimizer = torch.optim.Adam(
        (p for p in network.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    kept = None if checkpoint is None else Checkpoint(checkpoint, settings, inputs, random_state, processes)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random_state * world + rank)
        history = History({} if kept is None else kept.resume(network, optimizer))
        done = len(history.values.get("loss", []))
        model, stepper = processes.setup(network, optimizer)
        numbers = range(done * world + rank, steps * world, world)
        batches = arriving(dealt(inputs, settings.batch_size, random_state=random_state, numbers=numbers), device)
        with tqdm(total=steps, initial=done, disable=not progress or rank > 0, unit="step") as bar:
            for step, batch in enumerate(batches, start=done + 1):
                history.add(training_step(model, batch, stepper, processes=processes, precision=precision))
                bar.update()
                if step % looks == 0 or step == steps:
                    history.look(processes)
                    bar.set_postfix(loss=f"{history.values['loss'][-1]:.4f}")
                    if kept is not None:
                        kept.write_when_due(network, optimizer, history.values, last=step == steps)
                if on_step is not None:
                    on_step(step)
    network.eval()
    if history.values:
        logger.info(
            "Trained %d steps: loss %.4f to %.4f.", steps, history.values["loss"][0], history.values["loss"][-1]
        )
    return history.values
