"""Figures of comparisons between sections."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmmr
from stmmr import InputError, pl, tl
from stmmr._core import keys


@pytest.fixture(scope="module")
def cohort():
    """Eight sections of two groups, with domains and cell types."""
    rng = np.random.default_rng(0)
    n = 8 * 40
    obs = pd.DataFrame(
        {
            "section": np.repeat([f"s{i}" for i in range(8)], 40),
            "group": np.repeat(["x", "y"] * 4, 40),
            "donor": np.repeat([f"d{i // 2}" for i in range(8)], 40),
            keys.DOMAIN: rng.choice(list("12"), n),
            "kind": rng.choice(["t1", "t2", "t3"], n),
        },
        index=[f"spot{i}" for i in range(n)],
    ).astype("category")
    adata = AnnData(np.zeros((n, 1), np.float32), obs=obs, obsm={"spatial": rng.uniform(0, 10, (n, 2))})
    adata.uns["stmmr"] = {"spatial_graph": {"section_key": "section"}}
    stmmr.analyse(adata, group_key="group", donor_key="donor", cell_type_key="kind")
    return adata


def test_dots_are_the_shares(cohort):
    ax = pl.composition_tests(cohort)
    drawn = np.concatenate([dots.get_offsets()[:, 0] for dots in ax.collections if len(dots.get_offsets()) > 0])
    assert set(np.round(drawn, 6)) >= set(np.round(cohort.uns[keys.COMPOSITION]["share"], 6))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["x", "y"]


def test_heat_maps_hold_the_tables(cohort):
    image = pl.contacts(cohort).images[0].get_array()
    np.testing.assert_allclose(image, image.T)
    table = cohort.uns[keys.CELL_TYPES].pivot_table("log2_ratio", "domain", "cell_type")
    np.testing.assert_allclose(pl.cell_types(cohort).images[0].get_array(), table)


def test_genes_of_conditions(cohort):
    with pytest.raises(InputError, match="condition_genes"):
        pl.condition_genes(cohort)
    rows = [
        {"domain": domain, "condition": "y", "against": "x", "gene": gene, "log2_fold_change": change, "pval": 0.01}
        for domain in "12"
        for gene, change in (("A", 1.0), ("B", -2.0))
    ]
    cohort.uns[keys.CONDITION_GENES] = pd.DataFrame(rows).assign(pval_adj=[0.01, 0.2, 0.3, 0.01])
    ax = pl.condition_genes(cohort)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["A", "B"]
    assert sum(text.get_text() == "*" for text in ax.texts) == 2
    del cohort.uns[keys.CONDITION_GENES]


def test_tables_follow_renamed_domains(cohort):
    renamed = cohort.copy()
    tl.rename_domains(renamed, {"1": "cortex"})
    assert set(renamed.uns[keys.CONTACT_TESTS]["domain"]) == {"cortex", "2"}
    assert set(renamed.uns[keys.CELL_TYPES]["domain"]) == {"cortex", "2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariates": ["donor"]}, r"group_key \(--group-key\) to compare groups with covariates"),
        ({"donor_key": "donor"}, r"group_key \(--group-key\) to compare groups with donor_key"),
        ({"group_key": "group", "covariates": ["group"]}, "these determine it"),
        ({"cell_type_key": "none"}, "Expected cell types in obs"),
    ],
)
def test_options_are_checked(cohort, options, message):
    with pytest.raises(InputError, match=message):
        stmmr.analyse(cohort.copy(), **options)
