"""Where places lie on the array and in the picture, as Space Ranger writes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stmmr import _keys
from stmmr._validate import InputError, listed
from stmmr.io._files import find, parsing, visible

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

POSITIONS = (
    "tissue_positions.parquet",
    "tissue_positions.csv",
    "tissue_positions_list.csv",
    "tissue_positions.csv.gz",
    "tissue_positions_list.csv.gz",
)
PIXELS = ["pxl_col_in_fullres", "pxl_row_in_fullres"]  # x, y
ARRAY = [_keys.ARRAY_COL, _keys.ARRAY_ROW]  # x, y
SPOT_STEP = (50.0, 50.0 * math.sqrt(3))
"""µm of a step of ``array_col`` and ``array_row`` on Visium: spots 100 µm apart, every second column a row."""
COLUMNS = ["barcode", _keys.IN_TISSUE, _keys.ARRAY_ROW, _keys.ARRAY_COL, PIXELS[1], PIXELS[0]]


def read_positions(spatial: Path, *, prefix: str = "") -> pd.DataFrame:
    """Read where the places lie, in each of Space Ranger's formats.

    Parameters
    ----------
    spatial
        Folder with the positions.
    prefix
        The sample's name, where it stands before the names of files.

    Returns
    -------
    ``in_tissue``, ``array_row``, ``array_col`` and the pixels of the full-resolution picture, by barcode.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or a position is missing or there twice.
    """
    import pandas as pd

    found = (find(spatial, name, prefix=prefix) for name in POSITIONS)
    path = next((path for path in found if path is not None), None)
    if path is None:
        raise InputError(
            f"Expected the positions of the places ({listed(POSITIONS[:3])}) in {spatial}, found "
            f"{listed(visible(spatial))}. Put Space Ranger's folder spatial/ beside the count matrix."
        )
    with parsing(path, expected="a table of positions"):
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise InputError(
                f"Expected the columns {listed(COLUMNS)} in {path}, found {listed(table.columns)}. Take the "
                "file as Space Ranger wrote it."
            )
        positions: pd.DataFrame = table[COLUMNS].set_index("barcode").apply(pd.to_numeric)
    bad = ~np.isfinite(positions.to_numpy(np.float64)).all(axis=1)
    if bad.any() or not positions.index.is_unique:
        raise InputError(
            f"Expected one finite position per barcode in {path}, found {int(bad.sum())} rows without and "
            f"{int(positions.index.duplicated().sum())} repeated barcodes. Take the file as Space Ranger "
            "wrote it."
        )
    return positions


def _read_csv(path: Path) -> pd.DataFrame:
    """Read positions that have a header since Space Ranger 2, under either name."""
    import pandas as pd

    first = pd.read_csv(path, header=None, nrows=1)
    if first.iloc[0, 0] == "barcode":
        return pd.read_csv(path)
    table = pd.read_csv(path, header=None)
    return table.set_axis(COLUMNS, axis=1) if table.shape[1] == len(COLUMNS) else table


def microns_per_pixel(
    array: NDArray[np.float64], pixels: NDArray[np.float64], *, step: tuple[float, float]
) -> float | None:
    """Estimate the scale of the picture from places whose distances on the array are known.

    The affine map from array to pixels is fitted by least squares over all places: it does not mind how the
    picture is turned or mirrored, nor that few places are left.

    Parameters
    ----------
    array
        ``array_col`` and ``array_row`` of each place, shape (N, 2).
    pixels
        x and y of each place, shape (N, 2).
    step
        What one step of ``array_col`` and one of ``array_row`` is, in µm.

    Returns
    -------
    µm per pixel, or None where the places do not lie on such a grid.
    """
    array = array * step
    fit = np.linalg.lstsq(array - array.mean(axis=0), pixels - pixels.mean(axis=0))[0]
    longest, shortest = np.linalg.svd(fit, compute_uv=False)
    # they disagree on another grid (ST v1 in a folder like Visium's is square) and on a line
    if shortest <= 0.95 * longest:
        return None
    return float(1 / math.sqrt(longest * shortest))
