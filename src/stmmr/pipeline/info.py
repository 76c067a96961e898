"""`stmmr info`: what an input was recognised as, whether its image fits, and what a run would do with it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.compat import libraries_of, names_in
from stmmr._core.counts import count_statistics
from stmmr._core.log import kept_messages
from stmmr._core.raw import SAMPLE, matrices_with_counts, raw_counts
from stmmr._core.rows import as_csr
from stmmr._core.sections import sections_of
from stmmr._core.several import AUTO, coordinates_apart, find_several
from stmmr._core.space import coordinates, rows_called, stored_coordinates
from stmmr._core.untrusted import free_memory
from stmmr.pipeline.costs import described_costs
from stmmr.pipeline.info_sheet import describe_sheet
from stmmr.pipeline.options import RunOptions
from stmmr.pipeline.run import FEWEST_SPOTS, FULL_BATCH_AT_MOST
from stmmr.pipeline.sheet import is_sheet
from stmmr.pipeline.sources import memory_needed, open_input, would_stay_on_disk

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmmr.image.registered import Registered

IN_CHUNKS: Final = ("h5ad", "zarr")
"""Kinds of files whose counts can stay on disk."""
PCA: Final = "X_pca"
"""Representation that a run can use where there are no genes."""
UNUSABLE: Final = "not usable"
"""Begins the description of what a run would refuse."""
MISFIT: Final = "Warning: the image does not fit"
"""Begins the warning about an image that a run and its report would warn of."""


def describe(
    source: Path, options: RunOptions, *, bin_size: int | None = None, keep_off_tissue: bool = False
) -> dict[str, str]:
    """Describe an input, reading it as a run would do.

    Parameters
    ----------
    source
        Input as `stmmr.read` takes it.
    options
        Options of a run: the image, its registration and the scale.
    bin_size
        Side of the bins.
    keep_off_tissue
        Keep the spots that are off the tissue.

    Returns
    -------
    Texts by what they describe, in reading order.
    """
    from stmmr.io import recognise
    from stmmr.io._tables import counts_in_file

    if is_sheet(source):
        return describe_sheet(source)
    recognised = recognise(source, bin_size=bin_size)
    can_stay = recognised.platform in IN_CHUNKS
    entries, n_spots = counts_in_file(recognised.path, table=options.table)[::-1] if can_stay else (0, 0)
    backed = can_stay and would_stay_on_disk(memory_needed(entries, n_spots), free_memory())
    with kept_messages() as kept:
        adata, left = open_input(source, options, bin_size=bin_size, backed=backed, keep_off_tissue=keep_off_tissue)
    # but the one that repeats what an input was recognised as
    messages = [text for _, text in kept if not text.startswith("Reading ")]
    if not can_stay:  # the size of a sparse matrix is the number of its stored values
        entries = 0 if adata.X is None else int(adata.X.size)
    sections, key = _sections(adata, left.section_key)
    counts, layer = _counts(adata, left.layer)
    left = replace(left, section_key=key)
    coordinates_of, registration = _coordinates(adata, key), _registration(adata, left)
    fit = registration.get("registration", "")
    is_misfit = MISFIT in fit
    if is_misfit and options.image is not None:
        left = replace(left, image=None)
    command: dict[str, object] = {
        "--bin-size": bin_size,
        "--layer": layer,
        "--use-rep": None if adata.n_vars or PCA not in adata.obsm else PCA,
        "--section-key": key,
        "--image": None if is_misfit else options.image,
        "--keep-off-tissue": keep_off_tissue,
        "--no-histology": options.image is None and (is_misfit or fit.startswith(UNUSABLE)),
    }
    needed = (counts if layer is None else "", coordinates_of, sections)
    runs = adata.n_obs >= FEWEST_SPOTS and not any(text.startswith(UNUSABLE) for text in needed)
    return {
        "platform": f"{recognised.platform} ({recognised.because})",
        "read from": str(recognised.path),
        **({"messages": "\n              ".join(messages)} if messages else {}),
        rows_called(adata): f"{adata.n_obs}",
        "genes": f"{adata.n_vars}",
        "counts": counts,
        "coordinates": coordinates_of,
        "sections": sections,
        "images": _stored_images(adata),
        **registration,
        **_costs(entries, adata.n_obs, can_stay=can_stay),
        "would run": _steps(adata, left),
        "obs": listed(adata.obs.columns, at_most=40),
        "obsm": listed(adata.obsm, at_most=40),
        "layers": listed(names_in(adata.layers), at_most=40),
        "command": _command(source, command) if runs else "none: first complete what is not usable",
    }


def _counts(adata: AnnData, layer: str | None) -> tuple[str, str | None]:
    """Say which matrix the counts would be read from, and get the layer that a run should name."""
    if not adata.n_vars:
        return ("none" if PCA in adata.obsm else f"{UNUSABLE}: there are no genes"), layer
    if not adata.n_obs:
        return f"{UNUSABLE}: there are no {rows_called(adata)}", layer
    with_counts = matrices_with_counts(adata)
    try:
        where, matrix = raw_counts(adata, layer)
        name = layer or ("X" if where == "X" else keys.COUNTS)
        others = [other for other in with_counts if other != name]
        if name in with_counts:
            return f"{where}, whole numbers" + (f" (as in {listed(others)})" if others else ""), layer
        if others:
            return f"{where} has no whole numbers; {listed(others)} has", others[0]
        sample = as_csr(matrix[:SAMPLE])
        if not sample.count_nonzero():
            return f"{UNUSABLE}: {where} has zeros only", layer
        count_statistics(sample).check(where, adata)
    except InputError as error:
        return f"{UNUSABLE}: {error}", next(iter(with_counts), layer)
    return f"{where}, which has fractions", layer


def _sections(adata: AnnData, section_key: str | None) -> tuple[str, str | None]:
    """Say whether there are several sections, and get the column of ``obs`` with them."""
    try:
        if section_key not in (None, AUTO):
            sections = sections_of(adata, section_key)
            return f"{len(sections.categories) if sections is not None else 1} in obs[{section_key!r}]", section_key
        several = find_several(adata)
    except InputError as error:
        return f"{UNUSABLE}: {error}", section_key
    if several is None:
        return "one", None
    if several.key is None and several.values is None:
        return f"{UNUSABLE}: several which neither obs nor the names tell, as {several.because}", None
    where = f"in obs[{several.key!r}]" if several.key else "by z" if several.by_z else "which no column of obs names"
    return f"several {where}, as {several.because}", several.key or (AUTO if several.values is not None else None)


def _command(source: Path, options: dict[str, object]) -> str:
    """Write the command that would run."""
    parts = ["stmmr", "run", str(source), "-o", "result"]
    for name, value in options.items():
        if value is not None and value is not False:
            parts += [name] if value is True else [name, str(value)]
    return shlex.join(parts)


def _coordinates(adata: AnnData, section_key: str | None) -> str:
    """Describe the unit of the coordinates and the distance of neighbours."""
    from stmmr._core.kernel import nearest_neighbour_distance
    from stmmr._core.space import units

    try:
        unit, um, told_by = units(adata)
        spacing = nearest_neighbour_distance(coordinates_apart(adata, section_key)) if adata.n_obs > 1 else float("nan")
    except InputError as error:
        return f"{UNUSABLE}: {error}"
    where = stored_coordinates(adata)[2]
    if not np.isfinite(um):
        return f"{unit} of {where}, length in µm unknown; neighbours are {spacing:.4g} apart"
    return f"{unit} of {where}, {um:.4g} µm each (from {told_by}); neighbours are {spacing * um:.4g} µm apart"


def _stored_images(adata: AnnData) -> str:
    """Name the images in the data, with their sizes."""
    from stmmr.image.library import unfit_images
    from stmmr.image.pixels import is_blank

    images = []
    for library, content in libraries_of(adata).items():
        reasons = unfit_images(content)
        for name, pixels in content.get("images", {}).items():
            note = "blank" if is_blank(pixels) else f"not used: {reasons[name]}" if name in reasons else ""
            images.append(f"{library}: {name} {pixels.shape[1]} × {pixels.shape[0]} px{', ' * bool(note)}{note}")
    return "; ".join(images) or "none"


def _registration(adata: AnnData, options: RunOptions) -> dict[str, str]:
    """Describe the images that a run would use, and where the spots are on them."""
    from stmmr.image.sections import registered_images
    from stmmr.pp import has_image

    if options.image is None and not has_image(adata):
        return {}
    key = options.section_key if options.section_key in adata.obs else None
    try:
        source: Any = options.image
        registration: Any = options.registration
        images = registered_images(
            adata, source, registration=registration, section_key=key, um_per_pixel=options.um_per_pixel
        )
    except InputError as error:
        return {"registration": f"{UNUSABLE}: {error}"}
    rows = rows_called(adata)
    by_section = [(f"{name}: " if name else "", image) for name, image in images.items()]
    fits = [name + _fit(image, rows) for name, image in by_section]
    return {
        "image": "\n              ".join(name + _levels(image) for name, image in by_section),
        "registration": "\n              ".join(sorted(fits, key=lambda text: MISFIT not in text)),
    }


def _levels(image: Registered) -> str:
    """Describe an image and its resolutions."""
    slide = image.slide
    height, width = slide.size
    steps = ", ".join(f"{level.downsample:.3g}" for level in slide.levels)
    levels = f"; {len(slide.levels)} resolutions, reduced by {steps}" if len(slide.levels) > 1 else ""
    return f"{slide.name}, {width} × {height} px of {image.um_per_px:.4g} µm{levels}"


def _fit(image: Registered, rows: str) -> str:
    """Describe where the spots are on an image, and whether it fits."""
    from stmmr.image.registered import ON_TISSUE_AT_LEAST

    outside = int((~image.inside).sum())
    advice = (
        ""
        if image.fits
        else f" {MISFIT}: expected at least {ON_TISSUE_AT_LEAST:.0%} on tissue, and no more with it turned. "
        "Check that it shows this section and how it is turned (--registration)."
    )
    return (
        f"{image.on_tissue.mean():.0%} of the {rows} are on tissue"
        + (f", {outside} outside the image" if outside else "")
        + f".{image.better_turn()}{advice}"
    )


def _costs(entries: int, n_spots: int, *, can_stay: bool) -> dict[str, str]:
    """Describe memory and time that a run would take."""
    needed, free = memory_needed(entries, n_spots), free_memory()
    on_disk = can_stay and would_stay_on_disk(needed, free)
    hint = "" if can_stay or needed <= free / 2 else "; convert them to .h5ad or .zarr to leave them on disk"
    return described_costs(n_spots, entries, on_disk=on_disk, advice=hint)


def _steps(adata: AnnData, options: RunOptions) -> str:
    """Name the steps of a run with its defaults."""
    from stmmr.pp import has_image

    try:
        coordinates(adata)
    except InputError:
        return "nothing: there are no coordinates"
    if adata.n_obs < FEWEST_SPOTS:
        return f"nothing: a run needs at least {FEWEST_SPOTS} {rows_called(adata)}"
    uses_image = options.image is not None or has_image(adata)
    steps = ["expression", "spatial graph", *(["histology"] if uses_image else [])]
    if not adata.n_vars:
        steps = steps[1:]
    paper = "in one batch" if adata.n_obs <= FULL_BATCH_AT_MOST else "in batches"
    return f"{listed([*steps, 'embedding', 'number of domains', 'domains'])}; --preset paper would train {paper}"
