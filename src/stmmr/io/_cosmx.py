"""CosMx, as flat files.

Format and pixel size: https://nanostring-biostats.github.io/CosMx-Analysis-Scratch-Space/posts/flat-file-exports/
flat-files-compare.html ("0.12028 µm per pixel"). Prototype instruments had larger pixels; those of the public lung
sections are 0.18 µm: https://github.com/Nanostring-Biostats/CosMx-Analysis-Scratch-Space/issues/108
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import plain
from stmmr._core.checks import InputError, listed, logger, require_positive, unique_names
from stmmr._core.files import parsing
from stmmr._core.untrusted import reader
from stmmr.io._boundaries import boundaries_file, ring_numbers, set_boundaries
from stmmr.io._files import companion, find, locate, require_columns, require_match
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._peek import peek
from stmmr.io._placing import add_library, add_positions, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

OUTLINES: Final = ("polygons.csv", "polygons.csv.gz")
VERTICES: Final = ["x_global_px", "y_global_px"]
VERTICES_LOCAL: Final = ["x_local_px", "y_local_px"]
COUNTS: Final = ("exprMat_file.csv", "exprMat_file.csv.gz", "exprMat.csv", "exprMat.csv.gz")
CELLS: Final = ("metadata_file.csv", "metadata_file.csv.gz", "metadata.csv", "metadata.csv.gz")
FIELDS: Final = ("fov_positions_file.csv", "fov_positions_file.csv.gz", "fov_positions.csv", "fov_positions.csv.gz")
GLOBAL: Final = ["CenterX_global_px", "CenterY_global_px"]
LOCAL: Final = ["CenterX_local_px", "CenterY_local_px"]
FIELD_PX: Final = ["x_global_px", "y_global_px"]
FIELD_MM: Final = ["x_global_mm", "y_global_mm"]
UM_PER_PX: Final = 0.12028
UM_PER_PX_PROTOTYPE: Final = 0.18
ALIASES: Final = {
    "fov": "fov",
    "x_fov_px": LOCAL[0],
    "y_fov_px": LOCAL[1],
    "x_mm": FIELD_MM[0],
    "y_mm": FIELD_MM[1],
    "x_px": FIELD_PX[0],
    "y_px": FIELD_PX[1],
}
"""Names of columns in exports of other software, as `plain` writes them."""
CELL_NAME: Final = r"^c?_?\d+_(\d+)_(\d+)$"
"""Names of cells in AtoMx: the slide, the field of view, and the number of the cell."""
SLIDE_MM: Final = ["x_slide_mm", "y_slide_mm"]
SLIDES: Final = ("slide_ID", "slide_ID_numeric", "slide")
"""Columns that number the slides of a file of several."""
FIELD_SIDE: Final = 4256
"""Side of a field of view in pixels; fields of the prototype have 5472 × 3648."""

find_cosmx = partial(locate, names=COUNTS)
"""Find the counts among CosMx flat files, and the sample name in front of them."""


@reader("a CosMx section")
def read_cosmx(
    path: str | Path,
    *,
    library_id: str | None = None,
    microns_per_pixel: float | None = None,
    boundaries: bool = False,
) -> AnnData:
    """Read the cells of a CosMx section from its flat files.

    Parameters
    ----------
    path
        Folder with ``…_exprMat_file.csv``, ``…_metadata_file.csv`` and, optionally, ``…_fov_positions_file.csv``
        (each plain or ``.gz``); or the first of these files.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.
    microns_per_pixel
        Pixel size. By default computed from the positions of the fields of view, if they are given in both px and mm;
        else 0.18 µm if the fields are as wide as those of the prototype (public lung sections); else 0.12028 µm.
    boundaries
        Read the outlines of the cells as well, from ``…-polygons.csv`` (plain or ``.gz``).

    Returns
    -------
    Counts of genes, float32 CSR, without negative probes, system controls and counts outside cells. Cells are named
    ``{cell_ID}_{fov}``, as in squidpy. ``obsm["spatial"]``, pixels of the stitched section; ``obs``, the metadata,
    with ``fov`` categorical, so that ``section_key="fov"`` analyses each field separately; the scale in
    ``uns["spatial"]``; the outlines in ``obsm["cell_boundaries"]``, if they are requested.

    Raises
    ------
    InputError
        If a file is missing or damaged, counts and cells do not match, or several fields cannot be stitched.
    """
    file, prefix = require_match(path, find_cosmx, f"…_{COUNTS[0]}", advice="Give the folder of flat files.")
    cells = companion(file, CELLS, prefix=prefix, content="the positions of the cells")
    header = peek(file).header
    names = ("fov", "FOV", "cell_ID") if "cell_ID" in header else ("cell", "cell_id")
    counts = read_counts_table(file, ids=(*names, *SLIDES), others={"cell", "cell_id", *("fov", "FOV")} - {*names})
    ids = _renamed(counts.ids)
    slide = next((name for name in SLIDES if name in ids and ids[name].nunique() > 1), None)
    adata = counts.as_anndata(_cell_names(ids, file, slide))
    outside = (ids["cell_ID"] == "0").to_numpy()
    if outside.any():
        logger.info("%d rows of counts outside of cells dropped (cell_ID 0).", outside.sum())
        adata = adata[~outside].copy()
    adata = without_controls(adata, controls="negative probes and controls")
    unique_names(adata)

    field_file = find(file.parent, *FIELDS, prefix=prefix)
    with parsing(cells, expected="the metadata of CosMx cells"):
        table = _renamed(read_frame(cells, ids=("fov", "FOV", "cell_ID", "cell", "cell_id", *SLIDES)))
        table.index = _cell_names(table, cells, slide)
        table["fov"] = table["fov"].astype("category")
        fields = None if field_file is None else _renamed(read_frame(field_file))
        um = _pixel_size(table, fields) if microns_per_pixel is None else microns_per_pixel
        require_positive(um, name="microns_per_pixel")
        stitched = not set(GLOBAL) <= set(table.columns)
        if stitched:
            in_mm = set(SLIDE_MM) <= set(table.columns)
            table[GLOBAL] = table[SLIDE_MM] * (1000 / um) if in_mm else _stitched(table, fields, um, cells)
    adata = add_positions(adata, table, xy=GLOBAL, counts=file, positions=cells)
    if boundaries:
        _add_boundaries(adata, file, prefix=prefix, slide=slide, stitched=stitched)
    return add_library(adata, um, library_name(library_id, prefix, file), platform="CosMx")


def _add_boundaries(adata: AnnData, file: Path, *, prefix: str, slide: str | None, stitched: bool) -> None:
    """Read the outlines of the cells, and put those within fields of view around the centres of their cells."""
    path = boundaries_file(file, OUTLINES, prefix=prefix.rstrip("_-. "))
    with parsing(path, expected="outlines of CosMx cells"):
        table = read_frame(path, ids=("fov", "cellID", "cell_ID", "cell", *SLIDES))
        table = _renamed(table.rename(columns={"cellID": "cell_ID"}))
        cells = _cell_names(table, path, slide)
        ring, first = ring_numbers(cells)
        if set(VERTICES) <= set(table.columns) and not stitched:
            vertices = table[VERTICES].to_numpy(np.float64)
        else:
            require_columns(table.columns, VERTICES_LOCAL, path)
            require_columns(adata.obs.columns, LOCAL, file)
            row = adata.obs_names.get_indexer(cells)
            up = [1, 1 if _is_prototype(adata.obs) else -1]  # as in `_stitched`
            shift = adata.obsm[keys.SPATIAL] - adata.obs[LOCAL].to_numpy(np.float64) * up
            vertices = table[VERTICES_LOCAL].to_numpy(np.float64) * up + shift[row]
    set_boundaries(adata, cells[first], vertices, ring)


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns of other exports the names of the flat files, and number cells and fields that only have names."""
    table = table.rename(columns={name: ALIASES[plain(name)] for name in table if plain(name) in ALIASES})
    named = next((name for name in ("cell", "cell_id") if name in table), None)
    if named and not {"fov", "cell_ID"} <= set(table.columns):
        parts = table[named].astype(str).str.extract(CELL_NAME)
        if parts.notna().all(axis=None):
            table["fov"], table["cell_ID"] = parts[0], parts[1]
    if "fov" in table and not table["fov"].astype(str).str.fullmatch(r"\d+").all():  # FOV001
        table["fov"] = table["fov"].astype(str).str.extract(r"(\d+)(?:\.0)?$")[0].fillna("0").astype(int).astype(str)
    return table


def _cell_names(table: pd.DataFrame, path: Path, slide: str | None) -> pd.Index:
    """Name cells by their number and field of view, and by the slide if there are several."""
    import pandas as pd

    require_columns(table.columns, ["fov", "cell_ID", *([slide] if slide else [])], path)
    numbers = table["cell_ID"].astype(str).str.extract(r"(\d+)(?:\.0)?$")[0].fillna("")
    names = numbers + "_" + table["fov"].astype(str)
    return pd.Index(names if slide is None else names + "_" + table[slide].astype(str))


def _stitched(table: pd.DataFrame, fields: pd.DataFrame | None, um: float, cells: Path) -> Float64:
    """Compute positions in the section from those in the fields of view; shape (n_cells, 2)."""
    if not set(LOCAL) <= set(table.columns):
        raise InputError(
            f"Expected the columns {listed(GLOBAL)} or {listed(LOCAL)} in {cells}, found {listed(table.columns)}. Use "
            "the flat file as it was exported."
        )
    local = table[LOCAL].to_numpy(np.float64)
    if fields is not None:
        corners = _corners(fields, um)
        numbers = table["fov"].astype(np.int64)
        missing = sorted(set(numbers) - set(corners.index))
        if missing:
            raise InputError(
                f"Expected a position of every field of view, found none for {listed(missing)}. Complete {FIELDS[0]}."
            )
        if not _is_prototype(table):  # y goes down in a field of view and up in the section
            local = local * [1, -1] + [0, FIELD_SIDE]
        local = local + corners.loc[numbers].to_numpy()
    elif table["fov"].nunique() > 1:
        raise InputError(
            f"Expected …_{FIELDS[0]} beside {cells}, found positions within {table['fov'].nunique()} fields of view "
            "only. Put the file there, or give metadata with global positions."
        )
    return local


def _corners(fields: pd.DataFrame, um: float) -> pd.DataFrame:
    """Get the positions of the fields of view in pixels, by their number."""
    in_mm = set(FIELD_MM) <= set(fields.columns) and not set(FIELD_PX) <= set(fields.columns)
    columns, factor = (FIELD_MM, 1000 / um) if in_mm else (FIELD_PX, 1.0)
    require_columns(fields.columns, ["fov", *columns], FIELDS[0])
    return fields.set_index(fields["fov"].astype(np.int64))[columns].astype(np.float64) * factor


def _pixel_size(table: pd.DataFrame, fields: pd.DataFrame | None) -> float:
    """Find the size of a pixel in µm."""
    if fields is not None and len(fields) > 1 and {*FIELD_PX, *FIELD_MM} <= set(fields.columns):
        px, mm = (_extent(fields[columns].to_numpy(np.float64)) for columns in (FIELD_PX, FIELD_MM))
        if px > 0 and mm > 0:
            logger.info("The pixel size is computed from the positions of the fields of view in px and mm.")
            return 1000 * mm / px
    is_wide = _is_prototype(table)
    um = UM_PER_PX_PROTOTYPE if is_wide else UM_PER_PX
    reason = f"as on the prototype: fields are wider than {FIELD_SIDE} px" if is_wide else "as on later instruments"
    logger.info("Pixels are assumed to be %g µm, %s. Set microns_per_pixel of read_cosmx to change it.", um, reason)
    return um


def _is_prototype(table: pd.DataFrame) -> bool:
    """Tell a prototype by its fields, which are wider than those of later instruments."""
    return LOCAL[0] in table.columns and float(table[LOCAL[0]].max()) > FIELD_SIDE


def _extent(xy: Float64) -> float:
    """Measure how far positions are apart, whatever their origin and the direction of y."""
    return float(np.linalg.norm(xy - xy.mean(axis=0)))
