"""Segmented cells of Visium HD, as Space Ranger 4 writes them.

Format: https://www.10xgenomics.com/support/software/space-ranger/latest/analysis/outputs/segmented-outputs
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import logger
from stmmr._core.files import parsing
from stmmr._core.several import warn_implausible
from stmmr._core.space import UM
from stmmr._core.untrusted import reader
from stmmr.io._boundaries import set_boundaries
from stmmr.io._files import companion, locate, require_match
from stmmr.io._placing import add_positions
from stmmr.io._tenx import read_counts
from stmmr.io._visium import add_10x_library, spatial_folder

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from stmmr._core.types import Float64

MATRICES: Final = (
    "filtered_feature_cell_matrix.h5",
    "filtered_feature_cell_matrix",
    "raw_feature_cell_matrix.h5",
    "raw_feature_cell_matrix",
)
OUTLINES: Final = ("cell_segmentations.geojson", "graphclust_annotated_cell_segmentations.geojson")
FOLDER: Final = "segmented_outputs"

find_segmented = partial(locate, names=MATRICES, inside=(FOLDER, f"outs/{FOLDER}"))
"""Find the counts of segmented cells, and the sample name in front of them."""


@reader("cells of Visium HD")
def read_visium_hd_cells(path: str | Path, *, library_id: str | None = None, boundaries: bool = False) -> AnnData:
    """Read the cells that Space Ranger 4 segmented in a Visium HD section.

    Parameters
    ----------
    path
        ``segmented_outputs``, a folder above it, or the count matrix in it.
    library_id
        Key of the section in ``uns["spatial"]``. By default the name in the matrix, else the name of the folder.
    boundaries
        Keep the outlines of the cells.

    Returns
    -------
    Counts of genes, float32 CSR, with cells named ``cellid_000000001-1``; ``obsm["spatial"]``, centroids of the
    outlines in pixels of the full-resolution image; ``obs["area"]``, area of the outlines in these pixels; images and
    scale factors in ``uns["spatial"]``, as in :func:`read_visium`; the outlines in ``obsm["cell_boundaries"]``, if they
    are requested.

    Raises
    ------
    InputError
        If a file is missing or damaged, or counts and outlines do not match.
    """
    advice = "Give the output folder of Space Ranger 4."
    matrix, prefix = require_match(path, find_segmented, f"{MATRICES[0]} here or in {FOLDER}/", advice=advice)
    counts = read_counts(matrix)
    outlines = companion(matrix, OUTLINES, prefix=prefix, content="the outlines of the cells")
    cells, rings = _read_outlines(outlines)
    adata = add_positions(counts, cells, xy=("x", "y"), counts=matrix, positions=outlines)
    if boundaries:
        ring = np.repeat(np.arange(len(rings)), [len(each) for each in rings])
        set_boundaries(adata, cells.index, np.concatenate(rings), ring)
    with spatial_folder(matrix) as spatial:
        add_10x_library(adata, matrix, spatial, prefix=prefix, library_id=library_id, platform="Visium HD cells")
    (library,) = adata.uns[keys.SPATIAL].values()
    if UM not in library["scalefactors"]:
        logger.warning("%s does not have microns_per_pixel in its scale factors: scale in µm unknown.", matrix.parent)
    warn_implausible(adata)
    return adata


def _read_outlines(path: Path) -> tuple[pd.DataFrame, list[Float64]]:
    """Read centroid and area of the outline of each cell, by its name in the count matrix, and the outlines."""
    import pandas as pd

    with parsing(path, expected="the outlines of cells (GeoJSON)"):
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        names = [_cell_name(feature) for feature in features]
        rings = [_largest(feature["geometry"]) for feature in features]
        rows = [_shoelace(ring) for ring in rings]
        return pd.DataFrame(rows, columns=["x", "y", "area"], index=pd.Index(names, dtype=object)), rings


def _cell_name(feature: dict[str, Any]) -> str:
    """Name a cell as the count matrix does."""
    number = str(feature["properties"]["cell_id"])
    return f"cellid_{int(number):09d}-1" if re.fullmatch(r"\d+", number) else number


def _largest(geometry: dict[str, Any]) -> Float64:
    """Get the largest outline of a cell."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return max((np.asarray(polygon[0], dtype=np.float64) for polygon in polygons), key=lambda ring: _shoelace(ring)[2])


def _shoelace(ring: Float64) -> tuple[float, float, float]:
    """Compute centroid and area of a closed ring, shape (n_points, 2), by the shoelace formula."""
    origin = ring[0]
    (x, y), (next_x, next_y) = (ring - origin).T, (np.roll(ring, -1, axis=0) - origin).T
    cross = x * next_y - next_x * y
    area = cross.sum() / 2
    if area == 0:  # a line, or a point
        return float(ring[:, 0].mean()), float(ring[:, 1].mean()), 0.0
    centre = origin + np.array([((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()]) / (6 * area)
    return float(centre[0]), float(centre[1]), float(abs(area))
