"""Where places lie on the array and in the picture, as Space Ranger writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.files import parsing, visible
from stmmr.io._files import find

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

POSITIONS = (
    "tissue_positions.parquet",
    "tissue_positions.csv",
    "tissue_positions_list.csv",
    "tissue_positions.csv.gz",
    "tissue_positions_list.csv.gz",
)
PIXELS = ["pxl_col_in_fullres", "pxl_row_in_fullres"]  # x, y
COLUMNS = ["barcode", keys.IN_TISSUE, keys.ARRAY_ROW, keys.ARRAY_COL, PIXELS[1], PIXELS[0]]


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
