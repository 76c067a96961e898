"""AnnData and SpatialData files."""

from __future__ import annotations

import errno
import io
import logging
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, listed, require_key, unique_names
from stmmr._core.compat import layers_of, restore_names, write_escaped
from stmmr._core.files import check_indices, existing, names_may_repeat, parsing
from stmmr._core.space import warn_implausible
from stmmr.io._elements import import_spatialdata, quietly
from stmmr.io._spatialdata import place_elements

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anndata import AnnData

    from stmmr.io._spatialdata import Picture

logger = logging.getLogger("stmmr")
TABLES: Final = "tables"
ELEMENTS: Final = ("images", "labels", "shapes", "points")
"""Groups of a SpatialData store."""


def read_h5ad(path: str | Path, *, backed: bool = False) -> AnnData:
    """Read an AnnData file.

    Parameters
    ----------
    path
        The .h5ad file.
    backed
        Leave ``X`` and the layers in the file, to be read a chunk at a time; ``obsp``, ``varp`` and ``raw`` are left
        out.

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
        if backed:
            return _left_on_disk(h5py.File(where))
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
    import h5py

    adata.strings_to_categoricals()  # as AnnData.write_h5ad does
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write_escaped(file, "/", adata, dataset_kwargs={"compression": "gzip"})
    path.write_bytes(content.getbuffer())


def write_beside_counts(adata: AnnData, source: Path, target: Path) -> None:
    """Write an AnnData file whose matrices of places × genes are those of another, copied without reading them.

    Parameters
    ----------
    adata
        Its ``obs``, ``var``, ``obsm``, ``varm`` and ``uns`` are written.
    source
        The .h5ad or .zarr that ``X`` and the layers are copied from.
    target
        The file or, for .zarr, the folder to write.

    Raises
    ------
    OSError
        If the disk has less room than this takes.
    """
    import h5py
    import zarr

    adata.strings_to_categoricals()
    wide = sum(values.nbytes for values in adata.obsm.values() if hasattr(values, "nbytes"))
    _require_room(target, total_size(source) + wide)
    small = {name: getattr(adata, name) for name in ("obs", "var", "uns", "obsm", "varm")}
    small |= {name: dict(small[name]) for name in ("uns", "obsm", "varm")}
    if source.is_dir():
        for name in ("X", "layers"):
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name)
        store = zarr.open_group(target, mode="a", zarr_format=zarr.open_group(source, mode="r").metadata.zarr_format)
        _fill(store, small)
        return
    with h5py.File(source) as given, h5py.File(target, "w") as file:
        for name in ("X", "layers"):
            if name in given:
                given.copy(name, file)
        _fill(file, small)


def counts_in_file(path: Path, *, table: str | None = None) -> tuple[int, int]:
    """Get the number of places, and of the entries of X that are stored, without reading them."""
    import h5py
    import zarr

    with parsing(path, expected="an AnnData file or store"):
        if path.is_dir():
            return _size_of_counts(zarr.open_group(counts_at(path, table), mode="r"))
        with h5py.File(path) as file:
            return _size_of_counts(file)


def _size_of_counts(store: Any) -> tuple[int, int]:
    names = store["obs"][store["obs"].attrs["_index"]]
    n_places = int((names["values"] if hasattr(names, "keys") else names).shape[0])
    x = store.get("X")
    if x is None:
        return n_places, 0
    return n_places, int((x["data"] if hasattr(x, "keys") else x).size)


def _fill(store: Any, small: dict[str, Any]) -> None:
    """Write the small parts of an AnnData into a store that holds its matrices."""
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name, content in ({"layers": {}, "obsp": {}, "varp": {}} | small).items():
        if name not in store:
            write_escaped(store, name, content)


def _require_room(target: Path, size: int) -> None:
    """Check that the disk has room; HDF5 crashes the process when it meets a full one."""
    free = shutil.disk_usage(target.parent).free
    if free < size * 1.05:
        raise OSError(errno.ENOSPC, f"{size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free")


def total_size(path: Path) -> int:
    """Sum the sizes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def read_zarr(
    path: str | Path,
    *,
    backed: bool = False,
    table: str | None = None,
    image: str | None = None,
    coordinate_system: str | None = None,
) -> AnnData:
    """Read an AnnData store, or a table of a SpatialData store with its coordinates and picture.

    Parameters
    ----------
    path
        The .zarr folder; that of a table in a SpatialData store (store.zarr/tables/table) is as well.
    backed
        Leave ``X`` and the layers in the store, to be read a chunk at a time; ``obsp``, ``varp`` and ``raw`` are left
        out.
    table, image, coordinate_system
        Of a SpatialData store, as in `stmmr.io.from_spatialdata`.

    Returns
    -------
    What the table holds, with names of places and genes made unique; of a SpatialData store, with coordinates and
    picture as `stmmr.io.from_spatialdata` sets them, where the extra ``spatialdata`` is installed. Without it, or
    where the store has nothing but tables, the table is read alone.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no AnnData or SpatialData store, is damaged, has several tables and none is named, or none of the
        name; and as `stmmr.io.from_spatialdata`.
    """
    return read_store(path, backed=backed, table=table, image=image, coordinate_system=coordinate_system)[0]


def read_store(
    path: str | Path,
    *,
    backed: bool = False,
    table: str | None = None,
    image: str | None = None,
    coordinate_system: str | None = None,
) -> tuple[AnnData, Picture | None]:
    """Read a store as `read_zarr` does, and get its picture in full, unread, where it is a SpatialData's."""
    import anndata as ad
    import zarr

    where = existing(path)
    picture = None
    with parsing(where, expected="an AnnData or SpatialData store (.zarr)"), names_may_repeat():
        folder = counts_at(where, table)
        store = zarr.open_group(folder, mode="r")
        _require_anndata(store, where)
        adata = _left_on_disk(store) if backed else _checked(ad.read_zarr(store))
        root = folder.parents[1] if folder.parent.name == TABLES else None
        if root is not None and _has_elements(root):
            picture = place_elements(adata, _elements(root), image=image, system=coordinate_system)
        elif image is not None or coordinate_system is not None:
            raise InputError(f"Expected a SpatialData store for image and coordinate_system, found none at {where}.")
        return adata, picture


def counts_at(path: Path, table: str | None = None) -> Path:
    """Find the AnnData file or store: the path itself, or the table in a SpatialData store.

    Raises
    ------
    InputError
        If there are several tables and none is named, none of the name, or `path` is no SpatialData store and one is.
    """
    import zarr

    store: Any = zarr.open_group(path, mode="r") if path.is_dir() else ()
    if TABLES not in store:
        if table is not None:
            raise InputError(f"Expected a SpatialData store for table, found none at {path}. Leave table out.")
        return path
    names: list[str] = sorted(store[TABLES])
    if table is not None:
        require_key(names, table, where=f"the tables of {path}")
        return path / TABLES / table
    if len(names) != 1:
        raise InputError(
            f"Expected one table in the SpatialData store {path}, found {listed(names)}. Give the folder of "
            f"one of them, e.g. {path / TABLES / names[0] if names else path}."
        )
    return path / TABLES / names[0]


def _has_elements(root: Path) -> bool:
    """Tell whether a SpatialData store has more than tables that can be read here."""
    import zarr

    try:
        store: Any = zarr.open_group(root, mode="r")
    except FileNotFoundError:  # a folder that happens to be called tables
        return False
    kinds = [kind for kind in ELEMENTS if kind in store and list(store[kind])]
    if kinds and find_spec("spatialdata") is not None:
        return True
    logger.info(
        "Reading a table of a SpatialData store; its pictures and shapes are not read%s.",
        ": that needs pip install 'stmmr-kit[spatialdata]'" if kinds else ", as there are none",
    )
    return False


def _elements(root: Path) -> Any:
    """Open what lies around the tables of a SpatialData store; pictures are not read yet."""
    with quietly():
        return import_spatialdata().read_zarr(root, selection=ELEMENTS)


def _left_on_disk(store: Any) -> AnnData:
    """Read what is small; matrices of places × genes stay where they are."""
    from anndata import AnnData
    from anndata.io import read_elem, sparse_dataset

    def matrix(node: Any) -> Any:
        return sparse_dataset(node) if hasattr(node, "keys") else node

    small = {name: read_elem(store[name]) for name in ("obs", "var", "uns", "obsm", "varm") if name in store}
    layers = {name: matrix(store["layers"][name]) for name in store.get("layers", {})}
    adata = AnnData(X=matrix(store["X"]) if "X" in store else None, layers=layers, **small)
    restore_names(adata)
    unique_names(adata)
    warn_implausible(adata)
    return adata


def _checked(adata: AnnData) -> AnnData:
    """Check the matrices of what was read, and make its names unique."""
    for matrix in (adata.X, *layers_of(adata).values()):
        check_indices(matrix)
    restore_names(adata)
    unique_names(adata)
    warn_implausible(adata)
    return adata


def _require_anndata(names: Iterable[str], where: Path) -> None:
    """Check that a file has what every AnnData has; anndata itself reads others as an empty object."""
    names = list(names)
    if not {"obs", "var"} <= set(names):
        raise InputError(
            f"Expected an AnnData file (with obs and var) at {where}, found one that holds {listed(names)}. "
            "Give a file that AnnData.write_h5ad or write_zarr wrote."
        )
