"""Spatial Transcriptomics (ST), the first spatial arrays: a table of counts and one of spots.

Format: https://github.com/SpatialTranscriptomicsResearch/st_pipeline (spots named ``XxY``) and
https://github.com/almaan/her2st (spots with ``pixel_x`` and ``pixel_y``)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, unique_names
from stmmr._core.files import existing, parsing
from stmmr._core.untrusted import reader
from stmmr.image.library import SPOT as SPOT_DIAMETER
from stmmr.io._files import require_columns, require_match
from stmmr.io._flat import read_counts_table, read_frame
from stmmr.io._peek import Peek, tables_at
from stmmr.io._placing import add_library, add_positions, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

SPOT: Final = re.compile(r"(-?\d+(?:\.\d+)?)x(-?\d+(?:\.\d+)?)")
SPOT_FILE: Final = ["pixel_x", "pixel_y", "x", "y"]
STEM: Final = re.compile(r"[_.-]*(stdata|counts?|ut_data).*")
"""What follows the sample name in the name of a count table."""


def find_st(path: Path) -> Path | None:
    """Find the count table of an ST array: the only table whose rows or columns are named ``XxY``."""
    files = [file for file, head in tables_at(path).items() if _has_spots(head)]
    if len(files) > 1:
        raise InputError(
            f"Expected one count table of an ST array in {path}, found {listed(file.name for file in files)}. Give one."
        )
    return files[0] if files else None


@reader("an ST section")
def read_st(path: str | Path, *, spots: str | Path | None = None) -> AnnData:
    """Read the spots of an ST array, which are 200 µm apart.

    Parameters
    ----------
    path
        Count table whose rows or columns are spots named ``XxY``, such as ``7x16`` or adjusted ``7.02x15.98``; or
        the folder with one.
    spots
        Table with ``x``, ``y``, ``pixel_x``, ``pixel_y`` and optionally ``new_x``, ``new_y`` and ``selected``
        (``spot_data-selection-….tsv``). By default the one in the same folder, if there is one.

    Returns
    -------
    Counts of genes, float32 CSR; ``obs["array_col"]`` and ``obs["array_row"]``. With a table of spots, only the spots
    in it, with their pixels in ``obsm["spatial"]``.

    Raises
    ------
    InputError
        If a table is damaged, spots have other names, or none of them is in the table of spots.
    """
    expected = "a count table with spots named XxY (such as 7x16)"
    file = require_match(path, find_st, expected, advice="Give the count table.")
    adata = _read_counts(file)
    array = _array_positions(adata.obs_names, file)
    is_whole = (array == np.rint(array)).all()
    adata.obs[[keys.ARRAY_COL, keys.ARRAY_ROW]] = array.astype(np.int64) if is_whole else array
    spot_file = existing(spots) if spots is not None else _find_spot_file(file)
    if spot_file is None:
        logger.info("No table of spots beside %s: positions are those on the array, not in an image.", file)
    else:
        with parsing(spot_file, expected="a table of spots"):
            table = _read_spot_file(spot_file, adata.obs_names, array)
        adata = add_positions(adata, table, xy=("pixel_x", "pixel_y"), counts=file, positions=spot_file, rows="spots")
    return add_library(adata, None, library_name(None, _stem(file), file), platform="ST", diameter=SPOT_DIAMETER)


def _read_counts(file: Path) -> AnnData:
    """Read the counts, with spots in rows or in columns of the table."""
    table = read_counts_table(file)
    adata = table.as_anndata(genes_in_rows=not SPOT.fullmatch(str(table.names[0])))
    adata = without_controls(adata, controls="sums and controls")
    unique_names(adata)
    return adata


def _array_positions(names: pd.Index[str], file: Path) -> Float64:
    """Read x and y on the array from the names of spots, shape (n_spots, 2)."""
    matches = [SPOT.fullmatch(name) for name in names]
    others = [name for name, match in zip(names, matches, strict=True) if match is None]
    if others:
        raise InputError(
            f"Expected spots named XxY (such as 7x16) in {file}, found {len(others)} others "
            f"({listed(others, at_most=3)}). Give a table of one array, without other columns."
        )
    return np.array([match.groups() for match in matches if match is not None], dtype=np.float64)


def _find_spot_file(file: Path) -> Path | None:
    """Find the table of spots in the folder of a count table. Spots of all arrays have the same names."""
    heads = {path: head for path, head in tables_at(file.parent).items() if path != file}
    spot_files = [path for path, head in heads.items() if set(head.header) >= set(SPOT_FILE)]
    stem = _stem(file)
    own = [path for path in spot_files if re.search(rf"(?<![A-Za-z0-9]){re.escape(stem)}(?![A-Za-z0-9])", path.name)]
    own = [path for path in own or spot_files if "selection" in path.name] or own or spot_files
    has_other_arrays = any(map(_has_spots, heads.values()))
    if len(own) > 1 or (own and stem not in own[0].name and has_other_arrays):
        raise InputError(
            f"Expected the table of spots of {file}, found {listed(path.name for path in spot_files)}. Give the one of "
            'this array: stmmr.io.read_st(…, spots="…") or stmmr.read(…, coordinates="…").'
        )
    return own[0] if own else None


def _read_spot_file(path: Path, names: pd.Index[str], array: Float64) -> pd.DataFrame:
    """Read pixels by the names of the spots in the counts: whole positions, or adjusted ones if more of them match."""
    table = read_frame(path, ids=("",))
    require_columns(table.columns, SPOT_FILE, path)
    if "selected" in table.columns:
        table = table[table["selected"].astype(int) == 1]
    name_at = dict(zip(_rounded(array), names, strict=True))
    pairs = [list(pair) for pair in (("x", "y"), ("new_x", "new_y")) if set(pair) <= set(table.columns)]
    candidates = (_rounded(table[pair].to_numpy(np.float64)) for pair in pairs)
    positions = max(candidates, key=lambda candidate: len(name_at.keys() & candidate))
    return table[["pixel_x", "pixel_y"]].set_axis([name_at.get(xy, xy) for xy in positions], axis=0)


def _rounded(xy: Float64) -> list[str]:
    """Write positions with two digits, so that they can be compared."""
    return [f"{x:.2f}x{y:.2f}" for x, y in xy]


def _stem(file: Path) -> str:
    """Get the sample name from the name of a count table."""
    return STEM.sub("", file.name.split(".")[0])


def _has_spots(head: Peek) -> bool:
    """Tell whether the rows or columns of a table are named ``XxY``."""
    in_columns = len(head.header) > 2 and all(SPOT.fullmatch(name) for name in head.header[1:4])
    return in_columns or any(SPOT.fullmatch(value) for value in head.first[:2])  # behind an index that was saved
