"""Folders for the caches of numba and matplotlib, where theirs cannot be written."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

VARIABLES: Final = {"NUMBA_CACHE_DIR": (".cache/numba",), "MPLCONFIGDIR": (".config/matplotlib", ".cache/matplotlib")}
"""Variables that name a folder of a cache, and the folders below the user's home without them."""


def prepare_command() -> None:
    """Provide caches, and let matplotlib draw without windows: the backend of a notebook works only there."""
    os.environ["MPLBACKEND"] = "agg"
    provide_caches()


@cache
def provide_caches() -> None:
    """Give numba and matplotlib a folder of this process, where theirs cannot be written: umap and scanpy need one."""
    for variable, names in VARIABLES.items():
        if not all(_can_be_written(folder) for folder in _folders(variable, names)):
            os.environ[variable] = str(Path(_temporary().name) / variable.lower())
    if "numba" in sys.modules:
        from numba import config

        config.reload_config()  # type: ignore[no-untyped-call]  # it read the variables when it was imported


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that is removed with the process."""
    return tempfile.TemporaryDirectory(prefix="stmmr_")


def _folders(variable: str, names: tuple[str, ...]) -> list[Path]:
    if os.environ.get(variable):
        return [Path(os.environ[variable])]
    home = Path("~").expanduser()
    if sys.platform != "linux":  # Library, AppData
        return [home]
    bases = {"cache": os.environ.get("XDG_CACHE_HOME"), "config": os.environ.get("XDG_CONFIG_HOME")}
    return [
        Path(base, *parts) if (base := bases[kind.removeprefix(".")]) else home / name
        for name in names
        for kind, *parts in [name.split("/")]
    ]


def _can_be_written(folder: Path) -> bool:
    """Tell whether a folder can be written, or made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
