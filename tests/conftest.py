"""Fixtures shared by all tests."""

import os
import re
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")
BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2] / "shared"
IMPORTS_TORCH = re.compile(r"^(import|from) torch\b", re.MULTILINE)


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


if find_spec("torch") is None:
    # only the network needs torch: what does not, is tested without it

    def pytest_ignore_collect(collection_path: Path) -> bool | None:
        """Leave out files that import torch."""
        if collection_path.suffix == ".py" and re.search(IMPORTS_TORCH, collection_path.read_text(encoding="utf-8")):
            return True
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
        """Skip a test that turns out to need torch."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        while error is not None and getattr(error, "name", None) != "torch":
            error = error.__cause__ or error.__context__
        if error is not None:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, "Skipped: torch is not installed")
        return report
