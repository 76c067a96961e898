"""Counts and positions put together, and how long a unit of the positions is."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed
from stmmr._core.space import UM, spacing, warn_implausible
from stmmr.image.library import IMAGES, scale_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("stmmr")

GENERIC: Final = re.compile(r"\.\.|outs|binned_outputs|segmented_outputs|feature_expression|spatial|square_\d+um|")
"""Names of folders that say nothing about the sample."""


def place(
    adata: AnnData, table: pd.DataFrame, *, xy: Sequence[str], counts: Path, positions: Path, what: str = "cells"
) -> AnnData:
    """Give places their positions, by name, and drop those without one.

    Parameters
    ----------
    adata
        Counts.
    table
        One row per place, with its name as index; columns other than the coordinates go to ``obs``.
    xy
        Its columns with x and y.
    counts, positions
        The files, for messages.
    what
        What the places are, in the plural.

    Returns
    -------
    The places that have a finite position, with it in ``obsm["spatial"]``.

    Raises
    ------
    InputError
        If a name has two positions, a coordinate is no number, or no name is in both.
    """
    import pandas as pd

    missing = [name for name in xy if name not in table.columns]
    if missing:
        raise InputError(
            f"Expected the columns {listed(xy)} in {positions}, found {listed(table.columns)}. Take the file as it "
            "was exported."
        )
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()]
        raise InputError(
            f"Expected one position for each of the {what} in {positions}, found {len(twice)} names again (first: "
            f"{twice[0]}). Give the files of one section."
        )
    at = table[list(xy)].apply(pd.to_numeric, errors="coerce").reindex(adata.obs_names)
    placed = np.isfinite(at.to_numpy(np.float64)).all(axis=1)
    if not placed.any():
        raise InputError(
            f"Expected the {what} in {counts} to have positions in {positions}, found none of {adata.n_obs} there: "
            f"counts are of {_some(adata.obs_names)}, positions of {_some(table.index)}. Give files of the same "
            "section."
        )
    if not placed.all():
        logger.warning(
            "%d of %d %s (%.0f %%) have a position in %s; the others are dropped.",
            placed.sum(),
            adata.n_obs,
            what,
            100 * placed.mean(),
            positions.name,
        )
        adata = adata[placed].copy()
    rest = table.drop(columns=list(xy)).reindex(adata.obs_names)
    adata.obs[[str(name) for name in rest.columns]] = rest.set_axis([str(name) for name in rest.columns], axis=1)
    adata.obsm[keys.SPATIAL] = at.to_numpy(np.float64)[placed]
    return adata


def without_controls(adata: AnnData, pattern: str, *, what: str) -> AnnData:
    """Drop the features that measure the background rather than a gene, and say which.

    Parameters
    ----------
    adata
        Counts.
    pattern
        What their names begin with, as a regular expression; case does not matter.
    what
        What they are called, in the plural.

    Returns
    -------
    The genes.

    Raises
    ------
    InputError
        If there are no genes.
    """
    control = adata.var_names.str.match(pattern, case=False)
    if control.all():
        raise InputError(f"Expected counts of genes, found {what} only ({_some(adata.var_names)}). Check the table.")
    if control.any():
        logger.info("%d %s dropped (%s).", control.sum(), what, listed(adata.var_names[control], at_most=4))
        return adata[:, ~control].copy()
    return adata


def set_scale(adata: AnnData, um: float | None, *, library: str, metadata: Mapping[str, str] | None = None) -> AnnData:
    """Note in ``uns["spatial"]`` what a unit of ``obsm["spatial"]`` is; warn where that cannot be.

    Parameters
    ----------
    adata
        With coordinates.
    um
        µm per unit, None where the format does not tell.
    library
        Key in ``uns["spatial"]``.
    metadata
        What is said about the section, such as its platform.

    Returns
    -------
    The same object.
    """
    if um is None:
        return adata
    # without the last two, squidpy draws nothing of a library, be it without its picture
    factors = {
        UM: float(um),
        "spot_diameter_fullres": spacing(adata.obsm[keys.SPATIAL]) or 1.0,
        scale_key(IMAGES[0]): 1.0,
    }
    adata.uns[keys.SPATIAL] = {library: {"images": {}, "scalefactors": factors, "metadata": dict(metadata or {})}}
    warn_implausible(adata)
    return adata


def name_library(given: str | None, *, prefix: str, folder: Path, said: str = "") -> str:
    """Name the section: as the user does, else as its files, else as the first folder whose name says something."""
    folders = (where.name for where in (folder, *folder.parents) if not GENERIC.fullmatch(where.name))
    return given or said or prefix.strip("_-. ") or next(folders, "library")


def _some(names: Any) -> str:
    return listed(names[:3]) + (", …" if len(names) > 3 else "")
