"""Pictures of a SpatialData object: which one lies under the places, and how the places lie on it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core.checks import InputError, listed, require_key
from stmmr.image.pixels import check_image
from stmmr.image.registration import inverse, mapped, scale_of, scaling
from stmmr.image.slide import open_slide
from stmmr.image.slide_files import levels
from stmmr.io._elements import Region, matrix_to, systems_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

OF_COLOUR: Final = frozenset("rgba") | {"red", "green", "blue", "alpha"}
UNNAMED: Final = frozenset("0123")
"""Names of channels of a picture in colour, and the numbers that spatialdata gives where none are said."""
COVERED: Final = 0.95
"""Share of the places that lie on a picture of theirs."""
WINDOW: Final = 1024
"""Side of the part of a picture that is looked at, in pixels."""
ROUND_OFF: Final = 1e-6


@dataclass(frozen=True)
class Frame:
    """How places lie: on a picture, or in a coordinate system without one."""

    image: str | None
    """Name of the picture."""
    upright: NDArray[np.float64]
    """3 × 3 matrix from the coordinate system to ``obsm["spatial"]``."""
    to_pixels: NDArray[np.float64]
    """3 × 3 matrix from ``obsm["spatial"]`` to pixels of the picture's first level."""


def frame_of(sdata: Any, image: str | None, system: str) -> Frame:
    """Lay coordinates so that a picture stands upright with its corner at 0, 0, as in scanpy and squidpy.

    Where the picture is only scaled and moved, the unit of the coordinate system stays; where it is turned, mirrored or
    stretched, the unit is a pixel of it.
    """
    if image is None:
        return Frame(None, np.eye(3), np.eye(3))
    matrix = matrix_to(sdata.images[image], system)
    scale = scale_of(matrix)
    if np.allclose(matrix[:2, :2], scale * np.eye(2), rtol=0, atol=ROUND_OFF * scale):
        upright = np.eye(3)
        upright[:2, 2] = -matrix[:2, 2]
        return Frame(image, upright, scaling(1 / scale))
    return Frame(image, inverse(matrix), np.eye(3))


def choose_image(sdata: Any, regions: Sequence[Region], asked: str | None) -> str | None:
    """Choose the H&E picture under regions of one coordinate system: the one named, or the sharpest below the places.

    Pictures of other stains are passed over, which is said.

    Raises
    ------
    InputError
        If the named one is no picture in colour, or not in the coordinate system.
    """
    system = regions[0].system
    if asked is not None:
        require_key(sdata.images, asked, where="the images of the SpatialData object")
        require_key(systems_of(sdata.images[asked]), system, where=f"the coordinate systems of the image {asked!r}")
        if reason := _unfit(sdata.images[asked]):
            raise InputError(f"Expected an H&E picture in colour in the image {asked!r}, found {reason}. Name another.")
        return asked
    fit, passed = fitting_images(sdata, regions)
    if passed:
        logger.info("Images that are no H&E picture of these places are passed over: %s.", listed(passed))
    # what CytAssist photographs is stained with eosin only
    fit.sort(key=lambda name: ("cytassist" in name.lower(), scale_of(matrix_to(sdata.images[name], system))))
    if len(fit) > 1:
        logger.info("Of the pictures %s, the sharpest is taken: %s. Name another as image.", listed(fit), fit[0])
    return fit[0] if fit else None


def on_one_picture(sdata: Any, regions: Sequence[Region]) -> list[list[Region]]:
    """Group regions by the picture they lie on: all, or each by itself.

    Raises
    ------
    InputError
        If it cannot be told, as several pictures lie under regions of one coordinate system.
    """
    apart = [[region] for region in regions]
    if len({(region.system, *sorted(related_images(sdata, [region]))) for region in regions}) > 1:
        return apart
    below = [fitting_images(sdata, region)[0] for region in apart]
    if len(regions) > 1 and max(map(len, below)) > 1:
        found = sorted({name for names in below for name in names})
        raise InputError(
            f"Expected one picture below the regions {listed(region.name for region in regions)}, found "
            f"{listed(found)}. Name one as image='…', or read the regions one by one (region='…')."
        )
    return [list(regions)] if all(names == below[0] for names in below) else apart


def fitting_images(sdata: Any, regions: Sequence[Region]) -> tuple[list[str], list[str]]:
    """List the pictures in colour under regions of one coordinate system, and with the reason what is passed over."""
    xy = np.concatenate([region.centres for region in regions])
    reasons = {
        name: _unfit(sdata.images[name]) or _beside(sdata.images[name], xy, regions[0].system)
        for name in related_images(sdata, regions)
    }
    passed = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    return [name for name, reason in reasons.items() if not reason], passed


def related_images(sdata: Any, regions: Sequence[Region]) -> list[str]:
    """List the images in the coordinate system of regions; where sections have systems of their own, only theirs."""
    own = set.intersection(*({r.system} if r.element is None else set(systems_of(r.element)) for r in regions))
    shared = {
        name: len(own & set(systems))
        for name, image in sdata.images.items()
        if regions[0].system in (systems := systems_of(image))
    }
    return [name for name, count in shared.items() if count == max(shared.values())]


def small_picture(image: Any) -> tuple[NDArray[np.uint8], float]:
    """Reduce an image to what is stored, from the level that fits.

    Returns
    -------
    The picture, shape (height, width, 3), and its pixels per pixel of the first level.
    """
    overview, step = open_slide(image).overview
    return overview, 1 / step


def _unfit(image: Any) -> str:
    """Say why an image is no picture in colour; nothing where it is one."""
    full = levels(image)[0]
    if set(full.dims) != {"c", "y", "x"}:
        return f"the axes {', '.join(full.dims)}"
    channels = [str(name) for name in full.coords["c"].values] if "c" in full.coords else list("0123")[: len(full)]
    names = {name.lower() for name in channels}
    if len(channels) not in (3, 4) or not (names <= OF_COLOUR or names <= UNNAMED):
        return f"the channels {listed(channels)}"
    if names <= UNNAMED and full.dtype.itemsize > 1 and full.dtype.kind in "iu":
        return f"channels without names of {full.dtype}, as of fluorescence"
    middle = {axis: slice(max(full.sizes[axis] - WINDOW, 0) // 2, None) for axis in ("y", "x")}
    window = full.isel(middle).isel(y=slice(WINDOW), x=slice(WINDOW)).transpose("y", "x", "c")
    try:
        check_image(np.asarray(window.data), where="its middle")
    except InputError as error:
        return "greyscale" if "greyscale" in str(error) else str(error).partition(", found ")[2].partition(". ")[0]
    return ""


def _beside(image: Any, xy: NDArray[np.float64], system: str) -> str:
    """Say how many places lie beside an image, where these are too many."""
    full = levels(image)[0]
    at = mapped(inverse(matrix_to(image, system)), xy)
    on = ((at >= 0) & (at <= [full.sizes["x"], full.sizes["y"]])).all(axis=1).mean()
    return "" if on >= COVERED else f"{on:.0%} of the places lie on it"
