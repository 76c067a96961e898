"""The pictures of several sections, each kept under the name of its section."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_key
from stmmr._core.compat import libraries_of
from stmmr._core.sections import sections_of
from stmmr._core.space import coordinates
from stmmr.image.library import holds_picture
from stmmr.image.registered import Registered, registered_picture

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

WHOLE: Final = ""
"""Name of all places together, where one picture is that of all."""
OF_PLACES: Final = (keys.ARRAY_ROW, keys.ARRAY_COL)
OF_DATA: Final = (keys.BIN_TYPE, keys.RESOLUTION)
"""What may tell the length of a unit of the coordinates."""


def will_see(adata: AnnData, image: Any = None, *, section_key: str | None = None) -> bool:
    """Tell whether there is a picture to read, of every section where each has its own; warn where some have none.

    Parameters
    ----------
    adata
        With pictures in ``uns["spatial"]``, or without.
    image
        What `stmmr.pp.histology` would be given.
    section_key
        Column of ``obs`` with the section of each place.
    """
    libraries = libraries_of(adata)
    sections = sections_of(adata, section_key)
    if sections is None or not _each_its_own(adata, image, sections):
        return image is not None or any(map(holds_picture, libraries.values()))
    given = image if isinstance(image, Mapping) else {}
    names = [str(name) for name in sections.categories]
    blind = [name for name in names if name not in given and not holds_picture(libraries.get(name, {}))]
    if blind and len(blind) < len(names):
        logger.warning(
            "No picture is read, as some sections have none (%s) and those of the others alone would mislead. Add "
            "theirs to uns['spatial'] under the name of the section, or leave these sections out.",
            listed(blind),
        )
    return not blind


def registered_pictures(
    adata: AnnData,
    image: Any = None,
    *,
    section_key: str | None = None,
    registration: Any = None,
    library_id: str | None = None,
    **options: Any,
) -> dict[str, Registered]:
    """Find the picture of the places, or of each section its own; see `stmmr.pp.histology` for the parameters.

    Returns
    -------
    Pictures by section, or one of all places under the name `WHOLE`. They can be given as `image` again.

    Raises
    ------
    InputError
        As `registered_picture`, with the name of the section, or if it is not clear whose picture one is.
    """
    if isinstance(image, Registered):
        return {WHOLE: image}
    if isinstance(image, Mapping) and image and all(isinstance(one, Registered) for one in image.values()):
        return dict(image)
    sections = sections_of(adata, section_key)
    if library_id is not None or not _each_its_own(adata, image, sections):
        if isinstance(image, Mapping):
            raise InputError(
                "Expected section_key with a picture for each section, found none. Name the column of obs that tells "
                "sections apart."
            )
        return {WHOLE: registered_picture(adata, image, registration=registration, library_id=library_id, **options)}
    assert sections is not None  # noqa: S101 - they have pictures of their own
    images = _by_section(image, sections, name="image")
    matrices = _by_section(registration, sections, name="registration")
    found = {}
    for name, rows in _members(sections).items():
        with in_section(name):
            part = _alone(adata, name, rows)
            found[name] = registered_picture(part, images.get(name), registration=matrices.get(name), **options)
    return found


def rows_of(adata: AnnData, found: Mapping[str, Registered], *, section_key: str | None) -> dict[str, NDArray[np.intp]]:
    """Get the places that each picture is of, as rows of the data."""
    sections = sections_of(adata, section_key)
    if WHOLE in found or sections is None:
        return {name: np.arange(adata.n_obs) for name in found}
    return _members(sections)


def _members(sections: pd.Categorical) -> dict[str, NDArray[np.intp]]:
    return {str(name): np.flatnonzero(sections.codes == code) for code, name in enumerate(sections.categories)}


def _alone(adata: AnnData, name: str, rows: NDArray[np.intp]) -> AnnData:
    """Get what a picture needs to know of a section: its positions and its library, without the counts."""
    from anndata import AnnData

    require_key(adata.obsm, keys.SPATIAL, where="obsm", hint="A picture needs positions in pixels.")
    facts = {key: adata.uns[key] for key in OF_DATA if key in adata.uns}
    return AnnData(
        obs=adata.obs[[column for column in OF_PLACES if column in adata.obs]].iloc[rows].copy(),
        obsm={keys.SPATIAL: coordinates(adata)[rows]},
        uns={keys.SPATIAL: {name: libraries_of(adata).get(name, {})}, **facts},
    )


@contextmanager
def in_section(name: str) -> Iterator[None]:
    """Put the name of a section before all that is said of it; of `WHOLE`, nothing."""
    if name == WHOLE:
        yield
        return
    said = f"Section {name}: "

    def named(record: logging.LogRecord) -> bool:
        record.msg = (said.replace("%", "%%") if record.args else said) + str(record.msg)
        return True

    logger.addFilter(named)
    try:
        yield
    except InputError as error:
        raise InputError(f"{said}{error}") from error
    finally:
        logger.removeFilter(named)


def _each_its_own(adata: AnnData, image: Any, sections: pd.Categorical | None) -> bool:
    """Tell whether pictures are those of sections: given so, or in libraries that are named after sections."""
    if sections is None:
        return False
    libraries = libraries_of(adata)
    named = any(str(name) in libraries for name in sections.categories)
    return isinstance(image, Mapping) or (named and (image is None or len(libraries) > 1))


def _by_section(given: Any, sections: pd.Categorical, *, name: str) -> Mapping[str, Any]:
    """Check that something is given for sections by their names."""
    if given is None:
        return {}
    names = [str(section) for section in sections.categories]
    if not isinstance(given, Mapping):
        raise InputError(
            f"Expected {name} for each section ({listed(names)}), found one for all of them. Give "
            f"{name}={{{names[0]!r}: …}} in Python, or put the pictures into uns['spatial'] under these names."
        )
    for section in given:
        require_key(names, str(section), where="the sections")
    return {str(section): value for section, value in given.items()}
