"""MERSCOPE, as the instrument and the Vizgen Post-processing Tool write it.

Format: https://vizgen.github.io/vizgen-postprocessing/output_data_formats/index.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stmmr._core.checks import unique_names
from stmmr._core.untrusted import reader
from stmmr.io._files import companion, locate, require_match
from stmmr.io._flat import peek, read_counts_table, read_frame
from stmmr.io._placing import add_library, add_positions, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

COUNTS: Final = ("cell_by_gene.csv", "cell_by_gene.csv.gz")
CELLS: Final = ("cell_metadata.csv", "cell_metadata.csv.gz")
XY: Final = ("center_x", "center_y")


def find_merscope(path: Path) -> tuple[Path, str] | None:
    """Find the counts of a MERSCOPE region, also in a folder above a single one, and the sample name in front."""
    regions = [region.name for region in sorted(path.glob("region_*")) if region.is_dir()]
    return locate(path, COUNTS, inside=regions if len(regions) == 1 else ())


@reader("a MERSCOPE section")
def read_merscope(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read the cells of a MERSCOPE section.

    Parameters
    ----------
    path
        Folder of one region, with ``cell_by_gene.csv`` and ``cell_metadata.csv`` (a sample name may stand in front);
        or the first of these files.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the sample or the folder.

    Returns
    -------
    Counts of genes, float32 CSR, without blanks; ``obsm["spatial"]``, cell centres in µm; ``obs``, the other columns
    of the metadata; the scale in ``uns["spatial"]``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and cells do not match.
    """
    file, prefix = require_match(path, find_merscope, COUNTS[0], advice="Give the folder of a region.")
    cells = companion(file, CELLS, prefix=prefix, content="the positions of the cells")
    adata = without_controls(read_counts_table(file).as_anndata(), controls="blanks")
    unique_names(adata)
    # names are numbers of more than 64 bits: read as text
    first = peek(cells).header[0]
    table = read_frame(cells, ids=("EntityID", first))
    key = "EntityID" if "EntityID" in table.columns else first
    table = table.drop(columns=[name for name in table.columns if name in ("", "X") and name != key])
    adata = add_positions(adata, table.set_index(key), xy=XY, counts=file, positions=cells)
    return add_library(adata, 1.0, library_name(library_id, prefix, file), platform="MERSCOPE")
