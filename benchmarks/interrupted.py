"""Kill a run at ten random moments and go on: `python -m benchmarks.interrupted` writes docs/interrupted.md.

Each time the command is given again it goes on with what is done; the last run ends undisturbed. Its domains.csv is
compared, byte by byte, with that of a run that nobody killed.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._table import DATA, write

NAMES = ["visium_dlpfc_151673", "xenium_mouse_brain"]
KILLS = 10
TEXT = """`stmmr run`, with its counts on disk, killed (SIGKILL) at ten moments drawn at random over the time that
an undisturbed run takes, and given again each time; then once more to the end. Runs that end before their moment begin
anew. "Done before" lists how many steps were found finished at each start. The last column compares `domains.csv` with
that of an undisturbed run, byte by byte."""


def start(name: str, out: Path) -> subprocess.Popen[str]:
    """Start the command, in a process of its own."""
    source = DATA / f"{name}.h5ad"
    line = [sys.executable, "-m", "stmmr.cli", "run", source, "-o", out, "--mode", "disk", "--no-progress"]
    return subprocess.Popen(list(map(str, line)), stderr=subprocess.PIPE, text=True)


def measure(name: str, folder: Path, rng: np.random.Generator) -> list[str]:
    """Kill and go on, and compare."""
    began = time.perf_counter()
    whole = start(name, folder / "whole")
    said = whole.communicate()[1]
    if whole.returncode:
        raise RuntimeError(said)
    lasts = time.perf_counter() - began
    moments, found = rng.uniform(0, lasts, KILLS), []
    for moment in [*moments, None]:
        run = start(name, folder / "out")
        try:
            said = run.communicate(timeout=moment)[1]
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            said = run.communicate()[1]
        found.append(said.count("done before"))
        print(name, moment, found[-1], run.returncode, flush=True)
        if run.returncode > 0:
            raise RuntimeError(said)
        if (folder / "out").exists() and moment is not None:  # whole before its moment came: begin anew
            (folder / "out" / "domains.csv").rename(folder / f"domains_{len(found)}.csv")
            shutil.rmtree(folder / "out")
    ends = [folder / "out" / "domains.csv", *folder.glob("domains_*.csv")]
    same = all(end.read_bytes() == (folder / "whole" / "domains.csv").read_bytes() for end in ends)
    killed = ", ".join(f"{moment:.1f}" for moment in moments)
    return [name, f"{lasts:.0f}", killed, ", ".join(map(str, found)), "the same" if same else "**differs**"]


def main() -> None:
    rng = np.random.default_rng()
    table = [["data", "seconds undisturbed", "killed after (s)", "done before", "domains.csv"]]
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            table.append(measure(name, Path(folder), rng))
    write("interrupted.md", "Killed and resumed", TEXT, table)


if __name__ == "__main__":
    main()
