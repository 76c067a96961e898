"""stmmr: spatial domains from counts, coordinates and histology.

The public names are loaded on first use: ``import stmmr`` imports neither torch nor scanpy nor matplotlib.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from stmmr._core.version import VERSION, warn_of_authors_package

__version__ = VERSION
__all__ = [
    "Block",
    "InputError",
    "StMMR",
    "analyse",
    "datasets",
    "io",
    "pl",
    "pp",
    "read",
    "report",
    "reproduce",
    "run",
    "tl",
]

logging.getLogger("stmmr").addHandler(logging.NullHandler())
warn_of_authors_package()

if TYPE_CHECKING:
    from stmmr import datasets, io, pl, pp, report, reproduce, tl
    from stmmr._core.checks import InputError
    from stmmr.io import read
    from stmmr.model import StMMR
    from stmmr.pipeline.analyses import analyse
    from stmmr.pipeline.run import run
    from stmmr.settings import Block

_SUBMODULES = {"datasets", "io", "pl", "pp", "report", "reproduce", "tl"}
_NAMES = {
    "Block": "stmmr.settings",
    "InputError": "stmmr._core.checks",
    "StMMR": "stmmr.model",
    "analyse": "stmmr.pipeline.analyses",
    "read": "stmmr.io",
    "run": "stmmr.pipeline.run",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"stmmr.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
