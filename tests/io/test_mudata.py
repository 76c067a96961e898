"""MuData: the role of each modality, the shared spots, and the results."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import stmmr
from stmmr._core import keys
from stmmr._core.compat import names_in
from stmmr.io import from_mudata, read_h5mu

mudata = pytest.importorskip("mudata")


@pytest.fixture(autouse=True)
def _as_from_mudata_0_4():
    if not hasattr(mudata, "set_options"):  # gone in 0.4, which does so by itself
        yield
        return
    with mudata.set_options(pull_on_update=False):
        yield


@pytest.fixture(scope="module")
def simulated():
    return stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=60)


def modality(n, names, width, *, seed=0):
    counts = np.random.default_rng(seed).poisson(np.exp(np.random.default_rng(seed).normal(1, 0.5, width)), (n, width))
    found = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    found.obs_names, found.var_names = names, [f"{seed}_{i}" for i in range(width)]
    return found


@pytest.fixture
def modalities(simulated):
    """Expression and coordinates; protein without the last spot, in another order; peaks."""
    rna = simulated.copy()
    rna.obs_names_make_unique()
    n, names = rna.n_obs, rna.obs_names
    protein = modality(n, names, 8, seed=1)[::-1][1:].copy()
    return {"rna": rna, "prot": protein, "atac": modality(n, names, 30, seed=2)}


def made_of(modalities):
    for name, found in modalities.items():
        if name != "rna":
            found.var_names = [f"{name}_{i}" for i in range(found.n_vars)]
    return mudata.MuData(modalities)


def test_modalities_become_blocks(modalities, caplog):
    mdata = made_of(modalities)
    mdata.obs["region"] = "a"
    with caplog.at_level("WARNING", logger="stmmr"):
        adata, blocks = from_mudata(mdata)
    assert f"1 of {mdata.n_obs} spots are not in every modality" in caplog.text
    assert list(adata.obs_names) == list(modalities["rna"].obs_names[:-1])
    assert {name: (block.key, block.likelihood) for name, block in blocks.items()} == {
        "prot": ("prot", "nb"),
        "atac": ("atac", "bernoulli"),
    }
    expected = modalities["prot"][adata.obs_names].X
    assert (adata.obsm["prot"] != expected).nnz == 0
    np.testing.assert_array_equal(adata.obsm["spatial"], modalities["rna"].obsm["spatial"][:-1])
    assert (adata.obs["region"] == "a").all()
    assert keys.SPATIAL in adata.uns


def test_likelihoods_follow_the_values(modalities):
    modalities["prot"].layers["counts"] = modalities["prot"].X.copy()
    modalities["prot"].X = modalities["prot"].X * 0.3
    modalities["metabolites"] = modalities["atac"].copy()
    modalities["metabolites"].X = modalities["metabolites"].X.toarray() * 0.7
    modalities["signed"] = modalities["atac"].copy()
    modalities["signed"].X = modalities["signed"].X.toarray() - 1
    _, blocks = from_mudata(made_of(modalities))
    found = {name: block.likelihood for name, block in blocks.items()}
    assert found == {"prot": "nb", "atac": "bernoulli", "metabolites": "gaussian", "signed": "gaussian"}


def test_run_writes_to_the_mudata(modalities, tmp_path):
    mdata = made_of(modalities)
    mdata.obs["expert"] = mdata["rna"].obs["ground_truth"].astype(object).reindex(mdata.obs_names)
    stmmr.run(mdata, n_domains=3, histology=False, label_key="expert", progress=False)
    assert mdata.obs[keys.DOMAIN].isna().sum() == 1
    left_out = mdata.obs_names.get_loc(modalities["rna"].obs_names[-1])
    embedding = mdata.obsm[keys.EMBEDDING]
    assert np.isnan(embedding[left_out]).all()
    assert np.isfinite(np.delete(embedding, left_out, axis=0)).all()
    assert set(mdata.uns["stmmr"]["model"]["blocks"]) == {"prot", "atac"}
    assert set(mdata.uns["stmmr"]["evaluation"]) >= {keys.DOMAIN}
    for name, before in modalities.items():
        names = [*before.obs, *before.obsm, *names_in(before.layers)]
        assert not [key for key in names if "stmmr" in key], name
    mdata.write(tmp_path / "a.h5mu")
    again = read_h5mu(tmp_path / "a.h5mu")
    assert list(again.obs[keys.DOMAIN].astype(str)) == list(mdata.obs[keys.DOMAIN].astype(str))
    np.testing.assert_array_equal(again.obsm[keys.EMBEDDING], embedding)


def test_run_is_that_of_the_anndata(modalities):
    mdata = made_of(modalities)
    adata, blocks = from_mudata(mdata)
    for data, given in ((mdata, {"atac": stmmr.Block("atac", "bernoulli", 0.5)}), (adata, None)):
        given = given or blocks | {"atac": stmmr.Block("atac", "bernoulli", 0.5)}
        stmmr.run(data, n_domains=3, histology=False, blocks=given, progress=False)
    found = mdata.obs[keys.DOMAIN].reindex(adata.obs_names)
    assert (found.astype(str) == adata.obs[keys.DOMAIN].astype(str)).all()


@pytest.mark.parametrize("where", ["global", "prot"])
def test_coordinates_from_elsewhere(modalities, where):
    xy = modalities["rna"].obsm.pop("spatial")
    if where == "prot":
        modalities["prot"].obsm["spatial"] = xy[::-1][1:]
    mdata = made_of(modalities)
    if where == "global":
        order = modalities["rna"].obs_names.get_indexer(mdata.obs_names)
        mdata.obsm["spatial"] = xy[order]
    adata, _ = from_mudata(mdata)
    np.testing.assert_array_equal(adata.obsm["spatial"], xy[:-1])


@pytest.mark.parametrize("name", ["rna", "RNA", "gex", "Gene Expression", "gene_expression"])
def test_names_of_the_expression(modalities, name):
    modalities = {"prot": modalities["prot"], name: modalities["rna"]}
    adata, blocks = from_mudata(made_of(modalities))
    assert adata.n_vars == 60
    assert list(blocks) == ["prot"]


def test_no_or_several_modalities_with_the_expression(modalities):
    modalities["counts_of_genes"] = modalities.pop("rna")
    mdata = made_of(modalities)
    with pytest.raises(
        stmmr.InputError,
        match=r"found prot, atac, counts_of_genes\. Name it: stmmr\.io\.from_mudata\(mdata, expression=",
    ):
        stmmr.run(mdata, n_domains=3, progress=False)
    with pytest.raises(stmmr.InputError, match=r"'counts_of_gene' in the modalities.*Did you mean 'counts_of_genes'\?"):
        from_mudata(mdata, expression="counts_of_gene")
    adata, _ = from_mudata(mdata, expression="counts_of_genes")
    assert adata.n_vars == 60
    with pytest.raises(stmmr.InputError, match=r"Expected one modality with the expression .* found rna, gex"):
        from_mudata(made_of({"rna": modalities["counts_of_genes"], "gex": modalities["atac"]}))


def test_no_spots_in_common(modalities):
    modalities["prot"].obs_names = [f"other_{i}" for i in range(modalities["prot"].n_obs)]
    with pytest.raises(stmmr.InputError, match=r"none in common \(rna: spot.*, prot: other_0, atac: spot"):
        from_mudata(made_of(modalities))


def test_a_modality_without_values(modalities):
    modalities["prot"] = ad.AnnData(obs=modalities["prot"].obs, var=modalities["prot"].var)
    with pytest.raises(stmmr.InputError, match=r"X or layers.* of the modality 'prot'"):
        from_mudata(made_of(modalities))


def test_shared_variables_are_refused(modalities):
    mdata = mudata.MuData({"a": modalities["rna"][:50].copy(), "b": modalities["rna"][50:].copy()}, axis=1)
    with pytest.raises(stmmr.InputError, match="modalities share spots"):
        from_mudata(mdata)


def test_without_coordinates(modalities):
    rna = modalities["rna"]
    del rna.obsm["spatial"]
    rna.obs = rna.obs[["ground_truth"]]
    with pytest.raises(stmmr.InputError, match="Expected coordinates in obsm"):
        stmmr.run(made_of(modalities), n_domains=3, progress=False)


def test_damaged_or_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_h5mu(tmp_path / "nothing.h5mu")
    (tmp_path / "bad.h5mu").write_bytes(b"bad")
    with pytest.raises(stmmr.InputError, match=r"Expected a MuData file"):
        read_h5mu(tmp_path / "bad.h5mu")


def test_truncated_file(modalities, tmp_path):
    made_of(modalities).write(tmp_path / "a.h5mu")
    content = (tmp_path / "a.h5mu").read_bytes()
    (tmp_path / "a.h5mu").write_bytes(content[: len(content) // 2])
    with pytest.raises(stmmr.InputError, match=r"Expected a MuData file"):
        read_h5mu(tmp_path / "a.h5mu")


def test_read_takes_the_file_and_run_its_modalities(modalities, tmp_path):
    from stmmr import AnalysisOptions, RunOptions
    from stmmr.pipeline.commands import run_to_folder
    from stmmr.pipeline.options import RunFolderOptions

    made_of(modalities).write(tmp_path / "a.h5mu")
    assert stmmr.io.recognise(tmp_path / "a.h5mu").platform == "h5mu"
    adata = stmmr.read(tmp_path / "a.h5mu")
    assert "prot" in adata.obsm
    folder, options = RunFolderOptions(output=tmp_path / "out"), RunOptions(n_domains=2, progress=False)
    run_to_folder([tmp_path / "a.h5mu"], folder, options, AnalysisOptions())
    assert "prot" in stmmr.read(tmp_path / "out" / "result.h5ad").uns["stmmr"]["model"]["blocks"]
