"""Sections as replicates: what is summed, what the model says, and what it cannot."""

import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.stats import nbinom

from stmmr import InputError
from stmmr.tl import _pseudobulk as pseudobulk
from stmmr.tl import domain_genes_pseudobulk, domain_genes_table

KEY = "stmmr_domain_genes_pseudobulk"


@pytest.fixture
def sections():
    """Four sections of three domains: G0 marks A four times, G1 varies between sections only."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"section": np.repeat(list("wxyz"), 90), "stmmr_domain": np.tile(np.repeat(["A", "B", "C"], 30), 4)},
        index=[str(i) for i in range(360)],
    )
    rate = np.tile(rng.uniform(0.5, 5, 50), (360, 1))
    rate[obs["stmmr_domain"] == "A", 0] *= 4
    rate[:, 1] *= obs["section"].map({"w": 1, "x": 5, "y": 2, "z": 9}).to_numpy()
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(50)]))


def test_sums_are_those_of_pandas(sections, monkeypatch):
    monkeypatch.setattr("stmmr._core.rows.CHUNK", 50)
    domains, section = (pd.Categorical(sections.obs[key]) for key in ("stmmr_domain", "section"))
    sums, samples = pseudobulk._summed(sections.X, section, domains, min_spots=10, progress=False)
    expected = sections.to_df().groupby([sections.obs["section"], sections.obs["stmmr_domain"]]).sum()
    np.testing.assert_array_equal(sums, expected)
    assert samples["section"].tolist() == np.repeat(range(4), 3).tolist()
    few = domains.codes.copy()
    few[:25] = -1
    sums, samples = pseudobulk._summed(
        sections.X, section, pd.Categorical.from_codes(few, domains.categories), min_spots=10, progress=False
    )
    np.testing.assert_array_equal(sums, expected.iloc[1:])


def test_without_pydeseq2_the_extra_is_named(sections, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydeseq2.dds", None)
    with pytest.raises(ImportError, match=r"stmmr-kit\[deseq\]"):
        domain_genes_pseudobulk(sections, section_key="section")


def test_markers_stand_out_and_shifts_between_sections_do_not(sections, tmp_path):
    pytest.importorskip("pydeseq2")
    domain_genes_pseudobulk(sections, section_key="section")
    table = domain_genes_table(sections, domain="A", key=KEY)
    assert len(table) == sections.n_vars
    best = table.iloc[0]
    assert best["gene"] == "G0"
    assert best["log2_fold_change"] == pytest.approx(2, abs=0.4)
    assert best["specific"]
    assert table["specific"].sum() == 1
    assert table.set_index("gene").loc["G1", "pval_adj"] > 0.05
    sections.write_h5ad(tmp_path / "a.h5ad")
    read = domain_genes_table(ad.read_h5ad(tmp_path / "a.h5ad"), domain="A", key=KEY)
    pd.testing.assert_frame_equal(read, table, check_categorical=False)


def test_a_domain_of_one_section_is_said(sections, caplog):
    pytest.importorskip("pydeseq2")
    sections.obs.loc[sections.obs_names[:15], "stmmr_domain"] = "D"
    domain_genes_pseudobulk(sections, section_key="section")
    assert "Not tested, as they are in fewer than 2 sections: domains D." in caplog.text
    assert set(sections.uns[KEY]["domain"]) == {"A", "B", "C"}
    assert sections.uns["stmmr"]["domain_genes_pseudobulk"][KEY]["sections"].tolist() == [4, 4, 4, 1]


@pytest.mark.filterwarnings("ignore")  # the reference says how it fits
def test_agrees_with_two_groups_of_deseq2(sections):
    pydeseq2 = pytest.importorskip("pydeseq2.dds")
    from pydeseq2.ds import DeseqStats

    two = sections[sections.obs["stmmr_domain"] != "C"].copy()
    rng = np.random.default_rng(0)
    varies = rng.gamma(0.7, 1, (8, 50)).repeat(30, axis=0)  # so that each gene has a dispersion
    two.X = sparse.csr_matrix(rng.poisson(5 * varies * two.X.mean(axis=0).A1).astype(np.float32))
    domain_genes_pseudobulk(two, section_key="section")
    sums = two.to_df().groupby([two.obs["section"], two.obs["stmmr_domain"]]).sum().astype(int)
    meta = sums.index.to_frame(index=False).astype(str)
    sums.index = meta.index = pd.Index([f"s{i}" for i in range(len(meta))])
    meta.columns = ["section", "domain"]
    model = pydeseq2.DeseqDataSet(
        counts=sums, metadata=meta, design="~section + domain", size_factors_fit_type="poscounts", quiet=True, n_cpus=1
    )
    model.deseq2()
    assert model.var["genewise_dispersions"].min() > 1e-6
    theirs = DeseqStats(model, contrast=["domain", "A", "B"], independent_filter=False, quiet=True, n_cpus=1)
    theirs.summary()
    mine = domain_genes_table(two, domain="A", key=KEY).set_index("gene")
    expected = theirs.results_df.loc[mine.index]
    np.testing.assert_allclose(mine["log2_fold_change"], expected["log2FoldChange"], atol=1e-3)
    np.testing.assert_allclose(mine["pval"], expected["pvalue"], rtol=1e-2, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_dispersions_are_at_the_largest_likelihood():
    """PyDESeq2 by itself leaves many of these genes at the smallest dispersion."""
    dds = pytest.importorskip("pydeseq2.dds")
    rng, n = np.random.default_rng(0), 12
    depth, donors = rng.permutation(np.geomspace(3, 60, n))[:, None], np.arange(n) // 2
    counts = rng.poisson(depth * rng.gamma(2, 1, 60) * np.exp(rng.normal(0, 0.3, (n, 60))))
    names = [f"s{i}" for i in range(n)]
    meta = pd.DataFrame({"donor": [f"d{i}" for i in donors], "group": list("xy") * 6}, index=names)
    model = dds.DeseqDataSet(
        counts=pd.DataFrame(counts, names), metadata=meta, design="~ donor + group", quiet=True, n_cpus=1
    )
    model.fit_size_factors()
    model.fit_genewise_dispersions()
    before = model.var["genewise_dispersions"].to_numpy()
    pseudobulk._refit_dispersions(model)
    after, mu = model.var["genewise_dispersions"].to_numpy(), model.layers["_mu_hat"]
    design, stuck = model.obsm["design_matrix"].to_numpy(), before < 1e-6
    assert stuck.sum() > 5
    np.testing.assert_array_equal(after[~stuck], before[~stuck])
    grid = np.geomspace(1e-6, 10, 300)

    def likelihood(gene, dispersion):  # adjusted as by Cox and Reid
        weights = mu[:, gene] / (1 + mu[:, gene] * dispersion)
        adjustment = np.linalg.slogdet(design.T * weights @ design)[1] / 2
        return nbinom.logpmf(counts[:, gene], 1 / dispersion, 1 / (1 + mu[:, gene] * dispersion)).sum() - adjustment

    for gene in range(60):
        assert likelihood(gene, after[gene]) > max(likelihood(gene, alpha) for alpha in grid) - 1e-2
        assert likelihood(gene, after[gene]) > likelihood(gene, before[gene]) - 1e-6


@pytest.mark.usefixtures("_as_if_there")
def test_bad_input_says_what_to_do(sections):
    with pytest.raises(InputError, match="'part' in obs"):
        domain_genes_pseudobulk(sections, section_key="part")
    one = sections[sections.obs["section"] == "w"].copy()
    with pytest.raises(InputError, match=r"at least 2 sections.*found 1.*use stmmr.tl.domain_genes"):
        domain_genes_pseudobulk(one, section_key="section")
    with pytest.raises(InputError, match=r"found 0 domains in 0 sections\. Lower min_spots"):
        domain_genes_pseudobulk(sections, section_key="section", min_spots=31)
    with pytest.raises(InputError, match=r"Expected genes with 1000000 counts in all, found at most \d+"):
        domain_genes_pseudobulk(sections, section_key="section", min_counts=10**6)
    apart = sections[[s + d in {"wA", "wB", "xA", "xB"} for s, d in sections.obs.to_numpy()]].copy()
    apart.obs.loc[(apart.obs["section"] == "x") & (apart.obs["stmmr_domain"] == "B"), "stmmr_domain"] = None
    with pytest.raises(InputError, match=r"found 3 samples \(a domain in a section\) for 3 effects"):
        domain_genes_pseudobulk(apart, section_key="section")
    sections.obs["section"] = sections.obs["section"].where(sections.obs["section"] != "w")
    with pytest.raises(InputError, match="a section for all cells"):
        domain_genes_pseudobulk(sections, section_key="section")


@pytest.fixture
def _as_if_there(monkeypatch):
    monkeypatch.setattr(pseudobulk, "require_extra", lambda *_, **__: None)


@pytest.mark.nightly
@pytest.mark.realdata
@pytest.mark.slow
def test_myosins_of_the_heart(shared_data):
    pytest.importorskip("pydeseq2")
    adata = ad.read_h5ad(shared_data / "st_human_heart_9sections.h5ad")
    adata = adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() > 200].copy()
    domain_genes_pseudobulk(adata, section_key="image", domain_key="ground_truth")
    assert "MYH6" in set(domain_genes_table(adata, domain="right atria", key=KEY, n_genes=3)["gene"])
    assert "MYH7" in set(domain_genes_table(adata, domain="left ventricle", key=KEY, n_genes=3)["gene"])
