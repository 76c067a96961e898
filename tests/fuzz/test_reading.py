"""Whatever a file holds, reading it and running on it ends in a result or an InputError, in time."""

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import stmmr
from stmmr.pipeline.info import describe
from stmmr.pipeline.options import RunOptions

from . import damage, seeds

pytestmark = pytest.mark.filterwarnings("ignore")  # how it ends is what counts
COUNT = int(os.environ.get("STMMR_FUZZ_READS", "42"))
"""Damaged inputs of all formats together."""
SECONDS = 20
PER_TEST = 250


@contextmanager
def in_time() -> Iterator[None]:
    """Fail after the processor time in which each input has to end, or if it waits for ever; a crash ends the tests."""

    def stop(*_: object) -> None:
        raise TimeoutError

    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    timers = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, 20 * SECONDS))
    before = {number: signal.signal(number, stop) for _, number, _ in timers}
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, number, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def read_and_run(path: Path) -> str:
    """Describe an input, read it and run on it; get whether there was a result."""
    image = path if path.suffix in (".png", ".jpg", ".tif") else None
    source = path.parent / "a.h5ad" if image else path
    with warnings.catch_warnings(), in_time():
        warnings.simplefilter("ignore")
        try:
            describe(source, RunOptions(image=image))
            adata = stmmr.read(source)
            options = {"image": image, "um_per_pixel": 1.0, "histology": image is not None}
            stmmr.run(adata, n_domains=2, method="kmeans", progress=False, **options)
        except stmmr.InputError:
            return "refused"
    return "read"


def cases() -> list[tuple[str, int]]:
    per_format = -(-COUNT // len(seeds.FORMATS))
    return [(name, start) for name in seeds.FORMATS for start in range(0, per_format, PER_TEST)]


@pytest.mark.parametrize(("name", "start"), cases())
def test_damaged_files_are_read_or_refused(name, start, tmp_path, request):
    if name == "h5mu":
        pytest.importorskip("mudata")
    source = tmp_path / "valid"
    source.mkdir()
    valid = seeds.FORMATS[name](source)
    assert read_and_run(valid) == "read"
    per_format = -(-COUNT // len(seeds.FORMATS))
    for seed in range(start, min(start + PER_TEST, per_format)):
        path = damage.copied(source, tmp_path / "damaged") / valid.relative_to(source)
        done = damage.damage(path, seed)
        try:
            read_and_run(path)
        except Exception as error:
            raise AssertionError(f"{name} {seed} ({done}): {type(error).__name__}: {error}") from error
