"""One step of a run: carried out or restored, with its time and memory on record."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stmmr._core.checks import logger
from stmmr._core.exits import reason_of
from stmmr._core.record import record, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

    from stmmr.pipeline.resume import KeptSteps


@contextmanager
def attempt(part: str, failed: dict[str, Exception]) -> Iterator[None]:
    """Carry out what is optional: an error is a warning and is added to `failed`; the rest still finishes."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        name = part if "." in part else part[0].upper() + part[1:]
        logger.warning("%s failed: %s", name, reason_of(error), extra={"reason_follows": True})
        failed[part] = error


def take(
    name: str,
    step: Callable[[], object],
    adata: AnnData,
    *,
    number: str,
    kept: KeptSteps | None = None,
    again: bool = False,
) -> None:
    """Carry out a step, or restore what it wrote before a kill; record its time and peak memory.

    Parameters
    ----------
    name
        Name of the step, in log lines and ``uns["stmmr"]["seconds"]``.
    step
        Carries it out.
    adata
        The data that the step writes to.
    number
        Its number among the steps, such as "2/6", for log lines.
    kept
        Steps that were finished before a kill.
    again
        Whether to carry it out even if it was finished.
    """
    if kept is not None and not again and kept.restore(name, adata):
        logger.info("%s %s: finished before", number, name)
        return
    start, before = time.perf_counter(), dict(adata.obsm)
    step()
    seconds = round(time.perf_counter() - start, 3)
    costs = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    record(adata, **{what: recorded(adata).get(what, {}) | {name: cost} for what, cost in costs.items() if cost})
    logger.info("%s %s: %.1f s", number, name, seconds)
    if kept is not None:
        kept.keep(name, adata, before)


def peak_memory_mb() -> float | None:
    """Measure the peak memory of this process so far, in MB; None where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
