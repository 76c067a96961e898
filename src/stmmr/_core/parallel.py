"""Tasks in parallel threads or on dask workers, progress bars, and processes that train together."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from stmmr._core.options import check_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Result = TypeVar("Result")
Step = TypeVar("Step", bound="Callable[..., Any]")
_threads: ContextVar[int | None] = ContextVar("threads", default=None)
elsewhere: ContextVar[Callable[..., Iterator[Any]] | None] = ContextVar("elsewhere", default=None)
"""Carries out tasks instead of threads of this process; `stmmr._core.workers` sets it."""


def threads() -> int:
    """Get the number of threads that stmmr uses at once: as chosen, otherwise one for each available core."""
    from joblib import cpu_count

    return _threads.get() or int(cpu_count())


def chosen_threads() -> int | None:
    """Get the number of threads that was chosen, if any."""
    return _threads.get()


def limit_threads(n: int | None) -> None:
    """Use at most so many threads for the rest of the process, those of libraries included; None: no limit of ours."""
    set_threads(n)
    if n is not None:
        check_argument("threads", n, default=None, annotation="int")
        _libraries_limited(n)


def set_threads(n: int | None) -> None:
    """Choose the number of threads from now on; None: one for each available core."""
    _threads.set(n)


@contextmanager
def limited_threads(n: int | None) -> Iterator[None]:
    """Use at most so many threads in a block, those of linear algebra, OpenMP and PyTorch included; None: as before."""
    if n is None:
        yield
        return
    check_argument("threads", n, default=None, annotation="int")
    before = _threads.set(n)
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch is not None else 0
    try:
        with _libraries_limited(n):
            if torch is not None:
                torch.set_num_threads(n)
            yield
    finally:
        _threads.reset(before)
        if torch is not None:
            torch.set_num_threads(torch_before)


def one_thread(step: Step) -> Step:
    """Carry out a step with one thread of linear algebra and OpenMP, for many small problems one after another.

    Several threads for one small problem wait for each other at every product. On busy cores they wait for those that
    the system has paused, and the step takes up to thirty times as long.
    """

    @wraps(step)
    def alone(*args: Any, **options: Any) -> Any:
        with _libraries_limited(1):
            return step(*args, **options)

    return cast("Step", alone)


def _libraries_limited(n: int) -> Any:
    import sklearn.cluster  # noqa: F401 - only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    return threadpool_limits(n)


def in_parallel(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """Call a function with the arguments of each task, and get results in the order of the tasks.

    Tasks run in threads of this process, or on the workers of a Dask cluster (`stmmr._core.workers.on_workers`), with
    the same results. Only as many tasks are made at a time as run or wait in the queue.
    """
    yield from (elsewhere.get() or in_threads)(function, tasks)


def in_threads(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """Do as `in_parallel` in this process, with what cannot be sent to another one.

    While tasks run, each uses one thread of linear algebra: threads of threads would wait for each other.
    """
    from joblib import Parallel, delayed

    work = Parallel(n_jobs=threads(), prefer="threads", return_as="generator")
    with _libraries_limited(1):
        yield from work(delayed(function)(*task) for task in tasks)


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
