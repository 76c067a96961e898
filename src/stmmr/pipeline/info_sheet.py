"""`stmmr info` of a sample sheet: its sections, what is wrong with them, and what a run would take."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from stmmr._core.checks import InputError, listed
from stmmr._core.untrusted import free_memory
from stmmr.pipeline.costs import described_costs
from stmmr.pipeline.sheet import read_sheet
from stmmr.pipeline.sources import BACKED, memory_needed, would_stay_on_disk

if TYPE_CHECKING:
    from pathlib import Path


def describe_sheet(path: Path) -> dict[str, str]:
    """Describe a sample sheet by what its rows and the headers of its files tell.

    Returns
    -------
    Texts by what they describe, in reading order.
    """
    from stmmr.io import recognise
    from stmmr.io._tables import counts_in_file

    inputs, broken = read_sheet(path), {}
    n_spots, n_entries, unknown = 0, 0, 0
    for name, entry in inputs.entries.items():
        try:
            recognised = recognise(entry.path)
        except (InputError, OSError) as error:
            broken[name] = str(error).splitlines()[0]
            continue
        unknown += recognised.platform not in BACKED
        if recognised.platform in BACKED:
            with suppress(InputError, OSError):
                spots, entries = counts_in_file(recognised.path)
                n_spots, n_entries = n_spots + spots, n_entries + entries
    on_disk = would_stay_on_disk(memory_needed(n_entries, n_spots), free_memory())
    columns = list(dict.fromkeys(column for entry in inputs.entries.values() for column in entry.obs))
    header = {"columns (line 1)": inputs.header} if inputs.header else {}
    problems = {**header, **inputs.broken, **broken}
    of = f" (of {len(inputs.entries) - unknown - len(broken)} sections; others tell their size when they are read)"
    return {
        "sample sheet": str(path),
        "sections": f"{len(inputs.entries)}: {listed(inputs.entries, at_most=20)}",
        "images": f"{sum(entry.image is not None for entry in inputs.entries.values())} in the sheet",
        "obs": listed(columns, at_most=40),
        "problems": "; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "none so far",
        "spots": f"{n_spots}{of * bool(unknown)}",
        **described_costs(n_spots, n_entries, on_disk=on_disk),
        "command": shlex.join(["stmmr", "run", str(path), "-o", "result", *(["--skip-broken"] if problems else [])]),
    }
