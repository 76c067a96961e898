"""CosMx, as flat files.

Format and size of a pixel: https://nanostring-biostats.github.io/CosMx-Analysis-Scratch-Space/posts/flat-file-exports/
flat-files-compare.html ("0.12028 µm per pixel"). Prototype instruments had larger ones, among them that of the public
lung sections, 0.18 µm: https://github.com/Nanostring-Biostats/CosMx-Analysis-Scratch-Space/issues/108
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core.checks import InputError, listed, require_positive, unique_names
from stmmr._core.files import existing, parsing, visible
from stmmr.io._files import companion, find, locate
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._placing import name_library, place, set_scale, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

COUNTS: Final = ("exprMat_file.csv", "exprMat_file.csv.gz")
CELLS: Final = ("metadata_file.csv", "metadata_file.csv.gz")
FIELDS: Final = ("fov_positions_file.csv", "fov_positions_file.csv.gz")
CONTROLS: Final = r"neg(prb|probe|ative)|sys(tem)?control|falsecode"
GLOBAL: Final = ("CenterX_global_px", "CenterY_global_px")
LOCAL: Final = ("CenterX_local_px", "CenterY_local_px")
UM_PER_PX: Final = 0.12028
UM_PER_PX_PROTOTYPE: Final = 0.18
FIELD_PX: Final = 4256
"""Side of a field of view; that of the prototype is 5472 × 3648 pixels."""


def find_cosmx(path: Path) -> tuple[Path, str] | None:
    """Find the counts among CosMx flat files, and the sample's name in front of them."""
    return locate(path, COUNTS)


def read_cosmx(path: str | Path, *, library_id: str | None = None, microns_per_pixel: float | None = None) -> AnnData:
    """Read a CosMx section from its flat files.

    Parameters
    ----------
    path
        Folder with ``…_exprMat_file.csv``, ``…_metadata_file.csv`` and, where there is one,
        ``…_fov_positions_file.csv`` (all plain or ``.gz``); or the first of them.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.
    microns_per_pixel
        Size of a pixel. By default what the positions of the fields of view say where they are in mm as well, else
        0.18 µm where the fields are as wide as those of the prototype (the public lung sections), else 0.12028 µm.

    Returns
    -------
    Counts of genes, float32 CSR, with negative probes and system controls dropped, and so what lies outside cells;
    cells are named ``{cell_ID}_{fov}`` as in squidpy. ``obsm["spatial"]``: pixels of the stitched section; ``obs``:
    the metadata, ``fov`` categorical, so that ``section_key="fov"`` takes each field by itself. The scale is in
    ``uns["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, counts and cells do not belong together, or several fields cannot be stitched.
    """
    where = existing(path)
    found = find_cosmx(where)
    if found is None:
        raise InputError(f"Expected …_{COUNTS[0]} in {where}, found {listed(visible(where))}. Give the flat files.")
    file, prefix = found
    cells = companion(file, CELLS, prefix=prefix, what="the positions of the cells")
    counts = read_counts_table(file, ids=("fov", "cell_ID"), others=("cell", "cell_id"))
    adata = counts.as_anndata(_name_cells(counts.ids, file))
    outside = (counts.ids["cell_ID"] == "0").to_numpy()
    if outside.any():
        logger.info("%d rows of counts outside of cells dropped (cell_ID 0).", outside.sum())
        adata = adata[~outside].copy()
    adata = without_controls(adata, CONTROLS, what="negative probes and controls")
    unique_names(adata)

    at = next((at for name in FIELDS if (at := find(file.parent, name, prefix=prefix))), None)
    with parsing(cells, expected="the metadata of CosMx cells"):
        table = read_frame(cells, ids=("fov", "cell_ID", "cell", "cell_id"))
        table.index = _name_cells(table, cells)
        table["fov"], table["cell_ID"] = table["fov"].astype("category"), table["cell_ID"].astype(np.int64)
        fields = None if at is None else read_frame(at)
        um = _scale(table, fields) if microns_per_pixel is None else microns_per_pixel
        require_positive(um, name="microns_per_pixel")
        table = _stitched(table, fields, um, cells)
    adata = place(adata, table, xy=GLOBAL, counts=file, positions=cells)
    library = name_library(library_id, prefix=prefix, folder=file.parent)
    return set_scale(adata, um, library=library, metadata={"platform": "CosMx"})


def _name_cells(table: pd.DataFrame, path: Path) -> pd.Index:
    """Name cells by their number and field of view."""
    if not {"fov", "cell_ID"} <= set(table.columns):
        raise InputError(
            f"Expected the columns fov and cell_ID in {path}, found {listed(table.columns)}. Take the flat file as it "
            "was exported."
        )
    import pandas as pd

    return pd.Index(table["cell_ID"] + "_" + table["fov"])


def _stitched(table: pd.DataFrame, fields: pd.DataFrame | None, um: float, cells: Path) -> pd.DataFrame:
    """Get positions in the stitched section, from those in the fields of view where they are not there."""
    if set(GLOBAL) <= set(table.columns):
        return table
    if not set(LOCAL) <= set(table.columns):
        raise InputError(
            f"Expected the columns {listed(GLOBAL)} or {listed(LOCAL)} in {cells}, found {listed(table.columns)}. Take "
            "the flat file as it was exported."
        )
    local = table[list(LOCAL)].to_numpy(np.float64)
    if fields is not None:
        corners = _corners(fields, um)
        numbers = table["fov"].astype(np.int64)
        missing = sorted(set(numbers) - set(corners.index))
        if missing:
            raise InputError(
                f"Expected a position for every field of view, found none for {listed(missing)}. Complete {FIELDS[0]}."
            )
        local = local + corners.loc[numbers].to_numpy()
    elif table["fov"].nunique() > 1:
        raise InputError(
            f"Expected …_{FIELDS[0]} beside {cells}, found positions within {table['fov'].nunique()} fields of view "
            "only. Put it there, or give the metadata with global positions."
        )
    table[list(GLOBAL)] = local
    return table


def _corners(fields: pd.DataFrame, um: float) -> pd.DataFrame:
    """Get the positions of the fields of view in pixels, by their number."""
    fields = fields.rename(columns={"FOV": "fov"})
    for columns, factor in ((["x_global_px", "y_global_px"], 1.0), (["x_global_mm", "y_global_mm"], 1000 / um)):
        if {"fov", *columns} <= set(fields.columns):
            return fields.set_index(fields["fov"].astype(np.int64))[columns].astype(np.float64) * factor
    raise InputError(
        f"Expected the columns fov, x_global_px and y_global_px in {FIELDS[0]}, found {listed(fields.columns)}. Take "
        "the flat file as it was exported."
    )


def _scale(table: pd.DataFrame, fields: pd.DataFrame | None) -> float:
    """Find the size of a pixel in µm."""
    px, mm = (
        np.empty((0, 2))
        if fields is None or not {f"x_global_{unit}", f"y_global_{unit}"} <= set(fields.columns)
        else fields[[f"x_global_{unit}", f"y_global_{unit}"]].to_numpy(np.float64)
        for unit in ("px", "mm")
    )
    if len(px) > 1 and len(mm) == len(px) and _extent(px) > 0 and _extent(mm) > 0:
        logger.info("The size of a pixel is that which the positions of the fields of view in px and mm tell.")
        return 1000 * _extent(mm) / _extent(px)
    wide = LOCAL[0] in table.columns and float(table[LOCAL[0]].max()) > FIELD_PX
    logger.info(
        "A pixel is taken for %g µm, that of %s; microns_per_pixel of read_cosmx says otherwise.",
        UM_PER_PX_PROTOTYPE if wide else UM_PER_PX,
        f"the prototype, as fields are wider than {FIELD_PX} px" if wide else "commercial instruments",
    )
    return UM_PER_PX_PROTOTYPE if wide else UM_PER_PX


def _extent(xy: NDArray[np.float64]) -> float:
    """Measure how far positions lie apart, whatever their origin and the direction of y."""
    return float(np.linalg.norm(xy - xy.mean(axis=0)))
