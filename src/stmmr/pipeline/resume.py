"""Finished steps of a run on disk, so that a run that was killed continues with the next step."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, logger
from stmmr._core.compat import layers_of, libraries_of, names_in, renamed, renamed_uns, unescaped, write_escaped
from stmmr._core.files import atomic_write, parsing
from stmmr._core.untrusted import open_hdf5
from stmmr._core.validated import read_json
from stmmr._core.version import VERSION
from stmmr.image.library import image_names

if TYPE_CHECKING:
    from anndata import AnnData

FACTS: Final = "run.json"


class KeptSteps:
    """The finished steps of a run, in a folder.

    Matrices of spots × genes and of spots × spots are not kept: computing them again takes less time than writing them.

    Parameters
    ----------
    folder
        Made where it is missing. Steps of another run there (other data, options or version) are removed.
    adata
        The data, before the first step.
    options
        What else the results depend on.
    """

    def __init__(self, folder: Path, adata: AnnData, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.matrices = _matrices(adata)
        facts = {"version": VERSION, "data": fingerprint(adata)} | {name: repr(v) for name, v in options.items()}
        path = folder / FACTS
        if path.exists() and _facts_in(path) == facts:
            finished = sorted(step.stem for step in folder.glob("*.h5"))
            logger.info("Continuing an interrupted run. Finished steps: %s.", ", ".join(finished) or "none")
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with atomic_write(path) as new:
            new.write_text(json.dumps(facts))

    def restore(self, step: str, adata: AnnData) -> bool:
        """Set what a finished step wrote; tell whether it was finished."""
        from anndata.io import read_elem

        path = self._path(step)
        if not path.exists():
            return False
        try:
            with parsing(path, expected="a finished step"), open_hdf5(path) as file:
                kept = {name: read_elem(file[name]) for name in file}
                containers = [kept[name] for name in ("obs", "var", "obsm", "varm", "uns")]
            if not all(isinstance(container, pd.DataFrame | dict) for container in containers):
                raise InputError(f"Expected tables and mappings in {path}, found something else.")
        except InputError as error:
            logger.warning("A finished step is carried out again. %s", error)
            return False
        for container in ("obs", "var"):
            for name, column in kept[container].items():
                getattr(adata, container)[name] = column.to_numpy() if container == "var" else column.array
        for container in ("obsm", "varm"):
            getattr(adata, container).update(renamed(kept[container], unescaped))
        adata.uns.update(renamed_uns(kept["uns"], unescaped))
        return True

    def keep(self, step: str, adata: AnnData, before: Mapping[str, Any]) -> None:
        """Keep what a step wrote; `before` is ``obsm`` before the step."""
        import h5py

        if _matrices(adata) - self.matrices:
            self.matrices = _matrices(adata)
            return
        columns = {
            container: getattr(adata, container)[
                [name for name in keys.names_of(container) if name in getattr(adata, container)]
            ]
            for container in ("obs", "var")
        }
        obsm = {name: values for name, values in adata.obsm.items() if before.get(name) is not values}
        varm = {name: adata.varm[name] for name in keys.names_of("varm") if name in adata.varm}
        uns = {name: adata.uns[name] for name in (keys.UNS, keys.SPATIAL) if name in adata.uns}
        with atomic_write(self._path(step)) as new, h5py.File(new, "w") as file:
            write_escaped(file, "/", {**columns, "obsm": obsm, "varm": varm, "uns": uns})

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.h5"


def _facts_in(path: Path) -> dict[str, Any]:
    """Read the facts of a run; none if they are damaged."""
    try:
        return read_json(path, expected="what a run depends on")
    except InputError:
        return {}


def _matrices(adata: AnnData) -> set[str]:
    return {*names_in(adata.layers), *adata.obsp}


def fingerprint(adata: AnnData) -> str:
    """Hash the values of data in memory, and the time and size of the file of data on disk."""
    digest = hashlib.blake2b()
    for table in (adata.obs, adata.var):
        _add_table(digest, table)
    for name, matrix in (("X", adata.X), *layers_of(adata).items(), *adata.obsm.items()):
        digest.update(str(name).encode())
        _add_matrix(digest, matrix)
    for name, library in libraries_of(adata).items():
        digest.update(f"{name}{library.get('scalefactors', {})}".encode())
        for image in image_names(library):
            pixels = np.asarray(library["images"][image])
            digest.update(f"{image}{pixels.shape}".encode() + pixels.tobytes())
    return digest.hexdigest()


def _add_table(digest: hashlib.blake2b, table: pd.DataFrame) -> None:
    digest.update(repr(list(table.columns)).encode())
    digest.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())


def _add_matrix(digest: hashlib.blake2b, matrix: Any) -> None:
    from stmmr._core.rows import OnDisk, is_dask, is_on_disk

    if is_dask(matrix):
        digest.update(matrix.name.encode())
    elif is_on_disk(matrix):
        path = OnDisk(matrix).path
        digest.update(f"{path}{_state(path)}".encode())
    elif hasattr(matrix, "indptr"):
        for part in (matrix.indptr, matrix.indices, matrix.data):
            digest.update(part)
    elif isinstance(matrix, pd.DataFrame):
        _add_table(digest, matrix)
    elif isinstance(matrix, np.ndarray):
        digest.update(np.ascontiguousarray(matrix).data)


def _state(path: str) -> str:
    """Get the sizes and times of the files behind data on disk."""
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*"))
    return str([(file.stat().st_size, file.stat().st_mtime_ns) for file in files])
