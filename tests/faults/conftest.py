"""Commands in processes of their own, on a small section, with faults around them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stmmr
from processes import COMMAND, Process


def some(values, *selected):
    """Leave all but the selected values of a parameter to ``make test-faults``."""
    return [value if value in selected else pytest.param(value, marks=pytest.mark.nightly) for value in values]


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
"""Stands for a full disk: writing beyond a size fails, whoever writes."""


def start(*arguments, before="", cwd=None, **environment):
    """Start ``stmmr`` after some code, in a fork of a process that has imported the packages."""
    env = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return Process(f"{before}\n{COMMAND}", *arguments, cwd=cwd, env=env)


def finish(*arguments, **options):
    """Run ``stmmr``; get its exit status and what it wrote to stderr."""
    process = start(*arguments, **options)
    process.wait()
    return ended(process.returncode, process.stderr)


def finish_anew(*arguments, before="", **environment):
    """Run ``stmmr`` in a new process, which imports the packages itself."""
    done = new_process("-c", f"{before}\n{COMMAND}", *arguments, **environment)
    return ended(done.returncode, done.stderr)


def new_process(*arguments, **environment):
    """Run a new Python; variables that are None are taken from its environment."""
    env = {name: value for name, value in (os.environ | environment).items() if value is not None}
    line = [sys.executable, *map(str, arguments)]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=900, check=False)


def ended(status, errors):
    assert "Traceback" not in errors, errors
    return status, errors


def contents(folder: Path) -> dict[str, str]:
    """Hash every file in a folder, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def tissue():
    return stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=30)


@pytest.fixture
def source(tissue, tmp_path):
    """A section as a file."""
    tissue.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


@pytest.fixture(scope="session")
def finished(tissue, tmp_path_factory):
    """A folder with a section and a result of it."""
    folder = tmp_path_factory.mktemp("finished")
    tissue.write_h5ad(folder / "in.h5ad")
    status, errors = finish("run", folder / "in.h5ad", "-o", folder / "out", "--n-domains", 3, "--no-progress")
    assert status == 0, errors
    return folder


@pytest.fixture
def result(finished, tmp_path):
    """The result of an earlier run, with files of the user beside those of stmmr."""
    import shutil

    shutil.copytree(finished / "out", tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("years of work")
    (tmp_path / "out/model/notes.txt").write_text("more work")
    (tmp_path / "out/figures").mkdir()
    (tmp_path / "out/figures/mine.png").write_text("drawn by hand")
    return tmp_path / "out"
