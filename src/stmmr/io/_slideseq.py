"""Slide-seq and Slide-seqV2, as the authors publish them.

Format: https://singlecell.broadinstitute.org/single_cell/study/SCP815 and https://github.com/MacoskoLab/slideseq-tools
(a digital expression table of genes × beads, and a table of bead locations).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from stmmr._core.axes import coordinate_columns
from stmmr._core.checks import InputError, listed, require_positive, unique_names
from stmmr._core.columns import names_rows
from stmmr._core.files import parsing, visible
from stmmr._core.untrusted import reader
from stmmr.io._files import find, locate, require_match
from stmmr.io._flat import first_rows, read_counts_table, read_frame
from stmmr.io._peek import peek
from stmmr.io._placing import add_library, add_positions, library_name, matched, without_controls
from stmmr.io._tenx import read_counts

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

COUNTS: Final = tuple(
    name + packed
    for name in (
        "MappedDGEForR.csv",
        "digital_expression.txt",
        "digital_expression.csv",
        "digital_expression_matrix.mtx",
        "MoleculesPerMatchedBead.mtx",
    )
    for packed in ("", ".gz")
)
BEADS: Final = (
    "BeadLocationsForR.csv",
    "matched_bead_locations.txt",
    "MatchedBeadLocation.csv",
    "bead_locations.csv",
    "bead_locations.txt",
    "barcode_xy.txt",
    "barcode_matching.txt",
)
FIRST_NAMES: Final = 50
"""Rows by whose names beads are told from genes."""
MTX: Final = re.compile(r"\.mtx(\.gz)?$")
UM_PER_PX: Final = 0.65
"""Pixel size of the images in which the beads were sequenced (Rodriques et al. 2019, doi:10.1126/science.aaw1219).
Arrays of 3 mm are about 4,600 of these pixels wide in published files."""

find_slideseq = partial(locate, names=COUNTS)
"""Find the counts of a Slide-seq array, and the array name in front of them."""


@reader("a Slide-seq array")
def read_slideseq(path: str | Path, *, library_id: str | None = None, microns_per_pixel: float = UM_PER_PX) -> AnnData:
    """Read the beads of a Slide-seq array.

    Parameters
    ----------
    path
        Folder with a count table of genes × beads (``MappedDGEForR.csv`` or ``….digital_expression.txt.gz``) and the
        bead locations (``BeadLocationsForR.csv`` or ``…_bead_locations.csv``); or the count table.
    library_id
        Key of the array in ``uns["spatial"]``. By default the name in front of the file, or the folder.
    microns_per_pixel
        Pixel size in µm, which the files do not state; 1 if the locations are in µm.

    Returns
    -------
    Counts of genes, float32 CSR, one row per bead; ``obsm["spatial"]``, locations in pixels; the scale in
    ``uns["spatial"]``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and locations do not match.
    """
    require_positive(microns_per_pixel, name="microns_per_pixel")
    file, prefix = require_match(path, find_slideseq, COUNTS[0], advice="Give the folder of an array.")
    prefix = prefix.rstrip("._-")
    beads = _find_beads(file, prefix)
    table = _read_beads(beads)
    if MTX.search(file.name):
        adata = read_counts(file)
    else:
        in_rows = not _names_beads(file, table.index.unique())
        adata = read_counts_table(file, genes_in_rows=in_rows).as_anndata(genes_in_rows=in_rows)
    adata = without_controls(adata, controls="controls")
    unique_names(adata)
    adata = add_positions(adata, table, xy=("x", "y"), counts=file, positions=beads, rows="beads")
    library = library_name(library_id, re.sub(r"[._-]*matched$", "", prefix), file)
    return add_library(adata, microns_per_pixel, library, platform="Slide-seq")


def _names_beads(file: Path, beads: pd.Index[str]) -> bool:
    """Tell whether the rows of a table are beads and not, as usual, genes."""
    import pandas as pd

    names = pd.Index(first_rows(file, FIRST_NAMES)[0].astype(str)).unique()
    return bool((matched(names, beads) >= 0).any())


def _find_beads(file: Path, prefix: str) -> Path:
    """Find the locations. Another name in front is accepted: the barcodes of another array would not match."""
    for before in (prefix + "_", prefix + ".", ""):
        if path := find(file.parent, *BEADS, prefix=before):
            return path
    raise InputError(
        f"Expected the locations of the beads ({BEADS[0]} or …_bead_locations.csv) beside {file}, found "
        f"{listed(visible(file.parent))}. Put the file there."
    )


def _read_beads(path: Path) -> pd.DataFrame:
    """Read barcode, x and y of the beads: by the names of the columns, or the last two where there are none."""
    with parsing(path, expected="the locations of beads"):
        header = peek(path).header
        named = next((name for name in header if name and names_rows(name)), None)
        table = read_frame(path, ids=[named or header[0]])
        xy = coordinate_columns(header) or (header[-2:] if len(header) > 2 else None)
        if xy is None:
            raise InputError(
                f"Expected barcode, x and y in {path}, found {listed(header)}. Use the file as the authors "
                "published it."
            )
        return table.set_index(named or header[0])[list(xy)].set_axis(["x", "y"], axis=1)
