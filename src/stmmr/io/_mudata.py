"""MuData: expression as an AnnData, the other modalities as blocks, and results back into the MuData."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, logger, require_extra, require_key
from stmmr._core.compat import layers_of
from stmmr._core.files import check_indices, existing
from stmmr._core.space import rows_called
from stmmr._core.untrusted import reader, require_parts
from stmmr.settings import Block

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from stmmr.settings import BlockLikelihood

EXPRESSION_NAMES: Final = (
    "rna",
    "mrna",
    "spatial",
    "xenium",
    "nanostring",
    "vizgen",
    "gex",
    "gene expression",
    "expression",
    "transcriptome",
    "transcripts",
    "genes",
)
"""Names of modalities that hold the expression, in lower case."""
PEAK_NAMES: Final = ("atac", "peak", "chromatin")
"""Parts of the names of modalities that hold peaks, in lower case."""
RESULTS: Final = (keys.DOMAIN, keys.CONFIDENCE, keys.ALTERNATIVE, keys.DOMAIN_REFINED)


@reader("a MuData file (.h5mu)")
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
    InputError
        If it cannot be read as MuData.
    """
    mudata, file_path = require_extra("mudata", extra="mudata"), existing(path)
    require_parts(file_path)
    # columns stay with their modalities: an option that mudata 0.4 dropped, as it is its default
    quiet = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
    with quiet:
        mdata: MuData = mudata.read_h5mu(file_path)
    for modality in mdata.mod.values():
        for matrix in (modality.X, *layers_of(modality).values()):
            check_indices(matrix)
    return mdata


def is_mudata(data: object) -> bool:
    """Tell a MuData from an AnnData, without importing either."""
    return hasattr(data, "mod")


def from_mudata(mdata: MuData, *, expression: str | None = None) -> tuple[AnnData, dict[str, Block]]:
    """Make an AnnData of the modality with the expression, and blocks of the others.

    Spots that are not in every modality are left out. Coordinates are those of ``mdata.obsm["spatial"]``, else of the
    expression, else of another modality.

    Parameters
    ----------
    mdata
        Modalities of the same spots.
    expression
        The modality with the expression. By default the one named "rna", "gex", "Gene Expression" or similar.

    Returns
    -------
    A copy of the modality, with the values of each other one in ``obsm`` (its ``layers["counts"]``, else ``X``) and
    columns that the modalities share in ``obs``; and the blocks by name. Their likelihood is "bernoulli" for a
    modality named after ATAC or peaks, else "nb" for counts and "gaussian" for other values.

    Raises
    ------
    InputError
        If the modalities share no spots, or none or several could be the expression.
    """
    if not is_mudata(mdata):
        raise InputError(f"Expected a MuData, found {type(mdata).__name__}. Read it first: mudata.read_h5mu(…).")
    if getattr(mdata, "axis", 0) != 0:
        raise InputError("Expected a MuData whose modalities share spots (axis 0), found one that shares variables.")
    first = _expression(list(mdata.mod), expression)
    spots = _shared_spots(mdata, first)
    adata = mdata.mod[first][spots].copy()
    columns = [name for name in mdata.obs.columns if ":" not in name and name not in adata.obs]
    adata.obs[columns] = mdata.obs.loc[spots, columns]
    _take_coordinates(adata, mdata, first)
    blocks = {}
    for name in mdata.mod:
        if name == first:
            continue
        other = mdata.mod[name][spots]
        values = other.layers.get(keys.COUNTS, other.X)
        if values is None:
            raise InputError(f"Expected values in X or layers['counts'] of the modality {name!r}, found none.")
        adata.obsm[name] = values
        blocks[name] = Block(name, _likelihood(name, values))
        logger.info("Modality %r: %d values per spot, likelihood %s.", name, other.n_vars, blocks[name].likelihood)
    return adata, blocks


def results_to_mudata(adata: AnnData, mdata: MuData) -> None:
    """Copy the results of a run from `adata` to ``obs``, ``obsm`` and ``uns`` of the MuData it was made from.

    Spots that were left out get missing values.
    """
    index = adata.obs_names.get_indexer(mdata.obs_names)
    for name in RESULTS:
        if name in adata.obs:
            mdata.obs[name] = adata.obs[name].reindex(mdata.obs_names)
    if keys.EMBEDDING in adata.obsm:
        mdata.obsm[keys.EMBEDDING] = np.where(index[:, None] >= 0, adata.obsm[keys.EMBEDDING][index], np.nan)
    kept = (keys.UNS, keys.DOMAIN_COLORS, keys.DOMAIN_REFINED_COLORS, keys.ALTERNATIVE_COLORS)
    mdata.uns |= {name: adata.uns[name] for name in kept if name in adata.uns}


def _expression(names: list[str], expression: str | None) -> str:
    """Find the modality with the expression."""
    if expression is not None:
        require_key(names, expression, where="the modalities")
        return expression
    matches = [name for name in names if name.lower().replace("_", " ") in EXPRESSION_NAMES]
    if len(matches) != 1:
        raise InputError(
            f"Expected one modality with the expression (rna, gex or Gene Expression), found {listed(matches or names)}"
            ". Name it: stmmr.io.from_mudata(mdata, expression='…'), then stmmr.run(adata, blocks=blocks)."
        )
    return matches[0]


def _shared_spots(mdata: MuData, first: str) -> pd.Index[str]:
    """Find the spots that every modality has, in the order of the first."""
    spots: pd.Index[str] = mdata.mod[first].obs_names
    rows = rows_called(mdata.mod[first])
    for name, other in mdata.mod.items():
        if not other.obs_names.is_unique:
            repeated = int(other.obs_names.duplicated().sum())
            raise InputError(f"Expected unique names of {rows} in the modality {name!r}, found {repeated} repeated.")
        spots = spots[spots.isin(other.obs_names)]
    if not len(spots):
        examples = [f"{name}: {other.obs_names[0]}" for name, other in mdata.mod.items() if other.n_obs]
        raise InputError(f"Expected {rows} that all modalities have, found none in common ({listed(examples)}).")
    left_out = len(mdata.obs_names) - len(spots)
    if left_out:
        total = len(mdata.obs_names)
        logger.warning("%d of %d %s are not in every modality; they are left out.", left_out, total, rows)
    return spots


def _take_coordinates(adata: AnnData, mdata: MuData, first: str) -> None:
    """Copy coordinates, and the images that go with them, to the AnnData."""
    others = [mdata.mod[name] for name in mdata.mod if name != first]
    for source in (mdata, mdata.mod[first], *others):
        if keys.SPATIAL in source.obsm:
            index = source.obs_names.get_indexer(adata.obs_names)
            adata.obsm[keys.SPATIAL] = np.asarray(source.obsm[keys.SPATIAL])[index]
            break
    for source in (mdata, *others):
        if keys.SPATIAL not in adata.uns and keys.SPATIAL in source.uns:
            adata.uns[keys.SPATIAL] = source.uns[keys.SPATIAL]


def _likelihood(name: str, values: sparse.csr_matrix | NDArray[np.number]) -> BlockLikelihood:
    """Choose a likelihood by the name of a modality and its values."""
    data = np.asarray(values.data if sparse.issparse(values) else values)
    if (data < 0).any():
        return "gaussian"
    if any(part in name.lower() for part in PEAK_NAMES):
        return "bernoulli"
    return "gaussian" if (data % 1).any() else "nb"
