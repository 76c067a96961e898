"""Examine an HDF5 file, zarr store or slide before it is read: refuse what runs code or leads elsewhere, add up sizes.

`stmmr._core.untrusted` runs this file as a program of its own, since damaged files can crash the libraries or keep them
busy for ever. It imports nothing of stmmr. To each path it answers with ``sizes``, the bytes of each array in memory by
its name, with ``refused``, the end of a sentence, ``too_large``, the bytes of a chunk, or ``damaged``, an error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIED: Final = 64_000_000
"""Bytes of a container that are read to the end; of what is larger, the first and the last part of each array."""
TEXT_BYTES: Final = 64
"""Bytes in memory of a text, without its letters."""
DEEPEST: Final = 40
"""Groups inside each other; AnnData files have up to ten."""
MOST: Final = 1_000_000
"""Objects of a container."""
WINDOW: Final = 256
"""Side in pixels of a window of a slide."""
IDLE_SECONDS: Final = 60
_CODECS: Final = (
    "adler32 astype bitround blosc bytes bz2 cast_value categorize crc32 crc32c delta endian fixedscaleoffset "
    "fletcher32 gzip jenkins_lookup3 lz4 lzma packbits pcodec quantize scale_offset sharding_indexed shuffle transpose "
    "vlen-array vlen-bytes vlen-utf8 zfpy zlib zstd"
)
CODECS: Final = frozenset(_CODECS.split())
"""Codecs of zarr that only rearrange or compress numbers and texts; ``pickle`` runs code when it is read."""


class RefusedError(Exception):
    """The container is not safe to read; the message is the end of a sentence."""


class TooLargeError(Exception):
    """A chunk of an array does not fit into memory; the argument is its size."""


def examine(path: Path, *, budget: int) -> dict[str, int]:
    """Get the bytes that each array of a container takes in memory.

    Raises
    ------
    RefusedError
        If it links to other files or could run code.
    TooLargeError
        If a chunk has more than `budget` bytes.
    """
    return _store(path, budget) if path.is_dir() else _hdf5(path, budget)


# HDF5


def _hdf5(path: Path, budget: int) -> dict[str, int]:
    import h5py

    sizes: dict[str, int] = {}
    with h5py.File(path) as file:
        datasets = list(_datasets(file, h5py))
        for name, dataset in datasets:
            if dataset.shape is None and dataset.attrs.get("encoding-type") != "null":  # anndata's None
                raise ValueError(f"there are no values in {name}")
            try:
                sizes[name] = _bytes_in_memory(dataset.shape, dataset.dtype)
                _require_chunk(dataset.chunks, dataset.dtype, budget)
            except TypeError:  # values that numpy has no type for
                sizes[name] = dataset.id.get_storage_size()
        share = _share(sizes)
        for name, dataset in datasets:
            if sizes[name] <= budget:
                _try(dataset, share)
                dataset.id.get_storage_size()
    return sizes


def _datasets(file: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """Walk through all datasets; groups are told apart by their address, as they can contain themselves."""
    waiting, seen = [("", file, 0)], 0
    while waiting:
        prefix, group, depth = waiting.pop()
        _try_attributes(group)
        for key in group:
            name, link = f"{prefix}/{key}", group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise RefusedError(f"a link to {getattr(link, 'filename', '')}{link.path} under {name}")
            seen += 1
            if depth > DEEPEST or seen > MOST:
                raise RefusedError(f"groups without an end at {name[:80]}")
            node = group[key]
            if isinstance(node, h5py.Group):
                waiting.append((name, node, depth + 1))
            elif isinstance(node, h5py.Dataset):
                _try_attributes(node)
                plist = node.id.get_create_plist()
                if plist.get_external_count() or node.is_virtual:
                    raise RefusedError(f"values of {name} that are in another file")
                yield name, node


def _try_attributes(node: Any) -> None:
    for name in node.attrs:
        with suppress(TypeError, ValueError, UnicodeError):  # of a kind that h5py does not know
            node.attrs.get(name)


# zarr


def _store(path: Path, budget: int) -> dict[str, int]:
    metadata, folders, root = {}, [path], path.resolve()
    while folders:
        for entry in os.scandir(folders.pop()):  # stores of images have very many files
            file = Path(entry.path)
            if entry.is_symlink() and not file.resolve().is_relative_to(root):
                raise RefusedError(f"a link to {file.resolve()} under {file.relative_to(path)}")
            if entry.is_dir(follow_symlinks=False):
                folders.append(file)
            elif not entry.is_file():
                raise RefusedError(f"{file.relative_to(path)}, which is no file")
            elif entry.name in {"zarr.json", ".zarray", ".zmetadata"}:
                metadata[file] = json.loads(file.read_bytes())
    sizes: dict[str, int] = {}
    for file, content in metadata.items():
        for node, array in _arrays(file, content):  # the same array may be described in several files
            _require_codecs(node.relative_to(path), array)
            name = f"/{node.relative_to(path).as_posix()}"
            sizes[name] = max(sizes.get(name, 0), _declared(array, budget))
    _try_store(path, sizes, budget)
    return sizes


def _arrays(file: Path, content: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Get the descriptions of arrays in a metadata file; consolidated ones hold those of a whole group."""
    if file.name == ".zarray":
        yield file.parent, content
    elif file.name == ".zmetadata":
        for name, part in content.get("metadata", {}).items():
            if name.endswith(".zarray"):
                yield (file.parent / name).parent, part
    elif content.get("node_type") == "array":
        yield file.parent, content
    else:
        parts = (content.get("consolidated_metadata") or {}).get("metadata") or {}
        for name, part in parts.items():
            if part.get("node_type") == "array":
                yield file.parent / name, part


def _require_codecs(node: Path, array: dict[str, Any]) -> None:
    """Refuse codecs that could run code; a pickle does when it is read."""
    waiting = [array.get(name) for name in ("compressor", "filters", "codecs")]
    while waiting:
        codec = waiting.pop()
        if isinstance(codec, list):
            waiting += codec
        elif isinstance(codec, dict):
            name = str(codec.get("id", codec.get("name"))).removeprefix("numcodecs.").removeprefix("imagecodecs_")
            if name not in CODECS and not str(codec.get("id", "")).startswith("imagecodecs_"):
                raise RefusedError(f"the codec {name!r} in {node}, which is not known to be safe")
            waiting += [(codec.get("configuration") or {}).get(part) for part in ("codecs", "index_codecs")]


def _declared(array: dict[str, Any], budget: int) -> int:
    """Get the bytes of an array in memory from its description, and check the size of its chunks."""
    import numpy as np

    kind = array.get("data_type", array.get("dtype"))
    try:
        dtype = np.dtype(kind if isinstance(kind, str) else "O")
    except TypeError:
        dtype = np.dtype("O")
    grid = (array.get("chunk_grid") or {}).get("configuration") or {}
    _require_chunk(grid.get("chunk_shape", array.get("chunks")), dtype, budget)
    return _bytes_in_memory(array["shape"], dtype)


def _try_store(path: Path, sizes: dict[str, int], budget: int) -> None:
    import zarr

    share, waiting = _share(sizes), [(Path(), zarr.open_group(path, mode="r"))]
    while waiting:
        at, group = waiting.pop()
        for name, node in group.members():
            if isinstance(node, zarr.Group):
                waiting.append((at / name, node))
            elif sizes.get(f"/{(at / name).as_posix()}", 0) <= budget:
                _try(node, share)


# slides


def try_slide(path: Path) -> None:
    """Read a window at the corners and in the middle of each resolution; errors are for the reader."""
    with suppress(Exception):
        import openslide

        with openslide.OpenSlide(path) as slide:
            for level, (width, height) in enumerate(slide.level_dimensions):
                side, step = min(width, height, WINDOW), slide.level_downsamples[level]
                for x in (0, (width - side) // 2, width - side):
                    for y in (0, (height - side) // 2, height - side):
                        with suppress(openslide.OpenSlideError):
                            slide.read_region((round(x * step), round(y * step)), level, (side, side))


# all


def _bytes_in_memory(shape: Any, dtype: Any) -> int:
    if shape is None:
        return 0
    return math.prod(int(length) for length in shape) * (TEXT_BYTES if dtype.hasobject else dtype.itemsize)


def _require_chunk(chunks: Any, dtype: Any, budget: int) -> None:
    """Check that one chunk fits: libraries make room for it before they read."""
    size = _bytes_in_memory(chunks, dtype)
    if size > budget:
        raise TooLargeError(size)


def _share(sizes: dict[str, int]) -> int:
    """Choose how many bytes of each array are read: all, or a share each."""
    return TRIED if sum(sizes.values()) <= TRIED else TRIED // (2 * max(len(sizes), 1))


def _try(array: Any, share: int) -> None:
    """Read an array, or its first and last rows; errors are for the reader, which says more about them."""
    if not math.prod(array.shape or (1,)):
        return
    with suppress(Exception):
        if not array.shape:
            array[()]
            return
        row = max(_bytes_in_memory(array.shape, array.dtype) // array.shape[0], 1)
        rows = max(share // row, 1)
        for start in range(0, min(array.shape[0], rows), max(1, 16_000_000 // row)):
            array[start : min(start + max(1, 16_000_000 // row), rows)]
        if rows < array.shape[0]:
            array[-min(rows, array.shape[0] - rows) :]


def answer(path: str, budget: int, slide: bool) -> dict[str, Any]:  # noqa: FBT001 - as JSON has it
    """Examine a container or a slide within a limit of memory."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        limit = budget + 4 * 2**30  # libraries map more than they use
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        if slide:
            try_slide(Path(path))
            return {"sizes": {}}
        return {"sizes": examine(Path(path), budget=budget)}
    except RefusedError as error:
        return {"refused": str(error)}
    except TooLargeError as error:
        return {"too_large": error.args[0]}
    except MemoryError:
        return {"refused": "values that need more memory than there is"}
    except Exception as error:  # noqa: BLE001 - what cannot be examined is not read
        return {"damaged": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer requests, a line of JSON each, until they end or none comes for a minute."""
    while True:
        idle = threading.Timer(IDLE_SECONDS, os._exit, (0,))
        idle.daemon = True
        idle.start()
        line = sys.stdin.readline()
        idle.cancel()
        if not line:
            return
        print(json.dumps(answer(*json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
