"""The least time that each stage of `stmmr run` could take: what must be read, moved and multiplied on this machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

BANDWIDTH_PLACES = 20_000


class Machine(NamedTuple):
    """What tiny kernels reach."""

    read: float
    write: float
    """Bytes per second of a file just written, as the simulated ones are: from the cache of the system."""
    memory: float
    """Bytes per second, read or written, while copying an array."""
    flops: float
    """Float32 operations per second of a product of two matrices."""


class Facts(NamedTuple):
    """What a run was about."""

    places: int
    genes: int
    """That were read."""
    entries: int
    """Counts that are not zero."""
    components: int
    neighbours: float
    """Of a place, at the bandwidth of the graph."""
    tried: float
    """Neighbours at all bandwidths tried together, in those at the one chosen."""
    directions: int
    domains: int
    partitions: int
    decoder: float
    """Operations of its training."""
    scales: tuple[float, ...]
    in_bytes: int
    out_bytes: int
    on_disk: bool


REST = "all else"
FLOORS: dict[str, dict[str, Callable[[Facts, Machine], float]]] = {
    "expression": {
        "the counts twice, 8 bytes an entry": lambda f, m: 16 * f.entries / (m.read if f.on_disk else m.memory),
        "components and scores, a product of the counts for each: entries × components × 4": lambda f, m: (
            4 * f.entries * f.components / m.flops
        ),
    },
    "spatial graph": {
        "places read × neighbours at each bandwidth tried × components × 4": lambda f, m: (
            4 * min(f.places, BANDWIDTH_PLACES) * f.neighbours * f.tried * f.components / m.flops
        ),
    },
    "training": {
        "A(A·F): places × neighbours × components × 4": lambda f, m: (
            4 * f.places * f.neighbours * f.components / m.flops
        ),
        "decoder: steps × places of a step × weights × 6": lambda f, m: f.decoder / m.flops,
    },
    "domains": {
        "A(A·F) at each other scale": lambda f, m: (
            4 * f.places * f.neighbours * f.components * sum(s**2 for s in f.scales if s != 1) / m.flops
        ),
        "assignment: places × directions × domains × partitions × 2": lambda f, m: (
            2 * f.places * f.directions * f.domains * f.partitions / m.flops
        ),
        "votes: a byte written and read for each": lambda f, m: 2 * f.places * f.partitions / m.memory,
    },
    REST: {
        "the file read": lambda f, m: f.in_bytes / m.read,
        "the results written": lambda f, m: f.out_bytes / m.write,
    },
}
"""Seconds for each thing that a stage cannot do without. Operations at the speed of a dense product, which no sparse
one reaches; bytes at that of a copy."""


def machine(folder: Path) -> Machine:
    """Measure what this machine reaches now; best of three."""
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
