"""Tasks on the workers of a Dask cluster; arrays go by files in a folder that all machines share."""

from __future__ import annotations

import io
import os
import pickle
import secrets
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stmmr._core.checks import InputError, listed, logger, require_extra
from stmmr._core.files import beside
from stmmr._core.folders import DRAFT
from stmmr._core.parallel import elsewhere, one_thread
from stmmr._core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ADDRESS: Final = "DASK_SCHEDULER_ADDRESS"
"""Environment variable with the address of the scheduler, as Dask itself reads it."""
CONNECTING: Final = 30.0
"""Seconds that scheduler and first worker have to answer."""
WITHOUT_WORKERS: Final = 600.0
"""Seconds without any worker, such as in the queue of a cluster, after which a run ends."""
AHEAD: Final = 2
"""Tasks for each thread of the workers that are sent ahead."""
RETRIES: Final = 2
"""Times that a task is repeated after an error, such as of the file system. Tasks of workers that die are repeated by
Dask."""
BY_FILE: Final = 2**16
"""Bytes from which an array goes by file."""


@contextmanager
def on_workers(address: str | Path | None, target: Path) -> Iterator[None]:
    """Send the tasks of a block to the workers of a Dask cluster; without an address, leave them in this process.

    Parameters
    ----------
    address
        Address of the scheduler, or its scheduler file; None: that of the environment variable, if any.
    target
        Path beside which a folder for arrays is made; workers need to reach it at the same path.

    Raises
    ------
    InputError
        If scheduler or workers do not answer, or workers have another version or cannot reach the folder.
    ImportError
        If the extra is missing.
    OSError
        If workers are lost during the work.
    """
    address = address or os.environ.get(ADDRESS)
    if not address or elsewhere.get() is not None:
        yield
        return
    client, folder = _connected(str(address)), beside(target.resolve(), "new")
    try:
        folder.mkdir(parents=True)
        (folder / DRAFT.marker).touch()  # so that it is removed after a kill
        n_workers = _check_workers(client, folder / DRAFT.marker)
        logger.info("%d workers of the Dask scheduler %s help.", n_workers, address)
        before = elsewhere.set(_Workers(client, folder).map)
        try:
            yield
        finally:
            elsewhere.reset(before)
    finally:
        client.close()
        rmtree(folder, ignore_errors=True)


def _connected(address: str) -> Any:
    """Connect to a scheduler that has a worker."""
    distributed = require_extra("distributed", extra="dask")
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    advice = (
        f"Start them as docs/clusters.md shows. To work without: leave out scheduler (--scheduler) and unset {ADDRESS}."
    )
    try:
        client = distributed.Client(**where, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"Expected a Dask scheduler at {address}, found none that answers within {CONNECTING:g} s. {advice}"
        ) from error
    try:
        client.wait_for_workers(1, timeout=CONNECTING)
    except TimeoutError as error:
        client.close()
        raise InputError(
            f"Expected workers of the Dask scheduler {address}, found none within {CONNECTING:g} s. {advice}"
        ) from error
    return client


class _Worker(NamedTuple):
    """What a worker is asked before the first task."""

    version: str
    reaches: bool
    """Whether it sees the shared folder."""


def _asked(path: str) -> _Worker:
    return _Worker(VERSION, Path(path).exists())


def _check_workers(client: Any, path: Path) -> int:
    """Check that workers have this version of stmmr and reach the shared folder; get their number."""
    try:
        workers: dict[str, _Worker] = client.run(_asked, str(path))
    except ImportError as error:
        raise InputError(f"Expected stmmr on all workers, found a worker without it ({error}). Install it.") from error
    other = sorted({worker.version for worker in workers.values()} - {VERSION})
    if other:
        raise InputError(f"Expected stmmr {VERSION} on all workers, found {listed(other)}. Install the same version.")
    if not all(worker.reaches for worker in workers.values()):
        raise InputError(
            f"Expected a folder that all workers reach, found {path.parent.parent}. Write the results to a shared one."
        )
    return len(workers)


class _Workers(NamedTuple):
    """The workers of a client."""

    client: Any
    folder: Path

    def map(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Do as `stmmr._core.parallel.in_parallel`."""
        shared, files = _packed(function, self.folder)
        most = AHEAD * sum(self._threads().values())
        waiting: deque[tuple[Any, list[Path]]] = deque()
        try:
            for task in tasks:
                packed, of_task = _packed(task, self.folder)
                send = {"retries": RETRIES, "pure": False}
                waiting.append((self.client.submit(_carried_out, shared, packed, str(self.folder), **send), of_task))
                if len(waiting) >= most:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            self.client.cancel([future for future, _ in waiting])
            _remove(files)

    def _result(self, future: Any, files: list[Path]) -> Any:
        packed, of_result = self._waited_for(future)
        result = pickle.loads(packed)  # noqa: S301 - from our own workers, as Dask itself reads
        _remove([*files, *of_result])
        return result

    def _waited_for(self, future: Any) -> Any:
        """Wait for a task, also while all workers have gone and new ones may come."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        seconds, alone = 10.0, 0.0
        while True:
            try:
                return future.result(timeout=seconds)
            except TimeoutError:
                alone = 0.0 if self._threads() else alone + seconds
            except KilledWorker as error:
                raise ChildProcessError(
                    "Expected workers with enough memory and time, found that several ended during one task. Their log "
                    "tells why; give them more memory. The same command continues after the last finished step."
                ) from error
            except CancelledError as error:
                raise _lost("its scheduler ended") from error
            if alone >= WITHOUT_WORKERS:
                raise _lost(f"no worker came back within {WITHOUT_WORKERS / 60:g} minutes")

    def _threads(self) -> dict[str, int]:
        """Get the number of threads of each worker."""
        try:
            return dict(self.client.nthreads())
        except OSError as error:
            raise _lost("its scheduler ended") from error


def _lost(reason: str) -> ChildProcessError:
    return ChildProcessError(
        f"Expected the Dask cluster until the end of the run, found that {reason}. The same command continues "
        "after the last finished step."
    )


def _carried_out(function: bytes, task: bytes, folder: str) -> tuple[bytes, list[Path]]:
    """Carry out a task on a worker."""
    call, arguments = pickle.loads(function), pickle.loads(task)  # noqa: S301 - from the process that sent the task
    return _packed(one_thread(call)(*arguments), Path(folder))


def _packed(value: Any, folder: Path) -> tuple[bytes, list[Path]]:
    """Pickle a value with its large arrays in files; get the files as well."""
    from cloudpickle import Pickler

    files: list[Path] = []

    class WithFiles(Pickler):  # type: ignore[misc]
        def reducer_override(self, part: Any) -> Any:
            if not isinstance(part, np.ndarray) or part.dtype.hasobject or part.nbytes < BY_FILE:
                return super().reducer_override(part)
            files.append(folder / f"{secrets.token_hex(8)}.npy")
            np.save(files[-1], part)
            return _read, (str(files[-1]),)

    buffer = io.BytesIO()
    WithFiles(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue(), files


def _read(path: str) -> Any:
    """Read an array: mapped, as a task may need only a part of it."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)
