"""Slide-seq and Slide-seqV2, as the authors share them.

Format: https://singlecell.broadinstitute.org/single_cell/study/SCP815 and https://github.com/MacoskoLab/slideseq-tools
(a digital expression table of genes × beads, and a table of the beads' locations).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from scipy import sparse

from stmmr._core.checks import InputError, listed, require_positive, unique_names
from stmmr._core.files import existing, parsing, visible
from stmmr.io._files import find, locate
from stmmr.io._flat import peek, read_counts_table
from stmmr.io._placing import name_library, place, set_scale

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

COUNTS: Final = tuple(
    name + packed
    for name in ("MappedDGEForR.csv", "digital_expression.txt", "digital_expression.csv")
    for packed in ("", ".gz")
)
BEADS: Final = tuple(
    name + packed
    for name in ("BeadLocationsForR.csv", "matched_bead_locations.txt", "bead_locations.csv", "bead_locations.txt")
    for packed in ("", ".gz")
)
UM_PER_PX: Final = 0.65
"""Size of a pixel of the pictures in which the beads were sequenced (Rodriques et al. 2019,
doi:10.1126/science.aaw1219): the array of 3 mm is about 4,600 of them wide in the files."""


def find_slideseq(path: Path) -> tuple[Path, str] | None:
    """Find the counts of a Slide-seq array, and its name in front of them."""
    return locate(path, COUNTS)


def read_slideseq(path: str | Path, *, library_id: str | None = None, microns_per_pixel: float = UM_PER_PX) -> AnnData:
    """Read a Slide-seq array.

    Parameters
    ----------
    path
        Folder with a count table of genes × beads (``MappedDGEForR.csv`` or ``….digital_expression.txt.gz``) and the
        locations of the beads (``BeadLocationsForR.csv`` or ``…_bead_locations.csv``); or the count table.
    library_id
        Key of the array in ``uns["spatial"]``. By default its name in front of the file, or the folder.
    microns_per_pixel
        Size of a pixel in µm; 1 where the locations are in µm. The files do not say it.

    Returns
    -------
    Counts of genes, float32 CSR, one row per bead; ``obsm["spatial"]``, locations in pixels; the scale in
    ``uns["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, or counts and locations do not belong together.
    """
    import pandas as pd
    from anndata import AnnData

    require_positive(microns_per_pixel, name="microns_per_pixel")
    where = existing(path)
    found = find_slideseq(where)
    if found is None:
        raise InputError(
            f"Expected {COUNTS[0]} in {where}, found {listed(visible(where))}. Give the folder of an array."
        )
    file, prefix = found
    beads = _find_beads(file, prefix.rstrip("._-"))
    counts = read_counts_table(file)
    genes = pd.Index(counts.ids.iloc[:, 0].to_numpy())
    names = pd.Index(counts.columns)
    adata = AnnData(sparse.csr_matrix(counts.values.T), pd.DataFrame(index=names), pd.DataFrame(index=genes))
    unique_names(adata)
    adata = place(adata, _read_beads(beads), xy=("x", "y"), counts=file, positions=beads, what="beads")
    library = name_library(library_id, prefix=re.sub(r"[._-]*matched$", "", prefix.rstrip("._-")), folder=file.parent)
    return set_scale(adata, microns_per_pixel, library=library, metadata={"platform": "Slide-seq"})


def _find_beads(file: Path, prefix: str) -> Path:
    """Find the locations; another array's would fit none of the beads, so that a name in front may differ."""
    for before in (prefix + "_", prefix + ".", ""):
        for name in BEADS:
            if (found := find(file.parent, name, prefix=before)) is not None:
                return found
    raise InputError(
        f"Expected the locations of the beads ({BEADS[0]} or …_bead_locations.csv) beside {file}, found "
        f"{listed(visible(file.parent))}. Put them there."
    )


def _read_beads(path: Path) -> pd.DataFrame:
    """Read barcode, x and y of the beads, with or without a header."""
    import pandas as pd

    with parsing(path, expected="the locations of beads"):
        looked = peek(path)
        if len(looked.header) < 3:
            raise InputError(
                f"Expected barcode, x and y in {path}, found {listed(looked.header)}. Take the authors' file."
            )
        bare = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", looked.header[-1].strip(), flags=re.IGNORECASE) is not None
        table = pd.read_csv(path, sep=looked.separator, header=None, skiprows=0 if bare else 1, dtype={0: str})
        return table.iloc[:, [0, -2, -1]].set_axis(["bead", "x", "y"], axis=1).set_index("bead")
