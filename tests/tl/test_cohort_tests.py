"""Tests between groups of sections: what they find, what they remove, and how often they find what is not there."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from benchmarks import calibration
from benchmarks.calibration import cohort, with_counts
from scipy.stats import ttest_ind, ttest_rel

from stmmr import InputError, tl
from stmmr._core import keys


def test_donors_with_both_groups_are_a_paired_test():
    adata = cohort(np.random.default_rng(0), shift=0.5, donors=True)
    table = tl.compare_composition(adata, "section", group_key="group", donor_key="donor").set_index("domain")
    counts = pd.crosstab(adata.obs["section"], adata.obs["stmmr_domain"]) + 0.5
    ratios = np.log(counts).sub(np.log(counts).mean(axis=1), axis=0)
    for domain in "abc":
        expected = ttest_rel(ratios[domain][::2], ratios[domain][1::2])
        assert table.loc[domain, "pval"] == pytest.approx(expected.pvalue)
        assert table.loc[domain, "statistic"] == pytest.approx(expected.statistic)
    unpaired = tl.compare_composition(adata, "section", group_key="group").set_index("domain")
    assert table.loc["a", "pval"] < unpaired.loc["a", "pval"]


def test_donors_of_one_group_are_the_replicates():
    adata = cohort(np.random.default_rng(1), nested=True)
    table = tl.compare_composition(adata, "section", group_key="group", donor_key="donor")
    counts = pd.crosstab(adata.obs["section"], adata.obs["stmmr_domain"]) + 0.5
    ratios = np.log(counts).sub(np.log(counts).mean(axis=1), axis=0)
    by_donor = ratios.groupby(np.arange(12) // 2).mean()
    expected = ttest_ind(by_donor[:3], by_donor[3:], equal_var=False)
    np.testing.assert_allclose(table["pval"], expected.pvalue)


def test_covariates_are_removed():
    adata = cohort(np.random.default_rng(2), shift=0.9, batch=2.5)
    plain = tl.compare_composition(adata, "section", group_key="group").set_index("domain")
    adjusted = tl.compare_composition(adata, "section", group_key="group", covariates=["batch", "age"])
    assert adjusted.set_index("domain").loc["a", "pval"] < plain.loc["a", "pval"]
    assert list(adjusted) == list(plain.reset_index())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariates": ["group"]}, "these determine it"),
        ({"covariates": ["section"]}, "these determine it|more sections than effects"),
        ({"covariates": ["nothing"]}, "'nothing' in obs"),
        ({"covariates": ["x"]}, "Expected one x for each section"),
        ({"donor_key": "group"}, "two groups of two donors"),
    ],
)
def test_designs_that_cannot_be_tested(options, message):
    adata = cohort(np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        tl.compare_composition(adata, "section", group_key="group", **options)


def test_contacts_of_mixed_and_separate_domains():
    adata = cohort(np.random.default_rng(3))
    together = (adata.obs["group"] == "y").to_numpy()
    left = adata.obs["x"] < 5
    adata.obs["stmmr_domain"] = np.where(together & left, "a", np.where(together, "b", adata.obs["stmmr_domain"]))
    adata.obs["stmmr_domain"] = adata.obs["stmmr_domain"].astype("category")
    tl.compare_contacts(adata, "section", group_key="group", n_neighbors=4)
    table = adata.uns[keys.CONTACT_TESTS].set_index(["domain", "other"])
    assert table.loc[("a", "b"), "log2_ratio_y"] < -1 < table.loc[("a", "b"), "log2_ratio_x"]
    assert table.loc[("a", "b"), "pval_adj"] < 1e-3
    assert abs(table.loc[("a", "a"), "log2_ratio_x"]) < 0.3


def test_cell_types_of_a_domain():
    adata = cohort(np.random.default_rng(4), n=2, spots=300)
    adata.obs["stmmr_domain"] = pd.Categorical(np.where((adata.obs["x"] - 5).abs() < 2, "a", "b"))
    kind = np.where((adata.obs["stmmr_domain"] == "a") & (np.arange(600) % 3 > 0), "t1", "t2")
    adata.obs["kind"] = pd.Categorical(kind)
    tl.cell_types(adata, "kind", section_key="section", n_permutations=99)
    table = adata.uns[keys.CELL_TYPES].set_index(["domain", "cell_type"])
    assert table.loc[("a", "t1"), "share"] == pytest.approx(2 / 3, abs=0.05)
    assert table.loc[("a", "t1"), "log2_ratio"] > 0.5
    assert table.loc[("a", "t1"), "pval"] <= 0.02
    assert table.loc[("b", "t1"), "z"] < -2
    adata.obsm["fractions"] = pd.get_dummies(adata.obs["kind"]).astype(float)
    tl.cell_types(adata, "fractions", section_key="section", n_permutations=99)
    pd.testing.assert_frame_equal(adata.uns[keys.CELL_TYPES].set_index(["domain", "cell_type"]), table)
    with pytest.raises(InputError, match="Expected cell types in obs"):
        tl.cell_types(adata, "unknown")


def test_genes_of_a_condition():
    pytest.importorskip("pydeseq2")
    rng = np.random.default_rng(5)
    adata = with_counts(rng, cohort(rng, donors=True, n=8), fold=4)
    tl.condition_genes(adata, "~ donor + group", section_key="section", min_spots=5)
    table = adata.uns[keys.CONDITION_GENES]
    best = table[table["domain"] == "a"].iloc[0]
    assert (best["gene"], best["condition"], best["against"]) == ("0", "y", "x")
    assert best["log2_fold_change"] == pytest.approx(2, abs=0.8)
    assert best["specific"]
    assert not table[(table["domain"] == "b") & (table["gene"] == "0")]["specific"].any()
    for design, message in [
        ("~ group + age", "Expected a last variable"),
        ("~ nothing", "'nothing' in obs"),
        ("~ 1", "Expected a design with a condition"),
        ("~ group + (", "Expected a design such as"),
        ("~ section + group", "Expected domains with two sections or more"),
    ]:
        with pytest.raises(InputError, match=message):
            tl.condition_genes(adata, design, section_key="section", min_spots=5)


@pytest.mark.nightly
@pytest.mark.parametrize("case", calibration.CASES)
def test_five_percent_of_nulls_are_found(case):
    assert 0.03 <= np.mean([calibration.rate(case, null=True, seed=seed) for seed in (0, 1)]) <= 0.07
    assert calibration.rate(case, null=False, draws=100) > 0.5


@pytest.mark.nightly
def test_five_percent_of_null_genes_are_found():
    pytest.importorskip("pydeseq2")
    assert 0.03 <= calibration.gene_rate(1.0, draws=200, cohorts=3) <= 0.07
    assert calibration.gene_rate(3.0, draws=200, cohorts=1) > 0.5


def test_categories_of_numbers_are_numbers(cohort_of_ages):
    by_number = tl.compare_composition(cohort_of_ages, "section", group_key="group", covariates=["age"])
    cohort_of_ages.obs["age"] = cohort_of_ages.obs["age"].astype(str).astype("category")
    by_text = tl.compare_composition(cohort_of_ages, "section", group_key="group", covariates=["age"])
    pd.testing.assert_frame_equal(by_text, by_number)


@pytest.fixture
def cohort_of_ages():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"section": np.repeat(np.arange(8), 50), "stmmr_domain": rng.choice(list("abc"), 400)})
    obs["group"], obs["age"] = np.where(obs["section"] < 4, "x", "y"), 40 + obs["section"] * 7 % 11
    obs = obs.astype({"section": str, "stmmr_domain": "category"}).astype({"section": "category", "group": "category"})
    return ad.AnnData(np.zeros((400, 1), dtype=np.float32), obs=obs.set_index(obs.index.astype(str)))
