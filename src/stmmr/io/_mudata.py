"""MuData: one AnnData of places with the expression, its other modalities as blocks, and the results back."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_extra, require_key
from stmmr.settings import Block

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from stmmr.settings import BlockLikelihood

EXPRESSION_NAMES: Final = ("rna", "gex", "gene expression", "expression", "transcriptome", "transcripts", "genes")
"""Names of modalities that hold the expression, in lower case."""
PEAK_NAMES: Final = ("atac", "peak", "chromatin")
"""Parts of the names of modalities that hold peaks, in lower case."""
RESULTS: Final = (keys.DOMAIN, keys.CONFIDENCE, keys.DOMAIN_REFINED)


def read_h5mu(path: str | Path) -> MuData:
    """Read an ``.h5mu`` file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    The MuData, in memory.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    InputError
        If it cannot be read as MuData.
    """
    mudata = require_extra("mudata", extra="mudata")
    try:
        # columns stay with their modalities: an option that mudata 0.4 dropped, as it is its default
        quiet = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
        with quiet:
            found: MuData = mudata.read_h5mu(path)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"Expected a whole .h5mu file, found something else in {path} ({error}).") from error
    return found


def is_mudata(data: object) -> bool:
    """Tell a MuData from an AnnData, without importing either."""
    return hasattr(data, "mod")


def from_mudata(mdata: MuData, *, expression: str | None = None) -> tuple[AnnData, dict[str, Block]]:
    """Make an AnnData of the modality with the expression, and blocks of the others.

    Places that are not in every modality are left out. Coordinates are those of ``mdata.obsm["spatial"]``, otherwise of
    the expression, otherwise of another modality.

    Parameters
    ----------
    mdata
        Modalities of the same places.
    expression
        The modality with the expression; None: the one named "rna", "gex", "Gene Expression" or alike.

    Returns
    -------
    A copy of the modality, with the values of each other one in ``obsm`` (its ``layers["counts"]``, otherwise ``X``)
    and columns that the modalities share in ``obs``; and the blocks by name: "bernoulli" for a modality named after
    ATAC or peaks, otherwise "nb" for counts and "gaussian" for other values.

    Raises
    ------
    InputError
        If the modalities hold other things than the same places, or no places in common, or none or several could be
        the expression.
    """
    if getattr(mdata, "axis", 0) != 0:
        raise InputError("Expected a MuData whose modalities share places (axis 0), found one that shares variables.")
    first = _expression(list(mdata.mod), expression)
    places = _shared_places(mdata, first)
    adata = mdata.mod[first][places].copy()
    columns = [name for name in mdata.obs.columns if ":" not in name and name not in adata.obs]
    adata.obs[columns] = mdata.obs.loc[places, columns]
    _take_coordinates(adata, mdata, first)
    blocks = {}
    for name in mdata.mod:
        if name == first:
            continue
        other = mdata.mod[name][places]
        values = other.layers.get(keys.COUNTS, other.X)
        if values is None:
            raise InputError(f"Expected values in X or layers['counts'] of the modality {name!r}, found none.")
        adata.obsm[name] = values
        blocks[name] = Block(name, _likelihood(name, values))
        logger.info("Modality %r: %d values, likelihood %s.", name, other.n_vars, blocks[name].likelihood)
    return adata, blocks


def results_to_mudata(adata: AnnData, mdata: MuData) -> None:
    """Write what a run found in `adata` to ``obs``, ``obsm`` and ``uns`` of the MuData it came from.

    Under the same names; places that were left out have missing values.
    """
    index = adata.obs_names.get_indexer(mdata.obs_names)
    for name in RESULTS:
        if name in adata.obs:
            mdata.obs[name] = adata.obs[name].reindex(mdata.obs_names)
    if keys.EMBEDDING in adata.obsm:
        mdata.obsm[keys.EMBEDDING] = np.where(index[:, None] >= 0, adata.obsm[keys.EMBEDDING][index], np.nan)
    mdata.uns[keys.UNS] = adata.uns[keys.UNS]


def _expression(names: list[str], expression: str | None) -> str:
    """Find the modality with the expression."""
    if expression is not None:
        require_key(names, expression, where="the modalities")
        return expression
    found = [name for name in names if name.lower().replace("_", " ") in EXPRESSION_NAMES]
    if len(found) != 1:
        raise InputError(
            f"Expected one modality with the expression (rna, gex or Gene Expression), found {listed(found or names)}. "
            "Name it: stmmr.io.from_mudata(mdata, expression='…'), then stmmr.run(adata, blocks=blocks)."
        )
    return found[0]


def _shared_places(mdata: MuData, first: str) -> pd.Index[str]:
    """Find the places that every modality has, in the order of the first."""
    places: pd.Index[str] = mdata.mod[first].obs_names
    for name, other in mdata.mod.items():
        if not other.obs_names.is_unique:
            repeated = int(other.obs_names.duplicated().sum())
            raise InputError(f"Expected unique names of places in the modality {name!r}, found {repeated} repeated.")
        places = places[places.isin(other.obs_names)]
    if not len(places):
        examples = [f"{name}: {other.obs_names[0]}" for name, other in mdata.mod.items() if other.n_obs]
        raise InputError(f"Expected places that all modalities have, found none in common ({listed(examples)}).")
    left_out = len(mdata.obs_names) - len(places)
    if left_out:
        logger.warning("%d of %d places are not in every modality; they are left out.", left_out, len(mdata.obs_names))
    return places


def _take_coordinates(adata: AnnData, mdata: MuData, first: str) -> None:
    """Put coordinates, and the pictures beside them, where they are read."""
    others = [mdata.mod[name] for name in mdata.mod if name != first]
    for source in (mdata, mdata.mod[first], *others):
        if keys.SPATIAL in source.obsm:
            at = source.obs_names.get_indexer(adata.obs_names)
            adata.obsm[keys.SPATIAL] = np.asarray(source.obsm[keys.SPATIAL])[at]
            break
    for source in (mdata, *others):
        if keys.SPATIAL not in adata.uns and keys.SPATIAL in source.uns:
            adata.uns[keys.SPATIAL] = source.uns[keys.SPATIAL]


def _likelihood(name: str, values: Any) -> BlockLikelihood:
    """Choose a likelihood by the name of a modality and its values."""
    data = np.asarray(values.data if hasattr(values, "nnz") else values)
    if (data < 0).any():
        return "gaussian"
    if any(part in name.lower() for part in PEAK_NAMES):
        return "bernoulli"
    return "gaussian" if (data % 1).any() else "nb"
