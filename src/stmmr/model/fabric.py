"""Lightning Fabric for several processes; imported only when they are asked for, as its import takes seconds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

if TYPE_CHECKING:
    from datetime import timedelta

    from stmmr.model.processes import Devices


class QuietDDP(DDPStrategy):
    """Gradients averaged over processes, without a line from each that starts."""

    def setup_environment(self) -> None:
        """Join the other processes."""
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        super().setup_environment()


def fabric_of(devices: Devices, *, timeout: timedelta, spawn: bool) -> Any:
    """Make a Fabric that starts processes, or takes those that are there."""
    return Fabric(
        accelerator=devices.device,
        devices=devices.devices,
        num_nodes=devices.num_nodes,
        strategy=QuietDDP(start_method="spawn" if spawn else "popen", timeout=timeout),
        plugins=[LightningEnvironment()] if spawn else None,
    )
