"""The training: the network, one step, and the loop around it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import torch

from stmmr._core.checks import logger
from stmmr._core.parallel import progress_bar
from stmmr.model.batches import arriving, dealt, moved
from stmmr.model.checkpoint import Checkpoint
from stmmr.model.embed import embedded
from stmmr.nn import Network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stmmr.model.devices import Devices
    from stmmr.model.inputs import ModelInputs
    from stmmr.model.saved import Arrays
    from stmmr.nn import Batch
    from stmmr.settings import Settings

LOOKS: Final = 10
"""Steps from one fetch of the loss to the next, where a fetch waits for a GPU or for other processes."""


class Options(NamedTuple):
    """Options of a training that its result does not depend on, apart from the seed and the precision."""

    random_state: int = 0
    """Seed of the batches and of the dropout; torch's global state is restored afterwards."""
    progress: bool = False
    """Whether to show a progress bar."""
    checkpoint: Path | None = None
    """File to keep the state of the training in, and to resume from if it exists; the result is then the same bit by
    bit as without an interruption."""
    precision: str | None = None
    """None, or "bf16-mixed" for matrix products in bfloat16."""
    on_step: Callable[[int], object] | None = None
    """Called with the number of each finished step, in each process."""


class Trained(NamedTuple):
    """The result of a training, beside the weights."""

    history: dict[str, list[float]]
    """The loss and its terms at each step."""
    embedding: NDArray[np.float32]
    """Shape (n_obs, latent)."""


class Processes(Protocol):
    """The part of Lightning Fabric that the loop uses."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""

    @property
    def world_size(self) -> int:
        """Number of processes."""

    @property
    def global_rank(self) -> int:
        """Number of this process."""

    def setup(self, module: Any, *optimizers: Any) -> Any:
        """Make the processes average their gradients."""

    def backward(self, tensor: torch.Tensor) -> None:
        """Compute the gradients."""

    def all_reduce(self, data: torch.Tensor, *, reduce_op: str) -> torch.Tensor:
        """Sum ("sum") or average ("mean") over the processes."""


class OneProcess:
    """A single process, which needs no Fabric."""

    world_size = 1
    global_rank = 0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def setup(self, module: Any, *optimizers: Any) -> Any:
        """Leave network and optimizers unchanged."""
        return module, *optimizers

    def backward(self, tensor: torch.Tensor) -> None:
        """Compute the gradients."""
        tensor.backward()  # type: ignore[no-untyped-call]

    def all_reduce(self, data: torch.Tensor, *, reduce_op: str) -> torch.Tensor:
        """Return the value of the only process."""
        return data


class History:
    """The loss and its terms at each step, kept on the device until they are fetched."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        self.values = values
        self._names: list[str] = list(values)
        self._new: list[torch.Tensor] = []

    def add(self, terms: dict[str, torch.Tensor]) -> None:
        """Add a step."""
        self._names = list(terms)
        self._new.append(torch.stack(list(terms.values())))

    def fetch(self, processes: Processes) -> None:
        """Fetch the new steps, averaged over the processes.

        Raises FloatingPointError if a term is not finite.
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


def new_network(inputs: ModelInputs, settings: Settings, *, random_state: int) -> Network:
    """Make a network with its first weights: the linear embedding where there is one, otherwise random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        network = Network(inputs.shapes, settings=settings)
    if inputs.start is not None:
        network.start_from([(torch.from_numpy(w), torch.from_numpy(b)) for w, b in inputs.start.encoders])
    return network


def load_weights(network: Network, weights: Arrays) -> None:
    """Set all weights of a network; a RuntimeError says which of them are missing or do not fit."""
    network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})


def training_step(
    network: Network, batch: Batch, optimizer: torch.optim.Optimizer, *, processes: Processes, precision: str | None
) -> dict[str, torch.Tensor]:
    """Take one optimisation step; get the loss and its terms before it, on the device."""
    optimizer.zero_grad()
    with torch.autocast(processes.device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        terms = network(batch)
    loss = torch.stack(list(terms.values())).sum()
    processes.backward(loss)
    optimizer.step()
    return {"loss": loss.detach()} | {name: term.detach() for name, term in terms.items()}


def train(
    network: Network, inputs: ModelInputs, options: Options, *, processes: Processes | None = None
) -> dict[str, list[float]]:
    """Train a network. It never sees labels.

    Several processes share the batches and average their gradients, so they take that many times fewer steps.

    Parameters
    ----------
    network
        Trained in place, and left in evaluation mode on the device of the processes.
    inputs
        All spots.
    options
        Seed, progress bar, checkpoint and precision.
    processes
        The processes that train together; None: only this one, on the CPU.

    Returns
    -------
    The loss and its terms at each step, averaged over the processes.

    Raises
    ------
    InputError
        If the checkpoint is damaged or of another training.
    FloatingPointError
        If the loss is not finite.
    """
    processes = processes or OneProcess()
    device, world, rank = processes.device, processes.world_size, processes.global_rank
    inputs = replace(inputs, keys=moved(inputs.keys, device))
    network.to(device).train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.random_state * world + rank)
        history = _steps(network, inputs, options, processes=processes)
    network.eval()
    if "loss" in history:
        loss = history["loss"]
        logger.info("Trained %d steps: loss %.4f to %.4f.", len(loss), loss[0], loss[-1])
    return history


def _steps(network: Network, inputs: ModelInputs, options: Options, *, processes: Processes) -> dict[str, list[float]]:
    """Take all steps, or those that a checkpoint has not seen; get the history of all."""
    device, world, rank, settings = processes.device, processes.world_size, processes.global_rank, network.settings
    n_steps = -(-settings.steps // world)
    every = 1 if world == 1 and device.type == "cpu" else LOOKS
    optimizer = torch.optim.Adam(
        (p for p in network.parameters() if p.requires_grad),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    checkpoint = None
    if options.checkpoint is not None:
        checkpoint = Checkpoint(
            options.checkpoint, settings, inputs, random_state=options.random_state, processes=processes
        )
    history = History({} if checkpoint is None else checkpoint.resume(network, optimizer))
    done = len(history.values.get("loss", []))
    model, stepper = processes.setup(network, optimizer)
    numbers = range(done * world + rank, n_steps * world, world)
    batches = dealt(inputs, settings.batch_size, random_state=options.random_state, numbers=numbers)
    with progress_bar(n_steps, "training", "steps", shown=options.progress and rank == 0) as bar:
        bar.update(done)
        for step, batch in enumerate(arriving(batches, device), start=done + 1):
            history.add(training_step(model, batch, stepper, processes=processes, precision=options.precision))
            bar.update()
            if step % every == 0 or step == n_steps:
                history.fetch(processes)
                bar.set_postfix(loss=f"{history.values['loss'][-1]:.4f}")
                if checkpoint is not None:
                    checkpoint.write_when_due(network, optimizer, history.values, last=step == n_steps)
            if options.on_step is not None:
                options.on_step(step)
    return history.values


def train_on(devices: Devices, network: Network, inputs: ModelInputs, *, options: Options) -> Trained:
    """Train a network in place, in one process or several, and embed all spots; the network ends on the CPU."""
    if devices.n_processes == 1:
        trained = train_and_embed(OneProcess(devices.device), network, inputs, options=options)
    else:
        from stmmr.model.processes import train_in_processes

        trained = train_in_processes(network, inputs, devices, options=options)
    network.cpu()
    return trained


def train_and_embed(processes: Processes, network: Network, inputs: ModelInputs, *, options: Options) -> Trained:
    """Train, then embed all spots; each of several processes embeds a share, and all of them get the whole."""
    history = train(network, inputs, options, processes=processes)
    if processes.world_size == 1:
        return Trained(history, embedded(network, inputs))
    share = np.array_split(np.arange(inputs.n_obs), processes.world_size)[processes.global_rank]
    z = torch.zeros(inputs.n_obs, network.settings.latent, device=processes.device)
    z[torch.from_numpy(share)] = torch.from_numpy(embedded(network, inputs, share)).to(processes.device)
    z = processes.all_reduce(z, reduce_op="sum")  # every process has zeros in the rows of the others
    return Trained(history, z.cpu().numpy())
