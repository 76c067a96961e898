"""Images of a SpatialData object: choose the H&E image under the spots, and map the spots onto it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr.image.pixels import unfit
from stmmr.image.registration import inverse, mapped, scale_of, scaling
from stmmr.image.slide import SpatialArray, SpatialTree, open_slide
from stmmr.image.slide_files import levels
from stmmr.io._elements import Region, matrix_to, systems_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from stmmr._core.types import Float64

    Image: TypeAlias = SpatialArray | SpatialTree
    """One resolution, or several."""

COLOUR_CHANNELS: Final = frozenset("rgba") | {"red", "green", "blue", "alpha"}
UNNAMED: Final = frozenset("0123")
"""Names that spatialdata gives to channels without names."""
COVERED: Final = 0.95
"""Share of the spots that must be on an image."""
WINDOW: Final = 1024
"""Side of the window in which colours are checked, in pixels."""
ROUND_OFF: Final = 1e-6


@dataclass(frozen=True)
class Frame:
    """How spots are mapped onto an image, or into a coordinate system without one."""

    image: str | None
    """Name of the image."""
    upright: Float64
    """3 × 3 matrix from the coordinate system to ``obsm["spatial"]``."""
    to_pixels: Float64
    """3 × 3 matrix from ``obsm["spatial"]`` to full-resolution pixels of the image."""


def frame_of(sdata: SpatialData, image: str | None, system: str) -> Frame:
    """Choose coordinates in which an image is upright with its corner at 0, 0, as in scanpy and squidpy.

    If the image is only scaled and moved, the unit of the coordinate system stays. If it is rotated, mirrored or
    stretched, the unit is a pixel of the image.
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


def choose_image(sdata: SpatialData, regions: Sequence[Region], image: str | None) -> str | None:
    """Choose the H&E image under regions of one coordinate system: `image`, or the sharpest under the spots."""
    system = regions[0].system
    if image is not None:
        require_key(sdata.images, image, where="the images of the SpatialData object")
        require_key(systems_of(sdata.images[image]), system, where=f"the coordinate systems of the image {image!r}")
        if reason := _unfit(sdata.images[image]):
            raise InputError(f"Expected an H&E image in colour in {image!r}, found {reason}. Name another image.")
        return image
    names, ignored = _fitting_images(sdata, regions)
    if ignored:
        logger.info("Images ignored, as they are no H&E image of these spots: %s.", listed(ignored))
    # CytAssist images are stained with eosin only
    names.sort(key=lambda name: ("cytassist" in name.lower(), scale_of(matrix_to(sdata.images[name], system))))
    if len(names) > 1:
        logger.info('Using the sharpest of the images %s: %s. Choose another with image="…".', listed(names), names[0])
    return names[0] if names else None


def group_by_image(sdata: SpatialData, regions: Sequence[Region]) -> list[list[Region]]:
    """Group regions that are on one image: all of them, or each alone.

    Raises InputError if several images are under regions of one coordinate system, which is ambiguous.
    """
    alone = [[region] for region in regions]
    if len({(region.system, *sorted(_related_images(sdata, [region]))) for region in regions}) > 1:
        return alone
    images = [_fitting_images(sdata, region)[0] for region in alone]
    if len(regions) > 1 and max(map(len, images)) > 1:
        raise InputError(
            f"Expected one image under the regions {listed(region.name for region in regions)}, found "
            f'{listed(sorted(set().union(*images)))}. Name one: image="…", or read the regions one by one: region="…".'
        )
    return [list(regions)] if all(names == images[0] for names in images) else alone


def _fitting_images(sdata: SpatialData, regions: Sequence[Region]) -> tuple[list[str], list[str]]:
    """List the colour images under regions of one coordinate system, and the other images with the reason."""
    xy = np.concatenate([region.centres for region in regions])
    reasons = {
        name: _unfit(sdata.images[name]) or _beside(sdata.images[name], xy, regions[0].system)
        for name in _related_images(sdata, regions)
    }
    ignored = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    return [name for name, reason in reasons.items() if not reason], ignored


def _related_images(sdata: SpatialData, regions: Sequence[Region]) -> list[str]:
    """List the images in the coordinate system of regions; if sections have their own systems, only their images."""
    own = set.intersection(*({r.system} if r.element is None else set(systems_of(r.element)) for r in regions))
    shared = {
        name: len(own & set(systems))
        for name, image in sdata.images.items()
        if regions[0].system in (systems := systems_of(image))
    }
    return [name for name, count in shared.items() if count == max(shared.values())]


def small_image(image: Image) -> tuple[NDArray[np.uint8], float]:
    """Get the image that is stored, shape (height, width, 3), and its pixels per full-resolution pixel."""
    overview, step = open_slide(image).overview
    return overview, 1 / step


def _unfit(image: Image) -> str:
    """Explain why an image is no colour image; empty if it is one."""
    full = levels(image)[0]
    if set(full.dims) != {"c", "y", "x"}:
        return f"the axes {', '.join(full.dims)}"
    channels = [str(name) for name in full.coords["c"].values] if "c" in full.coords else list("0123")[: len(full)]
    names = {name.lower() for name in channels}
    if len(channels) not in (3, 4) or not (names <= COLOUR_CHANNELS or names <= UNNAMED):
        return f"the channels {listed(channels)}"
    if names <= UNNAMED and full.dtype.itemsize > 1 and full.dtype.kind in "iu":
        return f"channels without names of {full.dtype}, as of fluorescence"
    middle = {axis: slice(max(full.sizes[axis] - WINDOW, 0) // 2, None) for axis in ("y", "x")}
    window = full.isel(middle).isel(y=slice(WINDOW), x=slice(WINDOW)).transpose("y", "x", "c")
    return unfit(np.asarray(window.data))


def _beside(image: Image, xy: Float64, system: str) -> str:
    """State the share of spots on an image if it is too small; else empty."""
    full = levels(image)[0]
    pixels = mapped(inverse(matrix_to(image, system)), xy)
    share = ((pixels >= 0) & (pixels <= [full.sizes["x"], full.sizes["y"]])).all(axis=1).mean()
    return "" if share >= COVERED else f"{share:.0%} of the spots are on it"
