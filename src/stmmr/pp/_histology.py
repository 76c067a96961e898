"""Features of the picture around each place."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from stmmr._core import checks, keys
from stmmr._core.checks import InputError, listed
from stmmr._core.kernel import nearest_neighbour_distance
from stmmr._core.pca import COMPONENTS, feature_pca
from stmmr._core.record import record, recorded
from stmmr._core.rows import empty
from stmmr._core.space import coordinates
from stmmr.encoders import Encoder, FeatureCache, encoder_fingerprint, encoder_of, picture_fingerprint
from stmmr.image.library import find_library, holds_picture, sharpest_picture, store_mask, store_picture
from stmmr.image.patches import read_patches
from stmmr.image.pixels import white_of
from stmmr.image.registered import SPACING_UM, Registered, check_registration
from stmmr.image.registration import scaling
from stmmr.image.sections import WHOLE, in_section, registered_pictures, rows_of
from stmmr.image.stain import Stains, stains_of
from stmmr.image.tissue import flags, patch_quality
from stmmr.image.warp import in_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmmr")

Stain = Literal["macenko"]
"""Stain normalisations."""
BATCH: Final = 128
"""Places whose patches are in memory at a time."""
RESOLVED: Final = 1.5
"""Pixels of a patch along one of the picture up to which a blurred patch can be told from a coarse picture."""
SAMPLE: Final = 512
"""Places from whose patches an encoder learns."""


def histology(
    adata: AnnData,
    *,
    image: str | Path | NDArray[Any] | Any = None,
    image_scale: float = 1.0,
    registration: str | Path | NDArray[Any] | Mapping[str, Any] | None = None,
    encoder: Encoder | str | Path = "he",
    stain: Stain | None = None,
    n_components: int = COMPONENTS,
    cache: str | Path | None = None,
    library_id: str | None = None,
    section_key: str | None = None,
    um_per_pixel: float | None = None,
    key_added: str = keys.HISTOLOGY,
    progress: bool = True,
    copy: bool = False,
) -> AnnData | None:
    """Describe the H&E picture around each place: colour, texture and nuclei at several physical scales.

    Around every place, a patch of each of the encoder's diameters is cut out, resampled and encoded, batch by
    batch; of a slide only the windows around the places of a batch are read, at the resolution that fits. Beyond
    its border the picture continues as its mirror image; a background masked in black counts as glass.

    Parameters
    ----------
    adata
        With coordinates (x, y) in ``obsm["spatial"]``.
    image
        File (PNG, JPEG, TIFF, pyramidal or OME-TIFF, formats of slide scanners by the extra ``slides``), an array of
        shape (height, width, 3), or an image of SpatialData. Without, the picture in ``uns["spatial"]`` of `adata` is
        used: hires, or else lowres, with its scale factor. Give it again in later calls: what is stored of it is
        smaller. Of several sections, a mapping from their names to pictures, where those in the data are not meant.
    image_scale
        Pixels of `image` per unit of the coordinates, 1 for the full-resolution picture itself; without
        `image` it has no effect.
    registration
        Affine map from coordinates to pixels of `image`, instead of `image_scale`: a matrix of shape (3, 3), a CSV file
        with one, or Xenium Explorer's ``…_imagealignment.csv``; of several sections, a mapping as for `image`.
    encoder
        What turns patches into features: "he" needs no weights; the name of a network or its folder
        (`stmmr.pp.encoders`, `stmmr.pp.encoder_of`), or an encoder.
    stain
        "macenko" brings the colours of the slide to those of a reference first (Macenko et al. 2009,
        doi:10.1109/ISBI.2009.5193250), for encoders that were trained on other stainings.
    n_components
        Where the encoder has more features than that, as many principal components of them are kept; 0 keeps all.
    cache
        Folder that keeps the features on disk, of any picture and encoder: a run that was killed goes on there, and
        another one of the same encodes nothing.
    library_id
        Key of ``uns["spatial"]``, needed where there are several that are not those of sections.
    section_key
        Column of ``obs`` with the section of each place; without, that of the spatial graph. Where libraries in
        ``uns["spatial"]`` have the names of sections, as `stmmr.pp.concat_sections` makes them, each section is
        described by its own picture, as it would be by itself.
    um_per_pixel
        µm per unit of the coordinates, that is per pixel of the full-resolution picture. Without, it is
        ``microns_per_pixel`` of the scale factors; where that is missing too, neighbours on an array
        (``obs["array_row"]``, ``obs["array_col"]``) are 100 µm apart if it is hexagonal (Visium) and 200 µm if
        it is square (ST v1); without an array, it is what the file of the picture states, or else the median distance
        of neighbouring places counts as 100 µm.
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
        Features as they are, not standardised, or their principal components; shape (n_obs, n_features), float32.
        Of sections with pictures of their own, the features that all have (nuclei are not counted in a coarse picture),
        or the components of these once the mean of each section is taken off.
    ``obs["stmmr_patch"]``
        Categorical: whether the smallest patch of a place shows "tissue", is "blurred", shows "background" only, or the
        place lies "outside" the picture. Nothing is left out for it.
    ``uns["stmmr"]["histology"]``
        The picture used, its shape and levels, its pixels per unit of the coordinates, µm per pixel of it and where
        that is from (``"scale_from"``: um_per_pixel, microns_per_pixel, hexagonal array, square array, picture, or
        nearest neighbours); the share of the places on tissue; whether it is the picture that is stored; encoder,
        diameters and names of the features. What differs between pictures of sections is a list, in the order of
        ``"sections"``.
    ``uns["spatial"][library_id]``
        The image ``"tissue_mask"`` with its scale factor, for `stmmr.pl.registration`. With `image`, and no picture
        there so far: a copy of at most 2000 pixels a side as hires, in the axes of the coordinates, its scale factor,
        and ``spot_diameter_fullres`` where that is missing (0.55 of the distance between places), so that figures show
        it.

    Raises
    ------
    InputError
        If there is no picture, it cannot be used (greyscale, damaged, too large), its scale factor is
        missing, there are several libraries and neither `library_id` nor sections of their names, a section has none,
        more than 5 % of the places lie outside the picture, or a patch would be larger than the picture.
    """
    adata = adata.copy() if copy else adata
    if stain is not None:
        checks.require_choice(stain, get_args(Stain), name="stain")
    section_key = section_key or recorded(adata).get("spatial_graph", {}).get("section_key") or None
    found = registered_pictures(
        adata,
        image,
        image_scale=image_scale,
        registration=registration,
        library_id=library_id,
        section_key=section_key,
        um_per_pixel=um_per_pixel,
    )
    encoder = encoder_of(encoder)
    for name, one in found.items():  # all are checked before the first is encoded
        with in_section(name):
            _check_patches(encoder, one)
            check_registration(one)
    encoded = {}
    for name, one in found.items():
        with in_section(name):
            stains = None if stain is None else _stains(one)
            kept_in = None if cache is None else Path(cache)
            encoded[name] = _encode(one, encoder, stains, cache=kept_in, progress=progress)
    rows = rows_of(adata, found, section_key=section_key)
    features, names = _together(encoded, rows, n_components=n_components)

    before = recorded(adata).get("histology", {})
    if key_added in adata.obsm and before.get("key_added") != key_added:
        logger.warning("obsm[%r] held something else; it was replaced.", key_added)
    adata.obsm[key_added] = features
    adata.obs[keys.PATCH] = _flags(encoded, found, rows)
    about = {"stain": stain or "", "encoder": encoder.name, "diameters_um": list(encoder.diameters_um)}
    parameters = {"key_added": key_added, **_noted(found, section_key), **about, "feature_names": names}
    shown = [_store(adata, one, rows[name], library_id=name or library_id) for name, one in found.items()]
    record(adata, histology=parameters | {"picture_is_stored": all(shown)})
    return adata if copy else None


def has_picture(adata: AnnData) -> bool:
    """Tell whether ``uns["spatial"]`` holds a picture that is more than a blank placeholder."""
    return any(map(holds_picture, adata.uns.get(keys.SPATIAL, {}).values()))


@dataclass(frozen=True)
class _Encoded:
    """What was found around each place."""

    features: NDArray[np.float32]
    """Shape (N, F)."""
    quality: NDArray[np.float32]
    """Glass and sharpness of the smallest patch, shape (N, 2)."""
    names: list[str]
    """Of the features."""


def _encode(
    found: Registered, encoder: Encoder, stains: Stains | None, *, cache: Path | None, progress: bool
) -> _Encoded:
    """Fit the encoder on some patches, then encode all, by batches of neighbours."""
    sides = np.asarray(encoder.diameters_um) / found.um_per_px
    white = np.asarray(white_of(found.slide.overview[0]))
    smallest = int(np.argmin(encoder.diameters_um))
    resolved = found.um_per_px < RESOLVED * min(encoder.diameters_um) / encoder.patch_px
    order = _by_strips(found.centres, height=max(found.slide.block_height(side / encoder.patch_px) for side in sides))
    centres = found.centres[order]

    def patches(rows: slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        return read_patches(found.slide, centres[rows], sides=sides, patch_px=encoder.patch_px)

    def coloured(cut: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cut if stains is None else stains.normalised(cut)

    def work(rows: slice) -> NDArray[np.float32]:
        cut = patches(rows)
        features = encoder(coloured(cut))
        _check_features(features, (len(cut), len(encoder.feature_names)), encoder)
        return np.hstack([features, patch_quality(cut[:, smallest], white=white)])

    # spread over the tissue, whatever the order of the places
    sample = patches(np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(int))
    encoder = encoder.fit(coloured(sample), um_per_px=found.um_per_px)
    kept = FeatureCache.open(
        cache,
        picture="" if cache is None else _fingerprint(found),
        encoder=encoder_fingerprint(encoder),
        geometry={"sides": sides.tolist(), "white": white.tolist(), "stain": None if stains is None else str(stains)},
        centres=centres,
        width=len(encoder.feature_names) + 2,
        name=encoder.name,
    )
    values = kept.fill(work, batch_size=BATCH, progress=progress)
    features = empty((len(order), values.shape[1] - 2))
    features[order], quality = values[:, :-2], np.empty((len(order), 2), dtype=np.float32)
    quality[order] = values[:, -2:]
    if not resolved:
        quality[:, 1] = np.nan
    return _Encoded(features, quality, list(encoder.feature_names))


def _together(
    encoded: Mapping[str, _Encoded], rows: Mapping[str, NDArray[np.intp]], *, n_components: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Put the features of sections together, as far as all have them, or the components of many; with their names."""
    first, *others = encoded.values()
    names = [name for name in first.names if all(name in other.names for other in others)]
    left_out = sorted({name for one in encoded.values() for name in one.names} - set(names))
    if left_out:
        logger.info("Features that not all pictures show are left out: %s.", listed(left_out))
    reduces = 0 < n_components < len(names)
    features: NDArray[np.float32] = first.features
    if others:
        features = empty((sum(map(len, rows.values())), len(names)))
        for section, one in encoded.items():
            own = one.features[:, [one.names.index(name) for name in names]]
            # components would be of what differs between slides
            features[rows[section]] = own - own.mean(axis=0, dtype=np.float64) if reduces else own
    if not reduces:
        return features, names
    reduced = feature_pca(features, n_components=n_components)
    return reduced.project(features), [f"pc{i + 1}" for i in range(reduced.axes.shape[1])]


def _flags(
    encoded: Mapping[str, _Encoded], found: Mapping[str, Registered], rows: Mapping[str, NDArray[np.intp]]
) -> pd.Categorical:
    """Name what each patch shows, judged within its own picture."""
    from pandas.api.types import union_categoricals

    every = union_categoricals([flags(one.quality, inside=found[name].inside) for name, one in encoded.items()])
    return every[np.argsort(np.concatenate(list(rows.values())))]


def _noted(found: Mapping[str, Registered], section_key: str | None) -> dict[str, Any]:
    """Say of each picture what it is and how it lies, as a list where sections have their own."""
    each = [
        {
            "picture": one.slide.name,
            "picture_shape": [*one.slide.size, 3],
            "picture_levels": len(one.slide.levels),
            "image_scale": one.scale,
            "um_per_pixel": one.um_per_px,
            "scale_from": one.scale_from,
            "on_tissue": float(one.on_tissue.mean()),
        }
        for one in found.values()
    ]
    if WHOLE in found:
        return each[0]
    lists: dict[str, Any] = {key: [facts[key] for facts in each] for key in each[0]}
    places = np.concatenate([one.on_tissue for one in found.values()])
    by_section = {"on_tissue": float(places.mean()), "on_tissue_by_section": lists["on_tissue"]}
    return {"section_key": section_key, "sections": list(found)} | lists | by_section


def _fingerprint(found: Registered) -> str:
    """Tell the picture apart: a file as it lies, what is in memory by its overview."""
    slide = found.slide
    return picture_fingerprint(slide.overview[0] if slide.path is None else slide.path)


def _by_strips(centres: NDArray[np.float64], *, height: float) -> NDArray[np.intp]:
    """Order the places by strips of the picture and along each, so that neighbours read what was decoded once."""
    strip = np.floor(centres[:, 1] / height)
    return np.lexsort((centres[:, 1], centres[:, 0], strip))


def _check_features(rows: NDArray[np.float32], shape: tuple[int, int], encoder: Encoder) -> None:
    """Check that an encoder gives what it says."""
    if rows.shape != shape or not np.isfinite(rows).all():
        raise ValueError(
            f"Expected the encoder {encoder.name!r} to give finite features of shape {shape}, found {rows.shape}, "
            f"{int((~np.isfinite(rows)).sum())} of them not finite."
        )


def _stains(found: Registered) -> Stains:
    """Find the stains of the picture, in the tissue of its overview."""
    overview, _ = found.slide.overview
    return stains_of(overview[found.mask[0]], white=white_of(overview))


def _check_patches(encoder: Encoder, found: Registered) -> None:
    """Check that the patches are smaller than the picture; a wrong size of the pixels shows here."""
    largest, um_per_px = max(encoder.diameters_um), found.um_per_px
    if largest / um_per_px > max(found.slide.size):
        raise InputError(
            f"Expected patches smaller than the picture ({found.slide.name}), found that {largest:g} µm are "
            f"{largest / um_per_px:,.0f} pixels of it at {um_per_px:.3g} µm per pixel. Check um_per_pixel."
        )


def _store(adata: AnnData, found: Registered, rows: NDArray[np.intp], *, library_id: str | None) -> bool:
    """Store a small copy of a given picture, and the mask of the tissue, for figures; say whether they show it."""
    overview, step = found.slide.overview
    small = scaling(1 / step) @ found.matrix
    xy = coordinates(adata)[rows]
    spacing = nearest_neighbour_distance(xy) if len(xy) > 1 else SPACING_UM / (found.um_per_px * found.scale)
    pixels, scale = in_coordinates(overview, small, beyond=xy, empty=255)
    mask, _ = in_coordinates((found.mask[0] * np.uint8(255))[..., None].repeat(3, axis=-1), small, beyond=xy, empty=0)
    if found.given:
        store_picture(adata, pixels, scale=scale, spacing=spacing, library_id=library_id)
    store_mask(adata, mask[..., 0] > 0, scale=scale, library_id=library_id)
    shown = sharpest_picture(find_library(adata, library_id))
    return not found.given or (shown is not None and np.array_equal(shown[0], pixels))
