"""Features of the picture around each place."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr import _keys, _validate
from stmmr._parallel import in_parallel, progress_bar
from stmmr._record import record, recorded
from stmmr._validate import InputError, listed
from stmmr.io._library import PICTURES, find_library, scale_key, store_picture
from stmmr.io._picture import check_picture, is_blank, read_picture, without_mask
from stmmr.pp._encoders import Encoder, HEEncoder
from stmmr.pp._patches import read_patches
from stmmr.pp._scale import um_per_unit
from stmmr.pp._weights import nearest_neighbour_distance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

SPACING_UM: Final = 100.0
"""Distance of neighbouring places where neither scale factors nor an array tell the size of a pixel."""
OUTSIDE_AT_MOST: Final = 0.05
"""Share of the places that may lie outside the picture."""
BATCH: Final = 128
"""Places whose patches are in memory at a time."""
SAMPLE: Final = 512
"""Places from whose patches an encoder learns."""


@dataclass(frozen=True)
class _Picture:
    """A picture and how the coordinates map onto it."""

    pixels: NDArray[np.uint8]
    """Shape (height, width, 3)."""
    name: str
    """Where it is from: hires, lowres, a file, or array."""
    scale: float
    """Pixels of the picture per unit of the coordinates."""


def histology(
    adata: AnnData,
    *,
    image: str | Path | NDArray[Any] | None = None,
    image_scale: float = 1.0,
    encoder: Encoder | None = None,
    library_id: str | None = None,
    um_per_pixel: float | None = None,
    key_added: str = _keys.HISTOLOGY,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | None:
    """Describe the H&E picture around each place: colour, texture and nuclei at several physical scales.

    Around every place, a patch of each of the encoder's diameters is cut out, resampled and encoded, batch by
    batch. Beyond its border the picture continues as its mirror image; a background masked in black counts as
    glass.

    Parameters
    ----------
    adata
        With coordinates (x, y) in ``obsm["spatial"]``, in pixels of the full-resolution picture.
    image
        PNG, JPEG or TIFF file, or an array of shape (height, width, 3). Without, the picture in
        ``uns["spatial"]`` of `adata` is used: hires, or else lowres, with its scale factor. Give it again in
        later calls: what is stored of it is smaller.
    image_scale
        Pixels of `image` per unit of the coordinates, 1 for the full-resolution picture itself; without
        `image` it has no effect.
    encoder
        What turns patches into features; `HEEncoder` where none is given.
    library_id
        Key of ``uns["spatial"]``, needed where there are several.
    um_per_pixel
        µm per unit of the coordinates, that is per pixel of the full-resolution picture. Without, it is
        ``microns_per_pixel`` of the scale factors; where that is missing too, neighbours on an array
        (``obs["array_row"]``, ``obs["array_col"]``) are 100 µm apart if it is hexagonal (Visium) and 200 µm if
        it is square (ST v1); without an array, the median distance of neighbouring places counts as 100 µm.
    key_added
        Key of ``obsm`` for the features.
    progress
        Whether to show a progress bar where it takes longer than two seconds.
    copy
        Work on a copy and return it.

    Returns
    -------
    ``None``, or the copy. Written are

    ``obsm[key_added]``
        Features as they are, not standardised, shape (n_obs, n_features), float32.
    ``uns["stmmr"]["histology"]``
        The picture used, its shape, its pixels per unit of the coordinates, µm per pixel of it and where that
        is from (``"scale_from"``: um_per_pixel, microns_per_pixel, hexagonal array, square array, or nearest
        neighbours); encoder, diameters and names of the features.
    ``uns["spatial"][library_id]``
        With `image`, and no picture there so far: a copy of at most 2000 pixels a side as hires, its scale
        factor, and ``spot_diameter_fullres`` where that is missing (0.55 of the distance between places), so
        that figures show it.

    Raises
    ------
    InputError
        If there is no picture, it cannot be used (greyscale, damaged, too large), its scale factor is
        missing, there are several libraries and no `library_id`, more than 5 % of the places lie outside the
        picture, or a patch would be larger than the picture.
    """
    adata = adata.copy() if copy else adata
    _validate.require_key(adata.obsm, _keys.SPATIAL, where="obsm", hint="A picture needs positions in pixels.")
    xy = _validate.coordinates(adata)
    library = find_library(adata, library_id)
    picture = _own_picture(library) if image is None else _given_picture(image, image_scale)
    um_per_unit, scale_from = _physical_scale(adata, xy, um_per_pixel, library)
    um_per_px = um_per_unit / picture.scale
    centres = xy * picture.scale
    _check_cover(centres, picture)
    encoder = HEEncoder() if encoder is None else encoder
    _check_patches(encoder, um_per_px, picture)
    encoder, features = _encode(without_mask(picture.pixels), centres, encoder, um_per_px, progress=progress)

    before = recorded(adata).get("histology", {})
    if key_added in adata.obsm and before.get("key_added") != key_added:
        logger.warning("obsm[%r] held something else; it was replaced.", key_added)
    adata.obsm[key_added] = features
    parameters = {
        "key_added": key_added,
        "picture": picture.name,
        "picture_shape": list(picture.pixels.shape),
        "image_scale": picture.scale,
        "um_per_pixel": um_per_px,
        "scale_from": scale_from,
        "encoder": encoder.name,
        "diameters_um": list(encoder.diameters_um),
        "feature_names": list(encoder.feature_names),
    }
    record(adata, histology=parameters)
    if image is not None:
        spacing = nearest_neighbour_distance(xy) if len(xy) > 1 else SPACING_UM / um_per_unit
        store_picture(adata, picture.pixels, scale=picture.scale, spacing=spacing, library_id=library_id)
    return adata if copy else None


def has_picture(adata: AnnData) -> bool:
    """Tell whether ``uns["spatial"]`` holds a picture that is more than a blank placeholder."""
    libraries = adata.uns.get(_keys.SPATIAL, {})
    images = [library.get("images", {}).get(name) for library in libraries.values() for name in PICTURES]
    return any(image is not None and not is_blank(np.asarray(image)) for image in images)


def _encode(
    pixels: NDArray[np.uint8], centres: NDArray[np.float64], encoder: Encoder, um_per_px: float, *, progress: bool
) -> tuple[Encoder, NDArray[np.float32]]:
    """Fit the encoder on some patches, then encode all, by batches."""
    sides = np.asarray(encoder.diameters_um) / um_per_px

    def patches(chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        return read_patches(pixels, centres[chosen], sides=sides, patch_px=encoder.patch_px)

    # spread over the tissue, whatever the order of the places
    order = np.lexsort(centres.T)
    sample = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(int)]
    encoder = encoder.fit(patches(sample), um_per_px=um_per_px)
    batches = np.array_split(np.arange(len(centres)), -(-len(centres) // BATCH))
    rows = []
    with progress_bar(len(centres), "histology", "places", shown=progress) as bar:
        for some in in_parallel(lambda batch: encoder(patches(batch)), ((batch,) for batch in batches)):
            rows.append(some)
            bar.update(len(some))
    features = np.concatenate(rows).astype(np.float32, copy=False)
    if features.shape != (len(centres), len(encoder.feature_names)) or not np.isfinite(features).all():
        raise ValueError(
            f"Expected the encoder {encoder.name!r} to give finite features of shape "
            f"{(len(centres), len(encoder.feature_names))}, found {features.shape}, "
            f"{int((~np.isfinite(features)).sum())} of them not finite."
        )
    return encoder, features


def _own_picture(library: Mapping[str, Any]) -> _Picture:
    """Get the picture with the highest resolution that an AnnData holds."""
    images = library.get("images", {})
    factors = library.get("scalefactors", {})
    blank = []
    for name in PICTURES:
        if name not in images:
            continue
        try:
            pixels = check_picture(images[name], where=f"the {name} picture of uns['spatial']")
        except InputError as error:
            raise InputError(
                f"{error} To go on without it: stmmr run --no-histology, in Python stmmr.run(histology=False)."
            ) from error
        if is_blank(pixels):
            logger.warning("The %s picture is blank and passed over.", name)
            blank.append(name)
            continue
        key = scale_key(name)
        hint = f"Add the pixels of the {name} picture per unit of obsm['spatial'] there."
        _validate.require_key(factors, key, where="the scale factors of uns['spatial']", hint=hint)
        scale = float(factors[key])
        _validate.require_positive(scale, name=key)
        return _Picture(pixels, name, scale)
    found = f"a blank {' and '.join(blank)} picture" if blank else listed(images)
    raise InputError(
        f"Expected a hires or lowres picture in uns['spatial'], found {found}. Give the picture as "
        "image='he.jpg', or leave histology out."
    )


def _given_picture(image: str | Path | NDArray[Any], scale: float) -> _Picture:
    """Get the picture that the user gives."""
    _validate.require_positive(scale, name="image_scale")
    if isinstance(image, (str, Path)):
        return _Picture(read_picture(image), Path(image).name, scale)
    return _Picture(check_picture(image, where="image"), "array", scale)


def _physical_scale(
    adata: AnnData, xy: NDArray[np.float64], um_per_pixel: float | None, library: Mapping[str, Any]
) -> tuple[float, str]:
    """Get µm per unit of the coordinates, and where that is from."""
    if um_per_pixel is not None:
        _validate.require_positive(um_per_pixel, name="um_per_pixel")
        return um_per_pixel, "um_per_pixel"
    um, told_by = um_per_unit(adata, xy, library)
    if math.isfinite(um):
        if told_by != "microns_per_pixel":
            logger.info("The size of a pixel is that which the %s tells: %.4g µm.", told_by, um)
        return um, told_by
    if len(xy) < 2:
        raise InputError("Expected the size of a pixel, found a single place. Give um_per_pixel.")
    spacing = nearest_neighbour_distance(xy)
    logger.warning(
        "The size of a pixel is unknown: the median distance of neighbouring places, %g, counts as %g µm. "
        "Give um_per_pixel if that is wrong.",
        spacing,
        SPACING_UM,
    )
    return SPACING_UM / spacing, "nearest neighbours"


def _check_cover(centres: NDArray[np.float64], picture: _Picture) -> None:
    """Check that the picture covers the places, but for a few at its border."""
    height, width = picture.pixels.shape[:2]
    outside = ((centres < 0) | (centres >= [width, height])).any(axis=1)
    (left, top), (right, bottom) = centres.min(axis=0), centres.max(axis=0)
    span = f"x from {left:.0f} to {right:.0f} and y from {top:.0f} to {bottom:.0f}"
    if outside.mean() > OUTSIDE_AT_MOST:
        raise InputError(
            f"Expected the places inside the picture ({picture.name}, {width} × {height} pixels), found "
            f"{int(outside.sum())} of {len(centres)} outside: in its pixels they have {span}. Check "
            f"image_scale or the scale factors of uns['spatial'] (here {picture.scale:g}), and that it is of "
            "this section."
        )
    if outside.any():
        logger.warning("%d of %d places lie outside the picture.", int(outside.sum()), len(centres))
    if max((right - left) / width, (bottom - top) / height) < 0.05:
        logger.warning("All places lie in one corner of the picture (%s of %d × %d pixels).", span, width, height)


def _check_patches(encoder: Encoder, um_per_px: float, picture: _Picture) -> None:
    """Check that the patches are smaller than the picture; a wrong size of the pixels shows here."""
    largest = max(encoder.diameters_um)
    if largest / um_per_px > max(picture.pixels.shape):
        raise InputError(
            f"Expected patches smaller than the picture ({picture.name}), found that {largest:g} µm are "
            f"{largest / um_per_px:,.0f} pixels of it at {um_per_px:.3g} µm per pixel. Check um_per_pixel."
        )
