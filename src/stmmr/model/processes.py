"""Training and embedding on one device, or by several processes through Lightning Fabric."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
import torch

from stmmr._core.checks import InputError, require_choice, require_extra
from stmmr._core.parallel import started_outside
from stmmr.model.embed import embedded
from stmmr.model.loop import OneProcess, Processes, train
from stmmr.nn import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stmmr.model.inputs import ModelInputs
    from stmmr.settings import Settings

Accelerator = Literal["auto", "cpu", "cuda"]
Strategy = Literal["auto", "ddp", "ddp_spawn"]
Precision = Literal["bf16-mixed"]
TIMEOUT: Final = timedelta(minutes=10)
"""How long a process waits for another one that does not answer."""
GRACE: Final = 3.0
"""Seconds that a process which lost another one leaves its parent to find out which."""

LOST: Final = re.compile(r"gloo|nccl|connection|timeout|timed out|peer", re.IGNORECASE)
"""What the errors of connections between processes have in common."""


class RankError(ChildProcessError):
    """One of several processes that train together ended before the work was done."""


class Devices(NamedTuple):
    """Where to compute."""

    accelerator: Accelerator = "auto"
    """"cuda", "cpu", or "auto" for the first of them that is there."""
    devices: int = 1
    """Processes on each machine, with a GPU each if on GPUs."""
    num_nodes: int = 1
    """Machines; more than one as started by torchrun or SLURM."""
    strategy: Strategy = "auto"
    """"ddp_spawn" starts processes, "ddp" runs the script once in each; "auto": those that torchrun or SLURM started,
    otherwise "ddp_spawn"."""
    precision: Precision | None = None
    """"bf16-mixed" for products of matrices in bfloat16."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What the accelerator is here."""
        if self.accelerator == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.accelerator

    @property
    def n_processes(self) -> int:
        """How many there are over all machines."""
        return self.devices * self.num_nodes

    def check(self, settings: Settings, n_places: int) -> None:
        """Check choices and ranges, and that there is something to deal out.

        Raises
        ------
        InputError
            If an option is out of range or there are no such devices.
        """
        require_choice(self.accelerator, get_args(Accelerator), name="accelerator")
        require_choice(self.strategy, get_args(Strategy), name="strategy")
        if self.precision is not None:
            require_choice(self.precision, get_args(Precision), name="precision")
        for name in ("devices", "num_nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"Expected {name} ≥ 1, found {getattr(self, name)!r}.")
        if self.device == "cuda" and torch.cuda.device_count() < self.devices:
            found = torch.cuda.device_count()
            raise InputError(f"Expected {self.devices} GPUs, found {found}. Give accelerator='cpu' or fewer devices.")
        if self.n_processes > 1 and not 0 < settings.batch_size < n_places:
            raise InputError(
                f"Expected batch_size between 1 and the number of places ({n_places}), as several processes deal the "
                f"batches out, found {settings.batch_size}. Set batch_size, or train with one process."
            )


def train_and_embed(
    network: Network,
    inputs: ModelInputs,
    devices: Devices,
    *,
    random_state: int,
    progress: bool,
    checkpoint: Path | None = None,
    timeout: timedelta = TIMEOUT,
    on_step: Callable[[int], object] | None = None,
) -> tuple[dict[str, list[float]], NDArray[np.float32]]:
    """Train a network in place, on the CPU at the end, and embed all places.

    Parameters
    ----------
    network, inputs, random_state, progress, checkpoint, on_step
        See `train`; with several processes, `on_step` is called in each.
    devices
        Where.
    timeout
        How long a process waits for another one.

    Returns
    -------
    The history and the embedding, shape (N, d); of processes that were there already, all get both.

    Raises
    ------
    InputError
        If the devices are not there, or there is nothing to deal out.
    RankError
        If one of several processes ends or does not answer.
    """
    devices.check(network.settings, inputs.n_places)
    options = {
        "random_state": random_state,
        "progress": progress,
        "checkpoint": checkpoint,
        "precision": devices.precision,
        "on_step": on_step,
    }
    if devices.n_processes == 1:
        found = _work(OneProcess(devices.device), network=network, inputs=inputs, options=options)
    elif _spawns(devices):
        found = _spawned(network, inputs, devices, timeout=timeout, options=options)
    else:
        fabric = _fabric(devices, timeout=timeout, spawn=False)
        found = fabric.launch(partial(_work, network=network, inputs=inputs, options=options))
    network.cpu()
    return found


def _work(
    processes: Processes, *, network: Network, inputs: ModelInputs, options: dict[str, Any]
) -> tuple[dict[str, list[float]], NDArray[np.float32]]:
    """Do what one process does: train, embed its share of the places, and gather those of the others."""
    try:
        history = train(network, inputs, processes=processes, **options)
        if processes.world_size == 1:
            return history, embedded(network, inputs)
        share = np.array_split(np.arange(inputs.n_places), processes.world_size)[processes.global_rank]
        z = torch.zeros(inputs.n_places, network.settings.latent, device=processes.device)
        z[torch.from_numpy(share)] = torch.from_numpy(embedded(network, inputs, share)).to(processes.device)
        z = processes.all_reduce(z, reduce_op="sum")  # each row is that of one process, and 0 in the others
        return history, z.cpu().numpy()
    except RuntimeError as error:
        if processes.world_size > 1 and _lost(error):
            seen = f"one that ended or did not answer (seen by process {processes.global_rank})"
            raise _ended(processes.world_size, seen, options["checkpoint"]) from error
        raise


def _lost(error: RuntimeError) -> bool:
    """Tell whether an error is of the connection between processes."""
    return isinstance(error, torch.distributed.DistError) or bool(LOST.search(str(error)))


def _ended(n_processes: int, found: str, checkpoint: Path | None) -> RankError:
    again = "Start again" if checkpoint is None else f"Start again to go on from {checkpoint}"
    return RankError(f"Expected {n_processes} processes to train to the end, found {found}. {again}.")


def _spawns(devices: Devices) -> bool:
    """Tell whether processes are to be started, as they are not there already."""
    if devices.strategy != "auto":
        return devices.strategy == "ddp_spawn"
    return not started_outside()


def _fabric(devices: Devices, *, timeout: timedelta, spawn: bool) -> Any:
    require_extra("lightning_fabric", extra="distributed")
    from stmmr.model.fabric import fabric_of

    return fabric_of(devices, timeout=timeout, spawn=spawn)


def _spawned(
    network: Network, inputs: ModelInputs, devices: Devices, *, timeout: timedelta, options: dict[str, Any]
) -> tuple[dict[str, list[float]], NDArray[np.float32]]:
    """Start processes, wait for them, and take over what the first one wrote."""
    from safetensors.torch import load_file
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    with TemporaryDirectory(prefix="stmmr-") as name, _environment_kept():
        folder = Path(name)
        fabric = _fabric(devices, timeout=timeout, spawn=True)
        sent = _Sent(
            {n: v.detach().cpu().numpy() for n, v in network.state_dict().items()},
            network.settings,
            _mapped(replace(inputs, start=None), torch.Tensor, torch.Tensor.numpy),
        )
        try:
            fabric.launch(partial(_spawned_work, sent=sent, folder=folder, options=options))
        except (ProcessExitedException, ProcessRaisedException) as error:
            raise _explained(error, folder, devices, options["checkpoint"]) from error
        found = load_file(folder / "weights.safetensors")
        embedding = np.load(folder / "embedding.npy", allow_pickle=False)
        history: dict[str, list[float]] = json.loads((folder / "history.json").read_text())
    network.load_state_dict(found)
    network.eval()
    return history, embedding


class _Sent(NamedTuple):
    """What a process is started with; arrays, as tensors would go through the shared memory, which may be small."""

    weights: dict[str, NDArray[Any]]
    settings: Settings
    inputs: Any


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Change all values of a kind in the fields of the inputs, and in tuples there."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple):
        parts = [_mapped(part, kind, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), kind, change) for f in fields(value)})
    return value


def _spawned_work(fabric: Any, *, sent: _Sent, folder: Path, options: dict[str, Any]) -> None:
    """Do what a started process does; what went wrong, or the result of the first one, is left in the folder."""
    from safetensors.torch import save_file

    inputs: ModelInputs = _mapped(sent.inputs, np.ndarray, torch.from_numpy)
    network = Network(inputs.shapes, settings=sent.settings)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in sent.weights.items()})
    try:
        history, embedding = _work(fabric, network=network, inputs=inputs, options=options)
    except (InputError, FloatingPointError, RankError) as error:
        if isinstance(error, RankError):
            time.sleep(GRACE)
        path = folder / f"error-{fabric.global_rank}.json"
        path.write_text(json.dumps({"kind": type(error).__name__, "text": str(error)}))
        raise
    if fabric.global_rank == 0:
        save_file({n: v.cpu().contiguous() for n, v in network.state_dict().items()}, folder / "weights.safetensors")
        np.save(folder / "embedding.npy", embedding)
        (folder / "history.json").write_text(json.dumps(history))
    # its threads, left to the end of the process, may abort it
    torch.distributed.destroy_process_group()


def _explained(error: Exception, folder: Path, devices: Devices, checkpoint: Path | None) -> Exception:
    """Turn the end of a process into the error it met, or into one sentence."""
    kinds = {kind.__name__: kind for kind in (InputError, FloatingPointError, RankError)}
    noted = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    for first in sorted(noted, key=lambda each: each["kind"] == RankError.__name__):  # others lose it for a reason
        return kinds[first["kind"]](first["text"])
    last = str(error).strip().splitlines()[-1].rstrip(".")
    signal = getattr(error, "signal_name", None)
    found = f"process {getattr(error, 'error_index', '')} ended by {signal or last}"
    return _ended(devices.n_processes, found, checkpoint)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Put back what Fabric changes in the environment of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
