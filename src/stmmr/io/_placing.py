"""Put counts, positions and the scale of the coordinates together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import plain
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.columns import CONTROLS
from stmmr._core.several import warn_implausible
from stmmr._core.space import ARRAY, SWAPPED, UM, array_numbers, spacing, swapped_by_seurat
from stmmr.image.library import IMAGES, Library, scale_key
from stmmr.io._files import require_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

GENERIC: Final = re.compile(r"\.\.|outs|binned_outputs|segmented_outputs|feature_expression|spatial|square_\d+um|")
"""Names of folders that do not name the sample."""
UNTELLING: Final = re.compile(
    rf"{GENERIC.pattern}filtered_feature_bc_matrix|raw_feature_bc_matrix|cell_feature_matrix|result|spatialdata|adata"
)
"""Names of files and folders that do not name the sample."""
COUNTS_NAME: Final = re.compile(
    r"(?<=.)[_.-]+(filtered_feature_bc_matrix|raw_feature_bc_matrix|cell_feature_matrix|matrix|exprMat_file|cell_by_gene"
    r"|(matched\.)?digital_expression|MappedDGEForR)$"
)
"""What platforms name their counts, behind the name of the sample."""
DATA_ENDINGS: Final = (".gz", ".h5ad", ".h5mu", ".h5", ".zarr", ".csv", ".tsv", ".txt", ".mtx", ".gef", ".parquet")
BARCODE: Final = r"[ACGT]{16}([-.]\d+)?"
"""Names of spots of Visium."""
FORMS: Final = (
    (r"^X(?=\d)|[-. ]|^\"|\"$", ""),  # R: an X before digits, dots for hyphens; quotes
    (r"[-_.]\d+$", ""),  # the number of the lane or of a merged sample
    (r"^X(?=\d)|[-_.]\d+$|[-. ]", ""),
    (r"\.0$", ""),  # numbers that a table holds as floats
    (r"^.*?([ACGT]{10,}).*$", r"\1"),  # a sample or a number before or behind a barcode
)
"""What names of the same spots may differ in: patterns that are left out of both."""


def add_positions(
    adata: AnnData, table: pd.DataFrame, *, xy: Sequence[str], counts: Path, positions: Path, rows: str = "cells"
) -> AnnData:
    """Add positions by name to ``obsm["spatial"]``, and drop the rows that have none.

    `table` has one row per cell, indexed by its name, with the columns `xy` for x and y; its other columns go to
    ``obs``. The files, and `rows` ("spots", "cells" or "beads"), are for messages. Raises InputError if a name has two
    positions, or if no name is in both.
    """
    import pandas as pd

    require_columns(table.columns, xy, positions)
    names = table.index
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()]
        raise InputError(
            f"Expected one position for each of the {rows} in {positions}, found {len(repeated)} repeated names "
            f"(first: {repeated[0]}). Give the files of one section."
        )
    names = names.astype(str).str.strip()
    if names.str.fullmatch(r"\d+\.0").all():  # numbers that a table holds as floats
        names = names.str.removesuffix(".0")
    table = table.loc[:, [bool(str(name)) for name in table.columns]].set_axis(names, axis=0)
    rows_of = matched(adata.obs_names, table.index)
    known = rows_of >= 0
    if known.any() and not adata.obs_names[known].equals(table.index[rows_of[known]]):
        logger.info(
            "Names differ in their form (%s, %s); those of %s are kept.", names[0], adata.obs_names[0], positions
        )
        adata.obs_names = np.where(known, table.index[rows_of], adata.obs_names)
    table = table.iloc[rows_of[known]].set_axis(adata.obs_names[known], axis=0).reindex(adata.obs_names)
    points = table[list(xy)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise InputError(
            f"Expected the {rows} of {counts} to have positions in {positions}, found none of {adata.n_obs}: the "
            f"counts have {_examples(adata.obs_names)}, the positions {_examples(names)}. Give files of the "
            "same section."
        )
    if set(ARRAY) <= set(table) and swapped_by_seurat(points, xy, array_numbers(table)):
        logger.warning(SWAPPED)
        points = points[:, ::-1]
    elif [plain(name) for name in xy] == ["x", "y"] and adata.obs_names.str.fullmatch(BARCODE).all():
        logger.warning(
            "The %s have barcodes of Visium and coordinates called x and y. If Seurat 5 wrote %s, x is the row of the "
            "image, and the tissue is mirrored: swap both names then. The domains are the same without an image.",
            rows,
            positions.name,
        )
    if not finite.all():
        message = "%d of %d %s (%.0f %%) have a position in %s; the others are dropped."
        logger.warning(message, finite.sum(), adata.n_obs, rows, 100 * finite.mean(), positions.name)
        adata = adata[finite].copy()
    rest = table.drop(columns=list(xy))[finite].rename(columns=str)
    adata.obs[list(rest.columns)] = rest
    adata.obsm[keys.SPATIAL] = points[finite]
    return adata


def matched(names: pd.Index[str], others: pd.Index[str]) -> NDArray[np.intp]:
    """Find names among others, as positions (-1: missing), also if R or a merge has changed one of both.

    The names as they are come first; otherwise the form of `FORMS` in which most are found, and all stay different.
    """
    best = others.get_indexer(names)
    if (best >= 0).any() or not len(names) or not len(others):
        return best
    for pattern, replacement in FORMS:
        ours, theirs = (index.astype(str).str.replace(pattern, replacement, regex=True) for index in (names, others))
        if ours.is_unique and theirs.is_unique:
            found = theirs.get_indexer(ours)
            best = found if (found >= 0).sum() > (best >= 0).sum() else best
    return best


def without_controls(adata: AnnData, *, controls: str) -> AnnData:
    """Drop features whose names start as those of controls do, as they are no genes."""
    is_control = np.array([CONTROLS.match(str(name)) is not None for name in adata.var_names])
    if is_control.all():
        raise InputError(
            f"Expected counts of genes, found only {controls} ({_examples(adata.var_names)}). Check the table."
        )
    if is_control.any():
        names = listed(adata.var_names[is_control], at_most=4)
        logger.info("%d %s dropped (%s).", is_control.sum(), controls, names)
        return adata[:, ~is_control].copy()
    return adata


def add_library(
    adata: AnnData,
    um: float | None,
    library: str,
    *,
    platform: str = "",
    diameter: float = 1.0,
    metadata: Mapping[str, str | int] | None = None,
) -> AnnData:
    """Write platform and scale (µm per unit of the coordinates) into ``uns["spatial"]``, if one of them is known.

    `diameter` is that of a spot, over the distance between neighbours. A scale that is implausible is warned of.
    """
    if um is None and not platform:
        return adata
    factors = {} if um is None else {UM: float(um)}
    if keys.SPATIAL in adata.obsm:
        # scanpy and squidpy draw no section without these two, even if it has no image
        factors["spot_diameter_fullres"] = diameter * (spacing(adata.obsm[keys.SPATIAL]) or 1.0)
        factors[scale_key(IMAGES[0])] = 1.0
    content = {**(metadata or {}), **({"platform": platform} if platform else {})}
    adata.uns[keys.SPATIAL] = {library: Library(images={}, scalefactors=factors, metadata=content)}
    warn_implausible(adata)
    return adata


def library_name(library_id: str | None, prefix: str, file: Path, *, stated: str = "") -> str:
    """Name a section: by `library_id`, the name `stated` in a file, the prefix of the files, or the nearest folder."""
    folders = (folder.name for folder in file.parents if not GENERIC.fullmatch(folder.name))
    return library_id or stated or prefix.strip("_-. ") or next(folders, "library")


def _examples(names: pd.Index[str]) -> str:
    """List the first three names."""
    return listed(names[:3]) + (", …" if len(names) > 3 else "")


def section_names(paths: Sequence[Path]) -> list[str]:
    """Name inputs by the last telling part of their path; names become unique."""
    first = [_telling(path)[0] for path in paths]
    names = [
        " ".join(_telling(path)[1::-1]) if first.count(name) > 1 else name
        for path, name in zip(paths, first, strict=True)
    ]
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in unique or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name} {number}"
        unique.append(candidate)
    return unique


def _telling(path: Path) -> list[str]:
    """Get the parts of a path that may name the sample, from its end."""
    last = path.name
    while last.lower().endswith(DATA_ENDINGS):
        last = last.rpartition(".")[0]
    last = last if UNTELLING.fullmatch(last) else COUNTS_NAME.sub("", last)
    parts = [part for part in (last, *(folder.name for folder in path.parents)) if not UNTELLING.fullmatch(part)]
    return parts or ["section"]
