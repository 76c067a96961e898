"""Damage files at random, by a seed: bytes, texts, JSON, and the objects of HDF5."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ODD_TEXTS = ["", "-1", "nan", "1e999", "99999999999999999999", "x", "=1+1", "\u00b5", '"', "0", "1.5", "\t", "true"]
ODD_VALUES: list[Any] = [None, True, -1, 0, 1e300, "x", "", [], {}, [1], {"a": 1}, 2**63, 10**12, "\u00b5\n", 0.5]
DTYPES = ["i1", "f2", ">i4", "S3", "u8", "c8", "f8", "?"]


def damage(path: Path, seed: int) -> str:
    """Damage a file, or one of the files of a folder, by one or two changes; get what was done."""
    rng = random.Random(seed)
    done = []
    for _ in range(rng.choice([1, 1, 2])):
        files = sorted(file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        if not files:
            break
        file = rng.choice(files)
        ways = [_bytes, _bytes, _cut, _swap]
        if file.suffix in (".h5", ".h5ad", ".h5mu", ".gef"):
            ways = [_bytes, _cut, *[_object] * 6]
        elif file.suffix == ".json" or file.name.startswith(".z"):
            ways = [_bytes, _cut, *[_json] * 4]
        elif file.suffix in (".csv", ".tsv"):
            ways = [_bytes, _cut, *[_text] * 4]
        elif file.suffix == ".gz":
            ways = [_bytes, _cut, *[_packed] * 4]
        elif path.is_dir() and rng.random() < 0.1:
            ways = [_missing]
        way = rng.choice(ways)
        way(file, rng)
        done.append(f"{way.__name__[1:]} {file.name}")
    return ", ".join(done)


def _bytes(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 4, 30])):
        if content:
            # headers matter most
            index = rng.randrange(min(len(content), rng.choice([16, 512, len(content)])))
            content[index] = rng.choice([0, 255, rng.randrange(256), content[index] ^ (1 << rng.randrange(8))])
    file.write_bytes(bytes(content))


def _cut(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    start, stop = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    file.write_bytes(rng.choice([content[:start], content[start:], content[:start] + content[stop:], content * 2, b""]))


def _swap(file: Path, rng: random.Random) -> None:
    others = sorted(other for other in file.parent.iterdir() if other.is_file())
    file.write_bytes(rng.choice(others).read_bytes())


def _missing(file: Path, rng: random.Random) -> None:
    file.unlink()


def _changed(text: str, rng: random.Random) -> str:
    """Change one cell, line or column of a text."""
    lines = text.split("\n")
    i = rng.choice([0, rng.randrange(len(lines))])
    cells = lines[i].replace("\t", ",").split(",")
    j = rng.randrange(len(cells))
    way = rng.randrange(6)
    if way == 0:
        cells[j] = rng.choice(ODD_TEXTS)
    elif way == 1:
        cells[j] = rng.choice(cells)  # a name twice
    elif way == 2:
        del cells[j]
    elif way == 3:
        cells.insert(j, rng.choice(ODD_TEXTS))
    elif way == 4:
        lines.insert(i, rng.choice(lines))
    else:
        lines[i + 1 :] = lines[rng.randrange(len(lines)) :]
    lines[i] = ("\t" if "\t" in lines[i] else ",").join(cells)
    return "\n".join(lines)


def _text(file: Path, rng: random.Random) -> None:
    file.write_text(_changed(file.read_text(errors="replace"), rng))


def _packed(file: Path, rng: random.Random) -> None:
    import gzip
    import zlib

    try:
        text = gzip.decompress(file.read_bytes()).decode(errors="replace")
    except (OSError, EOFError, zlib.error):  # damaged before
        _bytes(file, rng)
        return
    file.write_bytes(gzip.compress(_changed(text, rng).encode()))


def _json(file: Path, rng: random.Random) -> None:
    try:
        content = json.loads(file.read_text())
    except (ValueError, UnicodeError):
        _bytes(file, rng)
        return
    node = content
    while isinstance(node, dict | list) and len(node):
        key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if not (isinstance(node[key], dict | list) and node[key]) or rng.random() < 0.3:
            if isinstance(node, dict) and rng.random() < 0.2:
                del node[key]
            else:
                node[key] = rng.choice(ODD_VALUES)
            break
        node = node[key]
    file.write_text(json.dumps(content))


def _object(file: Path, rng: random.Random) -> None:
    """Change an object of an HDF5 file."""
    try:
        opened = h5py.File(file, "a")
    except OSError:
        _bytes(file, rng)
        return
    with opened as content:
        names: list[str] = []
        with suppress(RuntimeError):  # damaged before
            content.visit(names.append)
        if not names:
            return
        name = rng.choice(sorted(names))
        try:
            _OBJECTS[rng.randrange(len(_OBJECTS))](content, name, rng)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError):  # this object does not allow it
            content.attrs["odd"] = 1


def _retype(content: h5py.File, name: str, rng: random.Random) -> None:
    old = content[name]
    shape = getattr(old, "shape", (3,))
    del content[name]
    shapes = [shape, (), (0,), (2,), (*shape, 2), shape[:-1], (10**11,)]
    made = content.create_dataset(name, rng.choice(shapes), dtype=rng.choice(DTYPES), chunks=None)
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def _refill(content: h5py.File, name: str, rng: random.Random) -> None:
    values = content[name][...]
    if values.size and values.dtype.kind in "iuf":
        values.flat[rng.randrange(values.size)] = rng.choice([-1, 0, 10**6, 127])
        content[name][...] = values


def _attribute(content: h5py.File, name: str, rng: random.Random) -> None:
    attributes = content[name].attrs
    key = rng.choice(sorted(attributes) or ["encoding-type"])
    attributes[key] = rng.choice(["x", 1, "csc_matrix", "dataframe", "array", np.arange(2), "categorical", "dict", ""])


def _link(content: h5py.File, name: str, rng: random.Random) -> None:
    del content[name]
    content[name] = rng.choice(
        [h5py.SoftLink("/"), h5py.SoftLink("/nothing"), h5py.ExternalLink("/etc/passwd", "/"), content["/"]]
    )


def _drop(content: h5py.File, name: str, rng: random.Random) -> None:
    del content[name]


def _rename(content: h5py.File, name: str, rng: random.Random) -> None:
    content.move(name, name + rng.choice(["x", "/x", "\n"]))


def _copy(content: h5py.File, name: str, rng: random.Random) -> None:
    names: list[str] = []
    content.visit(names.append)
    other = rng.choice(sorted(names))
    if other != name and not other.startswith(f"{name}/") and not name.startswith(f"{other}/"):
        del content[name]
        content.copy(content[other], name)


_OBJECTS: list[Callable[[h5py.File, str, random.Random], None]] = [
    _retype,
    _retype,
    _refill,
    _refill,
    _attribute,
    _link,
    _drop,
    _rename,
    _copy,
]


def copied(source: Path, target: Path) -> Path:
    """Copy a file or folder, in place of an earlier copy."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    copy = shutil.copytree if source.is_dir() else shutil.copy2
    return Path(copy(source, target / source.name))
