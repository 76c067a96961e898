"""AnnData and SpatialData files and stores."""

from __future__ import annotations

import errno
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from stmmr._core.checks import InputError, listed, logger, require_key, shown_bytes, unique_names
from stmmr._core.compat import layers_of, restore_names, write_escaped
from stmmr._core.files import check_indices, existing, hdf5_file, names_may_repeat, parsing
from stmmr._core.rows import file_of, is_on_disk
from stmmr._core.several import warn_implausible
from stmmr._core.untrusted import examined, open_hdf5, reader, require_parts
from stmmr.io._elements import import_spatialdata, quietly
from stmmr.io._spatialdata import set_positions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import h5py
    from anndata import AnnData
    from anndata.abc import CSCDataset, CSRDataset

    from stmmr.io._spatialdata import FullImage

    Store: TypeAlias = h5py.Group
    """Or zarr.Group, which has the same interface."""

TABLES: Final = "tables"
ELEMENTS: Final = ("images", "labels", "shapes", "points")
"""Groups of a SpatialData store."""
SMALL: Final = ("obs", "var", "uns", "obsm", "varm")
"""What is read of an AnnData whose counts stay on disk."""
RESERVED: Final = "_index"
"""Name of a column that files of anndata have for the index."""
ON_DISK: Final = "Leave its counts there: backed=True (--mode disk)."


@reader("an AnnData file (.h5ad)")
def read_h5ad(path: str | Path, *, backed: bool = False) -> AnnData:
    """Read an AnnData file.

    Parameters
    ----------
    path
        The .h5ad file.
    backed
        Leave ``X`` and the layers in the file and read them in chunks; ``obsp``, ``varp`` and ``raw`` are left out.

    Returns
    -------
    The content of the file, with unique names of spots and genes.

    Raises
    ------
    InputError
        If it is no AnnData file, or is damaged.
    """
    import anndata as ad
    import h5py

    file_path = existing(path)
    with names_may_repeat():
        with open_hdf5(file_path, parts=_parts_read(backed=backed), advice=ON_DISK) as file:
            _require_anndata(file, file_path)
        if backed:
            return _left_on_disk(h5py.File(file_path))
        return _checked(ad.read_h5ad(file_path))


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write a compressed AnnData file: at level 1, in three quarters of the time of the default, with 3 % more bytes.

    Raises OSError if the file cannot be written; a part of it may remain.
    """
    adata.strings_to_categoricals()  # as AnnData.write_h5ad does
    with hdf5_file(path) as file:
        write_escaped(file, "/", adata, dataset_kwargs={"compression": "gzip", "compression_opts": 1})


def write_beside_counts(adata: AnnData, source: Path, target: Path) -> None:
    """Write an AnnData file or store with ``X`` and the layers of another, copied without reading them.

    ``obs``, ``var``, ``obsm``, ``varm`` and ``uns`` are those of `adata`; both paths are .h5ad or both .zarr.
    Raises OSError if there is too little free space.
    """
    import h5py
    import zarr

    adata.strings_to_categoricals()
    obsm_size = sum(values.nbytes for values in adata.obsm.values() if hasattr(values, "nbytes"))
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    require_free_space(target, sum(file.stat().st_size for file in files) + obsm_size)
    small = {name: getattr(adata, name) for name in SMALL}
    small |= {name: dict(small[name]) for name in ("uns", "obsm", "varm")}
    if source.is_dir():
        for name in ("X", "layers"):
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name)
        store = zarr.open_group(target, mode="a", zarr_format=zarr.open_group(source, mode="r").metadata.zarr_format)
        _fill(store, small)
        return
    with h5py.File(source) as counts, hdf5_file(target) as file:
        for name in ("X", "layers"):
            if name in counts:
                counts.copy(name, file)
        _fill(file, small)


def counts_file(adata: AnnData) -> Path | None:
    """Find the file or store that holds the counts; None if they are in memory."""
    matrices = (matrix for matrix in (adata.X, *layers_of(adata).values()) if is_on_disk(matrix))
    return next((Path(file_of(matrix)) for matrix in matrices), None)


def close(adata: AnnData) -> None:
    """Close the file with the counts of an AnnData; zarr stores need not be."""
    from h5py import Dataset, Group

    for matrix in (adata.X, *layers_of(adata).values()):
        node = getattr(matrix, "group", matrix)
        if isinstance(node, Group | Dataset) and node:  # not closed yet
            node.file.close()


def with_counts_of(adata: AnnData, path: Path) -> AnnData:
    """Give data without counts those of an AnnData file with the same rows and columns, which stay there."""
    import h5py
    from anndata import AnnData
    from anndata.io import sparse_dataset

    file = h5py.File(path)
    x = sparse_dataset(file["X"]) if "X" in file else None
    return AnnData(X=x, **{name: getattr(adata, name) for name in SMALL})


def counts_in_file(path: Path, *, table: str | None = None) -> tuple[int, int]:
    """Get the number of spots and the number of stored entries of ``X``, without reading them."""
    import zarr

    with parsing(path, expected="an AnnData file or store"):
        if path.is_dir():
            require_parts(folder := counts_at(path, table), ())
            return _size_of_counts(zarr.open_group(folder, mode="r"))
        with open_hdf5(path, parts=()) as file:
            return _size_of_counts(file)


def _size_of_counts(store: Store) -> tuple[int, int]:
    obs = store["obs"]
    names = obs[obs.attrs["_index"]] if hasattr(obs, "keys") else obs  # a table of anndata before 0.7
    n_spots = int((names["values"] if hasattr(names, "keys") else names).shape[0])
    x = store.get("X")
    if x is None:
        return n_spots, 0
    return n_spots, int((x["data"] if hasattr(x, "keys") else x).size)


def _fill(store: Store, small: dict[str, object]) -> None:
    """Write the small parts of an AnnData into a store that holds its matrices."""
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name, content in ({"layers": {}, "obsp": {}, "varp": {}} | small).items():
        if name not in store:
            write_escaped(store, name, content)


def require_free_space(target: Path, size: int) -> None:
    """Check that the disk has enough free space, before most of it is written in vain."""
    free = shutil.disk_usage(target.parent).free
    if free < size * 1.05:
        raise OSError(errno.ENOSPC, f"{shown_bytes(size)} are needed and {shown_bytes(free)} free")


@reader("an AnnData or SpatialData store (.zarr)")
def read_zarr(
    path: str | Path,
    *,
    backed: bool = False,
    table: str | None = None,
    image: str | None = None,
    coordinate_system: str | None = None,
) -> AnnData:
    """Read an AnnData store, or a table of a SpatialData store with its coordinates and image.

    Parameters
    ----------
    path
        The .zarr folder, also of a single table in a SpatialData store (store.zarr/tables/table).
    backed
        Leave ``X`` and the layers in the store and read them in chunks; ``obsp``, ``varp`` and ``raw`` are left out.
    table, image, coordinate_system
        For a SpatialData store, as in `stmmr.io.from_spatialdata`.

    Returns
    -------
    The content of the table, with unique names of spots and genes. From a SpatialData store, with coordinates and
    image as `stmmr.io.from_spatialdata` sets them. If the store has tables only, or the extra ``spatialdata`` is not
    installed, the table is read alone.

    Raises
    ------
    InputError
        If it is no AnnData or SpatialData store, is damaged, or has several tables and none is named, or no table of
        that name; and as in `stmmr.io.from_spatialdata`.
    """
    return read_store(path, backed=backed, table=table, image=image, coordinate_system=coordinate_system)[0]


def read_store(
    path: str | Path,
    *,
    backed: bool = False,
    table: str | None = None,
    image: str | None = None,
    coordinate_system: str | None = None,
) -> tuple[AnnData, FullImage | None]:
    """Read a store as `read_zarr` does, and get the full-resolution image of a SpatialData store, not read yet."""
    import anndata as ad
    import zarr

    location = existing(path)
    full_image = None
    with parsing(location, expected="an AnnData or SpatialData store (.zarr)"), names_may_repeat():
        folder = counts_at(location, table)
        root = folder.parents[1] if folder.parent.name == TABLES else None
        if root is not None and not _has_elements(root):
            root = None
        outer = root or location
        prefix = "/" if outer == folder else f"/{TABLES}/{folder.name}/"
        require_parts(outer, _parts_read(prefix, backed=backed), advice=ON_DISK)
        store = zarr.open_group(folder, mode="r")
        _require_anndata(store, location)
        adata = _left_on_disk(store) if backed else _checked(ad.read_zarr(store))
        if root is not None:
            with quietly():
                sdata = import_spatialdata().read_zarr(root, selection=ELEMENTS)
            full_image = set_positions(adata, sdata, image=image, system=coordinate_system)
        elif image is not None or coordinate_system is not None:
            raise InputError(f"Expected a SpatialData store for image and coordinate_system, found none at {location}.")
        return adata, full_image


def counts_at(path: Path, table: str | None = None) -> Path:
    """Find the AnnData file or store: the path itself, or a table of a SpatialData store, `table` or the only one."""
    import zarr

    if path.is_dir():
        examined(path)
    store: Store = zarr.open_group(path, mode="r") if path.is_dir() else ()
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
            f"Expected one table in the SpatialData store {path}, found {listed(names)}. Give the folder of one of "
            f"them, for example {path / TABLES / names[0] if names else path}."
        )
    return path / TABLES / names[0]


def _has_elements(root: Path) -> bool:
    """Tell whether a SpatialData store has images, labels, shapes or points that can be read."""
    import zarr

    try:
        store: Store = zarr.open_group(root, mode="r")
    except FileNotFoundError:  # the folder "tables" is no part of a store
        return False
    kinds = [kind for kind in ELEMENTS if kind in store and list(store[kind])]
    if kinds and find_spec("spatialdata") is not None:
        return True
    logger.info(
        "Reading a table of a SpatialData store; its images and shapes are not read%s.",
        ": run pip install 'stmmr-kit[spatialdata]' to read them" if kinds else ", as there are none",
    )
    return False


def _parts_read(prefix: str = "/", *, backed: bool) -> tuple[str, ...]:
    """Get the start of the names of the arrays that are read into memory."""
    return tuple(f"{prefix}{name}/" for name in SMALL) if backed else (prefix,)


def _left_on_disk(store: Store) -> AnnData:
    """Read the small parts of an AnnData; matrices of n_obs × n_vars stay on disk."""
    from anndata import AnnData
    from anndata.io import read_elem, sparse_dataset

    def matrix(node: Store | h5py.Dataset) -> CSRDataset | CSCDataset | h5py.Dataset:
        return sparse_dataset(node) if hasattr(node, "keys") else node

    if not hasattr(store["obs"], "keys"):
        raise InputError(
            "Expected a file of anndata 0.7 or later for counts on disk, found one of an earlier version. Read it into "
            "memory (--mode memory), or read it once with anndata and write it again."
        )
    small = {name: read_elem(store[name]) for name in SMALL if name in store}
    layers = {name: matrix(store["layers"][name]) for name in store.get("layers", {})}
    return _checked(AnnData(X=matrix(store["X"]) if "X" in store else None, layers=layers, **small))


def _checked(adata: AnnData) -> AnnData:
    """Check matrices in memory and the scale of an AnnData, and make its names unique."""
    for matrix in (adata.X, *layers_of(adata).values()):
        check_indices(matrix)
    _rename_reserved(adata)
    restore_names(adata)
    unique_names(adata)
    warn_implausible(adata)
    return adata


def _rename_reserved(adata: AnnData) -> None:
    """Rename columns that anndata reads and does not write, such as "_index" in the files of SeuratDisk."""
    from anndata import AnnData

    for name, table in (("obs", adata.obs), ("var", adata.var)):
        if RESERVED in table:
            setattr(adata, name, table.rename(columns={RESERVED: "index"}))
    if adata.raw is not None and RESERVED in adata.raw.var:
        var = adata.raw.var.rename(columns={RESERVED: "index"})
        adata.raw = AnnData(adata.raw.X, obs=adata.obs[[]], var=var)


def _require_anndata(names: Iterable[str], path: Path) -> None:
    """Check that a file has ``obs`` and ``var``; anndata itself reads any other file as an empty object."""
    names = list(names)
    if set(names) & set(ELEMENTS) and not {"obs", "var"} & set(names):
        raise InputError(
            f"Expected a table of counts in the SpatialData store {path}, found {listed(names)} only. Give a store "
            "with a table, or the counts that it was made from."
        )
    if not {"obs", "var"} <= set(names):
        raise InputError(
            f"Expected an AnnData file (with obs and var) at {path}, found one that holds {listed(names)}. "
            "Give a file that AnnData.write_h5ad or write_zarr wrote."
        )
