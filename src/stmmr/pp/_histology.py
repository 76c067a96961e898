"""Features of the H&E image around each spot (or cell, or bin)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np

from stmmr._core import checks, keys
from stmmr._core.checks import InputError, listed, logger
from stmmr._core.compat import libraries_of
from stmmr._core.depends import drop_outdated
from stmmr._core.kernel import nearest_neighbour_distance
from stmmr._core.options import Checked, checked, shows_options
from stmmr._core.order import Arranged, put_back, tissue_order
from stmmr._core.pca import COMPONENTS, feature_pca
from stmmr._core.record import record, recorded
from stmmr._core.rows import empty
from stmmr._core.space import coordinates
from stmmr.encoders import Encoder, FeatureCache, encoder_fingerprint, encoder_of, image_fingerprint
from stmmr.image.library import find_library, holds_image, sharpest_image, store_image, store_mask
from stmmr.image.patches import read_patches
from stmmr.image.pixels import white_of
from stmmr.image.registered import SPACING_UM, check_registration
from stmmr.image.registration import scaling
from stmmr.image.sections import WHOLE, in_section, registered_images, rows_by_image
from stmmr.image.stain import find_stains
from stmmr.image.tissue import patch_flags, patch_quality
from stmmr.image.warp import in_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.image.registered import Registered
    from stmmr.image.sections import Images, Registrations
    from stmmr.image.stain import Stains

Stain = Literal["macenko"]
"""Stain normalisations."""
BATCH: Final = 128
"""Spots whose patches are in memory at a time."""
RESOLVED: Final = 1.5
"""Pixels of a patch along one pixel of the image up to which a blurred patch differs from a coarse image."""
SAMPLE: Final = 512
"""Spots from whose patches an encoder learns."""


@dataclass(frozen=True, kw_only=True)
class HistologyOptions(Checked):
    """Where the image lies, and where features are written.

    Attributes
    ----------
    image_scale
        Pixels of `image` per unit of the coordinates, 1 for the full-resolution image; not used without `image`.
    registration
        Affine map from coordinates to pixels of `image`, instead of `image_scale`: a matrix of shape (3, 3), a CSV file
        with one, or Xenium Explorer's ``…_imagealignment.csv``; for several sections, a mapping as for `image`.
    cache
        Folder that keeps the features on disk, of any image and encoder: a run that was killed continues there, and
        a run of the same image and encoder encodes nothing.
    library_id
        Key of ``uns["spatial"]``, needed if it has several that do not belong to sections.
    um_per_pixel
        µm per unit of the coordinates, that is per pixel of the full-resolution image. By default, it is
        ``microns_per_pixel`` of the scale factors. If that is missing, neighbours on an array (``obs["array_row"]``,
        ``obs["array_col"]``) are 100 µm apart if it is hexagonal (Visium) and 200 µm if it is square (ST v1). Without
        an array, it is what the image file states, or else the median distance of neighbouring spots is taken as
        100 µm.
    key_added
        Key of ``obsm`` for the features.
    copy
        Work on a copy and return it.
    """

    image_scale: float = 1.0
    registration: Registrations = None
    cache: str | Path | None = None
    library_id: str | None = None
    um_per_pixel: float | None = None
    key_added: str = keys.HISTOLOGY
    copy: bool = False


@checked
@shows_options(HistologyOptions)
def histology(
    adata: AnnData,
    *,
    image: Images = None,
    encoder: Encoder | str | Path = "he",
    stain: Stain | None = None,
    n_components: int = COMPONENTS,
    section_key: str | None = None,
    progress: bool = True,
    **options: Any,
) -> AnnData | None:
    """Describe the H&E image around each spot: colour, texture and nuclei at several physical scales.

    A spot is a row of `adata`: a spot, cell or bin. Around each, a patch of each diameter of the encoder is read,
    resampled and encoded, batch by batch. Of a slide, only the windows around the spots of a batch are read, at the
    resolution that fits. Beyond its border the image is mirrored; a background masked in black counts as glass.

    Parameters
    ----------
    adata
        With coordinates (x, y) in ``obsm["spatial"]``.
    image
        File (PNG, JPEG, TIFF, pyramidal or OME-TIFF, formats of slide scanners with the extra ``slides``), an array of
        shape (height, width, 3), or an image of SpatialData. By default, the image in ``uns["spatial"]`` of `adata` is
        used: hires, or else lowres, with its scale factor. Pass `image` again in later calls: the stored copy is
        smaller. For several sections, a mapping from their names to images, to replace those in the data.
    encoder
        What turns patches into features: "he" needs no weights; the name of a network or its folder
        (`stmmr.pp.encoders`, `stmmr.pp.encoder_of`), or an encoder.
    stain
        "macenko" first maps the colours of the slide to those of a reference (Macenko et al. 2009,
        doi:10.1109/ISBI.2009.5193250), for encoders that were trained on other stainings.
    n_components
        If the encoder has more features, this many principal components of them are kept; 0 keeps all features.
    section_key
        Column of ``obs`` with the section of each spot; by default that of the spatial graph. If libraries in
        ``uns["spatial"]`` have the names of sections, as `stmmr.pp.concat_sections` makes them, each section is
        described by its own image, as if it were alone.
    progress
        Whether to show a progress bar if it takes longer than two seconds.

    Returns
    -------
    ``None``, or the copy. Written are

    ``obsm[key_added]``
        Features, not standardised, or their principal components; shape (n_obs, n_features), float32. Of sections
        with their own images, the features that all have (nuclei are not counted in a coarse image), or the components
        of these after the mean of each section is subtracted.
    ``obs["stmmr_patch"]``
        Categorical: whether the smallest patch of a spot shows "tissue", is "blurred", shows "background" only, or the
        spot lies "outside" the image. No spot is left out because of it.
    ``uns["stmmr"]["histology"]``
        The image, its shape and number of resolutions, its pixels per unit of the coordinates, µm per pixel and where
        that comes from (``"scale_from"``: um_per_pixel, microns_per_pixel, hexagonal array, square array, image, or
        nearest neighbours); the share of the spots on tissue; whether it is the image that is stored; encoder,
        diameters and names of the features. Values that differ between images of sections are lists, in the order of
        ``"sections"``.
    ``uns["spatial"][library_id]``
        The image ``"tissue_mask"`` with its scale factor, for `stmmr.pl.registration`. With `image`, and no image
        there so far: a copy of at most 2000 pixels a side as hires, in the axes of the coordinates, its scale factor,
        and ``spot_diameter_fullres`` if it is missing (0.55 of the distance between spots), so that figures show it.

    Raises
    ------
    InputError
        If there is no image, it cannot be used (greyscale, damaged, too large), its scale factor is missing, there are
        several libraries and neither `library_id` nor sections of their names, a section has none, more than 5 % of
        the spots lie outside the image, or a patch would be larger than the image.
    """
    chosen = HistologyOptions(**options)
    adata = adata.copy() if chosen.copy else adata
    key_added = chosen.key_added
    if stain is not None:
        checks.require_choice(stain, get_args(Stain), name="stain")
    section_key = section_key or recorded(adata).get("spatial_graph", {}).get("section_key") or None
    images = registered_images(
        adata,
        image,
        image_scale=chosen.image_scale,
        registration=chosen.registration,
        library_id=chosen.library_id,
        section_key=section_key,
        um_per_pixel=chosen.um_per_pixel,
    )
    encoder = encoder_of(encoder)
    for name, registered in images.items():  # all are checked before the first is encoded
        with in_section(name):
            _check_patches(encoder, registered)
            check_registration(registered)
    encoded = {}
    for name, registered in images.items():
        with in_section(name):
            stains = None if stain is None else _stains(registered)
            encoded[name] = _encode(registered, encoder, stains, cache=chosen.cache, progress=progress)
    rows = rows_by_image(adata, images, section_key=section_key)
    features, names = _combined(encoded, rows, tissue_order(adata), n_components=n_components)

    before = recorded(adata).get("histology", {})
    if key_added in adata.obsm and before.get("key_added") != key_added:
        logger.warning("obsm[%r] had other values and was replaced.", key_added)
    adata.obsm[key_added] = features
    adata.obs[keys.PATCH] = _flags(encoded, images, rows)
    stored = [_store(adata, each, rows[name], library_id=name or chosen.library_id) for name, each in images.items()]
    facts = {"key_added": key_added, **_facts(images, section_key), "stain": stain or "", "encoder": encoder.name}
    facts |= {"diameters_um": list(encoder.diameters_um), "feature_names": names, "image_is_stored": all(stored)}
    record(adata, histology=facts)
    drop_outdated(adata)
    return adata if chosen.copy else None


@checked
def has_image(adata: AnnData) -> bool:
    """Tell whether ``uns["spatial"]`` has an H&E image that is not a blank placeholder."""
    return any(map(holds_image, libraries_of(adata).values()))


class _Encoded(NamedTuple):
    """Features around each spot, (N, F), glass and sharpness of its smallest patch, (N, 2), and names of features."""

    features: NDArray[np.float32]
    quality: NDArray[np.float32]
    names: list[str]


def _encode(
    image: Registered, encoder: Encoder, stains: Stains | None, *, cache: str | Path | None, progress: bool
) -> _Encoded:
    """Fit the encoder on some patches, then encode all, in batches of neighbours."""
    sides = np.asarray(encoder.diameters_um) / image.um_per_px
    overview, _ = image.slide.overview
    white = np.asarray(white_of(overview))
    smallest = int(np.argmin(encoder.diameters_um))
    order = _by_strips(image.centres, height=max(image.slide.block_height(side / encoder.patch_px) for side in sides))
    centres = image.centres[order]

    def read(rows: slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        return read_patches(image.slide, centres[rows], sides=sides, patch_px=encoder.patch_px)

    def normalised(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return patches if stains is None else stains.normalised(patches)

    def encode(rows: slice) -> NDArray[np.float32]:
        patches = read(rows)
        features = encoder(normalised(patches))
        _check_features(features, (len(patches), len(encoder.feature_names)), encoder)
        return np.hstack([features, patch_quality(patches[:, smallest], white=white)])

    # spread over the tissue, whatever the order of the spots
    sample = read(np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(int))
    encoder = encoder.fit(normalised(sample), um_per_px=image.um_per_px)
    fingerprint = "" if cache is None else image_fingerprint(image.slide.identity)
    values = FeatureCache.open(
        None if cache is None else Path(cache),
        image=fingerprint,
        encoder=encoder_fingerprint(encoder),
        geometry={"sides": sides.tolist(), "white": white.tolist(), "stain": None if stains is None else str(stains)},
        centres=centres,
        width=len(encoder.feature_names) + 2,
        name=encoder.name,
    ).fill(encode, batch_size=BATCH, progress=progress)
    features = empty((len(order), values.shape[1] - 2))
    features[order], quality = values[:, :-2], np.empty((len(order), 2), dtype=np.float32)
    quality[order] = values[:, -2:]
    if image.um_per_px >= RESOLVED * min(encoder.diameters_um) / encoder.patch_px:
        quality[:, 1] = np.nan
    return _Encoded(features, quality, list(encoder.feature_names))


def _combined(
    encoded: Mapping[str, _Encoded],
    rows: Mapping[str, NDArray[np.intp]],
    order: NDArray[np.intp],
    *,
    n_components: int,
) -> tuple[NDArray[np.float32], list[str]]:
    """Combine the features that all sections have, or reduce them to principal components; with their names."""
    first, *others = encoded.values()
    names = [name for name in first.names if all(name in other.names for other in others)]
    if left_out := {name for section in encoded.values() for name in section.names} - set(names):
        logger.info("Features that not all images show are left out: %s.", listed(sorted(left_out)))
    reduces, position = 0 < n_components < len(names), np.argsort(order)
    features: NDArray[np.float32] = first.features
    if others:
        features = empty((sum(map(len, rows.values())), len(names)))
        for name, section in encoded.items():
            own = section.features[:, [section.names.index(feature) for feature in names]]
            if reduces:  # otherwise the components would show how slides differ
                own = own - own[np.argsort(position[rows[name]])].mean(axis=0, dtype=np.float64)
            features[rows[name]] = own
    if not reduces:
        return features, names
    arranged: Any = Arranged(features, order)
    pca = feature_pca(arranged, n_components=n_components)
    return put_back(pca.project(arranged), order), [f"pc{i + 1}" for i in range(pca.axes.shape[1])]


def _flags(
    encoded: Mapping[str, _Encoded], images: Mapping[str, Registered], rows: Mapping[str, NDArray[np.intp]]
) -> pd.Categorical:
    """Name what each patch shows, in comparison with its own image."""
    from pandas.api.types import union_categoricals

    flags = [patch_flags(section.quality, inside=images[name].inside) for name, section in encoded.items()]
    return union_categoricals(flags)[np.argsort(np.concatenate(list(rows.values())))]


def _facts(images: Mapping[str, Registered], section_key: str | None) -> dict[str, Any]:
    """Describe the image and its registration; with lists if sections have their own images."""
    facts = [
        {
            "image": image.slide.name,
            "image_shape": [*image.slide.size, 3],
            "image_levels": len(image.slide.levels),
            "image_scale": image.scale,
            "um_per_pixel": image.um_per_px,
            "scale_from": image.scale_from,
            "on_tissue": float(image.on_tissue.mean()),
        }
        for image in images.values()
    ]
    if WHOLE in images:
        return facts[0]
    lists = {key: [section[key] for section in facts] for key in facts[0]}
    on_tissue = float(np.concatenate([image.on_tissue for image in images.values()]).mean())
    means = {"on_tissue": on_tissue, "on_tissue_by_section": lists["on_tissue"]}
    return {"section_key": section_key, "sections": list(images)} | lists | means


def _by_strips(centres: NDArray[np.float64], *, height: float) -> NDArray[np.intp]:
    """Order the spots by strips of the image and along each, so that neighbours read the same decoded blocks."""
    strip = np.floor(centres[:, 1] / height)
    return np.lexsort((centres[:, 1], centres[:, 0], strip))


def _check_features(features: NDArray[np.float32], shape: tuple[int, int], encoder: Encoder) -> None:
    """Check that an encoder returns as many features as it names."""
    if features.shape != shape or not np.isfinite(features).all():
        raise ValueError(
            f"Expected the encoder {encoder.name!r} to return finite features of shape {shape}, found "
            f"{features.shape}, {int((~np.isfinite(features)).sum())} of them not finite."
        )


def _stains(image: Registered) -> Stains:
    """Find the stains in the tissue of the overview."""
    overview, _ = image.slide.overview
    return find_stains(overview[image.mask[0]], white=white_of(overview))


def _check_patches(encoder: Encoder, image: Registered) -> None:
    """Check that the patches are smaller than the image; they are not if the size of a pixel is wrong."""
    largest, um_per_px = max(encoder.diameters_um), image.um_per_px
    if largest / um_per_px > max(image.slide.size):
        raise InputError(
            f"Expected patches smaller than the image ({image.slide.name}), found that {largest:g} µm are "
            f"{largest / um_per_px:,.0f} pixels of it at {um_per_px:.3g} µm per pixel. Check um_per_pixel."
        )


def _store(adata: AnnData, image: Registered, rows: NDArray[np.intp], *, library_id: str | None) -> bool:
    """Store the tissue mask and, of an external image, a small copy; tell whether figures will show this image."""
    overview, step = image.slide.overview
    matrix = scaling(1 / step) @ image.matrix
    xy = coordinates(adata)[rows]
    spacing = nearest_neighbour_distance(xy) if len(xy) > 1 else SPACING_UM / (image.um_per_px * image.scale)
    pixels, scale = in_coordinates(overview, matrix, xy=xy, fill=255)
    mask, _ = in_coordinates((image.mask[0] * np.uint8(255))[..., None].repeat(3, axis=-1), matrix, xy=xy, fill=0)
    if image.external:
        store_image(adata, pixels, scale=scale, spacing=spacing, library_id=library_id)
    store_mask(adata, mask[..., 0] > 0, scale=scale, library_id=library_id)
    shown = sharpest_image(find_library(adata, library_id))
    return not image.external or (shown is not None and np.array_equal(shown[0], pixels))
