"""A command in a process of its own, with limits on its memory and time; and the rows that are kept of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import _simulate
from benchmarks._table import ROOT

Row = dict[str, Any]
OUT_OF_MEMORY = ("MemoryError", "allocate memory", "bad_alloc", "DefaultCPUAllocator", "Unable to allocate")
"""Parts of the error of a process that asked for more memory than its limit."""


LAUNCH = """
import json, os, resource, sys
if not (pid := os.fork()):
    if limit := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.execvp(sys.argv[3], sys.argv[3:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1e3], file)
"""
"""A process inherits the peak memory of the process that forked it. This small one is put in between."""


def measured(command: Sequence[object], *, at_most_s: float, at_most_gb: float = 0) -> Row:
    """Run a command; 0 GB means that its memory is not limited.

    Returns
    -------
    "seconds"; "peak_mb", None if the time was up; "failed": empty, "memory", "time" or the last line of the error;
    "output": the standard output.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err, result = (Path(folder) / name for name in ("out", "err", "result"))
        words = [sys.executable, "-S", "-c", LAUNCH, result, int(at_most_gb * 1e9), *command]
        start = time.perf_counter()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                list(map(str, words)), stdout=stdout, stderr=stderr, cwd=ROOT, start_new_session=True
            )
        try:
            process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            return {"seconds": at_most_s, "peak_mb": None, "failed": "time", "output": ""}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = time.perf_counter() - start
        code, peak = json.loads(result.read_text()) if result.exists() else (-signal.SIGTERM, None)
        if code == -signal.SIGTERM:
            raise RuntimeError("Expected the process to end by itself, found it terminated. Measure it again.")
        error = err.read_text(errors="replace")
        last_line = (error.strip().splitlines() or [f"exit {code}"])[-1]
        # killed by the system, or refused by it
        out_of_memory = code == -signal.SIGKILL or any(part in error for part in OUT_OF_MEMORY)
        failed = "memory" if out_of_memory else last_line
        return {"seconds": seconds, "peak_mb": peak, "failed": failed if code else "", "output": out.read_text()}


def kept(cache: Path) -> list[Row]:
    """Read the rows of earlier runs."""
    return list(map(json.loads, cache.read_text().splitlines())) if cache.exists() else []


def keep(cache: Path, row: Row) -> None:
    """Add a row, at once."""
    cache.parent.mkdir(exist_ok=True)
    with cache.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


@contextmanager
def simulated(folder: Path, n_cells: int, n_genes: int) -> Iterator[Path]:
    """Simulate a section in a process of its own; its file is removed at the end."""
    path = folder / f"simulated_{n_cells}_{n_genes}.h5ad"
    command = [sys.executable, "-m", _simulate.__name__, path, "--cells", str(n_cells), "--genes", str(n_genes)]
    try:
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)
        yield path
    finally:
        path.unlink(missing_ok=True)
