"""Domain genes: the numbers of the table, its filters, where the counts may lie, and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import mannwhitneyu
from statsmodels.stats.multitest import multipletests

import stmmr
from stmmr import InputError
from stmmr._core import genes
from stmmr.report._genes import top_genes
from stmmr.tl import domain_genes, domain_genes_table


@pytest.fixture(scope="module")
def simulated():
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_genes=80)
    domain_genes(adata, domain_key="ground_truth")
    return adata


def lognormalised(adata):
    """Log-normalise; in the precision of the package, which decides on what is tied."""
    counts = adata.X.toarray().astype(float)
    size = counts.sum(axis=1, keepdims=True)
    return np.log1p((counts * (np.median(size) / size)).astype(np.float32)).astype(float)


def test_every_row_is_what_scipy_and_numpy_say(simulated):
    values = lognormalised(simulated)
    label = simulated.obs["ground_truth"]
    step = simulated.uns["stmmr"]["domain_genes"]["stmmr_domain_genes"]
    names = list(step["domains"])
    table = domain_genes_table(simulated)
    assert len(table) == 2 * len(names) * simulated.n_vars
    for row in table.sample(60, random_state=0).itertuples():
        others = [n for n in names if n != row.domain]
        if row.against == "neighbors":
            others = [n for n, near in zip(names, step["neighbors"][names.index(row.domain)], strict=True) if near]
        gene = values[:, simulated.var_names.get_loc(row.gene)]
        inside, outside = gene[label == row.domain], gene[label.isin(others)]
        test = mannwhitneyu(inside, outside, method="asymptotic", use_continuity=False)
        assert row.pval == pytest.approx(test.pvalue, rel=1e-6)
        assert row.auc == pytest.approx(test.statistic / len(inside) / len(outside))
        assert row.share == pytest.approx((inside > 0).mean())
        assert row.share_other == pytest.approx((outside > 0).mean())
        assert row.mean - row.mean_other == pytest.approx(inside.mean() - outside.mean(), abs=1e-5)
        one = 1 / (len(inside) + len(outside))
        fold = np.log2((np.expm1(inside).mean() + one) / (np.expm1(outside).mean() + one))
        assert row.log2_fold_change == pytest.approx(fold, abs=1e-4)


def test_agrees_with_scanpy_against_the_rest(simulated):
    other = AnnData(
        sparse.csr_matrix(lognormalised(simulated), dtype=np.float32),
        obs=simulated.obs.copy(),
        var=simulated.var.copy(),
    )
    other = other[other.obs["ground_truth"].notna()].copy()
    sc.tl.rank_genes_groups(other, "ground_truth", method="wilcoxon", tie_correct=True)
    theirs = sc.get.rank_genes_groups_df(other, None).set_index(["group", "names"])
    mine = domain_genes_table(simulated, against="rest").set_index(["domain", "gene"])
    theirs = theirs.loc[mine.index]
    np.testing.assert_allclose(mine["z"], theirs["scores"], atol=1e-5)
    np.testing.assert_allclose(mine["pval_adj"], theirs["pvals_adj"], rtol=1e-3)


def test_p_values_are_adjusted_within_a_domain_and_comparison(simulated):
    for _, rows in domain_genes_table(simulated).groupby(["domain", "against"], observed=True):
        np.testing.assert_allclose(rows["pval_adj"], multipletests(rows["pval"], method="fdr_bh")[1])
        assert (np.diff(rows["z"]) <= 0).all()


def test_markers_of_the_simulation_come_first(simulated):
    marker_of = simulated.var["marker_of"]
    for domain in marker_of.cat.categories:
        best = domain_genes_table(simulated, domain=domain, against="rest", n_genes=2)["gene"]
        assert set(marker_of[best]) == {domain}


def test_filters_are_a_column_and_no_row_is_dropped(simulated):
    table = domain_genes_table(simulated)
    fold = np.exp(table["mean"] - table["mean_other"])
    expected = (
        (table["pval_adj"] < 0.05) & (table["share"] > 0.8) & (table["share"] > table["share_other"]) & (fold > 1.5)
    )
    assert (table["specific"] == expected).all()
    assert 0 < expected.sum() < len(table)
    adata = simulated.copy()
    domain_genes(
        adata, domain_key="ground_truth", min_share=0, min_fold_change=1.1, max_pval_adj=0.01, key_added="mine"
    )
    more = domain_genes_table(adata, only_specific=True, key="mine")
    assert len(more) > expected.sum()
    assert (more["pval_adj"] < 0.01).all()


def test_x_is_left_and_the_table_survives_a_file(simulated, tmp_path):
    adata = simulated.copy()
    before = adata.X.copy()
    adata.obs["domain"] = adata.obs["ground_truth"].cat.rename_categories({"Layer 2": "L2/3"})
    domain_genes(adata, domain_key="domain")
    assert (before != adata.X).nnz == 0
    assert list(adata.layers) == list(simulated.layers)
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(domain_genes_table(read), domain_genes_table(adata), check_categorical=False)
    assert len(domain_genes_table(read, domain="L2/3", against="neighbors", n_genes=5)) == 5


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_counts_on_disk_and_blocks_of_genes_change_nothing(simulated, form, tmp_path, monkeypatch):
    adata = simulated.copy()
    path = tmp_path / f"a.{form}"
    adata.write_h5ad(path) if form == "h5ad" else adata.write_zarr(path)
    stmmr.pp.expression(adata)
    domain_genes(adata, domain_key="ground_truth")
    monkeypatch.setattr(genes, "VALUES_AT_ONCE", 3000)
    monkeypatch.setattr("stmmr._core.rows.CHUNK", 100)
    backed = stmmr.read(path, backed=True)
    domain_genes(backed, domain_key="ground_truth")
    assert len(list(genes.gene_columns(backed).blocks())) > 5
    pd.testing.assert_frame_equal(domain_genes_table(backed), domain_genes_table(adata), rtol=1e-5, atol=1e-7)


def test_dense_counts_and_layers(simulated):
    adata = AnnData(np.log1p(simulated.X.toarray()), obs=simulated.obs, var=simulated.var, obsm=dict(simulated.obsm))
    adata.layers["raw"] = simulated.X.toarray()
    domain_genes(adata, domain_key="ground_truth", layer="raw")
    pd.testing.assert_frame_equal(domain_genes_table(adata), domain_genes_table(simulated))
    with pytest.raises(InputError, match=r"fractions.*look normalised"):
        domain_genes(adata, domain_key="ground_truth")


def small(domains, counts=None):
    """Make spots in a row with one gene that rises, one that is constant and one that is not seen."""
    n = len(domains)
    counts = np.column_stack([np.arange(n) + 1, np.ones(n), np.zeros(n)]) if counts is None else counts
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=["RISE", "SAME", "NONE"]))
    adata.obsm["spatial"] = np.column_stack([np.arange(n), np.zeros(n)]).astype(float)
    adata.obs["stmmr_domain"] = pd.Categorical(domains)
    adata.obs["stmmr_library_size"] = 10.0
    return adata


def test_constant_genes_tell_nothing():
    adata = small(["a"] * 10 + ["b"] * 10)
    domain_genes(adata, min_fold_change=0.1)
    table = domain_genes_table(adata).set_index(["domain", "against", "gene"])
    for gene in ("SAME", "NONE"):
        row = table.loc[("a", "rest", gene)]
        assert row[["z", "auc", "pval", "log2_fold_change"]].tolist() == [0, 0.5, 1, 0]
        assert not row["specific"]
    assert table.loc[("b", "rest", "RISE"), "auc"] == 1


def test_small_domains_are_said_and_not_tested(caplog):
    adata = small(["a"] * 10 + ["b"] * 2 + ["c"] * 10 + [None])
    domain_genes(adata)
    assert "Not tested, as they have fewer than 3 cells: domains b." in caplog.text
    table = domain_genes_table(adata, domain="b")
    assert table[["z", "pval", "pval_adj", "auc"]].isna().all(axis=None)
    assert not table["specific"].any()
    assert table["share"].notna().all()
    assert domain_genes_table(adata, domain="a")["pval_adj"].notna().all()


def test_sections_are_kept_apart():
    adata = small(["a"] * 20 + ["b"] * 20 + ["c"] * 20)
    adata.obs["section"] = ["1"] * 40 + ["2"] * 20
    domain_genes(adata, section_key="section")
    step = adata.uns["stmmr"]["domain_genes"]["stmmr_domain_genes"]
    assert step["neighbors"].tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert domain_genes_table(adata, domain="c", against="neighbors")["z"].isna().all()
    assert domain_genes_table(adata, domain="c", against="rest")["z"].notna().all()
    adata.obs.loc[adata.obs_names[:3], "section"] = None
    with pytest.raises(InputError, match=r"a section for all cells in obs\['section'\], found 3 of 60"):
        domain_genes(adata, section_key="section")


def test_bad_input_says_what_to_do(simulated):
    with pytest.raises(InputError, match=r"at least two domains.*found a \(20 cells\)"):
        domain_genes(small(["a"] * 20))
    with pytest.raises(InputError, match=r"with 3 cells or more, found a \(2 cells\), b \(1 cells\)"):
        domain_genes(small(["a", "a", "b"]))
    with pytest.raises(InputError, match="found nothing"):
        domain_genes(small([None] * 4))
    with pytest.raises(InputError, match=r"'stmmr_domain' in obs.*Run stmmr.tl.domains"):
        domain_genes(simulated.copy())
    with pytest.raises(InputError, match="min_fold_change"):
        domain_genes(simulated.copy(), domain_key="ground_truth", min_fold_change=0)
    adata = small(["a"] * 5 + ["b"] * 5)
    adata.X = None
    with pytest.raises(InputError, match="raw counts in X, found nothing"):
        domain_genes(adata)
    adata = small(["a"] * 5 + ["b"] * 5, np.zeros((10, 3)))
    del adata.obs["stmmr_library_size"]
    with pytest.raises(InputError, match="Expected counts, found only zeros"):
        domain_genes(adata)
    adata = small(["a"] * 5 + ["b"] * 5)
    del adata.obsm["spatial"]
    with pytest.raises(InputError, match="Expected coordinates"):
        domain_genes(adata)
    with pytest.raises(InputError, match=r"'stmmr_domain_genes' in uns.*Run stmmr.tl.domain_genes"):
        domain_genes_table(adata)
    with pytest.raises(InputError, match=r"domain to be one of Layer 1.*found 'layer'"):
        domain_genes_table(simulated, domain="layer")
    with pytest.raises(InputError, match="against to be one of neighbors, rest, found 'all'"):
        domain_genes_table(simulated, against="all")
    with pytest.raises(InputError, match="Did you mean 'GENE001'"):
        genes.gene_values(simulated, "gene001")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("visium_dlpfc_151673", {"WM": ("MOBP", 1), "Layer5": ("PCP4", 3)}),
        ("st_pdac_A", {"Cancer": ("KRT19", 1), "Pancreatic": ("PRSS1", 15)}),
    ],
)
def test_known_genes_lead_the_regions_of_experts(name, expected, shared_data):
    adata = ad.read_h5ad(shared_data / f"{name}.h5ad")
    domain_genes(adata, domain_key="ground_truth")
    for region, (gene, among) in expected.items():
        best = domain_genes_table(adata, domain=region, against="rest", only_specific=True, n_genes=among)["gene"]
        assert gene in set(best), list(best)
    if name.startswith("visium"):
        step = adata.uns["stmmr"]["domain_genes"]["stmmr_domain_genes"]
        # layers border those above and below, and nothing else
        assert np.array_equal(step["neighbors"], np.abs(np.subtract.outer(range(7), range(7))) == 1)


@pytest.mark.realdata
def test_atria_and_ventricles_of_nine_sections(shared_data):
    adata = ad.read_h5ad(shared_data / "st_human_heart_9sections.h5ad")
    chamber = adata.obs["ground_truth"].astype(str).str.extract(r"(atria|ventricle)")[0]
    adata.obs["chamber"] = pd.Categorical(chamber.fillna("other"))
    domain_genes(adata, domain_key="chamber", section_key="image")
    best = {name: domain_genes_table(adata, domain=name, against="rest", n_genes=5)["gene"] for name in
            ("atria", "ventricle")}  # fmt: skip
    assert "MYH6" in set(best["atria"])
    assert best["ventricle"][0] == "MYH7"


@pytest.mark.nightly
@pytest.mark.realdata
@pytest.mark.slow
def test_known_genes_lead_the_domains_found(shared_data):
    adata = ad.read_h5ad(shared_data / "visium_dlpfc_151673.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.StMMR(adata, steps=1).fit(progress=False)
    stmmr.tl.consensus(adata, 7)
    domain_genes(adata)
    overlap = pd.crosstab(adata.obs["ground_truth"], adata.obs["stmmr_domain"])
    for layer, gene in (("WM", "MOBP"), ("Layer5", "PCP4")):
        best = domain_genes_table(adata, domain=str(overlap.loc[layer].idxmax()), against="rest", n_genes=2)["gene"]
        assert gene in set(best), (layer, list(best))


def test_one_ranking_for_spots_and_cells():
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=60)
    adata.obs["stmmr_domain"] = adata.obs["ground_truth"]
    shares = {}
    for called in ("spots", "cells"):
        if called == "cells":  # what shows that these are spots
            adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
            adata.uns.pop("spatial", None)
        stmmr.tl.domain_genes(adata)
        shares[called] = adata.uns["stmmr"]["domain_genes"]["stmmr_domain_genes"]["min_share"]
        table = domain_genes_table(adata, against="rest")
        best = stmmr.tl.leading_genes(adata, n_genes=3)
        drawn = [label.get_text() for label in stmmr.pl.domain_genes(adata).get_yticklabels()]
        assert drawn == list(dict.fromkeys(gene for names in best.values() for gene in names))
        assert {name: names[:3] for name, names in top_genes(adata).items()} == best
        highest = table.loc[table.groupby("gene", observed=True)["mean"].idxmax(), ["gene", "domain"]].to_numpy()
        for domain, names in best.items():
            rows = table[table["domain"].astype(str) == domain].set_index("gene")
            assert 1 <= len(names) <= 3 and (rows.loc[names, "pval_adj"] < 0.05).all()
            ranks = [([name, domain] in highest.tolist(), *rows.loc[name, ["specific", "z"]]) for name in names]
            assert ranks == sorted(ranks, reverse=True)
    assert shares == {"spots": 0.8, "cells": 0.25}


def test_a_domain_without_a_higher_gene_has_none(caplog):
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=2, n_genes=30)
    adata.obs["stmmr_domain"] = pd.Categorical(np.where(np.arange(adata.n_obs) < 2, "tiny", "rest"))
    stmmr.tl.domain_genes(adata)
    assert stmmr.tl.leading_genes(adata)["tiny"] == []


@pytest.mark.parametrize(("n_spots", "leads"), [(4, False), (8, True)])
def test_a_domain_of_few_spots_leads_no_genes(n_spots, leads):
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=2, n_genes=30)
    few = np.arange(adata.n_obs) < n_spots
    adata.X = adata.X.toarray()
    adata.X[few, 0] += 1000  # as clear as can be
    adata.obs["stmmr_domain"] = pd.Categorical(np.where(few, "few", "rest"))
    stmmr.tl.domain_genes(adata)
    assert (adata.var_names[0] in stmmr.tl.leading_genes(adata)["few"]) == leads
