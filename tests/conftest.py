"""Fixtures shared by all tests."""

import os
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")
BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("STMMR_SHARED", BESIDE_THE_PROJECT)) / name
    if not folder.is_dir():
        pytest.skip(f"the real data are not here ({name}); set STMMR_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets (.h5ad)."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Folder with small output folders as the vendors' pipelines write them."""
    return _shared("fixtures")
