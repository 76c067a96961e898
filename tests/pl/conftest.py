"""A small section to draw, and no figure left open."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def section():
    """A 10 × 8 array with spots 20 px apart in three domains, the middle one of a single spot."""
    column, row = np.meshgrid(np.arange(10), np.arange(8))
    adata = AnnData(obs=pd.DataFrame(index=[f"spot{i}" for i in range(80)]))
    adata.obsm["spatial"] = np.column_stack([column.ravel(), row.ravel()]) * 20.0 + 100
    domain = np.where(column.ravel() < 5, "1", "3")
    domain[44] = "2"
    adata.obs["stmmr_domain"] = pd.Categorical(domain, categories=["1", "2", "3"])
    adata.obsm["X_stmmr_umap"] = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    return adata


@pytest.fixture
def library():
    """Two pictures of the section, of 400 × 300 px at full resolution."""
    rng = np.random.default_rng(0)
    return {
        "images": {
            "lowres": rng.integers(0, 256, (30, 40, 3), dtype=np.uint8),
            "hires": rng.integers(0, 256, (150, 200, 3), dtype=np.uint8),
        },
        "scalefactors": {"tissue_lowres_scalef": 0.1, "tissue_hires_scalef": 0.5},
    }
