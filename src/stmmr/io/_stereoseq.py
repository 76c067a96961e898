"""Stereo-seq, as SAW writes it: square bins and cells in .gef files, which are HDF5.

Format: https://github.com/STOmics/geftools (bgef_writer.cpp, cgef_writer.cpp, bin_task.cpp).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_positive, unique_names
from stmmr._core.files import check_indices, names_may_repeat, parsing
from stmmr._core.untrusted import open_hdf5, reader, require_parts
from stmmr.io._files import require_match
from stmmr.io._placing import add_library, library_name

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

KINDS: Final = (".tissue.gef", ".gef", ".adjusted.cellbin.gef", ".cellbin.gef", ".raw.gef")
"""File endings, the best first: bins under the tissue, then cells, then the whole chip."""
FOLDERS: Final = ("", "feature_expression", "outs", "outs/feature_expression", "04.tissuecut", "041.cellcut")
DEFAULT_BIN: Final = 50
NM: Final = 1e-3


def find_gef(path: Path) -> Path | None:
    """Find the .gef of a section: the file itself, or the best one in the folders of SAW."""
    if path.is_file():
        return path if path.suffix.lower() == ".gef" else None
    longest_first = sorted(KINDS, key=len, reverse=True)
    for folder in FOLDERS:
        by_kind: dict[str, list[Path]] = {}
        for file in (path / folder).glob("*.gef"):
            if not file.name.startswith("."):
                kind = next(kind for kind in longest_first if file.name.endswith(kind))
                by_kind.setdefault(kind, []).append(file)
        best = next((by_kind[kind] for kind in KINDS if kind in by_kind), [])
        if len(best) > 1:
            raise InputError(f"Expected one .gef in {path / folder}, found {listed(f.name for f in best)}. Give one.")
        if best:
            return best[0]
    return None


@reader("a Stereo-seq file (.gef)")
def read_stereoseq(path: str | Path, *, bin_size: int | None = None, library_id: str | None = None) -> AnnData:
    """Read the square bins or the cells of a Stereo-seq section.

    Parameters
    ----------
    path
        A .gef file, or the output folder of SAW, from which bins under the tissue (``.tissue.gef``) are preferred to
        cells (``.cellbin.gef``). An .h5ad that stereopy wrote is read by :func:`read_h5ad`.
    bin_size
        Width of the bins in spots of the chip: a size in the file, or a multiple of one. By default 50, or the nearest
        size in the file. Not for cells.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the file.

    Returns
    -------
    Counts of genes, float32 CSR, of the bins with counts or of the cells. ``obsm["spatial"]``, centres in spots of the
    chip, which are the pixels of the registered images of SAW; the scale in ``uns["spatial"]``, if the file states
    it. For cells, ``obs["area"]`` and ``obs["dnbCount"]``, if the file has them.

    Raises
    ------
    InputError
        If it is no .gef, is damaged, or has no bins of that size.
    """
    gef = require_match(path, find_gef, "a .gef file", advice="Give the output folder of SAW.")
    with (
        parsing(gef, expected="a Stereo-seq file (.gef)"),
        names_may_repeat(),
        open_hdf5(gef, parts=("/cellBin/",)) as file,
    ):
        has_bins = "geneExp" in file
        if has_bins:
            adata, um = _read_bins(file["geneExp"], bin_size, gef)
        elif "cellBin" in file:
            if bin_size is not None:
                raise InputError(f"Expected a .gef with bins for bin_size, found cells in {gef}. Leave bin_size out.")
            adata, um = _read_cells(file)
        else:
            raise InputError(
                f"Expected a Stereo-seq file (with geneExp or cellBin) at {gef}, found an HDF5 file that holds "
                f"{listed(file)}. Give a .gef of SAW or geftools."
            )
        check_indices(adata.X)
    unique_names(adata)
    if um is None:
        logger.warning("%s does not state the distance between spots of the chip: scale in µm unknown.", gef)
    library = library_name(library_id, gef.name.split(".")[0], gef)
    return add_library(adata, um, library, platform="Stereo-seq" if has_bins else "Stereo-seq cells")


def _read_bins(bins: h5py.Group, bin_size: int | None, path: Path) -> tuple[AnnData, float | None]:
    """Read square bins: triples of x, y and count, gene by gene."""
    import pandas as pd
    from anndata import AnnData

    size, stored = _choose_size(bins, bin_size, path)
    require_parts(path, (f"/geneExp/bin{stored}/",))
    expression, genes = bins[f"bin{stored}/expression"], bins[f"bin{stored}/gene"][:]
    values = expression[:]
    x, y = (values[name].astype(np.int64) for name in "xy")
    if stored > 1 and (x % stored).any() | (y % stored).any():  # numbers of bins; some versions write spots
        x, y = x * stored, y * stored
    if size > stored:
        logger.info("Bins of %d spots are summed to bins of %d.", stored, size)
        x, y = x - x % size, y - y % size
    gene = np.repeat(np.arange(len(genes)), genes["count"].astype(np.int64))
    if len(gene) != len(values) or not len(values):
        raise ValueError(f"{len(values)} values, expected {len(gene)} by its genes")
    height = int(np.ptp(y)) + 1
    corners, row = np.unique((x - x.min()) * height + (y - y.min()), return_inverse=True)
    counts = sparse.csr_matrix((values["count"].astype(np.float32), (row, gene)), shape=(len(corners), len(genes)))
    origin = [_number(expression.attrs, name) or 0.0 for name in ("minX", "minY")]
    xy = np.column_stack(np.divmod(corners, height)) + np.array([x.min(), y.min()]) + origin
    names = [f"{left:.0f}_{top:.0f}" for left, top in xy]
    adata = AnnData(counts, pd.DataFrame(index=names), _genes(genes))
    adata.obsm[keys.SPATIAL] = xy + size / 2
    logger.info("Reading bins of %d × %d spots (bin%d).", size, size, size)
    return adata, _spot_distance(expression.attrs)


def _read_cells(file: h5py.File) -> tuple[AnnData, float | None]:
    """Read cells, whose genes and counts are stored one cell after the other."""
    import pandas as pd
    from anndata import AnnData

    cells, genes, values = (file["cellBin"][name][:] for name in ("cell", "gene", "cellExp"))
    starts = np.append(cells["offset"].astype(np.int64), len(values))
    counts = sparse.csr_matrix(
        (values["count"].astype(np.float32), values["geneID"].astype(np.int64), starts), shape=(len(cells), len(genes))
    )
    if (np.diff(counts.indptr) != cells["geneCount"]).any():
        raise ValueError("cells and their counts do not agree")
    obs = pd.DataFrame(index=cells["id"].astype(str))
    for name in ("area", "dnbCount"):
        if name in (cells.dtype.names or ()):
            obs[name] = cells[name].astype(np.int64)
    adata = AnnData(counts, obs, _genes(genes))
    adata.obsm[keys.SPATIAL] = np.column_stack([cells["x"], cells["y"]]).astype(np.float64)
    return adata, _spot_distance(file.attrs)


def _choose_size(bins: h5py.Group, bin_size: int | None, path: Path) -> tuple[int, int]:
    """Choose the size of the bins, `bin_size` or the default, and the size in the file of which they are made.

    Without `bin_size`, it is the size nearest to the default, which is made of single spots if there is nothing else.
    """
    sizes = sorted(int(match[1]) for name in bins if (match := re.fullmatch(r"bin(\d+)", name)))
    if bin_size is not None:
        require_positive(bin_size, name="bin_size")
    wanted = bin_size or DEFAULT_BIN
    stored = max((size for size in sizes if wanted % size == 0), default=None)
    if stored is not None and (bin_size is not None or sizes == [1] or stored == wanted):
        return wanted, stored
    if not sizes or bin_size is not None:
        raise InputError(
            f"Expected bins of {wanted} spots in {path}, or smaller ones that make them, found {listed(sizes)}. Choose "
            "one of these sizes or a multiple: bin_size=… (--bin-size …)."
        )
    nearest = min(sizes, key=lambda size: abs(np.log(size / DEFAULT_BIN)))
    return nearest, nearest


def _genes(genes: NDArray[np.void]) -> pd.DataFrame:
    """Name the genes, by symbol if there is one; since version 4 there are identifiers as well."""
    import pandas as pd

    columns = {
        name: [text.decode() for text in genes[name]]
        for name in ("geneName", "gene", "geneID")
        if name in (genes.dtype.names or ())
    }
    names = columns.get("geneName") or columns.get("gene") or columns["geneID"]
    identifiers = {"gene_ids": columns["geneID"]} if "geneID" in columns else {}
    return pd.DataFrame(identifiers, index=pd.Index(names))


def _spot_distance(attributes: h5py.AttributeManager) -> float | None:
    """Read the distance between spots in µm, stored in nm; None if it is not stated."""
    nm = _number(attributes, "resolution")
    return nm * NM if nm else None


def _number(attributes: h5py.AttributeManager, name: str) -> float | None:
    """Read an attribute, which is stored as an array of one number."""
    return float(np.ravel(attributes[name])[0]) if name in attributes else None
