"""Visium and Visium HD, as Space Ranger 1 to 4 writes them."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, require_positive
from stmmr._core.files import existing, parsing, visible
from stmmr._core.space import ARRAY, SPOT_STEP, UM, microns_per_pixel, warn_implausible
from stmmr.image.library import IMAGES, scale_key
from stmmr.io._files import find
from stmmr.io._placing import name_library
from stmmr.io._positions import PIXELS, POSITIONS, read_positions
from stmmr.io._tenx import read_counts, read_metadata

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("stmmr")

# best first; probe counts are summed to genes
MATRICES = (
    "filtered_feature_bc_matrix.h5",
    "filtered_feature_bc_matrix",
    "raw_feature_bc_matrix.h5",
    "raw_feature_bc_matrix",
    "raw_probe_bc_matrix.h5",
)
SCALES = {"tissue_hires_scalef", "tissue_lowres_scalef", "spot_diameter_fullres", UM}
BIN_FOLDER = re.compile(r"square_(\d+)um")
DEFAULT_BIN = 8


def find_matrix(path: Path) -> Path | None:
    """Find the counts of a Visium run: the matrix itself, or the best one in a folder or its ``outs``."""
    if path.is_file():
        return path if path.suffix == ".h5" else None
    if path.name.endswith(MATRICES):
        return path
    found = (find(folder, name) for folder in (path, path / "outs") for name in MATRICES)
    return next((matrix for matrix in found if matrix is not None), None)


def has_positions(matrix: Path) -> bool:
    """Tell whether positions, or the folder that should hold them, lie beside a count matrix."""
    prefix = next((matrix.name.removesuffix(name) for name in MATRICES if matrix.name.endswith(name)), "")
    return any(find(matrix.parent, name, prefix=prefix) for name in ("spatial", *POSITIONS))


def find_bins(path: Path, bin_size: int | None = None) -> tuple[Path, int] | None:
    """Find the folder of one bin size of a Visium HD run.

    Parameters
    ----------
    path
        The run, its ``outs`` or ``binned_outputs``, or one
        ``square_…um``.
    bin_size
        In µm; by default the smallest from 8 µm on.

    Returns
    -------
    The folder and its bin size, or None where there are no bins.

    Raises
    ------
    InputError
        If there are bins but not of that size.
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
            f"Choose one of them, e.g. bin_size={max(bins)} (--bin-size {max(bins)})."
        )
    return bins[size], size


def read_visium(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read a Visium section.

    Parameters
    ----------
    path
        Space Ranger's output folder (``outs``), the folder above it, or one count matrix with ``spatial/``
        beside it. The filtered matrix is taken where there is one, otherwise the raw one. Names may start
        with the name of a sample.
    library_id
        Key of the section's pictures in ``uns["spatial"]``. By default what the matrix says, else the
        folder's name.

    Returns
    -------
    The spots in tissue: counts in ``X`` (float32 CSR); ``obsm["spatial"]``, x and y in pixels of the
    full-resolution picture, float64, shape (n_obs, 2); ``obs`` columns ``in_tissue``, ``array_row`` and
    ``array_col`` (int64); ``uns["spatial"][library_id]`` with ``images`` (``hires`` and ``lowres`` where they
    exist, uint8, shape (height, width, 3)), ``scalefactors`` and ``metadata``. ``scalefactors`` hold
    ``microns_per_pixel``, from the distance of the spots. A picture that cannot be used (greyscale, damaged,
    too large) is left out, with a warning.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If it is no Visium output, a table is damaged, positions are missing, or no spot lies in tissue.
    """
    where = existing(path)
    matrix = find_matrix(where)
    if matrix is None:
        raise InputError(
            f"Expected {MATRICES[0]} or {MATRICES[1]}/ in {where}, found "
            f"{listed(visible(where))}. Give Space Ranger's output folder (outs)."
        )
    return _read_section(matrix, step=SPOT_STEP, library_id=library_id)


def read_visium_hd(path: str | Path, *, bin_size: int | None = None, library_id: str | None = None) -> AnnData:
    """Read the square bins of a Visium HD section.

    Parameters
    ----------
    path
        Space Ranger's output folder (``outs``), the folder above it, ``binned_outputs``, or one
        ``square_…um``.
    bin_size
        Width of the bins in µm. By default the smallest from 8 µm on.
    library_id
        Key of the section's pictures in ``uns["spatial"]``. By default what the matrix says, else the
        folder's name.

    Returns
    -------
    The bins in tissue, with the keys that :func:`read_visium` writes.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If there are no bins of that size, a table is damaged, positions are missing, or no bin lies in tissue.
    """
    where = existing(path)
    found = find_bins(where, bin_size)
    if found is None:
        raise InputError(
            f"Expected binned_outputs/square_…um in {where}, found {listed(visible(where))}. Give the output "
            "folder of a Visium HD run."
        )
    folder, size = found
    matrix = find_matrix(folder)
    if matrix is None:
        raise InputError(
            f"Expected {MATRICES[0]} or {MATRICES[1]}/ in {folder}, found {listed(visible(folder))}. "
            "Complete the folder."
        )
    return _read_section(matrix, step=(float(size), float(size)), library_id=library_id)


def _read_section(matrix: Path, *, step: tuple[float, float], library_id: str | None) -> AnnData:
    """Put counts, positions and pictures together."""
    prefix = next((matrix.name.removesuffix(name) for name in MATRICES if matrix.name.endswith(name)), "")
    spatial = find(matrix.parent, "spatial", prefix=prefix) or matrix.parent
    # first: of a file that is no count matrix, missing positions would be beside the point
    counts = read_counts(matrix)
    positions = read_positions(spatial, prefix=prefix)
    adata = _keep_in_tissue(counts, positions)

    scalefactors = read_scalefactors(spatial, prefix=prefix)
    images = read_images(spatial, scalefactors, prefix=prefix)
    if UM not in scalefactors:
        array, pixels = (positions[columns].to_numpy(np.float64) for columns in (ARRAY, PIXELS))
        scale = microns_per_pixel(array, pixels, step=step)
        if scale is None:
            logger.warning("The places in %s do not lie on the expected grid: scale in µm unknown.", spatial)
        else:
            scalefactors[UM] = scale

    metadata = read_metadata(matrix)
    said = metadata.pop("library_id", "")
    library = name_library(library_id, prefix=prefix, folder=matrix.parent, said=said)
    adata.uns[keys.SPATIAL] = {library: {"images": images, "scalefactors": scalefactors, "metadata": metadata}}
    warn_implausible(adata)
    return adata


def _keep_in_tissue(adata: AnnData, positions: pd.DataFrame) -> AnnData:
    """Add positions and drop the places without one and those outside the tissue."""
    table = positions.reindex(adata.obs_names)
    placed = table[keys.IN_TISSUE].notna().to_numpy()
    keep = (table[keys.IN_TISSUE] == 1).to_numpy()
    if not keep.any():
        raise InputError(
            f"Expected barcodes that lie in tissue, found {int(placed.sum())} of {adata.n_obs} with a "
            f"position and none of them in tissue. Counts (e.g. {adata.obs_names[0]}) and positions (e.g. "
            f"{positions.index[0] if len(positions) else 'none'}) may be of different samples."
        )
    if not placed.all():
        share = 100 * placed.mean()
        logger.warning(
            "%d of %d barcodes have no position; dropped (%.0f %% have one).", (~placed).sum(), adata.n_obs, share
        )
    logger.info("%d places outside the tissue dropped, %d kept.", int((placed & ~keep).sum()), int(keep.sum()))
    adata, table = adata[keep].copy(), table[keep]
    array = [keys.IN_TISSUE, keys.ARRAY_ROW, keys.ARRAY_COL]
    adata.obs[array] = table[array].astype(np.int64)
    adata.obsm[keys.SPATIAL] = table[PIXELS].to_numpy(np.float64)
    return adata


def read_scalefactors(spatial: Path, *, prefix: str) -> dict[str, float]:
    """Read the numbers of the JSON file; none where there is no such file."""
    path = find(spatial, "scalefactors_json.json", prefix=prefix)
    if path is None:
        logger.info("No scalefactors_json.json in %s (found %s): no picture.", spatial, listed(visible(spatial)))
        return {}
    with parsing(path, expected="a JSON object of scale factors"):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key in SCALES & content.keys():
            require_positive(content[key], name=f"{key} in {path}")
        return {key: float(value) for key, value in content.items() if isinstance(value, int | float)}


def read_images(spatial: Path, scalefactors: dict[str, float], *, prefix: str) -> dict[str, Any]:
    """Read the pictures whose scale is known; one that cannot be used is left out."""
    from stmmr.image.pixels import read_image

    images: dict[str, Any] = {}
    refused = []
    for size in IMAGES:
        path = find(spatial, f"tissue_{size}_image.png", prefix=prefix)
        if path is None or scale_key(size) not in scalefactors:
            logger.info("No %s picture in %s, or its scale factor is missing.", size, spatial)
            continue
        try:
            images[size] = read_image(path)
        except InputError as error:
            refused.append(str(error))
    if refused:
        rest = f"The {listed(images)} picture is kept." if images else "The section is read without a picture."
        logger.warning("%s %s A picture can be given as image='he.jpg' (--image).", " ".join(refused), rest)
    return images
