"""What a run has done so far, kept step by step, so that a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr import __version__
from stmmr._core import keys
from stmmr._core.checks import logger
from stmmr._core.files import atomic_write
from stmmr.image.library import IMAGES

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS: Final = {
    "obs": (keys.LIBRARY_SIZE, keys.PATCH, keys.DOMAIN, keys.CONFIDENCE, keys.DOMAIN_REFINED),
    "var": (keys.HIGHLY_VARIABLE,),
}
"""Columns that steps write."""
FACTS: Final = "run.json"


class Progress:
    """The finished steps of a run, in a folder.

    A step whose results are matrices of places × genes or of places × places is not kept, as it is done again in less
    time than it takes to write them.

    Parameters
    ----------
    folder
        Made where it is missing. What another run left there (other data, options or version) is removed.
    adata
        The data, before the first step.
    options
        What else the results depend on.
    """

    def __init__(self, folder: Path, adata: AnnData, options: dict[str, Any]) -> None:
        self.folder = folder
        self.large = self._large(adata)
        facts = {"version": __version__, "data": fingerprint(adata)} | {k: repr(v) for k, v in options.items()}
        here = folder / FACTS
        if here.exists() and json.loads(here.read_text()) == facts:
            done = sorted(path.stem for path in folder.glob("*.h5"))
            logger.info("Going on with a run that was interrupted; done so far: %s.", ", ".join(done) or "nothing")
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with atomic_write(here) as new:
            new.write_text(json.dumps(facts))

    def restore(self, step: str, adata: AnnData) -> bool:
        """Set what a step had written, if it was finished; say whether it was."""
        import h5py
        from anndata.io import read_elem

        path = self._path(step)
        if not path.exists():
            return False
        with h5py.File(path) as file:
            kept = {name: read_elem(file[name]) for name in file}
        for where in ("obs", "var"):
            for name, column in kept[where].items():
                getattr(adata, where)[name] = column.to_numpy() if where == "var" else column.array
        adata.obsm.update(kept["obsm"])
        adata.varm.update(kept["varm"])
        adata.uns.update(kept["uns"])
        return True

    def keep(self, step: str, adata: AnnData, before: dict[str, Any]) -> None:
        """Keep what a step has written; `before` is the ``obsm`` there was."""
        import h5py
        from anndata.io import write_elem

        if self._large(adata) - self.large:
            self.large = self._large(adata)
            return
        columns = {
            where: getattr(adata, where)[[name for name in names if name in getattr(adata, where)]]
            for where, names in COLUMNS.items()
        }
        obsm = {name: values for name, values in adata.obsm.items() if before.get(name) is not values}
        uns = {name: adata.uns[name] for name in (keys.UNS, keys.SPATIAL) if name in adata.uns}
        with atomic_write(self._path(step)) as new, h5py.File(new, "w") as file:
            varm = {name: adata.varm[name] for name in (keys.LOADINGS,) if name in adata.varm}
            write_elem(file, "/", {**columns, "obsm": obsm, "varm": varm, "uns": uns})

    def remove(self) -> None:
        """Forget the run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.h5"

    @staticmethod
    def _large(adata: AnnData) -> set[str]:
        return {*adata.layers, *adata.obsp}


def fingerprint(adata: AnnData) -> str:
    """Tell data apart: by their values in memory, and by the time and size of the file where they lie in one."""
    from stmmr._core.rows import OnDisk, is_dask, is_on_disk

    found = hashlib.blake2b()
    for table in (adata.obs, adata.var):
        found.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
    for name, matrix in (("X", adata.X), *adata.layers.items(), *adata.obsm.items()):
        found.update(name.encode())
        if is_dask(matrix):
            found.update(matrix.name.encode())
        elif is_on_disk(matrix):
            where = OnDisk(matrix).path
            found.update(f"{where}{_state(where)}".encode())
        elif hasattr(matrix, "indptr"):
            found.update(matrix.indices)
            found.update(matrix.data)
        elif isinstance(matrix, pd.DataFrame):
            found.update(pd.util.hash_pandas_object(matrix).to_numpy().tobytes())
        elif isinstance(matrix, np.ndarray):
            found.update(np.ascontiguousarray(matrix).data)
    for name, library in adata.uns.get(keys.SPATIAL, {}).items():
        if not isinstance(library, Mapping):
            continue
        found.update(f"{name}{library.get('scalefactors', {})}".encode())
        for picture in IMAGES:
            pixels = np.asarray(library.get("images", {}).get(picture, ()))
            found.update(f"{picture}{pixels.shape}".encode() + pixels.tobytes())
    return found.hexdigest()


def _state(path: str) -> str:
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*"))
    return str([(file.stat().st_size, file.stat().st_mtime_ns) for file in files])
