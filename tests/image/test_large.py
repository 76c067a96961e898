"""A whole slide of 8 gigapixels and a JPEG of 92 megapixels: the memory is that of a batch of patches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks._slides import write_slide

ROOT = Path(__file__).resolve().parents[2]
N_SPOTS = "2000"


def above_the_baseline_mb(path):
    """Encode an image in a process of its own; its peak memory minus that before."""
    command = [sys.executable, "-m", "benchmarks.images", str(path), "2", N_SPOTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)["above_mb"]


@pytest.mark.nightly
@pytest.mark.slow
def test_slide_of_100_000_by_80_000_pixels(tmp_path):
    assert above_the_baseline_mb(write_slide(tmp_path / "slide.ome.tif")) < 1000


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.realdata
def test_jpeg_of_92_million_pixels(shared_data):
    assert above_the_baseline_mb(shared_data / "st_her2_C2_he.jpg") < 1000
