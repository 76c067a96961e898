"""An image registered to the spots (or cells, or bins) of a section, and checks that both belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stmmr._core import checks, keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.kernel import nearest_neighbour_distance
from stmmr._core.space import coordinates, rows_called, um_per_unit, warn_implausible_scale
from stmmr.image.library import FULLRES, find_library, holds_image, image_names, scale_key
from stmmr.image.registration import mapped, read_registration, scale_of, scaling
from stmmr.image.slide import open_slide
from stmmr.image.tissue import SWAPPED, UNCHANGED, in_mask, share_by_turn, tissue_mask

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from stmmr.image.library import Library
    from stmmr.image.slide import ImageSource, Slide

SPACING_UM: Final = 100.0
"""Distance of neighbouring spots if neither scale factors nor an array nor the image tell the size of a pixel."""
OUTSIDE_AT_MOST: Final = 0.05
"""Share of the spots that may be outside the image."""
ON_TISSUE_AT_LEAST: Final = 0.9
"""Share of the spots expected on tissue; .99 to 1 on three sections of docs/images.md."""
BETTER_BY: Final = 0.05
"""How much larger the share on tissue must be in a turned or mirrored image to report it."""
PIXELS_UM: Final = (1e-3, 1e4)
"""Sizes of pixels in µm that an image can have; patches of other images would have no end."""
UM_MISMATCH: Final = 1.25
"""Ratio between the size of a pixel by the image and by the coordinates from which on to warn."""
NO_POSITIONS: Final = "An image needs positions in pixels."


@dataclass(frozen=True)
class Registered:
    """An image and how the spots map onto it."""

    slide: Slide
    matrix: NDArray[np.float64]
    """From coordinates to pixels of the full resolution, shape (3, 3)."""
    um_per_px: float
    scale_from: str
    """Where `um_per_px` comes from."""
    centres: NDArray[np.float64]
    """The spots in pixels of the full resolution, shape (N, 2)."""
    external: bool
    """Whether the image is not one of those in the data."""
    rows: Literal["spots", "cells", "bins"] = "spots"
    """How messages call the rows of the data."""

    @property
    def scale(self) -> float:
        """Pixels per unit of the coordinates."""
        return scale_of(self.matrix)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether each spot is inside the image, shape (N,)."""
        height, width = self.slide.size
        return np.asarray(((self.centres >= 0) & (self.centres < [width, height])).all(axis=1))

    @cached_property
    def mask(self) -> tuple[NDArray[np.bool_], float]:
        """The tissue in the overview of the slide, and pixels of the full resolution per pixel of it."""
        overview, step = self.slide.overview
        return tissue_mask(overview, um_per_px=self.um_per_px * step), step

    @cached_property
    def on_tissue(self) -> NDArray[np.bool_]:
        """Whether each spot is on tissue, shape (N,)."""
        mask, step = self.mask
        return in_mask(mask, self.centres / step)

    @property
    def fits(self) -> bool:
        """Whether enough spots are on tissue, and no other orientation of the image puts clearly more on it."""
        return float(self.on_tissue.mean()) >= ON_TISSUE_AT_LEAST and not self.better_turn()

    def better_turn(self) -> str:
        """Name the orientation of the image that puts clearly more spots on tissue; empty if there is none."""
        mask, step = self.mask
        shares = share_by_turn(mask, self.centres / step)
        best = max(shares, key=lambda name: shares[name])
        if shares[best] < max(shares[UNCHANGED] + BETTER_BY, ON_TISSUE_AT_LEAST):
            return ""
        if best == SWAPPED:
            return (
                f" With x and y swapped, {shares[best]:.0%} of them would be on tissue: Seurat 5, for one, calls the "
                "rows of the image x."
            )
        return f" {best.capitalize()}, the image would have {shares[best]:.0%} of them on tissue."


def registered_image(
    adata: AnnData,
    image: ImageSource | Registered | None = None,
    *,
    image_scale: float = 1.0,
    registration: str | Path | ArrayLike | None = None,
    library_id: str | None = None,
    um_per_pixel: float | None = None,
) -> Registered:
    """Find the image of a section and map the spots onto it; see `stmmr.pp.histology` for the parameters.

    Raises InputError if there is no image, it cannot be used, or the spots are outside of it.
    """
    if isinstance(image, Registered):
        return image
    checks.require_key(adata.obsm, keys.SPATIAL, where="obsm", hint=NO_POSITIONS)
    xy, library = coordinates(adata), find_library(adata, library_id)
    if um_per_pixel is None:
        um, scale_from = um_per_unit(adata, xy, library)
    else:
        um, scale_from = um_per_pixel, "um_per_pixel"
    checks.require_positive(1.0 if math.isnan(um) else um, name="um_per_pixel")
    if um_per_pixel is not None:
        warn_implausible_scale(xy, um_per_pixel, told_by="um_per_pixel")
    if image is not None:
        checks.require_positive(image_scale, name="image_scale")
        slide = open_slide(image)
        # the coordinates may have been converted from pixels of the image to another unit
        before = float(library.get("scalefactors", {}).get(scale_key(FULLRES), 1.0))
        if registration is None:
            matrix = scaling(image_scale * before)
        else:
            matrix = read_registration(registration, um_per_unit=um / before) @ scaling(before)
    elif registration is None:
        slide, matrix = _stored_image(library)
    else:
        raise InputError(
            "Expected an image with its registration, found the registration alone. Give image='…' as well."
        )
    scale, rows = scale_of(matrix), rows_called(adata)
    if math.isnan(um):
        um, scale_from = _unknown_scale(xy, slide, scale, rows=rows)
    elif scale_from not in {"microns_per_pixel", "um_per_pixel"}:
        logger.info("The size of a pixel follows from the %s: %.4g µm.", scale_from, um)
    stated = slide.um_per_px
    if stated is not None and not 1 / UM_MISMATCH < um / scale / stated < UM_MISMATCH:
        logger.warning(
            "The image (%s) states pixels of %.4g µm, but by the coordinates they have %.4g µm. Check image_scale, "
            "registration and um_per_pixel.",
            slide.name,
            stated,
            um / scale,
        )
    if not PIXELS_UM[0] <= um / scale <= PIXELS_UM[1]:
        raise InputError(
            f"Expected pixels of {PIXELS_UM[0]:g} to {PIXELS_UM[1]:g} µm in the image ({slide.name}), found "
            f"{um / scale:.3g} µm by the {scale_from}. Check um_per_pixel, image_scale and the scale factors."
        )
    registered = Registered(slide, matrix, um / scale, scale_from, mapped(matrix, xy), image is not None, rows)
    _check_cover(registered)
    return registered


def check_registration(image: Registered) -> None:
    """Warn if spots are off the tissue, or if more would be on it with the image turned or mirrored."""
    if image.fits:
        return
    logger.warning(
        "%.0f %% of the %s lie on the tissue of the image (%s).%s Check that the image shows this section and how it "
        "is turned: stmmr.pl.registration draws both.",
        100 * float(image.on_tissue.mean()),
        image.rows,
        image.slide.name,
        image.better_turn(),
    )


def _stored_image(library: Library) -> tuple[Slide, NDArray[np.float64]]:
    """Get the image with the highest resolution that a library holds, and the map from coordinates to its pixels."""
    images, factors = library.get("images", {}), library.get("scalefactors", {})
    blank = []
    for name in image_names(library):
        try:
            slide = open_slide(np.asarray(images[name]), where=f"the {name} image of uns['spatial']")
        except InputError:
            if not holds_image(library):
                raise
            logger.warning("The %s image is no H&E image and is skipped.", name)
            continue
        if slide.is_blank:
            logger.warning("The %s image is blank and is skipped.", name)
            blank.append(name)
            continue
        key = scale_key(name)
        hint = f"Add the pixels of the {name} image per unit of obsm['spatial'] there."
        checks.require_key(factors, key, where="the scale factors of uns['spatial']", hint=hint)
        checks.require_positive(float(factors[key]), name=key)
        slide.name = name
        return slide, scaling(float(factors[key]))
    present = f"a blank {' and '.join(blank)} image" if blank else listed(images)
    raise InputError(
        f"Expected a hires or lowres image in uns['spatial'], found {present}. Give the image as image='he.jpg', or "
        "leave histology out."
    )


def _unknown_scale(xy: NDArray[np.float64], slide: Slide, scale: float, *, rows: str) -> tuple[float, str]:
    """Get µm per unit of the coordinates from the image, or else suppose a distance of neighbouring spots."""
    if slide.um_per_px is not None:
        logger.info("The size of a pixel is the one that the image (%s) states: %.4g µm.", slide.name, slide.um_per_px)
        return slide.um_per_px * scale, "image"
    if len(xy) < 2:
        raise InputError(f"Expected the size of a pixel, found one of the {rows} only. Give um_per_pixel.")
    spacing = nearest_neighbour_distance(xy)
    logger.warning(
        "The size of a pixel is unknown: the median distance of neighbouring %s, %g, is taken as %g µm. "
        "Give um_per_pixel if that is wrong.",
        rows,
        spacing,
        SPACING_UM,
    )
    return SPACING_UM / spacing, "nearest neighbours"


def _check_cover(image: Registered) -> None:
    """Check that the image covers all spots but a few at its border."""
    (height, width), name, rows = image.slide.size, image.slide.name, image.rows
    outside, n = int((~image.inside).sum()), len(image.centres)
    (left, top), (right, bottom) = image.centres.min(axis=0), image.centres.max(axis=0)
    span = f"x from {left:.0f} to {right:.0f} and y from {top:.0f} to {bottom:.0f}"
    if outside > OUTSIDE_AT_MOST * n:
        raise InputError(
            f"Expected the {rows} inside the image ({name}, {width} × {height} pixels), found {outside} of {n} "
            f"outside: in its pixels they have {span}.{image.better_turn()} Check image_scale, registration or the "
            f"scale factors of uns['spatial'] (here {image.scale:g}), and that the image shows this section."
        )
    if outside:
        logger.warning("%d of %d %s lie outside the image.", outside, n, rows)
    if max((right - left) / width, (bottom - top) / height) < 0.05:
        logger.warning("All %s lie in one corner of the image (%s of %d × %d pixels).", rows, span, width, height)
