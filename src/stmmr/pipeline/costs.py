"""Memory and time that a run will take, from runs that were measured (docs/performance.md)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from stmmr._core.checks import shown_bytes
from stmmr._core.untrusted import free_memory

MEASURED: Final = {
    1_000: (6.8, 0.50),
    10_000: (12.4, 0.64),
    100_000: (29.9, 1.41),
    1_000_000: (102.2, 1.66),
    3_000_000: (284.1, 3.00),
}
"""Seconds and GB of runs with so many cells, 500 genes and a given number of domains, on two cores."""
ENTRIES_PER_CELL: Final = 75
"""Stored counts of each cell in these runs."""
SECONDS_PER_ENTRY, BYTES_PER_ENTRY = 0.25e-6, 15
"""What each further one takes; bytes only in memory."""
ON_DISK: Final = (0.95e9, 750)
"""Bytes of a run whose counts and components stay on disk: fixed, and of each cell."""
NUMBER: Final = {3_600: 1.7, 36_600: 3.6}
"""Seconds that choosing the number of domains takes, by cells; about the same for more, as a sample is drawn."""


class Costs(NamedTuple):
    """What a run takes."""

    n_bytes: int
    """Peak memory of the process."""
    seconds: float
    """On two cores; with one section, without image."""


def expected_costs(n_spots: int, n_entries: int, *, on_disk: bool, chooses_number: bool = True) -> Costs:
    """Predict memory and time of a run, between measured ones on a scale of logarithms."""
    sizes = np.array(list(MEASURED), dtype=np.float64)
    seconds, gb = np.array(list(MEASURED.values())).T
    n = max(n_spots, 1)
    more = max(n_entries - ENTRIES_PER_CELL * n, 0)
    took = _between(n, sizes, seconds) + SECONDS_PER_ENTRY * more
    if chooses_number:
        took += _between(min(n, max(NUMBER)), np.array(list(NUMBER), dtype=np.float64), np.array(list(NUMBER.values())))
    fixed, per_cell = ON_DISK
    n_bytes = fixed + per_cell * n if on_disk else 1e9 * _between(n, sizes, gb) + BYTES_PER_ENTRY * more
    return Costs(int(n_bytes), float(took))


def _between(n: float, sizes: np.ndarray, values: np.ndarray) -> float:
    """Interpolate on logarithms; beyond the largest size, values grow with it, and below the smallest they stay."""
    return float(np.exp(np.interp(np.log(n), np.log(sizes), np.log(values))) * max(n / sizes[-1], 1))


def shown_seconds(seconds: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def described_costs(n_spots: int, n_entries: int, *, on_disk: bool, advice: str = "") -> dict[str, str]:
    """Describe memory and time of a run in words."""
    costs = expected_costs(n_spots, n_entries, on_disk=on_disk)
    where = "the counts would stay on disk" if on_disk else "the counts would be read into memory"
    memory = f"about {shown_bytes(costs.n_bytes)}, {shown_bytes(free_memory())} free: {where}{advice}"
    return {"memory": memory, "time": f"about {shown_seconds(costs.seconds)} on two cores, without image"}
