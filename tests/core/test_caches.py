"""Folders for the caches of other packages."""

import os
import sys
from pathlib import Path

import pytest

from stmmr._core import caches


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Begin without variables, and undo those that are set."""
    for name in (*caches.VARIABLES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.delitem(sys.modules, "numba", raising=False)


def test_caches_at_home_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    caches.provide_caches.__wrapped__()
    assert not any(os.environ[name] for name in caches.VARIABLES)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="HOME is of POSIX")
@pytest.mark.parametrize("named", [False, True])
def test_a_folder_where_nothing_can_be_written(tmp_path, monkeypatch, named):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file/home"))
    for name in caches.VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / "file/cache") if named else "")
    caches.provide_caches.__wrapped__()
    for name in caches.VARIABLES:
        folder = Path(os.environ[name])
        folder.mkdir(exist_ok=True)
        assert tmp_path not in folder.parents
