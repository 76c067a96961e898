"""A fitted model on a new section: the fitted section maps onto itself, and domains keep their names."""

import logging

import numpy as np
import pytest

import stmmr
from stmmr import InputError, StMMR, tl
from stmmr.datasets import simulated_tissue


@pytest.fixture(scope="module")
def tissue():
    return simulated_tissue(n_rows=20, n_cols=20, n_domains=4, n_genes=80)


@pytest.fixture(scope="module")
def trained(tissue):
    adata = tissue.copy()
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.pp.histology(adata, progress=False)
    model = StMMR(adata).fit()
    tl.consensus(adata, 4, progress=False)
    return model


def prepared(tissue):
    adata = tissue.copy()
    stmmr.pp.histology(adata, progress=False)
    return adata


def test_the_section_of_the_training_maps_onto_itself(tissue, trained):
    adata = prepared(tissue)
    trained.transform(adata, progress=False)
    expected = trained.adata.obsm["X_stmmr"]
    np.testing.assert_allclose(adata.obsm["X_stmmr"], expected, atol=1e-4 * expected.std())
    tl.transfer_domains(adata, trained.adata)
    assert (adata.obs["stmmr_domain"] == trained.adata.obs["stmmr_domain"]).mean() > 0.97
    assert adata.obs["stmmr_confidence"].between(0, 1).all()


def test_units_order_and_further_genes_do_not_matter(tissue, trained):
    """In µm instead of pixels, spots and genes in another order, one gene more."""
    import anndata as ad

    first, other = prepared(tissue), prepared(tissue)
    extra = ad.AnnData(np.ones((tissue.n_obs, 1), dtype=np.float32), obs=other.obs[[]])
    extra.var_names = ["EXTRA"]
    wider = ad.concat([extra, other[:, ::-1].copy()], axis=1)
    wider.obs, wider.obsm["spatial"], wider.uns = other.obs, other.obsm["spatial"] * 3.0, dict(other.uns)
    wider.obsm["X_histology"] = other.obsm["X_histology"]
    library = dict(other.uns["spatial"]["simulated"])
    factors = library["scalefactors"]
    library["scalefactors"] = factors | {"microns_per_pixel": factors["microns_per_pixel"] / 3}
    wider.uns["spatial"] = {"simulated": library}
    wider.obs["size"] = np.asarray(tissue.X.sum(axis=1)).ravel()
    wider = wider[::-1].copy()
    trained.transform(first, progress=False)
    trained.transform(wider, size_key="size", progress=False)
    expected = first.obsm["X_stmmr"]
    np.testing.assert_allclose(wider.obsm["X_stmmr"][::-1], expected, atol=1e-3 * expected.std())


def test_bandwidth_of_sections_that_overlap_is_that_of_one(tissue, trained):
    """Without a known unit it comes from the distance of spots in each section."""
    import anndata as ad

    parts = [prepared(tissue) for _ in range(2)]
    for i, part in enumerate(parts):
        part.obsm["spatial"] = part.obsm["spatial"] + 0.1 * i
        del part.obs["array_row"]
    both = ad.concat(parts, label="slide", keys=["a", "b"], index_unique="-")
    trained.transform(both, section_key="slide", progress=False)
    bandwidth = trained.adata.uns["stmmr"]["spatial_graph"]["bandwidth"]
    assert both.uns["stmmr"]["spatial_graph"]["bandwidth"] == pytest.approx(bandwidth)


def test_another_section_of_the_tissue_finds_the_same_domains(tissue, trained):
    """Counted anew, mirrored."""
    adata = prepared(tissue)
    adata.X.data = np.random.default_rng(0).poisson(adata.X.data).astype(np.float32)
    adata.obsm["spatial"] = adata.obsm["spatial"] * [-1, 1]
    trained.transform(adata, progress=False)
    tl.transfer_domains(adata, trained.adata)
    same = adata.obs["stmmr_domain"].astype(str) == trained.adata.obs["stmmr_domain"].astype(str)
    assert same.mean() > 0.85


def test_readouts_take_the_mapped_embedding_as_it_is(tissue, trained):
    adata = prepared(tissue)
    trained.transform(adata, progress=False)
    tl.consensus(adata, 4, progress=False)
    assert adata.obs["stmmr_domain"].nunique() == 4


def test_missing_genes_are_a_warning_and_too_many_an_error(tissue, trained, caplog):
    adata = prepared(tissue)
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        trained.transform(adata[:, 10:].copy(), progress=False)
    assert "10 of the 80 genes of the model are missing" in caplog.text
    adata.var_names = [f"other_{i}" for i in range(adata.n_vars)]
    with pytest.raises(InputError, match="found 0 of them among 80 such as other_0"):
        trained.transform(adata, progress=False)


def test_a_missing_input_of_the_model_is_named(tissue, trained):
    with pytest.raises(InputError, match=r"Expected obsm\['X_histology'\], which the model uses"):
        trained.transform(tissue.copy(), progress=False)
    attending = StMMR(trained.adata, attention=True)
    with pytest.raises(InputError, match="embeds each spot from its own features"):
        attending.transform(prepared(tissue), progress=False)


def test_embeddings_of_two_models_are_not_one(tissue, trained):
    adata = prepared(tissue)
    trained.transform(adata, progress=False)
    adata.obsm["X_stmmr"] = adata.obsm["X_stmmr"][:, :1]
    with pytest.raises(InputError, match="the same embedding in both sections"):
        tl.transfer_domains(adata, trained.adata)
