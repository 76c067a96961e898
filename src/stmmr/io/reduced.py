"""Counts on disk without the spots and features that a run leaves out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr._core.checks import InputError, logger
from stmmr._core.compat import layers_of
from stmmr._core.rows import OnDisk, is_on_disk
from stmmr.io._adopt import dropped
from stmmr.io._tables import require_free_space
from stmmr.io.joined import Part, chunks_of, write_csr

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.types import Bools

_folders: Final[list[TemporaryDirectory[str]]] = []
"""Folders of reduced counts, which are removed with the process."""


def reduced_on_disk(adata: AnnData, *, keep_off_tissue: bool = False) -> AnnData:
    """Drop spots off the tissue and features that are no genes from data whose counts are in a file.

    The counts of the others are copied to a temporary file, in chunks. Data of which nothing is to be dropped are
    returned as they are.

    Raises
    ------
    InputError
        If ``X`` is stored by columns.
    OSError
        If there is too little free space.
    """
    import h5py
    from anndata import AnnData
    from anndata.io import sparse_dataset

    off, controls = dropped(adata, keep_off_tissue=keep_off_tissue)
    if not off.any() and not controls.any():
        return adata
    rest = adata[~off, ~controls]
    small: dict[str, Any] = {"obs": rest.obs.copy(), "var": rest.var.copy(), "uns": dict(adata.uns)}
    small |= {"obsm": dict(rest.obsm), "varm": dict(rest.varm)}
    matrices = {"X": adata.X, **{f"layers/{name}": layer for name, layer in layers_of(adata).items()}}
    _folders.append(TemporaryDirectory(prefix="stmmr_"))
    path = Path(_folders[-1].name) / "counts.h5ad"
    _copy(path, {name: each for name, each in matrices.items() if is_on_disk(each)}, ~off, ~controls)
    file: Any = h5py.File(path)
    layers = {name: sparse_dataset(file[f"layers/{name}"]) for name in file.get("layers", ())}
    return AnnData(X=sparse_dataset(file["X"]) if "X" in file else None, layers=layers, **small)


def _copy(path: Path, matrices: dict[str, Any], rows: Bools, columns: Bools) -> None:
    """Write rows and columns of matrices to a new file."""
    import h5py

    sources = {}
    for name, matrix in matrices.items():
        try:
            sources[name] = OnDisk(matrix)
        except InputError:
            if name == "X":
                raise
            logger.warning("%s is stored by columns in the file, and is left out.", name)
    require_free_space(path, sum(Path(source.path).stat().st_size for source in sources.values()))
    kept = pd.Index(np.flatnonzero(columns))
    with h5py.File(path, "w") as file:
        for name in sources:
            chunks = chunks_of(Part(matrices[name], pd.RangeIndex(len(columns)), rows), kept)
            write_csr(file.create_group(name), chunks, dtype=matrices[name].dtype, n_columns=len(kept))
