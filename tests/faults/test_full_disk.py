"""A full disk is one sentence; finished steps and earlier results stay."""

import json
import shutil
import subprocess
import sys

import pytest

from .conftest import LIMIT, contents, finish

MOUNT, UNMOUNT = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")]


def run(source, folder, *arguments, **options):
    return finish("run", source, "-o", folder, "--n-domains", 3, "--no-progress", "-q", *arguments, **options)


@pytest.mark.parametrize("mode", ["memory", "disk"])
@pytest.mark.parametrize("size", [0, 1_000, 20_000, 70_000, 200_000, 700_000, 1_000_000])
def test_files_up_to_a_size(source, tmp_path, size, mode):
    """The limit is reached by the kept steps, the model, the data, a figure or the report, in turn."""
    before = contents(tmp_path)
    status, errors = run(source, tmp_path / "out", "--mode", mode, before=LIMIT.format(size=size))
    assert status in (1, 3), (status, errors)
    assert errors.splitlines()[-1].startswith("stmmr: ")
    assert contents(tmp_path).items() >= before.items()
    if status == 3:
        parts = {entry["part"] for entry in json.loads((tmp_path / "out/run.json").read_text())["failed"]}
        assert parts
        assert (tmp_path / "out/result.h5ad").exists()
    else:
        assert any("full" in line for line in errors.splitlines())
        finished = {path.name for path in (tmp_path / ".out.unfinished").glob("*.h5")}
        assert finished or size <= 20_000
    status, errors = run(source, tmp_path / "out", "--mode", mode, *(["--overwrite"] if status == 3 else []))
    assert status == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out"]


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_an_earlier_result_stays(source, result, tmp_path, size):
    before = contents(result)
    status, errors = run(source, result, "--overwrite", before=LIMIT.format(size=size))
    assert status == 1, errors
    assert contents(result) == before
    assert contents(tmp_path)["in.h5ad"]


@pytest.fixture
def small_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "disk"], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield tmp_path / "disk"
    subprocess.run([UNMOUNT, "-l", tmp_path / "disk"], check=True)


def test_a_disk_of_a_megabyte(source, small_disk):
    status, errors = run(source, small_disk / "out")
    assert status == 1, errors
    assert "full" in errors
    subprocess.run([MOUNT, "-o", "remount,size=50m", small_disk], check=True)
    status, errors = run(source, small_disk / "out")
    assert status == 0, errors
    assert [path.name for path in small_disk.iterdir()] == ["out"]
