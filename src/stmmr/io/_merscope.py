"""MERSCOPE, as the instrument and the Vizgen Post-processing Tool write it.

Format: https://vizgen.github.io/vizgen-postprocessing/output_data_formats/index.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import existing, visible
from stmmr.io._files import companion, locate
from stmmr.io._flat import peek, read_counts_table, read_frame
from stmmr.io._placing import name_library, place, set_scale, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

COUNTS: Final = ("cell_by_gene.csv", "cell_by_gene.csv.gz")
CELLS: Final = ("cell_metadata.csv", "cell_metadata.csv.gz")
CONTROLS: Final = r"blank[-_. ]?\d*$"
XY: Final = ("center_x", "center_y")


def find_merscope(path: Path) -> tuple[Path, str] | None:
    """Find the counts of a MERSCOPE region, and the sample's name in front of them; above it, if there is but one."""
    regions = [region.name for region in sorted(path.glob("region_*")) if region.is_dir()]
    return locate(path, COUNTS, inside=regions if len(regions) == 1 else ())


def read_merscope(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read a MERSCOPE section.

    Parameters
    ----------
    path
        Folder of one region, with ``cell_by_gene.csv`` and ``cell_metadata.csv`` (a sample's name may stand in front);
        or the first of them.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.

    Returns
    -------
    Counts of genes, float32 CSR, with blanks dropped; ``obsm["spatial"]``, centres of the cells in µm; the other
    columns of the metadata in ``obs``; the scale in ``uns["spatial"]``.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, or counts and cells do not belong together.
    """
    where = existing(path)
    found = find_merscope(where)
    if found is None:
        raise InputError(
            f"Expected {COUNTS[0]} in {where}, found {listed(visible(where))}. Give the folder of a region."
        )
    file, prefix = found
    cells = companion(file, CELLS, prefix=prefix, what="the positions of the cells")
    adata = without_controls(read_counts_table(file).as_anndata(), CONTROLS, what="blanks")
    unique_names(adata)
    # longer than any integer of a machine: as text
    first = peek(cells).header[0]
    table = read_frame(cells, ids=("EntityID", first))
    key = "EntityID" if "EntityID" in table.columns else first
    table = table.drop(columns=[name for name in table.columns if name in ("", "X") and name != key])
    adata = place(adata, table.set_index(key), xy=XY, counts=file, positions=cells)
    library = name_library(library_id, prefix=prefix, folder=file.parent)
    return set_scale(adata, 1.0, library=library, metadata={"platform": "MERSCOPE"})
