"""Cells of Visium HD, as Space Ranger 4 segments them.

Format: https://www.10xgenomics.com/support/software/space-ranger/latest/analysis/outputs/segmented-outputs
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.files import existing, parsing, visible
from stmmr._core.space import UM, warn_implausible
from stmmr.io._files import companion, find, locate
from stmmr.io._placing import name_library, place
from stmmr.io._tenx import read_counts, read_metadata
from stmmr.io._visium import read_images, read_scalefactors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

MATRICES: Final = (
    "filtered_feature_cell_matrix.h5",
    "filtered_feature_cell_matrix",
    "raw_feature_cell_matrix.h5",
    "raw_feature_cell_matrix",
)
OUTLINES: Final = ("cell_segmentations.geojson", "graphclust_annotated_cell_segmentations.geojson")
FOLDER: Final = "segmented_outputs"


def find_segmented(path: Path) -> tuple[Path, str] | None:
    """Find the counts of the segmented cells of a Visium HD run, and the sample's name in front of them."""
    return locate(path, MATRICES, inside=(FOLDER, f"outs/{FOLDER}"))


def read_visium_hd_cells(path: str | Path, *, library_id: str | None = None) -> AnnData:
    """Read the cells that Space Ranger 4 segmented in a Visium HD section.

    Parameters
    ----------
    path
        ``segmented_outputs``, a folder above it, or the count matrix in it.
    library_id
        Key of the section's pictures in ``uns["spatial"]``. By default what the matrix says, else the folder's name.

    Returns
    -------
    Counts of genes, float32 CSR, with cells named ``cellid_000000001-1``; ``obsm["spatial"]``, centroids of their
    outlines in pixels of the full-resolution picture; ``obs["area"]``, the outlines' area in these pixels; pictures
    and scale factors in ``uns["spatial"]``, as in :func:`read_visium`.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    InputError
        If a part is missing or damaged, or counts and outlines do not belong together.
    """
    where = existing(path)
    found = find_segmented(where)
    if found is None:
        raise InputError(
            f"Expected {MATRICES[0]} in {where} or its {FOLDER}/, found {listed(visible(where))}. Give the folder of "
            "Space Ranger 4."
        )
    matrix, prefix = found
    counts = read_counts(matrix)
    outlines = companion(matrix, OUTLINES, prefix=prefix, what="the outlines of the cells")
    adata = place(counts, _read_outlines(outlines), xy=("x", "y"), counts=matrix, positions=outlines)
    spatial = find(matrix.parent, "spatial", prefix=prefix) or matrix.parent
    factors = read_scalefactors(spatial, prefix=prefix)
    if UM not in factors:
        logger.warning("%s does not have microns_per_pixel in its scale factors: scale in µm unknown.", spatial)
    metadata = read_metadata(matrix)
    said = metadata.pop("library_id", "")
    content = {"images": read_images(spatial, factors, prefix=prefix), "scalefactors": factors, "metadata": metadata}
    adata.uns[keys.SPATIAL] = {name_library(library_id, prefix=prefix, folder=matrix.parent, said=said): content}
    warn_implausible(adata)
    return adata


def _read_outlines(path: Path) -> pd.DataFrame:
    """Read centroid and area of each cell's outline, by its name in the count matrix."""
    import pandas as pd

    with parsing(path, expected="the outlines of cells (GeoJSON)"):
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        names = [_name(feature) for feature in features]
        rows = [_centroid(feature["geometry"]) for feature in features]
        return pd.DataFrame(rows, columns=["x", "y", "area"], index=pd.Index(names, dtype=object))


def _name(feature: dict[str, Any]) -> str:
    """Name a cell as the count matrix does."""
    number = str(feature["properties"]["cell_id"])
    return f"cellid_{int(number):09d}-1" if re.fullmatch(r"\d+", number) else number


def _centroid(geometry: dict[str, Any]) -> tuple[float, float, float]:
    """Find the centroid and the area of the largest outline of a cell (shoelace formula)."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return max((_of_ring(np.asarray(polygon[0], dtype=np.float64)) for polygon in polygons), key=lambda found: found[2])


def _of_ring(ring: NDArray[np.float64]) -> tuple[float, float, float]:
    origin = ring[0]
    (x, y), (next_x, next_y) = (ring - origin).T, (np.roll(ring, -1, axis=0) - origin).T
    cross = x * next_y - next_x * y
    area = cross.sum() / 2
    if area == 0:  # a line, or a point
        return float(ring[:, 0].mean()), float(ring[:, 1].mean()), 0.0
    centre = origin + np.array([((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()]) / (6 * area)
    return float(centre[0]), float(centre[1]), float(abs(area))
