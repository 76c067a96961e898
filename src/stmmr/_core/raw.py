"""Where the raw counts are: ``X``, a layer, or ``raw``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.axes import plain
from stmmr._core.checks import InputError, require_key
from stmmr._core.compat import layers_of, names_in
from stmmr._core.rows import as_csr

if TYPE_CHECKING:
    from anndata import AnnData

X, RAW = "X", "raw"
"""Names that the option `layer` takes besides those of layers."""
NAMED: Final = re.compile(r"x|raw|(raw_?)?(counts?|umis?)(_raw)?|(soupx|original|umi)_counts?")
"""Names of matrices that should hold counts, as `plain` writes them."""
SAMPLE: Final = 200
"""Spots by which whole numbers are told."""


def raw_counts(adata: AnnData, layer: str | None) -> tuple[str, Any]:
    """Find the raw counts: in the layer, otherwise in ``layers["counts"]`` if it exists, otherwise in ``X``.

    The layers "X" and "raw" are ``X`` and ``raw.X``, unless there are layers of these names.

    Returns
    -------
    Their name for messages, and the matrix as it is.
    """
    if layer is None and keys.COUNTS in adata.layers:
        layer = keys.COUNTS
    if layer == RAW and RAW not in adata.layers:
        return "raw", _of_raw(adata)
    if layer == X and X not in adata.layers:
        layer = None
    if layer is not None and layer not in names_in(adata.layers):
        require_key(names_in(adata.layers), layer, where="layers", hint=_offer(adata, ""))
    where = X if layer is None else f"layers[{layer!r}]"
    counts = adata.X if layer is None else adata.layers[layer]
    if counts is None:
        raise InputError(f"Expected raw counts in {where}, found nothing there. {counts_elsewhere(adata, where)}")
    return where, counts


def counts_elsewhere(adata: AnnData, where: str) -> str:
    """Say which other matrices hold whole numbers, and how to name one; `where` is the one that was tried."""
    return _offer(adata, where) or (
        'Name the layer with the raw counts (layer="…", --layer …), or a key of obsm to use instead (use_rep="…", '
        "--use-rep …)."
    )


def matrices_with_counts(adata: AnnData) -> list[str]:
    """Name the matrices that hold whole numbers, judged by the first spots, as the option `layer` takes them.

    The likeliest comes first: those that are called counts, then those with more counts (spliced ones are a part).
    """
    matrices = {X: adata.X, **layers_of(adata)}
    if adata.raw is not None and adata.raw.X is not None:
        matrices[RAW] = adata.raw.X
    totals = {name: total for name, matrix in matrices.items() if matrix is not None and (total := _whole(matrix))}
    return sorted(totals, key=lambda name: (not NAMED.fullmatch(plain(name)), -totals[name]))


def _offer(adata: AnnData, where: str) -> str:
    names = [name for name in matrices_with_counts(adata) if where not in (name, f"layers[{name!r}]")]
    if not names:
        return ""
    first = names[0]
    others = f" ({', '.join(names[1:])} also)" if len(names) > 1 else ""
    return f'Whole numbers are in {first}{others}: use layer="{first}" (--layer {first}).'


def _whole(matrix: Any) -> float:
    """Get the sum of whole numbers that are not negative, over the first spots; 0 if there are other values."""
    matrix = as_csr(matrix) if sparse.issparse(matrix) else matrix  # scipy cannot slice values of foreign byte order
    values = as_csr(matrix[:SAMPLE]).data.astype(np.float64)
    return float(values.sum()) if (values >= 0).all() and (values == np.rint(values)).all() else 0.0


def _of_raw(adata: AnnData) -> Any:
    """Get the counts of ``raw`` for the genes of ``var``."""
    if adata.raw is None:
        raise InputError(
            "Expected counts in raw, found none there; of counts on disk, raw is not read (--mode memory reads it). "
            f"{_offer(adata, RAW)}"
        )
    missing = adata.var_names.difference(adata.raw.var_names)
    if len(missing):
        raise InputError(
            f"Expected all genes of the data in raw, found {len(missing)} missing (such as {missing[0]}). Make an "
            "AnnData of raw first: adata = adata.raw.to_adata()."
        )
    same = adata.raw.var_names.equals(adata.var_names)
    if not same and not adata.raw.var_names.is_unique:
        raise InputError(
            "Expected each gene once in raw, found genes of the same name, and others than in the data. Make an "
            "AnnData of raw first: adata = adata.raw.to_adata()."
        )
    return adata.raw.X if same else adata.raw.X[:, adata.raw.var_names.get_indexer(adata.var_names)]
