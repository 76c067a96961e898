"""Versions of this package and of those that shape its results; a warning if the authors' package is installed too."""

from __future__ import annotations

import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = "0.1.0"
"""The only place that holds it: the build reads it from here, and no metadata are parsed at import."""

PACKAGES: Final = ("anndata", "numpy", "scanpy", "scikit-image", "scikit-learn", "scipy", "torch")
"""Packages that shape the results."""
AUTHORS_PACKAGE: Final = re.compile(r"stmmr-([1-9][^-]*)\.dist-info", re.IGNORECASE)
"""Metadata folder of the PyPI package ``stmmr``, whose releases start at 1.0.0."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Collect the versions of this package, of Python, and of packages where they are installed."""
    import platform
    from importlib import metadata

    collected = {"stmmr": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            collected[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return collected


def warn_of_authors_package() -> None:
    """Warn if the research code of the paper's authors is installed as well.

    On PyPI it is called ``stmmr`` and this package ``stmmr-kit``. It is imported as ``stMMR``: a folder of its own on
    Linux, but the folder of this package on Windows and macOS, which do not tell upper from lower case.
    """
    theirs = _authors_version()
    if theirs is None:
        return
    from pathlib import Path  # takes longer to import than the search

    if (Path(__file__).parents[1] / "train_model.py").exists():
        text = (
            f"The package stmmr {theirs} (the research code of the paper's authors) is installed in the same folder as "
            f"stmmr-kit, and each has overwritten files of the other. Keep one: pip uninstall --yes stmmr stmmr-kit, "
            "then pip install stmmr-kit."
        )
    else:
        text = (
            f"The package stmmr {theirs} (the research code of the paper's authors) is installed beside stmmr-kit. "
            "'import stmmr' and the command stmmr belong to stmmr-kit, 'import stMMR' to theirs. If you do not need "
            "theirs: pip uninstall stmmr."
        )
    warnings.warn(text, stacklevel=3)  # the line that imports stmmr


def _authors_version() -> str | None:
    for folder in dict.fromkeys(sys.path):
        try:
            names = os.listdir(folder or os.curdir)  # noqa: PTH208
        except OSError:  # an archive, or a folder that does not exist
            continue
        for match in filter(None, map(AUTHORS_PACKAGE.fullmatch, names)):
            return match[1]
    return None
