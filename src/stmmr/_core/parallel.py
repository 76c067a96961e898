"""Tasks in parallel threads or on dask workers, progress bars, and processes that train together."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Result = TypeVar("Result")


def in_parallel(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """Call a function with the arguments of each task, and get results in the order of the tasks.

    Tasks run in threads, or on the backend of ``joblib.parallel_config``: with ``backend="dask"``, on the workers of a
    ``dask.distributed`` client. Only as many tasks are made at a time as run or wait in the queue.
    """
    from joblib import Parallel, delayed

    work = Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    results: Iterator[Result] = work(delayed(function)(*task) for task in tasks)
    return results


def progress_bar(total: int, name: str, unit: str, *, shown: bool) -> Any:
    """Make a progress bar with rate and remaining time, shown after two seconds.

    It is drawn in terminals and notebooks only, because in a file every update would be a line.
    """
    from tqdm.auto import tqdm

    visible = shown and (sys.stderr.isatty() or _in_notebook())
    return tqdm(total=total, desc=name, unit=f" {unit}", unit_scale=True, delay=2, leave=False, disable=not visible)


def _in_notebook() -> bool:
    """Check whether bars are widgets of a notebook."""
    from tqdm.auto import notebook_tqdm
    from tqdm.std import tqdm

    return notebook_tqdm is not tqdm


def started_outside() -> bool:
    """Check whether torchrun or SLURM started several processes that train together."""
    by_slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    return "TORCHELASTIC_RUN_ID" in os.environ or by_slurm


def is_first() -> bool:
    """Check whether this process is the one that writes the results."""
    return not started_outside() or int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
