"""stmmr: spatial domains from counts, coordinates and histology.

The public names are loaded on first use: ``import stmmr`` imports neither torch nor scanpy nor matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

from stmmr._core.log import show_messages
from stmmr._core.version import VERSION, warn_of_authors_package

__all__ = [
    "AnalysisOptions",
    "Block",
    "ExportOptions",
    "InputError",
    "MapOptions",
    "RunOptions",
    "StMMR",
    "analyse",
    "datasets",
    "export",
    "io",
    "map",
    "pl",
    "pp",
    "read",
    "report",
    "reproduce",
    "run",
    "settings",
    "tl",
]

__version__ = VERSION
show_messages()
warn_of_authors_package()

if TYPE_CHECKING:
    from stmmr import datasets, io, pl, pp, report, reproduce, settings, tl
    from stmmr._core.checks import InputError
    from stmmr.exports.export import export
    from stmmr.exports.options import ExportOptions
    from stmmr.io import read
    from stmmr.model import StMMR
    from stmmr.pipeline.analyse import analyse
    from stmmr.pipeline.analyses import AnalysisOptions
    from stmmr.pipeline.mapping import map_section as map  # noqa: A004 - as in stmmr.map(adata, model)
    from stmmr.pipeline.options import MapOptions, RunOptions
    from stmmr.pipeline.run import run
    from stmmr.settings import Block

_SUBMODULES = {"datasets", "io", "pl", "pp", "report", "reproduce", "settings", "tl"}
_NAMES = {
    "AnalysisOptions": ("stmmr.pipeline.analyses", "AnalysisOptions"),
    "Block": ("stmmr.settings", "Block"),
    "ExportOptions": ("stmmr.exports.options", "ExportOptions"),
    "InputError": ("stmmr._core.checks", "InputError"),
    "MapOptions": ("stmmr.pipeline.options", "MapOptions"),
    "RunOptions": ("stmmr.pipeline.options", "RunOptions"),
    "StMMR": ("stmmr.model", "StMMR"),
    "analyse": ("stmmr.pipeline.analyse", "analyse"),
    "export": ("stmmr.exports.export", "export"),
    "map": ("stmmr.pipeline.mapping", "map_section"),
    "read": ("stmmr.io", "read"),
    "run": ("stmmr.pipeline.run", "run"),
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"stmmr.{name}")
    if name in _NAMES:
        module, attribute = _NAMES[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
