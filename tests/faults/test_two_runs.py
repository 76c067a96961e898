"""Two commands at once on one folder: one works, the other says so and changes nothing."""

import json
import signal
import sys
import time

import pytest

import stmmr
from stmmr._core import keys

from .conftest import finish, some, start

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs signals")]
WAITS = "from stmmr.pipeline import writing\nwriting.carry_out = lambda *a, **k: __import__('time').sleep(100)"
"""A run stops after its domains."""


def waiting(path, pattern, process):
    for _ in range(600):
        if found := list(path.glob(pattern)):
            return found
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    raise TimeoutError(pattern)


@pytest.mark.parametrize("second", some(["run", "map", "analyse", "same", "linked"]))
def test_the_second_is_refused(source, result, tmp_path, second):
    (tmp_path / "latest").symlink_to(result)
    before = (result / "domains.csv").read_bytes()
    options = ("--overwrite", "--no-progress", "-q")
    first = start("run", source, "-o", result, "--n-domains", 2, *options, before=WAITS)
    waiting(tmp_path, ".out.unfinished/domains.h5", first)
    arguments = {
        "run": ("run", source, "-o", result, "--n-domains", 4, *options),
        "same": ("run", source, "-o", result, "--n-domains", 2, *options),
        "linked": ("run", source, "-o", tmp_path / "latest", "--n-domains", 4, *options),
        "map": ("map", source, "--model", result, "-o", result, *options),
        "analyse": ("analyse", result, "--trajectory", "--no-progress", "-q"),
    }[second]
    status, errors = finish(*arguments)
    assert status == 1
    assert str(first.pid) in errors or second == "map", errors
    assert len(errors.splitlines()) == 1
    assert (result / "domains.csv").read_bytes() == before
    assert (tmp_path / ".out.unfinished/domains.h5").exists()
    first.send_signal(signal.SIGKILL)
    first.wait()
    status, errors = finish(*arguments)  # a dead process holds nothing
    assert status == 0 or second == "map", errors
    assert not list(tmp_path.glob(".out.*")) or second in ("map", "analyse")


def test_at_the_same_moment(source, tmp_path):
    """Whichever is first publishes its own domains; of another output folder, nobody waits."""
    runs = {k: start("run", source, "-o", tmp_path / "out", "--n-domains", k, "-q", "--no-progress") for k in (2, 3)}
    results = {k: (process.wait(), process.stderr) for k, process in runs.items()}
    won = [k for k, (status, _) in results.items() if status == 0]
    assert len(won) == 1, results
    table = (tmp_path / "out/domains.csv").read_text().splitlines()
    assert len({line.split(",")[1] for line in table[1:]}) == won[0]
    assert json.loads((tmp_path / "out/run.json").read_text())["options"]["n_domains"] == won[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out"]


def test_steps_of_another_run_are_not_taken(tissue, tmp_path):
    """Even when a file was put among them."""
    for seed in (0, 1):
        stmmr.run(tissue.copy(), n_domains=3, random_state=seed, checkpoint=tmp_path / str(seed), progress=False)
    for name in ("embedding.h5", "domains.h5"):
        (tmp_path / "0" / name).replace(tmp_path / "1" / name)
    once, again = tissue.copy(), tissue.copy()
    stmmr.run(once, n_domains=3, random_state=1, progress=False)
    stmmr.run(again, n_domains=3, random_state=1, checkpoint=tmp_path / "1", progress=False)
    assert (once.obsm[keys.EMBEDDING] == again.obsm[keys.EMBEDDING]).all()
    assert again.uns["stmmr"]["model"]["random_state"] == 1
