"""Bring an AnnData that other software wrote into the form that the readers of stmmr give."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import coordinate_columns, microns_of, plain
from stmmr._core.categories import is_absent
from stmmr._core.checks import InputError, listed, logger, unique_names
from stmmr._core.columns import (
    CONTROLS,
    FLAGS,
    GENE_TYPES,
    LOOSE_TYPE_COLUMNS,
    OTHER_TYPES,
    TYPE_COLUMNS,
    describes_rows,
)
from stmmr._core.compat import libraries_of
from stmmr._core.genes import ENSEMBL
from stmmr._core.rows import is_on_disk
from stmmr._core.space import ARRAY, is_hexagonal, rows_called, set_coordinates
from stmmr.io._placing import add_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData

    from stmmr._core.types import Bools

IDENTIFIER: Final = re.compile(rf"{ENSEMBL.pattern}|FBgn\d+$|WBGene\d+$|[NX][MR]_\d+(\.\d+)?$|XLOC_\d+$|\d+$")
"""Names of genes that are no symbols: of Ensembl, FlyBase, WormBase or NCBI, or the number of the row."""
SYMBOLS: Final = (
    r"feature_?names?",
    r"(.*_)?(gene_?)?symbols?",
    r"(external_|real_|original_)?(gene_?|short_?)*names?",
    r"hgnc|mgi",
    r"genes?|features?|index",
)
"""Columns with gene symbols, as `plain` writes them, the best first."""
OFF_TISSUE: Final = frozenset({"0", "0.0", "false", "f", "no", "n", "out", "outside", "off", "b'0'"})
"""What says that a spot is off the tissue, in lower case."""
TISSUE_COLUMNS: Final = re.compile(r"(is_?)?(in|on|under|over|inside)_?tissue")
"""Columns of ``obs`` that say whether spots are on the tissue, as `plain` writes them."""


def adopt(adata: AnnData, *, keep_off_tissue: bool = False) -> AnnData:
    """Take coordinates and gene symbols from where they are, and drop controls and spots off the tissue.

    Counts on disk stay as they are; a run drops from them what is named here (`stmmr.io.reduced`).
    """
    use_array(adata)
    try:
        set_coordinates(adata, plain_array=True)
        _use_unit(adata)
    except InputError as error:
        logger.warning("%s", error)
    use_symbols(adata)
    off, controls = left_out(adata, keep_off_tissue=keep_off_tissue)
    if is_on_disk(adata.X):
        return adata
    return adata[~off, ~controls].copy() if controls.any() or off.any() else adata


def use_array(adata: AnnData) -> None:
    """Note positions on a hexagonal array that ``obs`` has under the names of Seurat, ``row`` and ``col``."""
    import pandas as pd

    names = {plain(name): name for name in adata.obs}
    if set(ARRAY) & {*adata.obs} or not {"row", "col"} <= names.keys():
        return
    array = adata.obs[[names["col"], names["row"]]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if np.isfinite(array).all() and len(array) and is_hexagonal(array):
        adata.obs[ARRAY] = array.astype(np.int64)
        logger.info("obs['row'] and obs['col'] are positions on a hexagonal array.")


def _use_unit(adata: AnnData) -> None:
    """Note the scale of coordinates whose columns in ``obs`` state their unit, such as ``x_um``, if none is known."""
    pair = coordinate_columns(adata.obs.columns)
    um = microns_of(pair) if pair else None
    if um is None or libraries_of(adata) or keys.SPATIAL not in adata.obsm:
        return
    if pair and np.allclose(adata.obsm[keys.SPATIAL][:, :2], adata.obs[list(pair)].to_numpy(), equal_nan=True):
        add_library(adata, um, "library")


def left_out(adata: AnnData, *, keep_off_tissue: bool = False) -> tuple[Bools, Bools]:
    """Tell which spots and which features are dropped, and say so; raises InputError if all spots are."""
    off, controls = dropped(adata, keep_off_tissue=keep_off_tissue)
    if off.all() and len(off):
        raise InputError(
            f"Expected {rows_called(adata)} on the tissue, found obs['in_tissue'] 0 for all {adata.n_obs}. To keep "
            "them: keep_off_tissue=True (--keep-off-tissue)."
        )
    if controls.any():
        names = listed(adata.var_names[controls], at_most=4)
        logger.info("%d controls and other features that are no genes dropped (%s).", controls.sum(), names)
    if off.any():
        message = "%d of %d %s are off the tissue (in_tissue is 0) and dropped; --keep-off-tissue keeps them."
        logger.info(message, off.sum(), adata.n_obs, rows_called(adata))
    return off, controls


def dropped(adata: AnnData, *, keep_off_tissue: bool = False) -> tuple[Bools, Bools]:
    """Tell which spots are off the tissue, unless they are kept, and which features are controls."""
    off = np.zeros(adata.n_obs, dtype=bool) if keep_off_tissue else off_tissue(adata)
    return off, controls_of(adata)


def off_tissue(adata: AnnData) -> Bools:
    """Tell which spots are off the tissue by ``obs["in_tissue"]``, or ``obs["tissue"]`` of Seurat, in any form."""
    seurat = "tissue"
    name = next((str(name) for name in adata.obs if TISSUE_COLUMNS.fullmatch(plain(name))), seurat)
    if name not in adata.obs:
        return np.zeros(adata.n_obs, dtype=bool)
    texts = adata.obs[name].astype(str).str.strip().str.lower()
    if name == seurat and not set(texts) <= {"0", "1", "0.0", "1.0", "true", "false"}:  # the organ
        return np.zeros(adata.n_obs, dtype=bool)
    off: Bools = texts.isin(OFF_TISSUE).to_numpy(bool)
    return off


def controls_of(adata: AnnData) -> Bools:
    """Tell which features are no genes: by their type, if ``var`` has one, and by their names.

    Of a table that was not split, they may be an index or columns that describe spots.
    """
    names = [str(name) for name in adata.var_names]
    controls = np.array([CONTROLS.match(name) is not None or describes_rows(name) for name in names], dtype=bool)
    for name, column in adata.var.items():
        types = column.astype(str).str.strip().str.lower()
        if plain(name) in FLAGS and set(types) <= {"true", "false"}:
            controls |= (types == str(FLAGS[plain(name)]).lower()).to_numpy(bool)
        elif TYPE_COLUMNS.fullmatch(plain(name)) and (is_gene := types.isin(GENE_TYPES).to_numpy(bool)).any():
            controls |= ~is_gene
        elif LOOSE_TYPE_COLUMNS.fullmatch(plain(name)):
            controls |= types.str.fullmatch(OTHER_TYPES).to_numpy(bool)
    return np.zeros_like(controls) if controls.all() else controls


def symbol_column(columns: Iterable[str], are_identifiers: Callable[[str], bool]) -> str | None:
    """Find the column with the symbols of genes by its name, unless it has identifiers as well."""
    for pattern in SYMBOLS:
        for name in columns:
            if re.fullmatch(pattern, plain(name)) and not are_identifiers(name):
                return name
    return None


def are_identifiers(names: Iterable[object]) -> bool:
    """Tell whether most names are identifiers or missing, and no symbols."""
    return float(np.mean([IDENTIFIER.match(str(name)) is not None or is_absent(name) for name in names])) >= 0.5


def use_symbols(adata: AnnData) -> None:
    """Name genes by the symbols in ``var``, if they are named by identifiers."""
    if not adata.n_vars or not are_identifiers(adata.var_names):
        return
    column = symbol_column(adata.var.columns, lambda name: are_identifiers(adata.var[name]))
    if column is None:
        return
    identifiers: Any = adata.var_names.astype(str)
    symbols = adata.var[column].astype(object).where(adata.var[column].notna(), "").astype(str).to_numpy()
    adata.var["gene_ids"] = identifiers
    adata.var_names = np.where(symbols == "", identifiers, symbols)
    logger.info("Genes are named by var[%r]; their identifiers are in var['gene_ids'].", column)
    unique_names(adata)
    if adata.raw is not None:  # may have more genes
        names = dict(zip(identifiers, adata.var_names, strict=True))
        adata.raw.var.index = [names.get(name, name) for name in adata.raw.var_names.astype(str)]
