"""The images of several sections, each under the name of its section."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.compat import libraries_of
from stmmr._core.sections import sections_of
from stmmr._core.space import coordinates
from stmmr.image.library import Library, holds_image, unfit_images
from stmmr.image.registered import NO_POSITIONS, Registered, registered_image

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

    from stmmr.image.slide import ImageSource

T = TypeVar("T")

Images: TypeAlias = "ImageSource | Registered | Mapping[str, ImageSource | Registered] | None"
"""One image, one for each section by its name, or None for those in the data."""
Registrations: TypeAlias = "str | Path | ArrayLike | Mapping[str, str | Path | ArrayLike] | None"
"""One affine map, or one for each section by its name, see `stmmr.image.registration`."""

WHOLE: Final = ""
"""Name of all spots together, if they share one image."""
OBS_OF_SCALE: Final = (keys.ARRAY_ROW, keys.ARRAY_COL)
UNS_OF_SCALE: Final = (keys.BIN_TYPE, keys.RESOLUTION)
"""What may tell the length of a unit of the coordinates."""


def images_available(adata: AnnData, image: Images = None, *, section_key: str | None = None) -> bool:
    """Tell whether there is an H&E image to read, or one of every section; warn of others, and if some have none.

    The parameters are those of `stmmr.pp.histology`.
    """
    libraries: Mapping[str, Library] = libraries_of(adata)
    if image is None:
        _warn_of_unfit(libraries)
    sections = sections_of(adata, section_key)
    if sections is None or not _by_themselves(adata, image, sections):
        return image is not None or any(map(holds_image, libraries.values()))
    options = image if isinstance(image, Mapping) else {}
    names = [str(name) for name in sections.categories]
    missing = [name for name in names if name not in options and not holds_image(libraries.get(name, Library()))]
    if missing and len(missing) < len(names):
        logger.warning(
            "No image is read: some sections have none (%s), and features of the others alone would mislead. Add "
            "their images to uns['spatial'] under the names of the sections, or remove these sections.",
            listed(missing),
        )
    return not missing


def _warn_of_unfit(libraries: Mapping[str, Library]) -> None:
    """Warn of libraries whose images are no H&E, such as fluorescence."""
    reasons: dict[str, list[str]] = {}
    for library_id, library in libraries.items():
        if not holds_image(library):
            for name, reason in unfit_images(library).items():
                reasons.setdefault(reason, []).append(f"{library_id}: {name}")
    for reason, images in reasons.items():
        logger.warning(
            "Images in uns['spatial'] are not used, as they are no H&E images (%s): found %s. Give the H&E image, if "
            'there is one: image="he.jpg" (--image he.jpg).',
            listed(images, at_most=4),
            reason,
        )


def registered_images(
    adata: AnnData,
    image: Images = None,
    *,
    registration: Registrations = None,
    section_key: str | None = None,
    library_id: str | None = None,
    image_scale: float = 1.0,
    um_per_pixel: float | None = None,
) -> dict[str, Registered]:
    """Find the image of all spots, or one of each section; see `stmmr.pp.histology` for the parameters.

    Returns images by section, or one of all spots under the name `WHOLE`; they can be passed as `image` again. Raises
    InputError as `registered_image`, with the name of the section, or if images and sections do not match.
    """
    if isinstance(image, Registered):
        return {WHOLE: image}
    if isinstance(image, Mapping) and image:
        ready = {name: each for name, each in image.items() if isinstance(each, Registered)}
        if len(ready) == len(image):
            return ready
    register = partial(registered_image, image_scale=image_scale, um_per_pixel=um_per_pixel)
    sections = sections_of(adata, section_key)
    if sections is None or library_id is not None or not _by_themselves(adata, image, sections):
        if isinstance(image, Mapping) or isinstance(registration, Mapping):
            raise InputError(
                "Expected section_key with an image for each section, found none. Name the column of obs that tells "
                "sections apart."
            )
        return {WHOLE: register(adata, image, registration=registration, library_id=library_id)}
    images: Mapping[str, ImageSource | Registered] = _by_section(image, sections, name="image")
    matrices: Mapping[str, str | Path | ArrayLike] = _by_section(registration, sections, name="registration")
    registered = {}
    for name, rows in _rows_by_section(sections).items():
        with in_section(name):
            section = _alone(adata, name, rows)
            registered[name] = register(section, images.get(name), registration=matrices.get(name))
    return registered


def rows_by_image(
    adata: AnnData, images: Mapping[str, Registered], *, section_key: str | None
) -> dict[str, NDArray[np.intp]]:
    """Get the rows of the data that belong to each image."""
    sections = sections_of(adata, section_key)
    if WHOLE in images or sections is None:
        return {name: np.arange(adata.n_obs) for name in images}
    return _rows_by_section(sections)


def _rows_by_section(sections: pd.Categorical) -> dict[str, NDArray[np.intp]]:
    return {str(name): np.flatnonzero(sections.codes == code) for code, name in enumerate(sections.categories)}


def _alone(adata: AnnData, name: str, rows: NDArray[np.intp]) -> AnnData:
    """Get what the registration of a section needs, its positions and its library, without the counts."""
    from anndata import AnnData

    require_key(adata.obsm, keys.SPATIAL, where="obsm", hint=NO_POSITIONS)
    return AnnData(
        obs=adata.obs[[column for column in OBS_OF_SCALE if column in adata.obs]].iloc[rows].copy(),
        obsm={keys.SPATIAL: coordinates(adata)[rows]},
        uns={keys.SPATIAL: {name: libraries_of(adata).get(name, {})}}
        | {key: adata.uns[key] for key in UNS_OF_SCALE if key in adata.uns},
    )


@contextmanager
def in_section(name: str) -> Iterator[None]:
    """Put the name of a section before all messages about it; `WHOLE` needs none."""
    if name == WHOLE:
        yield
        return
    prefix = f"Section {name}: "

    def named(record: logging.LogRecord) -> bool:
        record.msg = (prefix.replace("%", "%%") if record.args else prefix) + str(record.msg)
        return True

    logger.addFilter(named)
    try:
        yield
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error
    finally:
        logger.removeFilter(named)


def _by_themselves(adata: AnnData, image: Images, sections: pd.Categorical) -> bool:
    """Tell whether each section has an image: one is passed for each, or libraries have the names of sections."""
    libraries = libraries_of(adata)
    named = any(str(name) in libraries for name in sections.categories)
    return isinstance(image, Mapping) or (named and (image is None or len(libraries) > 1))


def _by_section(option: Mapping[str, T] | T | None, sections: pd.Categorical, *, name: str) -> Mapping[str, T]:
    """Check that an option is a mapping from names of sections."""
    if option is None:
        return {}
    names = [str(section) for section in sections.categories]
    if not isinstance(option, Mapping):
        raise InputError(
            f"Expected {name} for each section ({listed(names)}), found one for all of them. Give "
            f"{name}={{{names[0]!r}: …}} in Python, or put the images into uns['spatial'] under these names."
        )
    for section in option:
        require_key(names, str(section), where="the sections")
    return {str(section): value for section, value in option.items()}
