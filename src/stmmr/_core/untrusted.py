"""Files of unknown origin: what is checked before a library reads them, and how much memory reading may take."""

from __future__ import annotations

import atexit
import gzip
import inspect
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from stmmr._core import examine
from stmmr._core.checks import InputError, logger, shown_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

Arguments = ParamSpec("Arguments")
Data = TypeVar("Data")
LONGEST_LINE: Final = 50_000_000
"""Bytes of a line of text; the header of a table with a million cells has 20 MB."""
SECONDS: Final = float(os.environ.get("STMMR_OPEN_SECONDS", "15"))
"""Time that examining a container may take; a damaged HDF5 file can keep its library busy for ever."""
CGROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with the limit and the use of memory of a container or a job."""
_limits: dict[str, float | None] = {"memory": None}


# memory


def set_max_memory(gigabytes: float | None) -> None:
    """Limit the memory that reading may take; None: what is free.

    Raises
    ------
    InputError
        If it is not a positive number.
    """
    from stmmr._core.checks import require_positive

    if gigabytes is not None:
        require_positive(gigabytes, name="max_memory")
    _limits["memory"] = gigabytes


def max_memory() -> float | None:
    """Get the limit that was set, in GB."""
    return _limits["memory"]


def free_memory() -> int:
    """Get the bytes that may be used: the limit that was set, or what is free on this machine and in this job."""
    import psutil

    if (limit := _limits["memory"]) is not None:
        return int(limit * 1e9)
    free = psutil.virtual_memory().available
    for limit_file, use_file in CGROUPS:
        with suppress(OSError, ValueError):  # no Linux, no limit ("max")
            free = min(free, max(int(Path(limit_file).read_text()) - int(Path(use_file).read_text()), 0))
    return int(free)


def require_memory(n_bytes: int, path: Path | str, *, advice: str = "") -> None:
    """Check that what a file holds fits into memory.

    Raises
    ------
    InputError
        If it does not.
    """
    if n_bytes > free_memory():
        raise _too_large(n_bytes, path, advice)


def _too_large(n_bytes: int, path: Path | str, advice: str = "") -> InputError:
    advice = advice or "If the file is right, use a machine with more memory."
    return InputError(
        f"Expected data that fit into {shown_bytes(free_memory())} of memory (max_memory, --max-memory) at {path}, "
        f"found {shown_bytes(n_bytes)}. {advice}"
    )


# files and folders


def require_regular(path: Path) -> None:
    """Check that a path is a file or a folder; others, such as a pipe or /dev/zero, may never end.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"Expected a file or folder, found a pipe or device at {path}. Save its content to a file.")


def examined(path: Path, *, slide: bool = False) -> dict[str, int]:
    """Examine an HDF5 file, a zarr store or a slide in a process of its own, which may crash or be stopped.

    What was examined once is not examined again in this process while it does not change.

    Returns
    -------
    The bytes of each array in memory, by its name; of a slide, none.

    Raises
    ------
    InputError
        If reading it is not safe, or crashes or never ends.
    OSError
        If it is damaged.
    """
    require_regular(path)
    names = ("zarr.json", ".zgroup", ".zmetadata", "tables", "X", "obs") if path.is_dir() else ()
    files = [path, *(file for name in names if (file := path / name).exists())]
    states = [file.stat() for file in files]
    state = tuple((str(file), s.st_ino, s.st_size, s.st_mtime_ns) for file, s in zip(files, states, strict=True))
    return _examined(path.resolve(), (*state, max_memory()), slide=slide)


class DamagedError(OSError):
    """A container is damaged; the message begins with the kind of the error that its library raised."""


@lru_cache(maxsize=64)
def _examined(path: Path, state: tuple[Any, ...], *, slide: bool) -> dict[str, int]:
    try:
        answer = _examiner.ask(path, slide=slide)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # such as Python inside another program
        logger.debug("%s is read without being examined before (%s).", path, error)
        return {}
    if "refused" in answer:
        raise InputError(
            f"Expected a file or store that is safe to read at {path}, found {answer['refused']}. Read it with the "
            "program that wrote it, and write it again as one file without links and with the usual compression."
        )
    if "too_large" in answer:
        raise _too_large(answer["too_large"], path)
    if "damaged" in answer:
        raise DamagedError(answer["damaged"])
    return dict(answer["sizes"])


class _Examiner:
    """The process that examines containers; it is started again where it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, path: Path, *, slide: bool) -> dict[str, Any]:
        """Get the answer about a path; raises InputError if it takes too long or ends the process."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
            too_long = threading.Event()

            def stop() -> None:
                too_long.set()
                process.kill()

            timer = threading.Timer(SECONDS, stop)
            timer.start()
            try:
                process.stdin.write(json.dumps([str(path), free_memory(), slide]) + "\n")
                process.stdin.flush()
                with suppress(ImportError):
                    import anndata  # noqa: F401 - every reader needs it, and it takes as long as the examination
                line = process.stdout.readline()
            except BaseException:  # the next answer would be that of this path
                self.close()
                raise
            finally:
                timer.cancel()
            if not line:
                code = self.close()
        if too_long.is_set():
            raise _unreadable(
                path,
                f"one that could not be opened within {SECONDS:g} seconds (on a slow disk, set the environment "
                "variable STMMR_OPEN_SECONDS to more)",
            )
        if not line and (code < 0 or code > 255):
            raise _unreadable(path, "one at which the library that reads it crashes")
        return dict(json.loads(line))

    def _started(self) -> subprocess.Popen[str]:
        """Get the process, of this process and not of the one it was forked from."""
        if self._owner != os.getpid() or self._process is None or self._process.poll() is not None:
            self.close()  # it ended by itself, or belongs to another process
            command, pipe = [sys.executable, "-I", examine.__file__], subprocess.PIPE
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> int:
        """End the process; get its exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # it has both
        if self._owner != os.getpid():  # its parent waits for it
            process.returncode = 0
            return 0
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


_examiner = _Examiner()
atexit.register(_examiner.close)


def _unreadable(path: Path, found: str) -> InputError:
    return InputError(f"Expected a complete file or store at {path}, found {found}. Copy or download it again.")


def open_hdf5(path: Path, *, parts: tuple[str, ...] = ("/",), advice: str = "") -> h5py.File:
    """Open an HDF5 file to read it, once it was examined and `parts` of it fit into memory."""
    import h5py

    require_parts(path, parts, advice=advice)
    return h5py.File(path)


def require_parts(path: Path, parts: tuple[str, ...] = ("/",), *, advice: str = "") -> None:
    """Check that a container is safe to read and the arrays whose names start with `parts` fit into memory."""
    guard_blosc()
    sizes = examined(path)
    require_memory(sum(size for name, size in sizes.items() if name.startswith(parts)), path, advice=advice)


@cache
def guard_blosc() -> None:
    """Check the header of blosc data before decoding: numcodecs reads beyond its end where the header is damaged."""
    from numcodecs.blosc import Blosc

    decode = Blosc.decode

    @wraps(decode)
    def guarded(self: Any, buf: Any, out: Any = None) -> Any:
        data = memoryview(buf).cast("B")
        sizes = [int.from_bytes(data[start : start + 4], "little") for start in (4, 8, 12)]
        decoded, block, encoded = sizes
        if len(data) < 16 or encoded != len(data) or block > decoded or decoded > free_memory():
            raise ValueError("the header of blosc data is damaged")
        return decode(self, buf, out)

    Blosc.decode = guarded


# text


class _Lines(io.RawIOBase):
    """A text file, plain or gzipped, that ends with an error where a line or all of it is too long for memory."""

    def __init__(self, path: Path, at_most: int | None) -> None:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        self._file = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 - closed by close
        self._path, self._line, self._left = path, 0, free_memory() if at_most is None else at_most

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next part."""
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        last = part.rfind(b"\n")
        self._line = len(part) - last - 1 if last >= 0 else self._line + len(part)
        self._left -= len(part)
        if self._line > LONGEST_LINE:
            raise InputError(
                f"Expected lines of at most {LONGEST_LINE // 1_000_000} MB in {self._path}, found a longer one. "
                "It is no table, or damaged; export it again."
            )
        if self._left < 0:
            raise InputError(
                f"Expected a text file that fits into memory (max_memory, --max-memory) at {self._path}, found more "
                f"than {shown_bytes(free_memory())}. Export it again, or use a machine with more memory."
            )
        return len(part)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def open_text(path: Path, *, at_most: int | None = None) -> io.BufferedReader:
    """Open a text file, plain or gzipped, as bytes, with limits on the length of lines and of all of it.

    `at_most` is the number of bytes after which reading is an InputError; by default, what fits into memory.
    """
    require_regular(path)
    return io.BufferedReader(_Lines(path, at_most), 1 << 20)


# readers


def reader(expected: str) -> Callable[[Callable[Arguments, Data]], Callable[Arguments, Data]]:
    """Make every error of a reader about the content of its files an InputError that names `expected` and the path."""

    def decorate(read: Callable[Arguments, Data]) -> Callable[Arguments, Data]:
        signature = inspect.signature(read)

        @wraps(read)
        def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Data:
            from stmmr._core.files import existing, parsing

            given = signature.bind(*args, **kwargs).arguments  # a wrong option is a TypeError
            path: Any = next(iter(given.values()))
            with parsing(existing(os.fspath(path)), expected=expected):
                return read(*args, **kwargs)

        return guarded

    return decorate
