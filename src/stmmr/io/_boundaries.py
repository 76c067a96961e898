"""Outlines of cells, as the platforms write them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.boundaries import MOST, areas, packed
from stmmr._core.checks import InputError, logger
from stmmr._core.files import parsing
from stmmr._core.untrusted import open_hdf5
from stmmr.io._files import find, missing_companion, require_columns
from stmmr.io._flat import read_frame, read_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64, Ints

OF_XENIUM: Final = ("cell_boundaries.parquet", "cell_boundaries.csv.gz", "cell_boundaries.csv")
OF_MERSCOPE: Final = ("cell_boundaries.parquet", "micron_space.parquet", "cell_boundaries")
POLYGON, MULTI_POLYGON = 3, 6
"""Kinds of geometries of well-known binary."""


def set_boundaries(adata: AnnData, names: Sequence[str] | pd.Index[str], vertices: Float64, ring: Ints) -> None:
    """Write outlines into ``obsm["cell_boundaries"]``, and their area into ``obs["area"]`` if there is no such column.

    Parameters
    ----------
    names
        Cell of each outline; of several outlines of a cell, the largest is kept.
    vertices
        x and y in the unit of ``obsm["spatial"]``, one outline after the other, shape (n, 2).
    ring
        Number of the outline of each vertex, ascending from 0, shape (n,).
    """
    import pandas as pd

    n_vertices = np.bincount(ring, minlength=len(names))
    ends = np.cumsum(n_vertices)[n_vertices > 1] - 1
    closing = ends[(vertices[ends] == vertices[ends - n_vertices[n_vertices > 1] + 1]).all(axis=1)]
    vertices, ring = np.delete(vertices, closing, axis=0), np.delete(ring, closing)
    n_vertices = np.bincount(ring, minlength=len(names))
    area = areas(vertices, n_vertices)
    rows = adata.obs_names.get_indexer(pd.Index(names))
    table = pd.DataFrame({"row": rows, "area": area, "n": n_vertices, "start": np.cumsum(n_vertices) - n_vertices})
    table = table[(table["row"] >= 0) & (table["n"] <= MOST)].sort_values("area", ascending=False, kind="stable")
    table = table.drop_duplicates("row").set_index("row").reindex(range(adata.n_obs))
    number = table["n"].fillna(0).to_numpy(np.int64)
    if not number.any():
        raise InputError(
            f"Expected outlines of the cells ({adata.obs_names[0]}, …), found those of others "
            f"({names[0] if len(names) else 'none'}, …). Give files of the same section."
        )
    first = np.repeat(table["start"].fillna(0).to_numpy(np.int64) - np.cumsum(number) + number, number)
    adata.obsm[keys.BOUNDARIES] = packed(vertices[first + np.arange(number.sum())], number)
    if not {"area", "cell_area"} & {str(name).lower() for name in adata.obs}:
        adata.obs["area"] = table["area"].to_numpy()
    logger.info("Outlines of %d of %d cells are in obsm[%r].", (number > 0).sum(), adata.n_obs, keys.BOUNDARIES)


def ring_numbers(*columns: pd.Series[Any] | pd.Index[str]) -> tuple[Ints, Ints]:
    """Get the number of the outline of each vertex, which differ in `columns`, and the first row of each outline."""
    changed = np.zeros(len(columns[0]), dtype=bool)
    changed[:1] = True
    for column in columns:
        values = column.to_numpy()
        changed[1:] |= values[1:] != values[:-1]
    return np.cumsum(changed) - 1, np.flatnonzero(changed)


def xenium_boundaries(adata: AnnData, matrix: Path, *, prefix: str) -> None:
    """Read the outlines of Xenium cells, in µm."""
    path = boundaries_file(matrix, OF_XENIUM, prefix=prefix)
    table = read_frame(path, ids=("cell_id",))
    require_columns(table.columns, ["cell_id", "vertex_x", "vertex_y"], path)
    parts = [table["cell_id"], *([table["label_id"]] if "label_id" in table else [])]
    ring, first = ring_numbers(*parts)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in table["cell_id"].iloc[first]]
    set_boundaries(adata, names, table[["vertex_x", "vertex_y"]].to_numpy(np.float64), ring)


def merscope_boundaries(adata: AnnData, counts: Path) -> None:
    """Read the outlines of MERSCOPE cells, in µm: of several planes, one of the middle."""
    path = boundaries_file(counts, OF_MERSCOPE, prefix="")
    with parsing(path, expected="outlines of cells"):
        named = list(_of_folder(path) if path.is_dir() else _of_parquet(path))
    rings = [ring for _, ring in named]
    ring = np.repeat(np.arange(len(rings)), [len(each) for each in rings])
    set_boundaries(adata, [name for name, _ in named], np.concatenate([*rings, np.empty((0, 2))]), ring)


def _of_parquet(path: Path) -> Iterator[tuple[str, Float64]]:
    """Read outlines from a table of geometries."""
    table = read_parquet(path).rename(columns=str.lower)
    require_columns(table.columns, ["entityid", "geometry"], path)
    if "zindex" in table:
        off_middle = (table["zindex"] - table["zindex"].median()).abs()
        table = table.iloc[np.argsort(off_middle.to_numpy(), kind="stable")].drop_duplicates("entityid")
    for name, geometry in zip(table["entityid"].astype(str), table["geometry"], strict=True):
        if geometry is not None:
            for ring in rings_of(geometry):
                yield name, ring


def _of_folder(folder: Path) -> Iterator[tuple[str, Float64]]:
    """Read outlines from HDF5 files, one for each field of view, as earlier versions write them."""
    for path in sorted(folder.glob("*.hdf5")):
        with open_hdf5(path, parts=("/featuredata/",)) as file:
            for name, cell in file["featuredata"].items():
                planes = sorted(plane for plane in cell if plane.startswith("zIndex_") and len(cell[plane]))
                if planes:
                    for part in cell[planes[len(planes) // 2]].values():
                        yield str(name), np.asarray(part["coordinates"][0], dtype=np.float64)


def rings_of(geometry: bytes) -> list[Float64]:
    """Get the outer rings of a polygon or several in well-known binary, each of shape (n, 2)."""
    return _polygons(geometry, 0)[0]


def _polygons(data: bytes, at: int) -> tuple[list[Float64], int]:
    """Read a geometry at a position; get its outer rings and the position behind it."""
    order = "<" if data[at] else ">"
    kind, number = struct.unpack_from(f"{order}II", data, at + 1)
    at, rings = at + 9, []
    if kind == MULTI_POLYGON:
        for _ in range(number):
            inner, at = _polygons(data, at)
            rings += inner
        return rings, at
    if kind != POLYGON:
        raise ValueError(f"a geometry of kind {kind}, expected polygons")
    for index in range(number):
        (n,) = struct.unpack_from(f"{order}I", data, at)
        points = np.frombuffer(data, f"{order}f8", 2 * n, at + 4).reshape(n, 2)
        rings += [points.astype(np.float64)] if index == 0 else []  # the others are holes
        at += 4 + 16 * n
    return rings, at


def boundaries_file(counts: Path, names: Sequence[str], *, prefix: str) -> Path:
    """Find the file with the outlines beside the counts."""
    path = find(counts.parent, *names, prefix=prefix)
    if path is None:
        raise missing_companion(counts, names, content="the outlines of the cells")
    return path
