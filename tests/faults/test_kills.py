"""Killed at any moment, a command leaves what was there or a whole result, and continues."""

import json
import os
import shutil
from pathlib import Path

import pytest

from processes import run

KILLS, SEED = (int(os.environ.get(f"STMMR_{name}", "0")) for name in ("KILLS", "SEED"))
"""Number of kills and seed of their moments; 0 kills: the few of make test."""
PROGRAM = Path(__file__).with_name("kills.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals and forks")


def kill(folder, number, *cases):
    """Kill commands a number of times, and print what was there after the kills (seen with -s)."""
    code = f"import runpy\nrunpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    done = run(folder, SEED, number, *cases, code=code)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201
    assert json.loads(done.stdout.splitlines()[-1])["kills"] >= number


@pytest.mark.slow
def test_kills_at_random_moments(source, finished):
    """Of any command; few kills are all of the command that replaces an earlier result."""
    if not KILLS:
        shutil.copytree(finished / "out", source.parent / "trained/out")
    kill(source.parent, KILLS or 3, *([] if KILLS else ["replace"]))


@pytest.mark.nightly
@pytest.mark.skipif(KILLS > 0, reason="the test above is of random commands")
def test_random_commands_killed_at_random_moments(source):
    kill(source.parent, 12)


@pytest.mark.nightly
def test_a_cohort_killed_at_ten_moments_ends_with_the_same_bytes(source):
    kill(source.parent, 10, "cohort")
