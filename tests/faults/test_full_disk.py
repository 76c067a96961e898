"""A full disk is one sentence; finished steps and earlier results stay."""

import json
import shutil
import subprocess
import sys
from functools import cache

import pytest

from .conftest import LIMIT, contents, finish, some

FILES = ["run.json", "histology.h5", "embedding.h5", "domains.h5", "result.h5ad", "report.html"]
LESS = {"result.h5ad": 2_000, "report.html": 20_000}
"""Bytes by which files of two runs may differ."""

AT_STEP = """
from stmmr.pipeline.resume import KeptSteps
keep = KeptSteps.keep
def limited(self, step, *rest):
    if step == {step!r}:
        {limit}
    keep(self, step, *rest)
KeptSteps.keep = limited
"""
"""The disk is full once a step is kept; steps before it may be larger."""
MOUNT, UNMOUNT = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")]


def run(source, folder, *arguments, **options):
    return finish("run", source, "-o", folder, "--n-domains", 3, "--no-progress", "-q", *arguments, **options)


@pytest.fixture(scope="session")
def sizes(tissue, tmp_path_factory):
    """Get a function: the size to which a file of a run does not come, those of finished steps included."""

    @cache
    def written(mode):
        folder = tmp_path_factory.mktemp("sizes")
        tissue.write_h5ad(folder / "in.h5ad")
        status, errors = run(folder / "in.h5ad", folder / "out", "--mode", mode, "--checkpoint", folder / "kept")
        assert status == 0, errors
        return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    # the message of the error is written to a file as well
    return lambda file, mode: 1_000 if file == "run.json" else written(mode)[file] - LESS.get(file, 1)


@pytest.mark.parametrize("mode", some(["memory", "disk"], "disk"))
@pytest.mark.parametrize("file", some(FILES, "domains.h5"))
def test_a_file_that_is_too_large(source, sizes, tmp_path, file, mode):
    before, limit = contents(tmp_path), LIMIT.format(size=sizes(file, mode)).strip()
    step = file.removesuffix(".h5")
    full = limit if step == file else AT_STEP.format(step=step, limit=limit)
    status, errors = run(source, tmp_path / "out", "--mode", mode, before=full)
    line = errors.splitlines()[-1]
    assert contents(tmp_path).items() >= before.items()
    if file == "report.html":
        assert status == 3, (status, errors)
        assert line.startswith("stmmr: report.html failed")
        assert [entry["part"] for entry in json.loads((tmp_path / "out/run.json").read_text())["failed"]] == [file]
        assert (tmp_path / "out/result.h5ad").exists()
    else:
        assert status == 1, (status, errors)
        assert "found the disk or your quota full" in errors
        kept = {path.name for path in (tmp_path / ".out.unfinished").glob("*.h5")}
        assert file not in kept
        assert kept or file in ("run.json", "histology.h5")
        # where there was no earlier result, the domains are published at once
        assert (tmp_path / "out/domains.csv").exists() == (file == "result.h5ad")
    status, errors = run(source, tmp_path / "out", "--mode", mode, *(["--overwrite"] if status == 3 else []))
    assert status == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out"]


@pytest.mark.parametrize("file", ["run.json", "result.h5ad"])
@pytest.mark.nightly
def test_an_earlier_result_stays(source, result, sizes, tmp_path, file):
    before = contents(result)
    status, errors = run(source, result, "--overwrite", before=LIMIT.format(size=sizes(file, "memory")))
    assert status == 1, errors
    assert contents(result) == before
    assert contents(tmp_path)["in.h5ad"]


@pytest.fixture
def small_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    mount = [MOUNT, "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "disk"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield tmp_path / "disk"
    subprocess.run([UNMOUNT, "-l", tmp_path / "disk"], check=True)


@pytest.mark.nightly
def test_a_disk_of_a_megabyte(source, small_disk):
    status, errors = run(source, small_disk / "out")
    assert status == 1, errors
    assert "full" in errors
    subprocess.run([MOUNT, "-o", "remount,size=50m", small_disk], check=True)
    status, errors = run(source, small_disk / "out")
    assert status == 0, errors
    assert [path.name for path in small_disk.iterdir()] == ["out"]
