"""Denoised expression: its formula, how well it predicts held-out counts, and the errors without a fitted model."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special, stats

import stmmr
from stmmr import InputError
from stmmr.tl import _enhance


def prepared(adata):
    stmmr.pp.expression(adata, n_top_genes=80)
    stmmr.pp.spatial_graph(adata)
    return adata


@pytest.fixture(scope="module")
def fitted():
    adata = stmmr.datasets.simulated_tissue(n_rows=24, n_cols=24, n_genes=120)
    return stmmr.StMMR(prepared(adata), use_histology=False).fit().fit_decoder(progress=False)


@pytest.fixture
def model(fitted):
    fitted.adata.layers.pop("stmmr_enhanced", None)
    fitted.adata.obsm.pop("stmmr_enhanced", None)
    return fitted


def test_a_layer_with_nan_for_genes_that_the_model_does_not_use(model):
    adata = model.adata
    before = adata.X.copy()
    stmmr.tl.enhance(model)
    layer = adata.layers["stmmr_enhanced"]
    assert layer.shape == adata.shape
    assert layer.dtype == np.float32
    read = adata.var["stmmr_highly_variable"].to_numpy()
    assert np.isnan(layer[:, ~read]).all()
    assert (layer[:, read] > 0).all()
    assert (before != adata.X).nnz == 0


def test_is_the_posterior_mean_by_the_formula(model):
    stmmr.tl.enhance(model, scale="own")
    adata, noted = model.adata, model.adata.uns["stmmr"]["enhance"]
    genes = list(noted["genes"])
    mean, theta = model.denoise().astype(float), noted["dispersion"]
    # the mean of the rate under a gamma prior and Poisson counts, summed up by hand
    spot, gene = 7, 3
    x = adata.layers["counts"][spot, adata.var_names.get_loc(genes[gene])]
    rate = np.linspace(1e-4, 60, 200_001)
    shape, mu = theta[gene], mean[spot, gene]
    weight = stats.gamma.pdf(rate, shape, scale=mu / shape) * stats.poisson.pmf(x, rate)
    expected = (rate * weight).sum() / weight.sum()
    assert adata[spot, genes[gene]].layers["stmmr_enhanced"].item() == pytest.approx(expected, rel=1e-3)


def test_scales_differ_by_the_library_size_only(model):
    adata = model.adata
    stmmr.tl.enhance(model)
    free = adata.layers["stmmr_enhanced"].copy()
    stmmr.tl.enhance(model, scale="own")
    size = adata.obs["stmmr_library_size"].to_numpy()
    expected = np.broadcast_to((size / np.median(size))[:, None], free.shape)
    read = adata.var["stmmr_highly_variable"].to_numpy()
    np.testing.assert_allclose(adata.layers["stmmr_enhanced"][:, read] / free[:, read], expected[:, read], rtol=1e-4)


def test_chosen_genes_are_a_table_with_the_same_values(model, tmp_path):
    stmmr.tl.enhance(model)
    genes = list(model.inputs.gene_names[5:2:-1])
    layer = pd.DataFrame(model.adata[:, genes].layers["stmmr_enhanced"], model.adata.obs_names, genes)
    del model.adata.layers["stmmr_enhanced"]
    stmmr.tl.enhance(model, genes=genes)
    assert "stmmr_enhanced" not in model.adata.layers
    pd.testing.assert_frame_equal(model.adata.obsm["stmmr_enhanced"], layer, check_names=False, rtol=1e-4)
    model.adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(back.obsm["stmmr_enhanced"], model.adata.obsm["stmmr_enhanced"])


def test_dispersions_are_those_that_were_drawn():
    rng = np.random.default_rng(0)
    theta = np.repeat([0.3, 1, 4, 100], 20)
    mean = rng.uniform(1, 8, (3000, 80))
    counts = rng.poisson(mean * rng.gamma(theta, 1 / theta, mean.shape))
    found = _enhance.dispersions(counts, mean)
    np.testing.assert_allclose(np.log(found[:60]), np.log(theta[:60]), atol=0.4)
    assert (found[60:] > 30).all()


def test_dispersions_are_the_likeliest_by_scipy():
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.1, 3, (200, 5))
    counts = rng.poisson(mean)
    tried = _enhance.DISPERSIONS[:, None, None]
    likelihood = stats.nbinom.logpmf(counts, tried, tried / (tried + mean)).sum(axis=1)
    np.testing.assert_array_equal(_enhance.dispersions(counts, mean), _enhance.DISPERSIONS[likelihood.argmax(axis=0)])


def test_predicts_the_half_held_out_better_than_what_it_is_made_of():
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_genes=200)
    counts = adata.X.astype(int)
    first = counts.copy()
    first.data = np.random.default_rng(0).binomial(counts.data, 0.5)
    held_out = (counts - first).toarray()
    adata.X = first.astype(np.float32)
    adata.X.eliminate_zeros()
    model = stmmr.StMMR(prepared(adata), use_histology=False).fit()
    stmmr.tl.enhance(model, scale="own", progress=False)
    genes = model.inputs.gene_names
    at = adata.var_names.get_indexer(genes)
    x, size = held_out[:, at], adata.obs["stmmr_library_size"].to_numpy()[:, None]

    def score(mean):
        return float((special.xlogy(x, mean) - mean).sum() / x.sum())

    own, flat = first.toarray()[:, at], size * first.toarray()[:, at].sum(axis=0) / size.sum()
    enhanced = score(adata[:, genes].layers["stmmr_enhanced"])
    assert enhanced > score(model.denoise())
    assert enhanced > score(flat)
    assert enhanced > max(score((own + c * flat) / (1 + c)) for c in (0.1, 0.3, 1, 3, 10))


def test_spots_without_counts_get_the_mean_of_the_decoder():
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=100)
    counts = adata.X.toarray()
    counts[3] = 0
    adata.X = sparse.csr_matrix(counts)
    model = stmmr.StMMR(prepared(adata), use_histology=False).fit()
    stmmr.tl.enhance(model, progress=False)
    empty = adata[3, model.inputs.gene_names].layers["stmmr_enhanced"].ravel()
    assert np.isfinite(empty).all()
    others = adata[:, model.inputs.gene_names].layers["stmmr_enhanced"]
    assert np.corrcoef(empty, others.mean(axis=0))[0, 1] > 0.8


def test_a_sample_for_the_dispersions_and_chunks_change_little(model, monkeypatch):
    stmmr.tl.enhance(model)
    whole = model.adata.layers["stmmr_enhanced"].copy()
    monkeypatch.setattr(_enhance, "ROWS", 100)
    stmmr.tl.enhance(model)
    np.testing.assert_array_equal(model.adata.layers["stmmr_enhanced"], whole)
    monkeypatch.setattr(_enhance, "FITTED_AT_MOST", 250)
    stmmr.tl.enhance(model)
    some = model.adata.layers["stmmr_enhanced"]
    read = model.adata.var["stmmr_highly_variable"].to_numpy()
    assert np.corrcoef(np.log(some[:, read]).ravel(), np.log(whole[:, read]).ravel())[0, 1] > 0.99


def test_counts_on_disk_need_names_and_give_the_same(model, tmp_path):
    small = model.adata.copy()
    for name in list(small.layers):
        del small.layers[name]
    small.uns.pop("stmmr")
    small.write_h5ad(tmp_path / "a.h5ad")
    disk = stmmr.read(tmp_path / "a.h5ad", backed=True)
    other = stmmr.StMMR(prepared(disk), use_histology=False).fit(progress=False)
    with pytest.raises(InputError, match=r"names of genes for counts that stay on disk.*would take \d+ kB"):
        stmmr.tl.enhance(other)
    genes = model.inputs.gene_names[:4]
    for each in (model, other):
        stmmr.tl.enhance(each, genes=genes, progress=False)
    np.testing.assert_allclose(disk.obsm["stmmr_enhanced"], model.adata.obsm["stmmr_enhanced"], rtol=1e-3)


def test_too_large_says_how_large(model, monkeypatch):
    monkeypatch.setattr(_enhance, "AT_MOST", 1e5)
    with pytest.raises(InputError, match=r"for more than 2 GB: all \d+ × 120 values would take \d+ [kM]B"):
        stmmr.tl.enhance(model)
    stmmr.tl.enhance(model, genes=model.inputs.gene_names[:3])


def test_only_a_fitted_model_of_counts():
    adata = prepared(stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=60))
    with pytest.raises(InputError, match=r"found one that is not. Run model.fit\(\) first"):
        stmmr.tl.enhance(stmmr.StMMR(adata, use_histology=False))
    other = stmmr.StMMR(adata, use_histology=False, likelihood="gaussian", steps=1).fit(progress=False)
    with pytest.raises(InputError, match=r"likelihood 'nb'\), found likelihood 'gaussian'. Use model.denoise"):
        stmmr.tl.enhance(other)
    other = stmmr.StMMR(adata, use_rep="X_stmmr_pca", use_histology=False, steps=1).fit(progress=False)
    with pytest.raises(InputError, match=r"of obsm\['X_stmmr_pca'\]"):
        stmmr.tl.enhance(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genes": ["GNE001"]}, "the gene 'GNE001' among .* Did you mean 'GENE001'"),
        ({"genes": "GENE001"}, "Expected a list of gene names, found 'GENE001'"),
        ({"scale": "cell"}, "Expected scale to be one of median, own, found 'cell'"),
    ],
)
def test_bad_input(model, options, message):
    with pytest.raises(InputError, match=message):
        stmmr.tl.enhance(model, **options)


def test_a_gene_that_the_model_does_not_use(model):
    unread = model.adata.var_names[~model.adata.var["stmmr_highly_variable"]][0]
    with pytest.raises(InputError, match=f"Expected genes that the model uses.*found {unread}.*larger n_top_genes"):
        stmmr.tl.enhance(model, genes=[unread])
    with pytest.raises(InputError, match=f"key '{unread}' in the genes that the model uses"):
        model.denoise(genes=[unread])


def test_the_decoder_is_fitted_when_it_is_needed_and_once():
    adata = prepared(stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_genes=60))
    model = stmmr.StMMR(adata, use_histology=False, steps=5).fit()
    embedding = adata.obsm["X_stmmr"].copy()
    assert not model.history
    assert "history" not in adata.uns["stmmr"]
    stmmr.tl.enhance(model, progress=False)
    history = {name: list(values) for name, values in model.history.items()}
    assert len(history["loss"]) == 5
    assert adata.uns["stmmr"]["history"]["loss"].tolist() == history["loss"]
    first = adata.layers["stmmr_enhanced"].copy()
    stmmr.tl.enhance(model, progress=False)
    assert model.history == history
    np.testing.assert_array_equal(adata.layers["stmmr_enhanced"], first)
    np.testing.assert_array_equal(adata.obsm["X_stmmr"], embedding)
    model.fit()
    np.testing.assert_array_equal(adata.obsm["X_stmmr"], embedding)
    np.testing.assert_array_equal(stmmr.StMMR(adata, use_histology=False, steps=5).fit().denoise(), model.denoise())


def test_the_old_name_of_the_scale_still_works(model):
    stmmr.tl.enhance(model, scale="own")
    expected = model.adata.layers["stmmr_enhanced"].copy()
    with pytest.warns(FutureWarning, match="scale='own'"):
        stmmr.tl.enhance(model, scale="place")
    np.testing.assert_array_equal(model.adata.layers["stmmr_enhanced"], expected)


def test_decoding_some_genes_is_decoding_all_of_them(model):
    genes = model.inputs.gene_names
    np.testing.assert_array_equal(model.denoise(genes=[genes[4], genes[1]]), model.denoise()[:, [4, 1]])


@pytest.mark.realdata
@pytest.mark.slow
def test_counts_held_out_of_cells_of_the_cortex(shared_data):
    adata = stmmr.read(shared_data / "osmfish_cortex.h5ad")
    counts = sparse.csr_matrix(adata.X).astype(int)
    first = counts.copy()
    first.data = np.random.default_rng(0).binomial(counts.data, 0.5)
    kept = np.asarray(first.sum(axis=1)).ravel() > 0
    x, own = (counts - first)[kept].toarray(), first[kept].toarray()
    adata.X = first.astype(np.float32)
    model = stmmr.StMMR(prepared(adata[kept].copy()), use_histology=False).fit(progress=False)
    stmmr.tl.enhance(model, scale="own")
    size = model.adata.obs["stmmr_library_size"].to_numpy()[:, None]
    flat = size * own.sum(axis=0) / size.sum()

    def score(mean):
        return float((special.xlogy(x, mean) - mean).sum() / x.sum())

    enhanced = score(model.adata.layers["stmmr_enhanced"].astype(float))
    assert enhanced > score(model.denoise()) + 0.1
    assert enhanced > max(score(size * (own + c * flat / size) / (size + c)) for c in (0.1, 0.2, 0.3, 0.5))
