"""The version of this package, and of those that shape its results."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION: Final = importlib.metadata.version("stmmr")
PACKAGES: Final = ("anndata", "numpy", "scanpy", "scikit-image", "scikit-learn", "scipy", "torch")
"""Packages that shape the results."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Collect the versions of this package, of Python, and of packages where they are installed."""
    collected = {"stmmr": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            collected[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return collected
