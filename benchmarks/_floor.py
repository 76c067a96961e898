"""The least time that each stage of `stmmr run` could take: what it must read, move and multiply on this machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

BANDWIDTH_CELLS = 20_000
"""Cells by which the bandwidth is chosen, where there are more."""


class Machine(NamedTuple):
    """Speeds that small kernels reach."""

    read: float
    write: float
    """Bytes per second of a file that was just written, as the simulated ones are: it is in the cache of the system."""
    memory: float
    """Bytes per second, read or written, while an array is copied."""
    flops: float
    """Float32 operations per second of a product of two matrices."""


class Facts(NamedTuple):
    """Sizes of the data and of the model of a run."""

    cells: int
    genes: int
    """Genes that the model reads."""
    entries: int
    """Counts other than zero."""
    components: int
    """Principal components of the expression."""
    neighbours: float
    """Neighbours of a cell, at the bandwidth of the graph."""
    tried: float
    """Neighbours at all bandwidths that were tried, summed, over those at the chosen bandwidth."""
    informative: int
    """Informative components, the width of the embedding."""
    domains: int
    partitions: int
    scales: tuple[float, ...]
    in_bytes: int
    out_bytes: int
    on_disk: bool


REST = "everything else"
FLOORS: dict[str, dict[str, Callable[[Facts, Machine], float]]] = {
    "expression": {
        "read the counts twice, 8 bytes an entry": lambda f, m: 16 * f.entries / (m.read if f.on_disk else m.memory),
        "components and scores, one product of the counts each: entries × components × 4": lambda f, m: (
            4 * f.entries * f.components / m.flops
        ),
    },
    "spatial graph": {
        "cells read × neighbours at each bandwidth tried × components × 4": lambda f, m: (
            4 * min(f.cells, BANDWIDTH_CELLS) * f.neighbours * f.tried * f.components / m.flops
        ),
    },
    "embedding": {
        "A(A·F): cells × neighbours × components × 4": lambda f, m: 4 * f.cells * f.neighbours * f.components / m.flops,
    },
    "domains": {
        "A(A·F) at each other scale": lambda f, m: (
            4 * f.cells * f.neighbours * f.components * sum(s**2 for s in f.scales if s != 1) / m.flops
        ),
        "assignment: cells × informative components × domains × partitions × 2": lambda f, m: (
            2 * f.cells * f.informative * f.domains * f.partitions / m.flops
        ),
        "votes: one byte written and read for each": lambda f, m: 2 * f.cells * f.partitions / m.memory,
    },
    REST: {
        "read the file": lambda f, m: f.in_bytes / m.read,
        "write the results": lambda f, m: f.out_bytes / m.write,
    },
}
"""Seconds of the work that each stage cannot avoid. Operations count at the speed of a dense product, which no sparse
product reaches, and bytes at the speed of a copy."""


def machine(folder: Path) -> Machine:
    """Measure the speeds of this machine, each the best of three."""
    values = np.ones(1 << 26, dtype=np.float32)  # 256 MiB
    other = np.zeros_like(values)
    square = np.ones((2048, 2048), dtype=np.float32)
    path = folder / "kernel.bin"

    def write() -> None:
        with path.open("wb") as file:
            file.write(values)
            file.flush()
            os.fsync(file.fileno())

    try:
        writing = seconds(write)
        reading = seconds(lambda: np.fromfile(path, dtype=np.float32))
    finally:
        path.unlink(missing_ok=True)
    copying = seconds(lambda: np.copyto(other, values))
    product = seconds(lambda: square @ square)
    size = values.nbytes
    return Machine(size / reading, size / writing, 2 * size / copying, 2 * 2048**3 / product)


def seconds(kernel: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        kernel()
        times.append(time.perf_counter() - start)
    return min(times)
