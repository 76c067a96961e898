"""Kill a run at ten random times and resume it: `python -m benchmarks.interrupted` writes docs/interrupted.md.

After each kill the same command is started again and resumes from the finished steps. The last run is not killed. Its
domains.csv is compared, byte by byte, with that of a run that was never killed.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._table import DATA, no_options, write_tables

NAMES = ["visium_dlpfc_151673", "xenium_mouse_brain"]
KILLS = 10
RESTORED = "finished before"
"""What `stmmr run` logs of a step that an earlier run finished."""


def start(name: str, out: Path) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    source = DATA / f"{name}.h5ad"
    command = [sys.executable, "-m", "stmmr.cli", "run", source, "-o", out, "--mode", "disk", "--no-progress"]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)


def measure(name: str, folder: Path, rng: np.random.Generator) -> list[str]:
    """Kill and resume, and compare the results."""
    began = time.perf_counter()
    undisturbed = start(name, folder / "undisturbed")
    log = undisturbed.communicate()[1]
    if undisturbed.returncode:
        raise RuntimeError(log)
    duration = time.perf_counter() - began
    moments, restored = rng.uniform(0, duration, KILLS), []
    for moment in [*moments, None]:
        run = start(name, folder / "out")
        try:
            log = run.communicate(timeout=moment)[1]
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            log = run.communicate()[1]
        restored.append(log.count(RESTORED))
        print(name, moment, restored[-1], run.returncode, flush=True)
        if run.returncode > 0:
            raise RuntimeError(log)
        if (folder / "out").exists() and moment is not None:  # it ended before it was killed: start from the beginning
            (folder / "out" / "domains.csv").rename(folder / f"domains_{len(restored)}.csv")
            shutil.rmtree(folder / "out")
    results = [folder / "out" / "domains.csv", *folder.glob("domains_*.csv")]
    expected = (folder / "undisturbed" / "domains.csv").read_bytes()
    same = all(result.read_bytes() == expected for result in results)
    killed = ", ".join(f"{moment:.1f}" for moment in moments)
    return [name, f"{duration:.0f}", killed, ", ".join(map(str, restored)), "identical" if same else "**differs**"]


def main() -> None:
    no_options(__doc__)
    rng = np.random.default_rng()
    table = [["data", "seconds without a kill", "killed after (s)", "steps restored at each start", "domains.csv"]]
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            table.append(measure(name, Path(folder), rng))
    write_tables("interrupted", table)


if __name__ == "__main__":
    main()
