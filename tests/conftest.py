"""Fixtures shared by all tests."""

import logging
import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from stmmr._core.log import RESULT
from stmmr.pl import canvas

mpl.use("Agg")
BESIDE_THE_PROJECT = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("STMMR_SHARED", BESIDE_THE_PROJECT)) / name
    if not folder.is_dir():
        pytest.skip(f"the real data are not here ({name}); set STMMR_SHARED to their folder")
    return folder


@pytest.fixture(autouse=True)
def level_of_messages():
    """Undo what commands set for the whole process."""
    yield
    logging.getLogger("stmmr").setLevel(RESULT)


@pytest.fixture(autouse=True)
def open_figures():
    """Close what a test drew."""
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def coarse_figures(request, monkeypatch):
    """Save figures with few dots; those of tests of figures stay as they are."""
    if request.path.parent.name != "pl":
        monkeypatch.setattr(canvas, "DPI", 40)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets (.h5ad)."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Folder with small output folders as the vendors' pipelines write them."""
    return _shared("fixtures")


if find_spec("torch") is None:
    # only networks need torch; everything else is tested without it

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Skip a file that imports torch."""
        report = yield
        if report.outcome == "failed" and _lacks_torch(report.call.excinfo):
            _skip(report, collector.path)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Skip a test that calls what needs torch."""
        report = yield
        # a command that was called says so instead of raising it
        output = (report.longreprtext, report.capstderr, report.caplog)
        if _lacks_torch(call.excinfo) or (report.failed and any("torch is not installed" in text for text in output)):
            _skip(report, item.path)
        return report

    def _lacks_torch(raised: pytest.ExceptionInfo[BaseException] | None) -> bool:
        error = None if raised is None else raised.value
        while error is not None and getattr(error, "name", None) != "torch":
            error = error.__cause__ or error.__context__
        return error is not None

    def _skip(report: Any, path: Path) -> None:
        report.outcome = "skipped"
        report.longrepr = (str(path), 0, "Skipped: torch is not installed")
