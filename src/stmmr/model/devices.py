"""Where a model trains: the options, and their checks before the first long step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from stmmr._core.checks import InputError, require_choice, require_extra
from stmmr._core.parallel import started_outside

if TYPE_CHECKING:
    from stmmr.settings import Settings

Accelerator = Literal["auto", "cpu", "cuda"]
Strategy = Literal["auto", "ddp", "ddp_spawn"]
Precision = Literal["bf16-mixed"]


class RankError(ChildProcessError):
    """One of several processes that train together ended before the training was done."""


class Devices(NamedTuple):
    """Options of the training hardware."""

    accelerator: Accelerator = "auto"
    """"cuda", "cpu", or "auto" for a GPU if there is one."""
    devices: int = 1
    """Processes on each machine; on GPUs, each process has its own."""
    num_nodes: int = 1
    """Machines; several are started by torchrun or SLURM."""
    strategy: Strategy = "auto"
    """"ddp_spawn" starts processes, "ddp" runs the script once in each; "auto" uses the processes that torchrun or
    SLURM started, otherwise "ddp_spawn"."""
    precision: Precision | None = None
    """"bf16-mixed" for matrix products in bfloat16."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device type on this machine; needs torch."""
        if self.accelerator == "auto":
            return "cuda" if require_extra("torch", extra="torch").cuda.is_available() else "cpu"
        return self.accelerator

    @property
    def n_processes(self) -> int:
        """Number of processes on all machines."""
        return self.devices * self.num_nodes

    @property
    def spawns(self) -> bool:
        """Whether processes are started here, because torchrun or SLURM has not started them."""
        return self.strategy == "ddp_spawn" or (self.strategy == "auto" and not started_outside())

    def require_hardware(self) -> None:
        """Check that GPUs and packages are there.

        Raises
        ------
        InputError
            If a GPU is missing.
        ImportError
            If an extra is missing.
        """
        n_gpus = require_extra("torch", extra="torch").cuda.device_count()
        if self.device == "cuda" and n_gpus < self.devices:
            wanted = f"{self.devices} GPUs" if self.devices > 1 else "a GPU"
            raise InputError(
                f"Expected {wanted}, found {n_gpus or 'none'}. Use accelerator='cpu' (--accelerator cpu) or fewer "
                "devices (--devices)."
            )
        if self.n_processes > 1:
            require_extra("lightning_fabric", extra="distributed")

    def check(self, settings: Settings, n_obs: int, *, decoder: bool = False) -> None:
        """Check the options; hardware and packages only if the settings train something, or with `decoder`.

        Raises
        ------
        InputError
            If an option is out of range, a GPU is missing, or the batches cannot be shared.
        ImportError
            If an extra is missing.
        """
        require_choice(self.accelerator, get_args(Accelerator), name="accelerator")
        require_choice(self.strategy, get_args(Strategy), name="strategy")
        if self.precision is not None:
            require_choice(self.precision, get_args(Precision), name="precision")
        if settings.is_linear and not decoder:
            return
        self.require_hardware()
        if self.n_processes > 1:
            if settings.batch_size == 0:
                raise InputError(
                    f"Expected one process (--devices 1, --num-nodes 1), as all {n_obs} spots are read in one batch, "
                    f"found {self.n_processes}. Processes share batches: leave devices and num_nodes out, or set "
                    "batch_size."
                )
            if not 0 < settings.batch_size < n_obs:
                raise InputError(
                    f"Expected batch_size between 1 and {n_obs - 1} for several processes, which share the batches, "
                    f"found {settings.batch_size}. Set batch_size, or train with one process."
                )
