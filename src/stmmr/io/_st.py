"""The first spatial arrays (Spatial Transcriptomics, ST): a table of counts and one of spots.

Format: https://github.com/SpatialTranscriptomicsResearch/st_pipeline (spots named ``XxY``) and
https://github.com/almaan/her2st (spots with ``pixel_x`` and ``pixel_y``)
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys as _keys
from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import existing, parsing, visible
from stmmr.io._flat import glance, is_table, read_counts_table, read_frame
from stmmr.io._placing import place

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("stmmr")

SPOT: Final = re.compile(r"(-?\d+(?:\.\d+)?)x(-?\d+(?:\.\d+)?)")
SPOT_FILE: Final = {"x", "y", "pixel_x", "pixel_y"}


def find_st(path: Path) -> Path | None:
    """Find the count table of an ST array: the only table whose rows or columns are named ``XxY``."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    found = [file for file in files if file.is_file() and is_table(file) and _has_spots(file)]
    if len(found) > 1:
        raise InputError(
            f"Expected one count table of an ST array in {path}, found {listed(file.name for file in found)}. Give one."
        )
    return found[0] if found else None


def read_st(path: str | Path, *, spots: str | Path | None = None) -> AnnData:
    """Read an array of the first kind (ST), with spots 200 µm apart.

    Parameters
    ----------
    path
        Count table whose rows (or columns) are spots named ``XxY``, such as ``7x16`` or adjusted ``7.02x15.98``; or
        the folder with one.
    spots
        Table with ``x``, ``y``, ``pixel_x``, ``pixel_y`` and maybe ``new_x``, ``new_y`` and ``selected``
        (``spot_data-selection-….tsv``). By default the one in the same folder, if any.

    Returns
    -------
    Counts of genes, float32 CSR; ``obs["array_col"]`` and ``obs["array_row"]``. With a table of spots, those in it and
    their pixels in ``obsm["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a table is damaged, spots have other names, or none of them is in the table of spots.
    """
    where = existing(path)
    file = find_st(where)
    if file is None:
        raise InputError(
            f"Expected a count table with spots named XxY (such as 7x16) in {where}, found {listed(visible(where))}. "
            "Give the count table."
        )
    adata = _read_spots(file)
    array = _positions(adata.obs_names, file)
    whole = (array == np.rint(array)).all()
    adata.obs[[_keys.ARRAY_COL, _keys.ARRAY_ROW]] = array.astype(np.int64) if whole else array
    at = existing(spots) if spots is not None else _find_spot_file(file)
    if at is None:
        logger.info("No table of spots beside %s: positions on the array, none in a picture.", file)
        return adata
    with parsing(at, expected="a table of spots"):
        table = _read_spot_file(at, adata.obs_names, array)
    return place(adata, table, xy=("pixel_x", "pixel_y"), counts=file, positions=at, what="spots")


def _read_spots(file: Path) -> AnnData:
    """Read the counts, spots in rows whichever way the table has them."""
    import pandas as pd
    from anndata import AnnData

    table = read_counts_table(file)
    rows, columns = pd.Index(table.ids.iloc[:, 0].to_numpy()), pd.Index(table.columns)
    values = table.values
    if not SPOT.fullmatch(str(rows[0])):
        rows, columns, values = columns, rows, sparse.csr_matrix(values.T)
    adata = AnnData(values, pd.DataFrame(index=rows), pd.DataFrame(index=columns))
    unique_names(adata)
    return adata


def _positions(names: pd.Index, file: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Read positions off the names of spots."""
    matches = [SPOT.fullmatch(name) for name in names]
    odd = [name for name, match in zip(names, matches, strict=True) if match is None]
    if odd:
        raise InputError(
            f"Expected spots named XxY (such as 7x16) in {file}, found {len(odd)} others ({listed(odd, at_most=3)}). "
            "Give a table of one array, without other columns."
        )
    return np.array([match.groups() for match in matches if match is not None], dtype=np.float64)


def _find_spot_file(file: Path) -> Path | None:
    """Find the table of spots in the folder of a count table; all arrays have spots of the same names."""
    tables = [at for at in sorted(file.parent.iterdir()) if at.is_file() and is_table(at) and at != file]
    found = [at for at in tables if (looked := glance(at)) is not None and set(looked.header) >= SPOT_FILE]
    stem = re.sub(r"[_.-]*(stdata|counts?|ut_data).*", "", file.name.split(".")[0])
    own = [at for at in found if re.search(rf"(?<![A-Za-z0-9]){re.escape(stem)}(?![A-Za-z0-9])", at.name)]
    own = [at for at in own or found if "selection" in at.name] or own or found
    alone = not any(_has_spots(at) for at in tables)
    if len(own) > 1 or (own and stem not in own[0].name and not alone):
        raise InputError(
            f"Expected the table of spots of {file}, found {listed(at.name for at in found)}. Give that of this array: "
            "spots='…' of stmmr.io.read_st, coordinates='…' of stmmr.read."
        )
    return own[0] if own else None


def _read_spot_file(
    path: Path, names: pd.Index, array: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> pd.DataFrame:
    """Read pixels by the names that spots have in the counts: by their whole positions, else their adjusted ones."""
    table = read_frame(path, ids=("",))
    missing = SPOT_FILE - set(table.columns)
    if missing:
        raise InputError(f"Expected the columns {listed(sorted(SPOT_FILE))} in {path}, found {listed(table.columns)}.")
    if "selected" in table.columns:
        table = table[table["selected"].astype(int) == 1]
    called = dict(zip(_keyed(array), names, strict=True))
    pairs = [list(pair) for pair in (("x", "y"), ("new_x", "new_y")) if set(pair) <= set(table.columns)]
    keys = max((_keyed(table[pair].to_numpy(np.float64)) for pair in pairs), key=lambda some: len(called.keys() & some))
    return table[["pixel_x", "pixel_y"]].set_axis([called.get(key, key) for key in keys], axis=0)


def _keyed(xy: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[str]:
    """Write positions alike, whatever the number of their digits."""
    return [f"{x:.2f}x{y:.2f}" for x, y in xy]


def _has_spots(file: Path) -> bool:
    looked = glance(file)
    if looked is None:
        return False
    spots_in_columns = len(looked.header) > 2 and all(SPOT.fullmatch(name) for name in looked.header[1:4])
    return spots_in_columns or bool(looked.first and SPOT.fullmatch(looked.first[0]))
