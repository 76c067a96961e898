"""Stereo-seq, as SAW writes it: square bins and cells in .gef files, which are HDF5.

Format: https://github.com/STOmics/geftools (bgef_writer.cpp, cgef_writer.cpp, bin_task.cpp).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, unique_names
from stmmr._core.files import check_indices, existing, names_may_repeat, parsing, visible
from stmmr.io._placing import name_library, set_scale

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

KINDS: Final = (".tissue.gef", ".gef", ".adjusted.cellbin.gef", ".cellbin.gef", ".raw.gef")
"""Kinds of files, the best first: bins under the tissue before cells before the whole chip."""
FOLDERS: Final = ("", "feature_expression", "outs", "outs/feature_expression", "04.tissuecut", "041.cellcut")
DEFAULT_BIN: Final = 50
NM: Final = 1e-3


def find_gef(path: Path) -> Path | None:
    """Find the .gef of a section: the file itself, or the best one in SAW's folders."""
    if path.is_file():
        return path if path.suffix == ".gef" else None
    for folder in FOLDERS:
        files = [file for file in (path / folder).glob("*.gef") if not file.name.startswith(".")]
        by_kind: dict[str, list[Path]] = {}
        for file in files:
            by_kind.setdefault(
                next(kind for kind in sorted(KINDS, key=len)[::-1] if file.name.endswith(kind)), []
            ).append(file)
        best = next((by_kind[kind] for kind in KINDS if kind in by_kind), [])
        if len(best) > 1:
            raise InputError(f"Expected one .gef in {path / folder}, found {listed(f.name for f in best)}. Give one.")
        if best:
            return best[0]
    return None


def read_stereoseq(path: str | Path, *, bin_size: int | None = None, library_id: str | None = None) -> AnnData:
    """Read the square bins or the cells of a Stereo-seq section.

    Parameters
    ----------
    path
        A .gef file or SAW's output folder, in which bins under the tissue (``.tissue.gef``) go before cells
        (``.cellbin.gef``). What stereopy wrote as .h5ad is read by :func:`read_h5ad`.
    bin_size
        Width of the bins in spots of the chip. By default 50, else the nearest there; "cells" have none.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name of the file.

    Returns
    -------
    Counts of genes, float32 CSR, of the bins that hold any or of the cells. ``obsm["spatial"]``: centres in spots of
    the chip, which are the pixels of SAW's registered pictures; the spots' distance in µm, where the file has it, is
    the scale in ``uns["spatial"]``. For cells, ``obs["area"]`` and others that the file has.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no .gef, is damaged, or has no bins of that size.
    """
    import h5py

    where = existing(path)
    found = find_gef(where)
    if found is None:
        raise InputError(f"Expected a .gef file in {where}, found {listed(visible(where))}. Give SAW's output folder.")
    with parsing(found, expected="a Stereo-seq file (.gef)"), names_may_repeat(), h5py.File(found) as file:
        if "geneExp" in file:
            adata, um = _read_bins(file["geneExp"], bin_size, found)
        elif "cellBin" in file:
            if bin_size is not None:
                raise InputError(f"Expected a .gef with bins for bin_size, found cells in {found}. Leave bin_size out.")
            adata, um = _read_cells(file)
        else:
            raise InputError(
                f"Expected a Stereo-seq file (with geneExp or cellBin) at {found}, found an HDF5 file that holds "
                f"{listed(file)}. Give a .gef of SAW or geftools."
            )
        check_indices(adata.X)
    unique_names(adata)
    if um is None:
        logger.warning("%s does not say how far the spots of the chip lie apart: scale in µm unknown.", found)
    library = name_library(library_id, prefix=found.name.split(".")[0], folder=found.parent)
    return set_scale(adata, um, library=library, metadata={"platform": "Stereo-seq"})


def _read_bins(bins: h5py.Group, bin_size: int | None, path: Path) -> tuple[AnnData, float | None]:
    """Read square bins: triples of x, y and count, those of each gene together."""
    import pandas as pd
    from anndata import AnnData

    size = _choose(bins, bin_size, path)
    expression, genes = bins[f"bin{size}/expression"], bins[f"bin{size}/gene"][:]
    values = expression[:]
    x, y = (values[name].astype(np.int64) for name in "xy")
    if size > 1 and (x % size).any() | (y % size).any():  # numbers of bins; some versions write spots
        x, y = x * size, y * size
    gene = np.repeat(np.arange(len(genes)), genes["count"].astype(np.int64))
    if len(gene) != len(values) or not len(values):
        raise ValueError(f"{len(values)} values, expected {len(gene)} by its genes")
    height = int(np.ptp(y)) + 1
    places, row = np.unique((x - x.min()) * height + (y - y.min()), return_inverse=True)
    counts = sparse.csr_matrix((values["count"].astype(np.float32), (row, gene)), shape=(len(places), len(genes)))
    origin = [_number(expression.attrs, name) or 0.0 for name in ("minX", "minY")]
    corner = np.column_stack(np.divmod(places, height)) + np.array([x.min(), y.min()]) + origin
    names = [f"{left:.0f}_{top:.0f}" for left, top in corner]
    adata = AnnData(counts, pd.DataFrame(index=names), _genes(genes))
    adata.obsm[keys.SPATIAL] = corner + size / 2
    logger.info("Bins of %d spots read (bin%d).", size, size)
    return adata, _resolution(expression.attrs)


def _read_cells(file: h5py.File) -> tuple[AnnData, float | None]:
    """Read cells, whose genes and counts lie one after the other."""
    import pandas as pd
    from anndata import AnnData

    cells, genes, values = (file["cellBin"][name][:] for name in ("cell", "gene", "cellExp"))
    counts = sparse.csr_matrix(
        (
            values["count"].astype(np.float32),
            values["geneID"].astype(np.int64),
            np.append(cells["offset"].astype(np.int64), len(values)),
        ),
        shape=(len(cells), len(genes)),
    )
    if (np.diff(counts.indptr) != cells["geneCount"]).any():
        raise ValueError("cells and their counts do not agree")
    obs = pd.DataFrame(index=cells["id"].astype(str))
    for name in ("area", "dnbCount"):
        if name in (cells.dtype.names or ()):
            obs[name] = cells[name].astype(np.int64)
    adata = AnnData(counts, obs, _genes(genes))
    adata.obsm[keys.SPATIAL] = np.column_stack([cells["x"], cells["y"]]).astype(np.float64)
    return adata, _resolution(file.attrs)


def _choose(bins: h5py.Group, bin_size: int | None, path: Path) -> int:
    """Choose the bins: those asked for, else the size nearest to the default."""
    sizes = sorted(int(match[1]) for name in bins if (match := re.fullmatch(r"bin(\d+)", name)))
    if not sizes or (bin_size is not None and bin_size not in sizes):
        raise InputError(
            f"Expected bins of {bin_size or DEFAULT_BIN} spots in {path}, found {listed(sizes)}. Choose one of them "
            "(bin_size, --bin-size), or let geftools make them."
        )
    return bin_size or min(sizes, key=lambda size: abs(np.log(size / DEFAULT_BIN)))


def _genes(genes: NDArray[Any]) -> pd.DataFrame:
    """Name the genes, by symbol where there is one; since version 4 there are identifiers as well."""
    import pandas as pd

    columns = {
        name: [text.decode() for text in genes[name]]
        for name in ("geneName", "gene", "geneID")
        if name in (genes.dtype.names or ())
    }
    names = columns.get("geneName") or columns.get("gene") or columns["geneID"]
    identifiers = {"gene_ids": columns["geneID"]} if "geneID" in columns else {}
    return pd.DataFrame(identifiers, index=pd.Index(names))


def _resolution(attributes: Any) -> float | None:
    """Read the distance of the spots, which files have in nm, in µm; None where it is not there."""
    nm = _number(attributes, "resolution")
    return nm * NM if nm else None


def _number(attributes: Any, name: str) -> float | None:
    """Read an attribute, which is written as an array of one."""
    return float(np.ravel(attributes[name])[0]) if name in attributes else None
