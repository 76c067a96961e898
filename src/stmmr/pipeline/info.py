"""`stmmr info`: what an input was recognised as, whether its image fits, and what a run would do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil

from stmmr._core.checks import InputError, listed
from stmmr._core.compat import libraries_of, names_in
from stmmr._core.space import coordinates, rows_called
from stmmr.pipeline.options import RunOptions
from stmmr.pipeline.run import FULL_BATCH_AT_MOST
from stmmr.pipeline.sources import memory_needed, open_input, shown_bytes, would_stay_on_disk

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmmr.image.registered import Registered

IN_CHUNKS: Final = ("h5ad", "zarr")
"""Kinds of files whose counts can stay on disk."""


def describe(source: Path, options: RunOptions, *, bin_size: int | None = None) -> dict[str, str]:
    """Describe an input, without reading the counts of an .h5ad or .zarr.

    Parameters
    ----------
    source
        Input as `stmmr.read` takes it.
    options
        Options of a run: the image, its registration and the scale.
    bin_size
        Side of Visium HD bins in µm.

    Returns
    -------
    Texts by what they describe, in reading order.
    """
    from stmmr.io import recognise
    from stmmr.io._tables import counts_in_file

    recognised = recognise(source, bin_size=bin_size)
    can_stay = recognised.platform in IN_CHUNKS
    adata, options = open_input(source, options, bin_size=bin_size, backed=can_stay)
    # the size of a sparse matrix is the number of its stored values
    entries = counts_in_file(recognised.path)[1] if can_stay else 0 if adata.X is None else int(adata.X.size)
    return {
        "platform": f"{recognised.platform} ({recognised.because})",
        "read from": str(recognised.path),
        rows_called(adata): f"{adata.n_obs}",
        "genes": f"{adata.n_vars}",
        "coordinates": _coordinates(adata),
        "images": _stored_images(adata),
        **_registration(adata, options),
        "memory": _memory(entries, adata.n_obs, can_stay=can_stay),
        "would run": _steps(adata, options),
        "obs": listed(adata.obs.columns, at_most=40),
        "obsm": listed(adata.obsm, at_most=40),
        "layers": listed(names_in(adata.layers), at_most=40),
    }


def _coordinates(adata: AnnData) -> str:
    """Describe the unit of the coordinates and the distance of neighbours."""
    from stmmr._core.kernel import nearest_neighbour_distance
    from stmmr._core.space import units

    try:
        unit, um, told_by = units(adata)
        spacing = nearest_neighbour_distance(coordinates(adata)) if adata.n_obs > 1 else float("nan")
    except InputError as error:
        return f"not usable: {error}"
    by_array = f" (taken from the {told_by})" if told_by.endswith("array") else ""
    if not np.isfinite(um):
        return f"{unit}, length in µm unknown; neighbours are {spacing:.4g} apart"
    return f"{unit}, {um:.4g} µm each{by_array}; neighbours are {spacing * um:.4g} µm apart"


def _stored_images(adata: AnnData) -> str:
    """Name the images in the data, with their sizes."""
    from stmmr.image.pixels import is_blank

    images = [
        f"{library}: {name} {pixels.shape[1]} × {pixels.shape[0]} px{', blank' if is_blank(pixels) else ''}"
        for library, content in libraries_of(adata).items()
        for name, pixels in content.get("images", {}).items()
    ]
    return "; ".join(images) or "none"


def _registration(adata: AnnData, options: RunOptions) -> dict[str, str]:
    """Describe the image that a run would use, and where the spots are on it."""
    from stmmr.image.registered import registered_image
    from stmmr.pp import has_image

    if options.image is None and not has_image(adata):
        return {}
    try:
        source: Any = options.image  # of one section
        registration: Any = options.registration
        image = registered_image(adata, source, registration=registration, um_per_pixel=options.um_per_pixel)
    except InputError as error:
        return {"registration": f"not usable: {error}"}
    return {"image": _levels(image), "registration": _fit(image, rows_called(adata))}


def _levels(image: Registered) -> str:
    """Describe an image and its resolutions."""
    slide = image.slide
    height, width = slide.size
    steps = ", ".join(f"{level.downsample:.3g}" for level in slide.levels)
    levels = f"; {len(slide.levels)} resolutions, reduced by {steps}" if len(slide.levels) > 1 else ""
    return f"{slide.name}, {width} × {height} px of {image.um_per_px:.4g} µm{levels}"


def _fit(image: Registered, rows: str) -> str:
    """Describe where the spots are on an image."""
    outside = int((~image.inside).sum())
    return (
        f"{image.on_tissue.mean():.0%} of the {rows} are on tissue"
        + (f", {outside} outside the image" if outside else "")
        + f".{image.better_turn()}"
    )


def _memory(entries: int, n_spots: int, *, can_stay: bool) -> str:
    """Describe the memory that a run would take."""
    needed, free = memory_needed(entries, n_spots), psutil.virtual_memory().available
    where = "the counts would be read into memory"
    if can_stay and would_stay_on_disk(needed, free):
        where = "the counts would stay on disk"
    elif needed > free / 2:
        where += "; convert them to .h5ad or .zarr to leave them on disk"
    return f"about {shown_bytes(needed)}, {shown_bytes(free)} free: {where}"


def _steps(adata: AnnData, options: RunOptions) -> str:
    """Name the steps of a run with its defaults."""
    from stmmr.pp import has_image

    try:
        coordinates(adata)
    except InputError:
        return "nothing: there are no coordinates"
    uses_image = options.image is not None or has_image(adata)
    steps = ["expression", "spatial graph", *(["histology"] if uses_image else [])]
    if not adata.n_vars:
        steps = steps[1:]
    paper = "in one batch" if adata.n_obs <= FULL_BATCH_AT_MOST else "in batches"
    return f"{listed([*steps, 'embedding', 'number of domains', 'domains'])}; --preset paper would train {paper}"
