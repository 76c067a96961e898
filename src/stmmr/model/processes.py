"""Training by several processes, started by Lightning Fabric, torchrun or SLURM; its import takes seconds."""

from __future__ import annotations

import logging
import os
import pickle
import re
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from stmmr._core.checks import InputError
from stmmr.model.devices import RankError
from stmmr.model.loop import train_and_embed

if TYPE_CHECKING:
    from stmmr.model.devices import Devices
    from stmmr.model.inputs import ModelInputs
    from stmmr.model.loop import Options, Trained
    from stmmr.nn import Network

TIMEOUT: Final = timedelta(minutes=10)
"""How long a process waits for another one that does not answer."""
LOST: Final = re.compile(r"gloo|nccl|connection|timeout|timed out|peer", re.IGNORECASE)
"""Words in the errors of a lost connection between processes."""


class QuietDDP(DDPStrategy):
    """Average gradients over processes, without a log line from each process that starts."""

    def setup_environment(self) -> None:
        """Connect to the other processes."""
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        super().setup_environment()


def train_in_processes(
    network: Network, inputs: ModelInputs, devices: Devices, *, options: Options, timeout: timedelta = TIMEOUT
) -> Trained:
    """Train a network in place by several processes, and embed all spots.

    Raises RankError if a process ends or does not answer.
    """
    strategy = QuietDDP(start_method="spawn" if devices.spawns else "popen", timeout=timeout)
    fabric = Fabric(
        accelerator=devices.device,
        devices=devices.devices,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        plugins=LightningEnvironment() if devices.spawns else None,
    )
    if not devices.spawns:
        trained: Trained = fabric.launch(partial(_train_share, network=network, inputs=inputs, options=options))
        return trained
    with TemporaryDirectory(prefix="stmmr-") as folder, mock.patch.dict(os.environ):  # Fabric leaves its port there
        result = Path(folder) / "result"
        # pickled here: by the launcher, tensors would go through the shared memory, which is small in containers
        sent = pickle.dumps((network, replace(inputs, start=None), options))
        try:
            fabric.launch(partial(_spawned, sent=sent, result=result))
        except (ProcessExitedException, ProcessRaisedException) as error:
            raise _explained(error, devices.n_processes, options.checkpoint) from error
        state, trained = pickle.loads(result.read_bytes())  # noqa: S301 - written by our own process
    network.load_state_dict(state)
    network.eval()
    return trained


def _spawned(fabric: Any, *, sent: bytes, result: Path) -> None:
    """Do the work of a started process; the first process writes the result."""
    network, inputs, options = pickle.loads(sent)  # noqa: S301 - sent by our own process
    trained = _train_share(fabric, network=network, inputs=inputs, options=options)
    if fabric.global_rank == 0:
        result.write_bytes(pickle.dumps((network.cpu().state_dict(), trained)))
    torch.distributed.destroy_process_group()  # threads left to the end of the process may abort it


def _train_share(fabric: Any, *, network: Network, inputs: ModelInputs, options: Options) -> Trained:
    """Do the work of one process; a lost connection becomes a `RankError`."""
    try:
        return train_and_embed(fabric, network, inputs, options=options)
    except RuntimeError as error:
        if not (isinstance(error, torch.distributed.DistError) or LOST.search(str(error))):
            raise
        lost = f"one that ended or did not answer (seen by process {fabric.global_rank})"
        raise _ended(fabric.world_size, lost, options.checkpoint) from error


def _explained(error: Exception, n_processes: int, checkpoint: Path | None) -> Exception:
    """Turn the end of a process into the error that it raised, or into one sentence."""
    last = str(error).strip().splitlines()[-1]
    kind, _, message = last.partition(": ")
    for known in (InputError, FloatingPointError, RankError):
        if kind.rpartition(".")[2] == known.__name__:
            return known(message)
    cause = getattr(error, "signal_name", None) or last.rstrip(".")
    return _ended(n_processes, f"process {getattr(error, 'error_index', '')} ended by {cause}", checkpoint)


def _ended(n_processes: int, ended: str, checkpoint: Path | None) -> RankError:
    again = "Start again" if checkpoint is None else f"Start again to resume from {checkpoint}"
    return RankError(f"Expected {n_processes} processes to train to the end, found {ended}. {again}.")
