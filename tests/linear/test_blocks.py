"""Further blocks beside the expression: their features, their effect on the embedding, and the errors for bad ones."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr import Block
from stmmr._core import keys
from stmmr._core.kernel import kernel_of
from stmmr._core.order import tissue_order, without_counts
from stmmr.linear.blocks import block_features, block_target, log_ratios, tf_idf
from stmmr.settings import named_blocks
from stmmr.tl._points import embedding_at


def with_blocks(adata, *, seed=0):
    """Proteins that differ between the halves of the largest domain, peaks that differ between domains, and noise."""
    rng = np.random.default_rng(seed)
    domain = adata.obs["ground_truth"].cat.codes.to_numpy()
    largest = domain == np.bincount(domain[domain >= 0]).argmax()
    x = adata.obsm["spatial"][:, 0]
    right = largest & (x > np.median(x[largest]))
    rate = np.exp(rng.normal(0, 1, 16) + np.outer(right, [1.2] * 4 + [0] * 12))
    rate *= 300 * rng.lognormal(0, 0.35, (len(x), 1)) / rate.sum(axis=1).mean()
    adata.obsm["adt"] = rng.poisson(rate * rng.gamma(5, 1 / 5, rate.shape)).astype(np.float32)
    open_share = rng.uniform(0.02, 0.4, (domain.max() + 2, 80))[domain]
    adata.obsm["peaks"] = sparse.csr_matrix(rng.random(open_share.shape) < open_share, dtype=np.float32)
    adata.obsm["noise"] = rng.poisson(3, (len(x), 16)).astype(np.float32)
    adata.obsm["intensity"] = rng.normal(5 * domain[:, None], 3, (len(x), 6))
    adata.obsm["X_stain"] = rng.normal(domain[:, None] == np.arange(4), 0.5)
    adata.obs["truth"] = np.where(right, 99, domain)
    return adata


@pytest.fixture(scope="module")
def made():
    adata = with_blocks(stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_domains=4, n_genes=200, random_state=2))
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    return adata


@pytest.fixture
def tissue(made):
    return made.copy()


ALL = {
    "protein": Block("adt", "nb"),
    "atac": Block("peaks", "bernoulli"),
    "stain2": Block("X_stain"),
    "imc": Block("intensity", "gaussian"),
    "sparse protein": Block("adt", "zinb", 0.5),
}
EVERYTHING = {
    "attention": True,
    "aligned_weight": 1.0,
    "contrast_loss": 1.0,
    "graph_loss": 1.0,
    "dropout": 0.1,
    "train_encoders": True,
    "batch_size": 64,
    "steps": 20,
}


def small(adata, **options):
    return stmmr.StMMR(adata, **{"steps": 20} | options)


def score(adata, **options):
    small(adata, **options).fit(progress=False)
    stmmr.tl.consensus(adata, 5)
    known = adata.obs["ground_truth"].notna()
    return adjusted_rand_score(adata.obs["truth"][known], adata.obs[keys.DOMAIN][known])


def test_a_border_that_only_the_protein_shows_is_found(tissue):
    alone = score(tissue.copy())
    both = score(tissue, blocks={"protein": Block("adt", "nb")})
    assert both > alone + 0.05
    assert tissue.uns["stmmr"]["model"]["blocks"]["protein"] == {"key": "adt", "likelihood": "nb", "weight": 1.0}


def test_a_block_of_noise_adds_little(tissue):
    small(tissue).fit(progress=False)
    before = tissue.obsm[keys.EMBEDDING].copy()
    small(tissue, blocks={"noise": Block("noise", "nb")}).fit(progress=False)
    rest = before - before.mean(0)
    now = tissue.obsm[keys.EMBEDDING] - tissue.obsm[keys.EMBEDDING].mean(0)
    off = rest - now @ np.linalg.lstsq(now, rest, rcond=None)[0]
    assert (off**2).sum() < 0.2 * (rest**2).sum()


def test_a_block_that_repeats_another_adds_no_noise(tissue):
    """Noise that two blocks share is removed with its correlation: the same components are informative."""
    tissue.obsm["again"] = tissue.obsm["adt"][:, ::-1]
    one = small(tissue, blocks={"protein": Block("adt", "nb")})
    two = small(tissue, blocks={"protein": Block("adt", "nb"), "again": Block("again", "nb")})
    assert abs(two.settings.latent - one.settings.latent) <= 1


def test_order_of_further_blocks_changes_nothing_but_signs(tissue):
    names = ["protein", "atac", "stain2", "imc"]
    z = []
    for order in (names, names[::-1]):
        small(tissue, blocks={name: ALL[name] for name in order}).fit(progress=False)
        z.append(tissue.obsm[keys.EMBEDDING] - tissue.obsm[keys.EMBEDDING].mean(0))
    assert z[0].shape == z[1].shape
    sign = np.sign((z[0] * z[1]).sum(0))
    np.testing.assert_allclose(z[1] * sign, z[0], atol=2e-2 * np.abs(z[0]).max())


@pytest.mark.parametrize(
    "settings", [{}, EVERYTHING, {"preset": "paper", "hidden": 8, "latent": 6, "decoder_hidden": 8}]
)
def test_every_likelihood_trains_saves_and_loads(settings, tissue, tmp_path):
    model = small(tissue, blocks=ALL, **{"steps": 5} | settings).fit(progress=False, accelerator="cpu")
    assert np.isfinite(tissue.obsm[keys.EMBEDDING]).all()
    assert model.denoise("protein", progress=False).shape == (tissue.n_obs, 16)
    terms = {f"likelihood of {name}" for name, block in ALL.items() if block.likelihood}
    assert terms | {"likelihood"} <= set(model.history)
    assert ((model.denoise("atac") >= 0) & (model.denoise("atac") <= 1)).all()
    assert model.denoise().shape == (tissue.n_obs, len(model.inputs.gene_names))
    with pytest.raises(stmmr.InputError, match="'stain2' in the blocks with a likelihood"):
        model.denoise("stain2")
    before = tissue.obsm[keys.EMBEDDING].copy()
    model.save(tmp_path / "model")
    loaded = stmmr.StMMR.load(tmp_path / "model", tissue)
    assert loaded.blocks == model.blocks
    np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], before, rtol=1e-4, atol=1e-3)
    tissue.write_h5ad(tmp_path / "a.h5ad")
    assert set(ad.read_h5ad(tmp_path / "a.h5ad").uns["stmmr"]["model"]["blocks"]) == set(ALL)


def test_another_bandwidth_embeds_with_the_blocks(tissue):
    blocks = {name: ALL[name] for name in ("protein", "stain2")} | {"weighed": Block("intensity", "gaussian", 0.5)}
    stmmr.pp.histology(tissue, progress=False)
    small(tissue, blocks=blocks).fit(progress=False)
    order = tissue_order(tissue)
    arranged = without_counts(tissue, order)
    embedding = embedding_at(arranged, kernel_of(arranged))
    np.testing.assert_allclose(embedding, tissue.obsm[keys.EMBEDDING][order], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [pytest.param({}, marks=pytest.mark.nightly), {"attention": True, "aligned_weight": 1.0}]
)
def test_models_of_format_1_are_read(settings, tissue, tmp_path):
    from safetensors.torch import load_file, save_file

    stmmr.pp.histology(tissue, progress=False)
    for image in (True, False):
        model = small(tissue, use_histology=image, **settings).fit(progress=False)
        before, denoised = tissue.obsm[keys.EMBEDDING].copy(), model.denoise(progress=False)
        folder = tmp_path / str(image)
        model.save(folder)
        weights = load_file(folder / "weights.safetensors")
        share = weights.pop("weights")
        old = {"histology_weight": share[-1] if image else torch.tensor(0.0)}
        for name, values in weights.items():
            name = name.replace("decoders.0.log_dispersion", "log_dispersion").replace("decoders.0", "decoder")
            old[name.replace("encoders.0", "encode_expression").replace("encoders.1", "encode_histology")] = values
        save_file(old, folder / "weights.safetensors")
        saved = json.loads((folder / "model.json").read_text())
        del saved["blocks"]
        (folder / "model.json").write_text(json.dumps(saved | {"format": 1}))
        loaded = stmmr.StMMR.load(folder, tissue)
        np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], before, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(loaded.denoise(progress=False), denoised, rtol=1e-5)  # by the weights of the file


def test_a_block_may_have_the_name_of_the_histology(tissue):
    stmmr.pp.histology(tissue, progress=False)
    model = small(tissue, blocks={"histology": Block("X_stain")})
    assert not model.use_histology
    assert [block.name for block in model.inputs.blocks] == ["expression", "histology"]
    assert 0 < model.inputs.blocks[1].weight < 1


def test_log_ratios_are_seurats():
    counts = np.array([[0.0, 3, 8], [5, 0, 0], [0, 0, 0]])
    expected = np.array([np.log1p(row / np.exp(np.log1p(row[row > 0]).sum() / len(row))) for row in counts])
    np.testing.assert_allclose(log_ratios(sparse.csr_matrix(counts)).toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 80])
def test_peaks_of_any_width(width, tissue):
    tissue.obsm["peaks"] = tissue.obsm["peaks"][:, :width]
    features = block_features(tissue, Block("peaks", "bernoulli"), n_components=50)
    assert len(features) == tissue.n_obs
    assert np.isfinite(features).all()


def test_tf_idf_by_hand():
    peaks = np.array([[1.0, 1, 0, 0], [0, 4, 1, 0]])
    expected = np.log1p(1e4 * np.array([[1, 0.5, 0, 0], [0, 0.5, 1, 0]]))
    np.testing.assert_allclose(tf_idf(sparse.csr_matrix(peaks)).toarray(), np.array(expected), rtol=1e-6)


def test_sparse_frames_and_arrays_are_the_same(tissue):
    counts = tissue.obsm["adt"]
    tissue.obsm["csr"], tissue.obsm["frame"] = sparse.csr_matrix(counts), pd.DataFrame(counts, tissue.obs_names)
    for likelihood in ("nb", "zinb", "bernoulli", "gaussian", None):
        features = [block_features(tissue, Block(key, likelihood), n_components=50) for key in ("adt", "csr", "frame")]
        for other in features[1:]:
            np.testing.assert_allclose(other, features[0], atol=1e-3)
    target, size = block_target(tissue, Block("adt", "bernoulli"))
    assert set(np.unique(target.toarray())) == {0, 1}
    np.testing.assert_array_equal(size, (counts > 0).sum(axis=1))
    np.testing.assert_array_equal(tissue.obsm["adt"], counts)


def test_sections_are_centred(made):
    adata = made.copy()
    adata.obs["section"] = pd.Categorical(np.arange(adata.n_obs) % 2)
    stmmr.pp.spatial_graph(adata, section_key="section")
    for block in ALL.values():
        features = block_features(adata, block, n_components=10)
        for code in range(2):
            np.testing.assert_allclose(features[adata.obs["section"] == code].mean(0), 0, atol=1e-3)


def negative(values):
    values[0, 0] = -1


def fraction(values):
    values[0, 0] = 0.5


def nan(values):
    values[3, 1] = np.nan
    values[3, 2] = np.nan


def constant(values):
    values[:] = 2


@pytest.mark.parametrize(
    ("block", "spoil", "message"),
    [
        (Block("adtt", "nb"), None, r"'adtt' in obsm.*Did you mean 'adt'\?"),
        (Block("adt", "nb"), negative, "Expected values ≥ 0 in obsm.*negative.*likelihood='gaussian'"),
        (Block("adt", "nb"), fraction, "Expected whole counts in obsm.*fractions"),
        (Block("adt", "nb"), nan, "NaN or infinite ones (at|in) 1 "),
        (Block("adt", "gaussian"), nan, "NaN or infinite ones (at|in) 1 "),
        (Block("adt"), nan, "NaN or infinite ones (at|in) 1 "),
        (Block("adt", "nb"), constant, "block 'protein' that varies.*Leave it out"),
        (Block("adt"), constant, "block 'protein' that varies"),
    ],
)
def test_bad_blocks(block, spoil, message, tissue):
    if spoil is not None:
        spoil(tissue.obsm["adt"])
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.run(tissue, n_domains=3, blocks={"protein": block}, progress=False)
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.StMMR(tissue, blocks={"protein": block})
    assert keys.EMBEDDING not in tissue.obsm


def test_fractions_will_do_for_other_likelihoods(tissue):
    fraction(tissue.obsm["adt"])
    for likelihood in ("zinb", "bernoulli", "gaussian"):
        small(tissue, blocks=[f"protein=adt:{likelihood}"], steps=1).fit(progress=False)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["a=adt", "a=peaks"], "two named 'a'"),
        ({"expression": Block("adt")}, "two named 'expression'"),
        ({"a/b": Block("adt")}, "name without '/'"),
        (["adt"], "as NAME=KEY or NAME=KEY:LIKELIHOOD, found 'adt'"),
        (["a=adt:poisson"], "likelihood to be one of nb, zinb, bernoulli, gaussian, found 'poisson'"),
    ],
)
def test_bad_names_and_texts(blocks, message):
    with pytest.raises(stmmr.InputError, match=message):
        named_blocks(blocks)


def test_histology_twice(tissue):
    with pytest.raises(stmmr.InputError, match="two named 'histology'"):
        stmmr.StMMR(tissue, use_histology=True, blocks=["histology=X_stain"])


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_bad_weights(weight):
    with pytest.raises(stmmr.InputError, match="weight of a block ≥ 0"):
        Block("adt", weight=weight)


def test_the_command_takes_blocks(made, tmp_path):
    from stmmr import cli

    adata = with_blocks(stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=40))
    adata.write_h5ad(tmp_path / "in.h5ad")
    options = ["--n-domains", "4", "--no-histology", "--block", "protein=adt:nb", "--block", "stain2=X_stain"]
    with pytest.raises(SystemExit) as end:
        cli.main(["run", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "out"), "--no-progress", *options])
    assert not end.value.code
    facts = json.loads((tmp_path / "out/run.json").read_text())
    assert facts["options"]["blocks"] == ["protein=adt:nb", "stain2=X_stain"]
    assert set(facts["stmmr"]["model"]["blocks"]) == {"protein", "stain2"}


def test_one_changed_value_of_a_frame_is_other_data(tissue):
    from stmmr.pipeline.resume import data_fingerprint

    tissue.obsm["frame"] = pd.DataFrame(tissue.obsm["adt"], tissue.obs_names)
    before = data_fingerprint(tissue)
    tissue.obsm["frame"].iloc[0, 0] += 1
    assert data_fingerprint(tissue) != before
