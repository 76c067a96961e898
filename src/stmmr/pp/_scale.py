"""How long a unit of the coordinates is, in µm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmmr import _keys
from stmmr._validate import coordinates, is_hexagonal, require_positive
from stmmr.io._positions import ARRAY, SPOT_STEP, microns_per_pixel

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

ST_STEP: Final = (200.0, 200.0)
"""µm between the spots of the first spatial arrays (Ståhl et al. 2016, doi:10.1126/science.aaf2403)."""
ST_LARGEST: Final = 35
"""Positions along their longer side, 33 × 35 in all; larger square arrays, such as of bins, are something else."""


def units(adata: AnnData) -> tuple[str, float, str]:
    """Name the unit of the coordinates, its length in µm and what tells it (see `um_per_unit`)."""
    um, told_by = um_per_unit(adata, coordinates(adata), *adata.uns.get(_keys.SPATIAL, {}).values())
    if _keys.SPATIAL not in adata.obsm:
        return "array columns", um, told_by
    if told_by != "microns_per_pixel":
        return "coordinate units", um, told_by
    return "µm" if um == 1 else "px", um, told_by


def um_per_unit(adata: AnnData, xy: NDArray[np.float64], *libraries: Mapping[str, Any]) -> tuple[float, str]:
    """Get µm per unit of the coordinates, and what tells it.

    Parameters
    ----------
    adata
        Maybe with array positions in ``obs``.
    xy
        Its coordinates, shape (N, 2).
    libraries
        Entries of ``uns["spatial"]``.

    Returns
    -------
    The length, and "microns_per_pixel" where the scale factors have it; else that of the "Stereo-seq chip" in what
    stereopy wrote (https://github.com/STOmics/SAW/issues/211); else that by the array, "hexagonal array" (taken for
    Visium, spots 100 µm apart) or "square array" (ST v1, 200 µm); else NaN and "unknown".
    """
    for library in libraries if _keys.SPATIAL in adata.obsm else ():
        stated = library.get("scalefactors", {}).get("microns_per_pixel") if isinstance(library, Mapping) else None
        if stated is not None:
            require_positive(stated, name="microns_per_pixel of the scale factors")
            return float(stated), "microns_per_pixel"
    if {_keys.BIN_TYPE, _keys.RESOLUTION} <= adata.uns.keys() and _keys.SPATIAL in adata.obsm:
        nm = adata.uns[_keys.RESOLUTION]
        if isinstance(nm, int | float | np.number) and nm > 0:
            return float(nm) / 1000, "Stereo-seq chip"
    if set(ARRAY) <= set(adata.obs.columns):
        array = adata.obs[ARRAY].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        finite = np.isfinite(array).all()
        if finite and ((hexagonal := is_hexagonal(array)) or np.ptp(array, axis=0).max() < ST_LARGEST):
            found = microns_per_pixel(array, xy, step=SPOT_STEP if hexagonal else ST_STEP)
            if found is not None:
                return found, "hexagonal array" if hexagonal else "square array"
    return math.nan, "unknown"
