"""A picture registered to the places of a section: which it is, how they map onto it, and whether that can be so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import checks, keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.kernel import nearest_neighbour_distance
from stmmr._core.space import coordinates, um_per_unit, warn_implausible_scale
from stmmr.image.library import FULLRES, PICTURES, find_library, scale_key
from stmmr.image.registration import mapped, read_registration, scale_of, scaling
from stmmr.image.slide import open_slide
from stmmr.image.tissue import looked_up, share_by_turn, tissue_mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.image.slide import Slide

SPACING_UM: Final = 100.0
"""Distance of neighbouring places where neither scale factors nor an array nor the picture tell the size of a pixel."""
OUTSIDE_AT_MOST: Final = 0.05
"""Share of the places that may lie outside the picture."""
ON_TISSUE_AT_LEAST: Final = 0.9
"""Share of the places that are expected on tissue; .99 to 1 on three sections of docs/pictures.md."""
BETTER_BY: Final = 0.05
"""How many more places would have to lie on tissue, in a turned or mirrored picture, to say so."""
UM_MISMATCH: Final = 1.25
"""Ratio of the size of a pixel that a picture states and the one that the coordinates tell, from which on to warn."""


@dataclass(frozen=True)
class Registered:
    """A picture and how the places map onto it."""

    slide: Slide
    matrix: NDArray[np.float64]
    """From coordinates to pixels of the full resolution, shape (3, 3)."""
    um_per_px: float
    scale_from: str
    """What told `um_per_px`."""
    centres: NDArray[np.float64]
    """The places, in pixels of the full resolution, shape (N, 2)."""
    given: bool
    """Whether it is another picture than those in the data."""

    @property
    def scale(self) -> float:
        """Pixels per unit of the coordinates."""
        return scale_of(self.matrix)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether each place lies in the picture, shape (N,)."""
        height, width = self.slide.size
        return np.asarray(((self.centres >= 0) & (self.centres < [width, height])).all(axis=1))

    @cached_property
    def mask(self) -> tuple[NDArray[np.bool_], float]:
        """Where the overview of the slide shows tissue, and its pixels of the full resolution per pixel."""
        overview, step = self.slide.overview
        return tissue_mask(overview, um_per_px=self.um_per_px * step), step

    @cached_property
    def on_tissue(self) -> NDArray[np.bool_]:
        """Whether each place lies on tissue, shape (N,)."""
        mask, step = self.mask
        return looked_up(mask, self.centres / step)

    def better_turn(self) -> str:
        """Name how the picture would have to lie for clearly more places to lie on tissue; empty where it lies well."""
        mask, step = self.mask
        shares = share_by_turn(mask, self.centres / step)
        best = max(shares, key=lambda name: shares[name])
        if shares[best] < max(shares["as it is"] + BETTER_BY, ON_TISSUE_AT_LEAST):
            return ""
        return f" {best.capitalize()}, the picture would have {shares[best]:.0%} of them on tissue."


def registered_picture(
    adata: AnnData,
    image: Any = None,
    *,
    image_scale: float = 1.0,
    registration: str | Path | NDArray[Any] | None = None,
    library_id: str | None = None,
    um_per_pixel: float | None = None,
) -> Registered:
    """Find the picture of a section and map the places onto it; see `stmmr.pp.histology` for the parameters.

    Raises
    ------
    InputError
        If there is no picture, it cannot be used, or the places do not lie in it.
    """
    if isinstance(image, Registered):
        return image
    checks.require_key(adata.obsm, keys.SPATIAL, where="obsm", hint="A picture needs positions in pixels.")
    xy = coordinates(adata)
    library = find_library(adata, library_id)
    um, told_by = (um_per_pixel, "um_per_pixel") if um_per_pixel is not None else um_per_unit(adata, xy, library)
    checks.require_positive(1.0 if math.isnan(um) else um, name="um_per_pixel")
    if um_per_pixel is not None:
        warn_implausible_scale(xy, um_per_pixel, told_by="um_per_pixel")
    if image is None and registration is not None:
        raise InputError(
            "Expected a picture with its registration, found the registration alone. Give image='…' as well."
        )
    if image is None:
        slide, matrix = _own_picture(library)
    else:
        checks.require_positive(image_scale, name="image_scale")
        slide = open_slide(image)
        # the coordinates that the picture goes with may have been brought to another unit
        before = float(library.get("scalefactors", {}).get(scale_key(FULLRES), 1.0))
        if registration is None:
            matrix = scaling(image_scale * before)
        else:
            matrix = read_registration(registration, um_per_unit=um / before) @ scaling(before)
    scale = scale_of(matrix)
    if math.isnan(um):
        um, told_by = _unknown_scale(xy, slide, scale)
    elif told_by not in {"microns_per_pixel", "um_per_pixel"}:
        logger.info("The size of a pixel is that which the %s tells: %.4g µm.", told_by, um)
    _compare_sizes(slide, um / scale)
    found = Registered(slide, matrix, um / scale, told_by, mapped(matrix, xy), given=image is not None)
    _check_cover(found)
    return found


def check_registration(found: Registered) -> None:
    """Warn where the places miss the tissue, or would lie better on the picture turned or mirrored."""
    share, turn = float(found.on_tissue.mean()), found.better_turn()
    if share >= ON_TISSUE_AT_LEAST and not turn:
        return
    logger.warning(
        "%.0f %% of the places lie on the tissue of the picture (%s).%s Check that it is of this section and how it "
        "lies: stmmr.pl.registration draws both.",
        100 * share,
        found.slide.name,
        turn,
    )


def _own_picture(library: Mapping[str, Any]) -> tuple[Slide, NDArray[np.float64]]:
    """Get the picture with the highest resolution that an AnnData holds."""
    images = library.get("images", {})
    factors = library.get("scalefactors", {})
    blank = []
    for name in PICTURES:
        if name not in images:
            continue
        try:
            slide = open_slide(np.asarray(images[name]), where=f"the {name} picture of uns['spatial']")
        except InputError as error:
            raise InputError(
                f"{error} To go on without it: stmmr run --no-histology, in Python stmmr.run(histology=False)."
            ) from error
        if slide.is_blank:
            logger.warning("The %s picture is blank and passed over.", name)
            blank.append(name)
            continue
        key = scale_key(name)
        hint = f"Add the pixels of the {name} picture per unit of obsm['spatial'] there."
        checks.require_key(factors, key, where="the scale factors of uns['spatial']", hint=hint)
        checks.require_positive(float(factors[key]), name=key)
        slide.name = name
        return slide, scaling(float(factors[key]))
    found = f"a blank {' and '.join(blank)} picture" if blank else listed(images)
    raise InputError(
        f"Expected a hires or lowres picture in uns['spatial'], found {found}. Give the picture as "
        "image='he.jpg', or leave histology out."
    )


def _unknown_scale(xy: NDArray[np.float64], slide: Slide, scale: float) -> tuple[float, str]:
    """Get µm per unit of the coordinates from the picture, or else suppose a distance of neighbouring places."""
    if slide.um_per_px is not None:
        logger.info("The size of a pixel is what the picture (%s) states: %.4g µm.", slide.name, slide.um_per_px)
        return slide.um_per_px * scale, "picture"
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


def _compare_sizes(slide: Slide, um_per_px: float) -> None:
    """Warn where the picture states another size of its pixels than the coordinates tell."""
    stated = slide.um_per_px
    if stated is not None and not 1 / UM_MISMATCH < um_per_px / stated < UM_MISMATCH:
        logger.warning(
            "The picture (%s) states pixels of %.4g µm, the coordinates tell %.4g µm. Check image_scale, registration "
            "and um_per_pixel.",
            slide.name,
            stated,
            um_per_px,
        )


def _check_cover(found: Registered) -> None:
    """Check that the picture covers the places, but for a few at its border."""
    (height, width), name = found.slide.size, found.slide.name
    outside, n = int((~found.inside).sum()), len(found.centres)
    (left, top), (right, bottom) = found.centres.min(axis=0), found.centres.max(axis=0)
    span = f"x from {left:.0f} to {right:.0f} and y from {top:.0f} to {bottom:.0f}"
    if outside > OUTSIDE_AT_MOST * n:
        raise InputError(
            f"Expected the places inside the picture ({name}, {width} × {height} pixels), found "
            f"{outside} of {n} outside: in its pixels they have {span}.{found.better_turn()} Check "
            f"image_scale, registration or the scale factors of uns['spatial'] (here {found.scale:g}), and that it is "
            "of this section."
        )
    if outside:
        logger.warning("%d of %d places lie outside the picture.", outside, n)
    if max((right - left) / width, (bottom - top) / height) < 0.05:
        logger.warning("All places lie in one corner of the picture (%s of %d × %d pixels).", span, width, height)
