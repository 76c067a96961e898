"""Normalised expression and the choice of genes, in data of low depth."""

import anndata as ad
import numpy as np
import pytest

import stmmr
from stmmr._core import keys


@pytest.mark.parametrize("depth", [4, 15, 200])
def test_genes_are_chosen_at_any_depth(depth):
    """Genes with the same mean make a narrow local regression of the variance singular."""
    rng = np.random.default_rng(0)
    rates = depth * rng.dirichlet(np.full(4000, 0.1))
    counts = rng.poisson(rates * rng.gamma(5, 0.2, size=(300, 1)))
    varying = rng.permutation(np.flatnonzero(counts.sum(axis=0) > 10))[:5]
    counts[:150, varying] *= 6
    adata = ad.AnnData(counts.astype(np.float32))
    stmmr.pp.expression(adata, n_top_genes=50)
    assert adata.var[keys.HIGHLY_VARIABLE].sum() == 50
    assert adata.var[keys.HIGHLY_VARIABLE].to_numpy()[varying].mean() >= 0.6
