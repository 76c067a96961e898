"""The state of a training in a file, from which it can resume."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import torch

from stmmr._core.checks import InputError, listed
from stmmr._core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from stmmr.model.inputs import ModelInputs
    from stmmr.model.loop import Processes
    from stmmr.nn import Network
    from stmmr.settings import Settings

FORMAT: Final = 2
"""Version of the file format."""
SECONDS: Final = 60.0
"""Shortest time from one writing to the next."""
ADAM: Final = ("step", "exp_avg", "exp_avg_sq")
"""State of Adam for each parameter."""


class Checkpoint:
    """A file with the weights, the state of Adam and of the dropout's random generators, and the history.

    The spots of a batch depend on the seed and the number of the step only, so they need no state.

    Parameters
    ----------
    path
        The file.
    settings, inputs, random_state, processes
        The training; a file of another training is refused.

    Raises InputError if the folder of the file does not exist.
    """

    def __init__(
        self, path: Path, settings: Settings, inputs: ModelInputs, *, random_state: int, processes: Processes
    ) -> None:
        folder = path.resolve().parent
        if not folder.is_dir():
            raise InputError(f"Expected a folder for the checkpoint, found none at {folder}. Create it first.")
        self.path, self.processes = path, processes
        self.facts = {
            "format": FORMAT,
            "settings": asdict(settings),
            "data": inputs.fingerprint(),
            "random_state": random_state,
            "number of processes": processes.world_size,
        }
        self._written = time.monotonic()

    def write_when_due(
        self, network: Network, optimizer: torch.optim.Optimizer, history: dict[str, list[float]], *, last: bool
    ) -> None:
        """Write the state after the last step, or a minute after the last writing; the first process decides."""
        due = last or time.monotonic() - self._written > SECONDS
        decision = torch.tensor(int(due and self.processes.global_rank == 0), device=self.processes.device)
        if not self.processes.all_reduce(decision, reduce_op="sum"):
            return
        self.write(network, optimizer, history)
        self._written = time.monotonic()

    def write(self, network: Network, optimizer: torch.optim.Optimizer, history: dict[str, list[float]]) -> None:
        """Write the state after a step; all processes take part, and the first one writes."""
        from safetensors.torch import save

        state = _generator(self.processes.device).to(self.processes.device)
        generators = state.new_zeros(self.processes.world_size, len(state))
        generators[self.processes.global_rank] = state
        generators = self.processes.all_reduce(generators, reduce_op="sum")  # (processes, bytes)
        if self.processes.global_rank > 0:
            return
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        for i, averages in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": averages[name] for name in ADAM}
        tensors |= {"generators": generators, "history": torch.tensor(list(history.values()), dtype=torch.float64)}
        metadata = {"stmmr": json.dumps(self.facts | {"terms": list(history)})}
        with atomic_write(self.path) as new:
            values = {n: v.detach().cpu().contiguous() for n, v in tensors.items()}
            new.write_bytes(save(values, metadata=metadata))  # raises OSError on a full disk

    def resume(self, network: Network, optimizer: torch.optim.Optimizer) -> dict[str, list[float]]:
        """Restore the state in the file, if it exists.

        Returns
        -------
        The history until then.

        Raises InputError if the file is damaged, not a checkpoint, or of another training.
        """
        if not self.path.exists():
            return {}
        terms, tensors = self._read()
        network.load_state_dict({n.removeprefix("network."): v for n, v in tensors.items() if n.startswith("network.")})
        state = optimizer.state_dict()
        n_parameters = len(state["param_groups"][0]["params"])
        state["state"] = {i: {name: tensors[f"adam.{i}.{name}"] for name in ADAM} for i in range(n_parameters)}
        optimizer.load_state_dict(state)
        _set_generator(self.processes.device, tensors["generators"][self.processes.global_rank].clone())
        return dict(zip(terms, tensors["history"].tolist(), strict=True))

    def _read(self) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Read the names of the terms of the loss, and all tensors."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                facts = json.loads((file.metadata() or {})["stmmr"])
                terms: list[str] = facts["terms"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"Expected a checkpoint written by stmmr in {self.path}, found something else. Name another file."
            ) from error
        expected = json.loads(json.dumps(self.facts))
        others = [name for name, value in expected.items() if facts.get(name) != value]
        if others:
            raise InputError(
                f"Expected the checkpoint of this training in {self.path}, found one with other {listed(others)}. "
                "Name another file, or delete this one to start again."
            )
        return terms, tensors


def _generator(device: torch.device) -> torch.Tensor:
    """Get the state of the random generator of the dropout."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.cpu(), device)
    else:
        torch.set_rng_state(state)
