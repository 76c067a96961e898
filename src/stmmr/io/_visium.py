"""Visium and Visium HD, as Space Ranger 1 to 4 writes them."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.axes import plain
from stmmr._core.checks import InputError, listed, logger, require_positive
from stmmr._core.files import parsing, visible
from stmmr._core.several import warn_implausible
from stmmr._core.space import ARRAY, SPOT_STEP, UM, microns_per_pixel
from stmmr._core.untrusted import open_text, reader
from stmmr.image.library import IMAGES, Library, scale_key
from stmmr.io._archives import unpacked_archive
from stmmr.io._files import find, require_columns, require_match, sample_name, unpacked, variants
from stmmr.io._flat import read_frame
from stmmr.io._placing import library_name, matched
from stmmr.io._tenx import read_counts, read_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

# the best first
MATRICES: Final = (
    "filtered_feature_bc_matrix.h5",
    "filtered_feature_bc_matrix",
    "raw_feature_bc_matrix.h5",
    "raw_feature_bc_matrix",
    "raw_probe_bc_matrix.h5",
    *(
        f"{name}_feature_bc_matrix{form}"
        for name in ("filtered", "raw")
        for form in (".h5.gz", ".tar.gz", ".tgz", ".zip")
    ),
    "matrix.mtx.gz",
    "matrix.mtx",
)
EXPECTED: Final = f"{MATRICES[0]} or {MATRICES[1]}/"
POSITIONS: Final = (
    "tissue_positions.parquet",
    "tissue_positions.csv",
    "tissue_positions_list.csv",
)
PACKED: Final = ("spatial.tar.gz", "spatial.tgz", "spatial.tar", "spatial.zip")
"""The folder with positions and images, packed, as GEO has it."""
SPATIAL_FOLDER: Final = re.compile("spatial|image", re.IGNORECASE)
PIXELS: Final = ["pxl_col_in_fullres", "pxl_row_in_fullres"]  # x, y
ON_ARRAY: Final = [keys.IN_TISSUE, keys.ARRAY_ROW, keys.ARRAY_COL]
COLUMNS: Final = ["barcode", *ON_ARRAY, PIXELS[1], PIXELS[0]]
OTHER_NAMES: Final = {
    "barcode": "barcodes?|spot_?(id|name)?|",
    keys.IN_TISSUE: "(in_?)?tissue",
    keys.ARRAY_ROW: "(array_?)?row",
    keys.ARRAY_COL: "(array_?)?col",
    PIXELS[1]: "(image|img|pxl|pixel)_?row.*",
    PIXELS[0]: "(image|img|pxl|pixel)_?col.*",
}
"""Columns in tables of positions that other software wrote, as `plain` writes them."""
TRUTH: Final = {"TRUE": "1", "FALSE": "0"}
"""Values of ``in_tissue`` that R writes."""
SCALES: Final = {"tissue_hires_scalef", "tissue_lowres_scalef", "spot_diameter_fullres", UM}
BIN_FOLDER: Final = re.compile(r"square_(\d+)um")
DEFAULT_BIN: Final = 8


def find_matrix(path: Path) -> Path | None:
    """Find the counts of a Visium run: the matrix itself, or the best one in a folder or its ``outs``."""
    if path.is_file():
        return path if path.name.lower().endswith((".h5", *MATRICES)) else None
    if path.name.endswith(MATRICES):
        return path
    return find(path, *MATRICES) or find(path / "outs", *MATRICES)


def has_positions(matrix: Path) -> bool:
    """Tell whether a count matrix has positions, or the folder ``spatial``, beside it."""
    prefix = sample_name(matrix, MATRICES)
    return _spatial_beside(matrix) is not None or find(matrix.parent, *POSITIONS, *PACKED, prefix=prefix) is not None


def _spatial_beside(matrix: Path) -> Path | None:
    """Find the folder ``spatial`` beside a matrix; under another name, such as ``spatial_A1``, if it has positions."""
    prefix = sample_name(matrix, MATRICES)
    if folder := find(matrix.parent, "spatial", prefix=prefix):
        return folder
    folders = [path for path in matrix.parent.iterdir() if path.is_dir() and SPATIAL_FOLDER.search(path.name)]
    own = [path for path in folders if any(path.glob("*tissue_positions*"))]
    return own[0] if len(own) == 1 else None


def find_bins(path: Path, bin_size: int | None = None) -> tuple[Path, int] | None:
    """Find the folder of one bin size of a Visium HD run, and the size in µm: by default the smallest from 8 µm on.

    Raises InputError if the run has bins, but none of that size.
    """
    bins: dict[int, Path] = {}
    for folder in (path, path / "binned_outputs", path / "outs" / "binned_outputs"):
        bins |= {int(m[1]): p for p in folder.glob("square_*um") if (m := BIN_FOLDER.fullmatch(p.name))}
    if match := BIN_FOLDER.fullmatch(path.name):
        bins = {int(match[1]): path}
    if not bins:
        return None
    size = min((size for size in bins if size >= DEFAULT_BIN), default=None) if bin_size is None else bin_size
    if size is None or size not in bins:
        wanted = f"{size} µm" if size else f"{DEFAULT_BIN} µm or more"
        raise InputError(
            f"Expected bins of {wanted} in {path}, found {listed(f'{size} µm' for size in sorted(bins))}. "
            f"Choose one of these sizes: bin_size={max(bins)} (--bin-size {max(bins)})."
        )
    return bins[size], size


@reader("the output folder of Space Ranger")
def read_visium(path: str | Path, *, library_id: str | None = None, keep_off_tissue: bool = False) -> AnnData:
    """Read the spots of a Visium section.

    Parameters
    ----------
    path
        Output folder of Space Ranger (``outs``), the folder above it, or a count matrix with ``spatial/`` beside it.
        The filtered matrix is read if there is one, else the raw one. Names may start with a sample name.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name in the matrix, else the name of the folder.
    keep_off_tissue
        Keep the spots outside the tissue.

    Returns
    -------
    The spots in tissue, with

    ``X``
        Counts, float32 CSR.
    ``obsm["spatial"]``
        x and y in pixels of the full-resolution image, float64, shape (n_obs, 2).
    ``obs["in_tissue"]``, ``obs["array_row"]``, ``obs["array_col"]``
        Position on the array, int64.
    ``uns["spatial"][library_id]``
        ``images`` (``hires`` and ``lowres`` if they exist, uint8, shape (height, width, 3)), ``metadata`` and
        ``scalefactors``, with ``microns_per_pixel`` from the distance between spots. An image that cannot be used
        (greyscale, damaged, too large) is left out with a warning.

    Raises
    ------
    InputError
        If it is no Visium output, a table is damaged, positions are missing, or no spot is in tissue.
    """
    matrix = require_match(path, find_matrix, EXPECTED, advice="Give the output folder of Space Ranger (outs).")
    with spatial_folder(matrix) as spatial:
        counts = _placed(matrix, spatial, keep_off_tissue=keep_off_tissue)
        facts: dict[str, str | int] = {"platform": "Visium"}
        return _with_library(counts, matrix, spatial, step=SPOT_STEP, library_id=library_id, metadata=facts)


@reader("the output folder of Space Ranger")
def read_visium_hd(
    path: str | Path, *, bin_size: int | None = None, library_id: str | None = None, keep_off_tissue: bool = False
) -> AnnData:
    """Read the square bins of a Visium HD section.

    Parameters
    ----------
    path
        Output folder of Space Ranger (``outs``), the folder above it, ``binned_outputs``, or one ``square_…um``.
    bin_size
        Width of the bins in µm. By default the smallest from 8 µm on.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name in the matrix, else the name of the folder.
    keep_off_tissue
        Keep the bins outside the tissue.

    Returns
    -------
    The bins in tissue, with the keys of :func:`read_visium`.

    Raises
    ------
    InputError
        If there are no bins of that size, a table is damaged, positions are missing, or no bin is in tissue.
    """
    find_size = partial(find_bins, bin_size=bin_size)
    advice = "Give the output folder of a Visium HD run."
    folder, size = require_match(path, find_size, "binned_outputs/square_…um", advice=advice)
    matrix = require_match(folder, find_matrix, EXPECTED, advice="Complete the folder.")
    metadata: dict[str, str | int] = {"platform": "Visium HD", "bin_size_um": size}
    with spatial_folder(matrix) as spatial:
        counts = _placed(matrix, spatial, keep_off_tissue=keep_off_tissue)
        step = float(size), float(size)
        return _with_library(counts, matrix, spatial, step=step, library_id=library_id, metadata=metadata)


def _placed(matrix: Path, spatial: Path, *, keep_off_tissue: bool) -> tuple[AnnData, pd.DataFrame]:
    """Read counts with positions, and the positions of all barcodes."""
    prefix = sample_name(matrix, MATRICES)
    # counts first: if the file is no count matrix, a message about missing positions would mislead
    counts = read_counts(matrix)
    positions = _read_positions(spatial, prefix=prefix)
    return _keep_in_tissue(counts, positions, keep_off_tissue=keep_off_tissue), positions


def _with_library(
    placed: tuple[AnnData, pd.DataFrame],
    matrix: Path,
    spatial: Path,
    *,
    step: tuple[float, float],
    library_id: str | None,
    metadata: dict[str, str | int],
) -> AnnData:
    """Add images and scale factors, with the µm per pixel that the positions of all barcodes tell."""
    adata, positions = placed
    add_10x_library(adata, matrix, spatial, prefix=sample_name(matrix, MATRICES), library_id=library_id, **metadata)
    (library,) = adata.uns[keys.SPATIAL].values()
    if UM not in library["scalefactors"]:
        array, pixels = (positions[columns].to_numpy(np.float64) for columns in (ARRAY, PIXELS))
        um = microns_per_pixel(array, pixels, step=step)
        if um is None:
            logger.warning("The positions in %s are not on the grid of the platform: scale in µm unknown.", matrix)
        else:
            library["scalefactors"][UM] = um
    warn_implausible(adata)
    return adata


@contextmanager
def spatial_folder(matrix: Path) -> Iterator[Path]:
    """Find the folder with positions and images: ``spatial``, plain or packed, or that of the matrix itself."""
    prefix = sample_name(matrix, MATRICES)
    folder = _spatial_beside(matrix)
    packed = None
    if folder is None and find(matrix.parent, *POSITIONS, prefix=prefix) is None:
        packed = find(matrix.parent, *PACKED, prefix=prefix)
    if packed is None:
        yield folder or matrix.parent
        return
    with unpacked_archive(packed) as content:
        folders = [path.parent for name in POSITIONS for form in variants(name) for path in content.rglob(f"*{form}")]
        yield next(iter(folders), content)


def add_10x_library(
    adata: AnnData, matrix: Path, spatial: Path, *, prefix: str, library_id: str | None, **metadata: str | int
) -> AnnData:
    """Write images, scale factors and metadata of Space Ranger, from its folder, into ``uns["spatial"]``."""
    factors = _read_scalefactors(spatial, prefix=prefix)
    images = _read_images(spatial, factors, prefix=prefix)
    of_run = read_metadata(matrix)
    library = library_name(library_id, prefix, matrix, stated=of_run.pop("library_id", ""))
    adata.uns[keys.SPATIAL] = {library: Library(images=images, scalefactors=factors, metadata={**of_run, **metadata})}
    return adata


def _read_positions(spatial: Path, *, prefix: str) -> pd.DataFrame:
    """Read positions by barcode, in each format of Space Ranger: ``in_tissue``, array row and column, and pixels."""
    import pandas as pd

    path = find(spatial, *POSITIONS, prefix=prefix)
    if path is None:
        raise InputError(
            f"Expected the positions of the barcodes ({listed(POSITIONS[:3])}) in {spatial}, found "
            f"{listed(visible(spatial))}. Put Space Ranger's folder spatial/ beside the count matrix."
        )
    with parsing(path, expected="a table of positions"):
        table = _renamed(read_frame(path, ids=("barcode", "Barcode", "")))
        require_columns(table.columns, COLUMNS, path)
        table[keys.IN_TISSUE] = table[keys.IN_TISSUE].astype(str).str.upper().map(lambda text: TRUTH.get(text, text))
        positions: pd.DataFrame = table[COLUMNS].set_index("barcode").apply(pd.to_numeric)
    bad = ~np.isfinite(positions.to_numpy(np.float64)).all(axis=1)
    if bad.any() or not positions.index.is_unique:
        raise InputError(
            f"Expected one finite position per barcode in {path}, found {int(bad.sum())} rows without and "
            f"{int(positions.index.duplicated().sum())} repeated barcodes. Use the file as Space Ranger wrote it."
        )
    return positions


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of positions that other software wrote the names that Space Ranger gives them."""
    names = {}
    for name, pattern in OTHER_NAMES.items():
        others = [other for other in table.columns if re.fullmatch(pattern, plain(other))]
        if name not in table.columns and others:
            names[others[0]] = name
    return table.rename(columns=names)


def _keep_in_tissue(adata: AnnData, positions: pd.DataFrame, *, keep_off_tissue: bool) -> AnnData:
    """Add positions, and drop barcodes that have none or, unless they are kept, are outside the tissue."""
    rows = matched(adata.obs_names, positions.index)
    table = positions.iloc[rows[rows >= 0]].set_axis(adata.obs_names[rows >= 0], axis=0).reindex(adata.obs_names)
    placed = table[keys.IN_TISSUE].notna().to_numpy()
    keep = placed if keep_off_tissue else (table[keys.IN_TISSUE] == 1).to_numpy()
    if not keep.any():
        raise InputError(
            f"Expected barcodes in tissue, found {int(placed.sum())} of {adata.n_obs} with a position and none of "
            f"them in tissue. Check that counts (first barcode: {adata.obs_names[0]}) and positions (first: "
            f"{positions.index[0] if len(positions) else 'none'}) are of the same sample."
        )
    if not placed.all():
        message = "%d of %d barcodes have no position; dropped (%.0f %% have one)."
        logger.warning(message, (~placed).sum(), adata.n_obs, 100 * placed.mean())
    logger.info("%d barcodes outside the tissue dropped, %d kept.", int((placed & ~keep).sum()), int(keep.sum()))
    adata, table = adata[keep].copy(), table[keep]
    adata.obs[ON_ARRAY] = table[ON_ARRAY].astype(np.int64)
    adata.obsm[keys.SPATIAL] = table[PIXELS].to_numpy(np.float64)
    return adata


def _read_scalefactors(spatial: Path, *, prefix: str) -> dict[str, float]:
    """Read the numbers of the JSON file of scale factors; empty if there is no such file."""
    path = find(spatial, "scalefactors_json.json", "scalefactors.json", prefix=prefix)
    if path is None:
        names = listed(visible(spatial))
        logger.info("No scalefactors_json.json in %s (found %s): images are not read.", spatial, names)
        return {}
    with parsing(path, expected="a JSON object of scale factors"):
        with open_text(path) as file:
            content: dict[str, Any] = json.loads(file.read().decode("utf-8-sig"))
        for key in SCALES & content.keys():
            require_positive(content[key], name=f"{key} in {path}")
        return {key: float(value) for key, value in content.items() if isinstance(value, int | float)}


def _read_images(spatial: Path, factors: dict[str, float], *, prefix: str) -> dict[str, NDArray[np.generic]]:
    """Read the images that have a scale factor, except those that cannot be used."""
    from stmmr.image.pixels import read_image

    images: dict[str, NDArray[np.generic]] = {}
    refused = []
    for size in IMAGES:
        path = find(spatial, f"tissue_{size}_image.png", f"{size}_image.png", f"{size}.png", prefix=prefix)
        if path is None or scale_key(size) not in factors:
            logger.info("No %s image in %s, or its scale factor is missing.", size, spatial)
            continue
        try:
            with unpacked(path) as file:
                images[size] = read_image(file)
        except InputError as error:
            refused.append(str(error))
    if refused:
        rest = f"The {listed(images)} image is kept." if images else "The section is read without an image."
        logger.warning('%s %s Another image can be given: image="he.jpg" (--image he.jpg).', " ".join(refused), rest)
    return images
