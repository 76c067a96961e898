"""AnnData and SpatialData files."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from stmmr._validate import InputError, listed, unique_names
from stmmr.io._files import check_indices, existing, names_may_repeat, parsing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmmr")


def read_h5ad(path: str | Path) -> AnnData:
    """Read an AnnData file.

    Parameters
    ----------
    path
        The .h5ad file.

    Returns
    -------
    What the file holds, with names of places and genes made unique.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no AnnData file, or is damaged.
    """
    import anndata as ad
    import h5py

    where = existing(path)
    with parsing(where, expected="an AnnData file (.h5ad)"), names_may_repeat():
        with h5py.File(where) as file:
            _require_anndata(file, where)
        return _checked(ad.read_h5ad(where))


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write an AnnData file, compressed.

    It is put together in memory: where the disk is full, HDF5 itself prints hundreds of tracebacks and then crashes
    the process.

    Raises
    ------
    OSError
        If it cannot be written; a part of it may stay.
    """
    import anndata as ad
    import h5py

    adata.strings_to_categoricals()  # as AnnData.write_h5ad does
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        ad.io.write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
    path.write_bytes(content.getbuffer())


def read_zarr(path: str | Path) -> AnnData:
    """Read an AnnData store, or the only table of a SpatialData store.

    Parameters
    ----------
    path
        The .zarr folder.

    Returns
    -------
    What the table holds, with names of places and genes made unique. Pictures and shapes of a SpatialData
    store are not read.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no AnnData or SpatialData store, is damaged, or has several tables.
    """
    import anndata as ad
    import zarr

    where = existing(path)
    with parsing(where, expected="an AnnData or SpatialData store (.zarr)"), names_may_repeat():
        store = zarr.open_group(where, mode="r")
        if "tables" in store:
            store = _only_table(store["tables"], where)
        _require_anndata(store, where)
        return _checked(ad.read_zarr(store))


def _checked(adata: AnnData) -> AnnData:
    """Check the matrices of what was read, and make its names unique."""
    for matrix in (adata.X, *adata.layers.values()):
        check_indices(matrix)
    unique_names(adata)
    return adata


def _only_table(tables: Any, where: Path) -> Any:
    """Get the table of a SpatialData store."""
    names = sorted(tables)
    if len(names) != 1:
        raise InputError(
            f"Expected one table in the SpatialData store {where}, found {listed(names)}. Give the folder of "
            f"one of them, e.g. {where / 'tables' / names[0] if names else where}."
        )
    logger.info("Reading the table %r of a SpatialData store; its pictures and shapes are not read.", names[0])
    return tables[names[0]]


def _require_anndata(names: Iterable[str], where: Path) -> None:
    """Check that a file has what every AnnData has; anndata itself reads others as an empty object."""
    names = list(names)
    if not {"obs", "var"} <= set(names):
        raise InputError(
            f"Expected an AnnData file (with obs and var) at {where}, found one that holds {listed(names)}. "
            "Give a file that AnnData.write_h5ad or write_zarr wrote."
        )
