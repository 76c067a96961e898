"""Corrections of p-values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stmmr._core.types import Float64


def fdr_bh(pval: Float64) -> Float64:
    """Adjust p-values for the false discovery rate along the last axis (Benjamini and Hochberg).

    A p-value of NaN stays NaN and does not count as a test.

    References
    ----------
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    from scipy.stats import false_discovery_control

    adjusted = np.full(pval.shape, np.nan)
    for row in np.ndindex(pval.shape[:-1]):
        known = ~np.isnan(pval[row])
        if known.any():
            adjusted[(*row, known)] = false_discovery_control(pval[row][known])
    return adjusted
