"""Long tables: one row for each gene at a position, as GEM of Stereo-seq and tables of transcripts are."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.axes import coordinate_columns, microns_of, plain
from stmmr._core.checks import InputError, listed, logger, require_positive, unique_names
from stmmr._core.files import names_may_repeat, parsing
from stmmr._core.untrusted import reader
from stmmr.io._files import require_match
from stmmr.io._flat import read_chunks, read_frame
from stmmr.io._peek import peek, tables_at
from stmmr.io._placing import add_library, library_name, without_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.io._peek import Peek

GENES: Final = (
    "genename",
    "gene_name",
    "geneid",
    "gene_id",
    "gene",
    "genes",
    "feature_name",
    "feature",
    "target_name",
    "target",
    "symbol",
    "gene_symbol",
)
"""Columns with genes, as `plain` writes them, the best first."""
COUNTS: Final = re.compile(
    r"(mid|umi|read|total|n|num|transcript|gene|molecule)?_?(counts?|umis?|reads?|values?|expression)|n|total"
)
"""Columns with counts, as `plain` writes them."""
CELLS: Final = re.compile(
    r"(cell|nucleus|object)?_?(label|id|name|barcode)?|entityid|assignment|segment(ation)?(_id)?|barcode|spot(_?id)?"
)
"""Columns that name the cell of each row, as `plain` writes them."""
QUALITY, LEAST_QUALITY = "qv", 20.0
"""Column with the quality of transcripts of Xenium, and the least that 10x counts."""
COSMX_CELL: Final = "cell_ID"
"""Column of CosMx with the number of a cell within its field of view."""
NO_CELL: Final = frozenset({"", "0", "0.0", "-1", "-1.0", "nan", "none", "unassigned"})
"""Names of the cell of transcripts that are in none, in lower case."""
MOST_OF_COUNTS: Final = 6
"""Number of columns above which a table without coordinates is not long."""
MOST_COLUMNS: Final = 40
"""Number of columns above which a table is not long."""
DEFAULT_BIN: Final = 50
CHIP_UM: Final = 0.5
"""µm between the spots of the chips of Stereo-seq, which GEM files do not state (500 nm; early ones had 715)."""
MICRONS: Final = {"x_location": 1.0, "global_x": 1.0}
"""µm per unit of x in tables of transcripts by Xenium and MERSCOPE, whose names of columns do not state it."""
ROWS: Final = 2_000_000
"""Rows that are read at a time."""


class Columns(NamedTuple):
    """Columns of a long table, by their position."""

    gene: int
    x: int
    y: int
    counted: int | None
    cell: int | None
    names: tuple[str, str]
    """Names of x and y."""
    fov: int | None = None
    """Field of view, if cells are numbered within it."""
    quality: int | None = None

    @property
    def is_gem(self) -> bool:
        """Whether it counts at the spots of a chip, as GEM files do."""
        return self.counted is not None


def long_columns(head: Peek) -> Columns | None:
    """Find the columns of a long table; None if it is another table."""
    names = [plain(name) for name in head.header]
    xy = coordinate_columns(head.header)
    gene, count, cell = _roles(names)
    if xy is None or gene is None or len(names) > MOST_COLUMNS or len(head.first) != len(names):
        return None
    x, y = (head.header.index(name) for name in xy)
    per_fov = cell is not None and head.header[cell] == COSMX_CELL
    fov, quality = (names.index(name) if name in names else None for name in ("fov", QUALITY))
    return Columns(gene, x, y, count, cell, xy, fov if per_fov else None, quality)


def _roles(names: list[str]) -> tuple[int | None, int | None, int | None]:
    """Find the columns with genes, counts and cells by their plain names."""
    gene = next((names.index(name) for name in GENES if name in names), None)
    count, cell = (
        next((i for i, name in enumerate(names) if name and kind.fullmatch(name)), None) for kind in (COUNTS, CELLS)
    )
    return gene, count, cell


def read_long_counts(file: Path) -> AnnData | None:
    """Read a table with a spot, a gene and a count in each row; None if it is another table."""
    import pandas as pd
    from anndata import AnnData

    header = peek(file).header
    names = [plain(name) for name in header]
    gene, count, spot = _roles(names)
    if gene is None or count is None or spot is None or len(names) > MOST_OF_COUNTS:
        return None
    table = read_frame(file, ids=(header[spot], header[gene]))
    spots, rows = pd.factorize(table[header[spot]])[::-1]
    genes, columns = pd.factorize(table[header[gene]])[::-1]
    counts = sparse.csr_matrix((table[header[count]].to_numpy(np.float32), (rows, columns)))
    logger.info("Rows of %s are summed: each has a spot, a gene and a count.", file.name)
    return AnnData(counts, pd.DataFrame(index=pd.Index(spots)), pd.DataFrame(index=pd.Index(genes)))


def find_long(path: Path) -> Path | None:
    """Find a long table: the file itself, or the only one in a folder."""
    heads = tables_at(path)
    files = [file for file, head in heads.items() if long_columns(head)]
    if len(files) < len(heads):  # a folder of other tables
        return None
    if len(files) > 1:
        raise InputError(f"Expected one table in {path}, found {listed(file.name for file in files)}. Give one.")
    return files[0] if files else None


@reader("a table of genes and positions")
def read_transcripts(path: str | Path, *, bin_size: int | None = None, library_id: str | None = None) -> AnnData:
    """Read a long table, such as .gem of Stereo-seq or transcripts, as bins or as cells.

    Parameters
    ----------
    path
        Table with a column for the gene (``geneID``, ``gene``, ``feature_name`` …), x and y, and optionally the count
        (``MIDCount`` …) and the cell (``cell_id`` …) of each row.
    bin_size
        Width of the bins, in units of the coordinates. By default cells, if the table names them; else 50 spots of the
        chip for tables with counts. Transcripts without cells need it.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the file.

    Returns
    -------
    Counts of genes, float32 CSR, of the bins with counts, named by their corner, or of the cells, without controls
    and without transcripts of Xenium below a quality of 20; CosMx cells are named ``{cell_ID}_{fov}``.
    ``obsm["spatial"]``, centres of the bins, or means of the transcripts of a cell.

    Raises
    ------
    InputError
        If it is no such table, is damaged, or has neither counts nor cells and `bin_size` is not given.
    """
    file = require_match(path, find_long, "a table of genes with x and y", advice="Give the table.")
    with parsing(file, expected="a table of genes and positions"):
        head = peek(file)
        columns = long_columns(head)
        if columns is None:
            raise InputError(f"Expected columns for gene, x and y in {file}, found {listed(head.header)}.")
        if bin_size is not None:
            require_positive(bin_size, name="bin_size")
        by_cell = columns.cell is not None and bin_size is None
        if not by_cell and columns.counted is None and bin_size is None:
            raise InputError(
                f"Expected cells or bins, found single transcripts in {file} (columns {listed(head.header)}). Give the "
                "table of the cells (such as cell_by_gene.csv), or the width of bins: bin_size=… (--bin-size …)."
            )
        size = None if by_cell else bin_size or DEFAULT_BIN
        adata = _pivoted(file, head, columns, size)
    unique_names(adata)
    adata = without_controls(adata, controls="controls")
    um = CHIP_UM if columns.is_gem else microns_of(columns.names) or MICRONS.get(columns.names[0])
    if columns.is_gem:
        logger.info("Spots of the chip are assumed to be %g µm apart, which the table does not state.", CHIP_UM)
    kind = "cells" if by_cell else f"bins of {size} × {size} units"
    logger.info("Rows of %s are summed to %d %s.", file.name, adata.n_obs, kind)
    platform = ("Stereo-seq cells" if by_cell else "Stereo-seq") if columns.is_gem else ""
    return add_library(adata, um, library_name(library_id, file.name.split(".")[0], file), platform=platform)


def _pivoted(file: Path, head: Peek, columns: Columns, size: int | None) -> AnnData:
    """Sum the rows of a table to cells (size None) or bins × genes."""
    import pandas as pd
    from anndata import AnnData

    sums: list[pd.DataFrame] = []
    genes: pd.Index[str] = pd.Index([], dtype=object)
    cells: pd.Index[str] = pd.Index([], dtype=object)
    with closing(_rows_of(file, head, columns)) as chunks:
        for rows in chunks:
            if size is None:
                rows = rows[~rows["cell"].str.lower().isin(NO_CELL)]
                cells, rows["cell"] = _coded(cells, rows["cell"])
                place = ["cell"]
            else:
                rows["bx"], rows["by"] = (np.floor(rows[axis] / size).astype(np.int64) for axis in "xy")
                place = ["bx", "by"]
            genes, rows["gene"] = _coded(genes, rows["gene"])
            rows["n"] = 1
            sums.append(rows.groupby([*place, "gene"], as_index=False, sort=False)[["count", "n", "x", "y"]].sum())
    table = pd.concat(sums, ignore_index=True)
    if not len(table):
        raise InputError(f"Expected counts in {file}, found none in {'cells' if size is None else 'it'}.")
    place = ["cell"] if size is None else ["bx", "by"]
    groups = table.groupby(place, sort=True)
    row = groups.ngroup().to_numpy()
    counts = sparse.csr_matrix((table["count"].to_numpy(np.float32), (row, table["gene"].to_numpy())))
    counts.sum_duplicates()
    if size is None:
        total = groups[["x", "y", "n"]].sum()
        xy = total[["x", "y"]].to_numpy() / total[["n"]].to_numpy()
        names = cells[total.index.to_numpy()]
    else:
        corners = np.array(list(groups.groups), dtype=np.float64) * size
        xy = corners + size / 2
        names = pd.Index([f"{x:.0f}_{y:.0f}" for x, y in corners])
    with names_may_repeat():
        adata = AnnData(counts, pd.DataFrame(index=names), pd.DataFrame(index=genes[: counts.shape[1]]))
    adata.obsm[keys.SPATIAL] = xy
    return adata


def _rows_of(file: Path, head: Peek, columns: Columns) -> Any:
    """Read gene, x, y, count and cell in chunks, without rows that lack a position."""
    import pandas as pd

    wanted = {"gene": columns.gene, "x": columns.x, "y": columns.y, "count": columns.counted, "cell": columns.cell}
    wanted |= {"fov": columns.fov, QUALITY: columns.quality}
    present = {name: i for name, i in wanted.items() if i is not None}
    dtype: dict[int, type] = {i: str if name in ("gene", "cell", "fov") else np.float64 for name, i in present.items()}
    with closing(read_chunks(file, head, rows=ROWS, dtype=dtype, columns=sorted(present.values()))) as chunks:
        for chunk in chunks:
            rows = pd.DataFrame({name: chunk[i].to_numpy() for name, i in present.items()})
            if "count" not in rows:
                rows["count"] = 1.0
            if "cell" in rows:
                rows["cell"] = rows["cell"].fillna("").astype(str)
            if "fov" in rows:
                rows["cell"] = rows["cell"].where(rows["cell"].isin(NO_CELL), rows["cell"] + "_" + rows["fov"])
            if QUALITY in rows:
                rows = rows[rows[QUALITY] >= LEAST_QUALITY]
            if rows["count"].isna().any():
                raise ValueError("a row is incomplete")
            rows = rows.dropna(subset=["gene", "x", "y"])
            yield rows.copy()


def _coded(names: pd.Index[str], values: pd.Series[str]) -> tuple[pd.Index[str], NDArray[np.intp]]:
    """Get the numbers of values among the names, and the names with those that are new."""
    import pandas as pd

    codes, unique = pd.factorize(values)
    names = names.append(pd.Index(unique).difference(names, sort=False))
    return names, names.get_indexer(pd.Index(unique))[codes]
