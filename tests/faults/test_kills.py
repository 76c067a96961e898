"""Killed at any moment, a command leaves what was there or a whole result, and continues."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS, SEED = (int(os.environ.get(f"STMMR_{name}", "0")) for name in ("KILLS", "SEED"))
"""Number of kills and seed of their moments; 0 kills: the few of make test."""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals and forks")
def test_kills_at_random_moments(source):
    program, options = Path(__file__).with_name("kills.py"), (source.parent, SEED, KILLS or 3)
    line = [sys.executable, program, *map(str, options)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201 - with -s: what was there after the kills
    assert json.loads(done.stdout.splitlines()[-1])["kills"] >= (KILLS or 3)


@pytest.mark.nightly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals and forks")
def test_a_cohort_killed_at_ten_moments_ends_with_the_same_bytes(source):
    program = Path(__file__).with_name("kills.py")
    line = [sys.executable, program, str(source.parent), str(SEED), "10", "cohort"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] >= 10
