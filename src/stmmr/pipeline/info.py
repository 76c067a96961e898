"""What `stmmr info` says: what an input is, whether its picture fits, and what a run would do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.space import coordinates
from stmmr.pipeline.output import memory_needed, opened, would_stay_on_disk
from stmmr.pipeline.run import FULL_BATCH_AT_MOST

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmmr.image.registered import Registered


def describe(source: Path, *, bin_size: int | None = None, **options: Any) -> dict[str, str]:
    """Say what an input is, without reading the counts of an .h5ad or .zarr.

    Parameters
    ----------
    source
        What `stmmr.read` takes.
    bin_size
        Side of Visium HD bins in µm.
    options
        Those of `stmmr.run` that say where the picture is: ``image``, ``registration``, ``um_per_pixel``.

    Returns
    -------
    Texts by what they are about, in the order in which they are read.
    """
    from stmmr.io import recognise
    from stmmr.io._tables import counts_in_file

    found = recognise(source, bin_size=bin_size)
    stays = found.platform in ("h5ad", "zarr")
    adata, options = opened(source, options, bin_size=bin_size, backed=stays)
    # the size of a sparse matrix is what it stores
    entries = counts_in_file(found.path)[1] if stays else 0 if adata.X is None else int(adata.X.size)
    return {
        "platform": f"{found.platform} ({found.because})",
        "read from": str(found.path),
        "places": f"{adata.n_obs}",
        "genes": f"{adata.n_vars}",
        "coordinates": _length(adata),
        "pictures": _stored(adata),
        **_registration(adata, options),
        "memory": _memory(entries, adata.n_obs, can_stay=stays),
        "would run": _steps(adata, options),
        "obs": ", ".join(adata.obs.columns) or "nothing",
        "obsm": ", ".join(adata.obsm) or "nothing",
        "layers": ", ".join(adata.layers) or "nothing",
    }


def _length(adata: AnnData) -> str:
    """Say what a unit of the coordinates is, and how far neighbours are apart."""
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


def _stored(adata: AnnData) -> str:
    """Name the pictures in the data, with their sizes."""
    pictures = [
        f"{library}: {', '.join(f'{k} {v.shape[1]} × {v.shape[0]} px' for k, v in content['images'].items())}"
        for library, content in adata.uns.get(keys.SPATIAL, {}).items()
        if content.get("images")
    ]
    return "; ".join(pictures) or "none"


def _registration(adata: AnnData, options: dict[str, Any]) -> dict[str, str]:
    """Say which picture a run would read, and how the places lie on it."""
    from stmmr.image.registered import registered_image
    from stmmr.pp import has_image

    image = options.get("image")
    if image is None and not has_image(adata):
        return {}
    try:
        picture = registered_image(
            adata, image, registration=options.get("registration"), um_per_pixel=options.get("um_per_pixel")
        )
    except InputError as error:
        return {"registration": f"not usable: {error}"}
    return {"picture": _levels(picture), "registration": _fit(picture)}


def _levels(picture: Registered) -> str:
    """Describe a picture and its resolutions."""
    slide = picture.slide
    height, width = slide.size
    steps = ", ".join(f"{level.downsample:.3g}" for level in slide.levels)
    levels = f"; {len(slide.levels)} resolutions, reduced by {steps}" if len(slide.levels) > 1 else ""
    return f"{slide.name}, {width} × {height} px of {picture.um_per_px:.4g} µm{levels}"


def _fit(picture: Registered) -> str:
    """Say how the places lie on a picture."""
    outside = int((~picture.inside).sum())
    return (
        f"{picture.on_tissue.mean():.0%} of the places lie on tissue"
        + (f", {outside} outside the picture" if outside else "")
        + f".{picture.better_turn()}"
    )


def _memory(entries: int, n_places: int, *, can_stay: bool) -> str:
    """Say what a run would take."""
    needed, free = memory_needed(entries, n_places), psutil.virtual_memory().available
    where = "the counts would be read into memory"
    if can_stay and would_stay_on_disk(needed, free):
        where = "the counts would stay on disk"
    elif needed > free / 2:
        where += "; convert them to .h5ad or .zarr to leave them on disk"
    return f"about {needed / 1e9:.2g} GB, {free / 1e9:.0f} GB free: {where}"


def _steps(adata: AnnData, options: dict[str, Any]) -> str:
    """Name the steps of a run with its defaults, and what stands in the way."""
    from stmmr.pp import has_image

    try:
        coordinates(adata)
    except InputError:
        return "nothing: there are no coordinates"
    sees = options.get("image") is not None or has_image(adata)
    steps = ["expression", "spatial graph", *(["histology"] if sees else [])]
    if not adata.n_vars:
        steps = steps[1:]
    paper = "in one batch" if adata.n_obs <= FULL_BATCH_AT_MOST else "in batches"
    return f"{listed([*steps, 'training', 'number of domains', 'domains'])}; with --preset paper {paper}"
