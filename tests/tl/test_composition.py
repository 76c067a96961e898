"""Domains over sections: counted, compared between groups of sections, and named alike."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from stmmr import InputError, tl


@pytest.fixture
def sections():
    """Eight sections of two groups; domain "b" makes up more of the second."""
    rng = np.random.default_rng(0)
    rows = []
    for section in range(8):
        shares = [0.6, 0.2, 0.2] if section < 4 else [0.4, 0.4, 0.2]
        domains = rng.choice(list("abc"), size=300, p=shares)
        rows.append(pd.DataFrame({"section": f"s{section}", "group": "xy"[section // 4], "stmmr_domain": domains}))
    obs = pd.concat(rows, ignore_index=True).astype(str)
    obs.index = obs.index.astype(str)
    return ad.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs.astype("category"))


def test_composition_counts_every_spot_once(sections):
    table = tl.composition(sections, "section")
    assert table["n_obs"].sum() == sections.n_obs
    np.testing.assert_allclose(table.groupby("section", observed=True)["share"].sum(), 1)
    counts = pd.crosstab(sections.obs["section"], sections.obs["stmmr_domain"])
    for row in table.itertuples():
        assert row.n_obs == counts.loc[row.section, row.domain]


def test_the_domain_that_differs_is_found(sections):
    table = tl.compare_composition(sections, "section", group_key="group").set_index("domain")
    assert table.loc["b", "pval_adj"] < 0.01
    assert table.loc["b", "share_y"] > table.loc["b", "share_x"]
    assert table.loc["c", "pval"] > 0.01 * table.loc["b", "pval"]


def test_statistic_is_that_of_scipy(sections):
    counts = pd.crosstab(sections.obs["section"], sections.obs["stmmr_domain"]) + 0.5
    ratios = np.log(counts).sub(np.log(counts).mean(axis=1), axis=0)
    expected = ttest_ind(ratios["a"][:4], ratios["a"][4:], equal_var=False)
    found = tl.compare_composition(sections, "section", group_key="group").set_index("domain").loc["a"]
    assert abs(found["statistic"]) == pytest.approx(abs(expected.statistic))
    assert found["pval"] == pytest.approx(expected.pvalue)


def test_a_name_without_spots_changes_nothing(sections):
    before = tl.compare_composition(sections, "section", group_key="group")
    sections.obs["stmmr_domain"] = sections.obs["stmmr_domain"].astype("category").cat.add_categories(["unused"])
    pd.testing.assert_frame_equal(tl.compare_composition(sections, "section", group_key="group"), before)


def test_three_groups(sections):
    sections.obs["group"] = sections.obs["section"].astype(str).map(lambda name: "uvw"[int(name[1]) % 3])
    table = tl.compare_composition(sections, "section", group_key="group")
    assert np.isfinite(table["pval"]).all()


def test_groups_need_replicates(sections):
    with pytest.raises(InputError, match="at least two groups of two sections"):
        tl.compare_composition(sections, "section", group_key="section")
    sections.obs["group"] = np.random.default_rng(0).choice(list("xy"), sections.n_obs)
    with pytest.raises(InputError, match="Expected one group for each section"):
        tl.compare_composition(sections, "section", group_key="group")
    sections.obs["section"] = sections.obs["section"].cat.set_categories(["s0"])
    with pytest.raises(InputError, match="a section for all cells"):
        tl.composition(sections, "section")


def test_domains_take_over_the_names_they_overlap_most(sections):
    shuffled = sections.obs["stmmr_domain"].map({"a": "3", "b": "1", "c": "2"}).astype("category")
    sections.obs["found"] = shuffled
    tl.match_domains(sections, "stmmr_domain", domain_key="found", key_added="named")
    assert (sections.obs["named"].astype(str) == sections.obs["stmmr_domain"].astype(str)).all()
    assert list(sections.obs["named"].cat.categories) == ["a", "b", "c"]


def test_a_domain_that_is_left_over_keeps_a_name_of_its_own(sections):
    found = sections.obs["stmmr_domain"].astype(str).to_numpy()
    found[np.flatnonzero(found == "a")[:20]] = "new"
    found[0] = None
    sections.obs["found"] = pd.Categorical(found, ["new", "c", "b", "a"])
    tl.match_domains(sections, "stmmr_domain", domain_key="found")
    assert list(sections.obs["found"].cat.categories) == ["a", "b", "c", "new*"]
    assert (sections.obs["found"] == "new*").sum() in (19, 20)
    assert sections.obs["found"].isna().sum() == 1


def test_one_covariate_is_a_list_of_one(sections):
    with pytest.raises(InputError, match=r"covariates to be a list of names, found 'age'. Give a list: cov"):
        tl.compare_composition(sections, "section", group_key="group", covariates="age")


def test_measurements_are_no_domains(sections):
    sections.obs["score"] = np.random.default_rng(0).random(sections.n_obs)
    with pytest.raises(InputError, match=r"Expected categories in obs\['score'\], found numbers with 2400 different"):
        tl.compare_composition(sections, "section", group_key="group", domain_key="score")
    sections.obs["half"] = sections.obs["section"].cat.codes / 2  # few fractions, such as depths of sections
    assert set(tl.composition(sections, "half")["section"]) == set(sections.obs["half"])
    sections.obs["stmmr_confidence"] = 1.0
    with pytest.raises(InputError, match="Expected categories in"):
        tl.composition(sections, "section", domain_key="stmmr_confidence")
