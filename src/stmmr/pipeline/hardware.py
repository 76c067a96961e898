"""The hardware that the options of a run name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stmmr.model.devices import Devices
    from stmmr.pipeline.options import RunOptions


def names_hardware(options: RunOptions) -> bool:
    """Tell whether the options name a GPU or several processes; they have to be there even if nothing is trained."""
    return options.accelerator == "cuda" or options.devices * options.num_nodes > 1


def require_hardware(options: RunOptions) -> None:
    """Check that the GPUs and packages that the options name are there."""
    if names_hardware(options):
        devices_of(options).require_hardware()


def devices_of(options: RunOptions) -> Devices:
    """Get the hardware of the training."""
    from stmmr.model.devices import Devices

    return Devices(options.accelerator, options.devices, options.num_nodes, precision=options.precision)
