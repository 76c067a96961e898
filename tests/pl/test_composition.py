"""What stands on the axes of the bars of sections and of gene sets."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_rgba

import stmmr
from stmmr import InputError
from stmmr._core.categories import PALETTE
from stmmr.pl import composition, enrichment


def texts(labels):
    return [label.get_text() for label in labels]


@pytest.fixture
def sections(section):
    """The section twice, the second without its last five spots, of which one has no domain."""
    both = ad.concat({"a": section, "b": section[:75]}, label="section", index_unique="-")
    domains = both.obs["stmmr_domain"].astype(object)
    domains.iloc[-1] = None
    both.obs["stmmr_domain"] = domains.astype("category")
    return both


def test_bars_are_shares_of_sections(sections):
    ax = composition(sections, "section")
    assert texts(ax.get_yticklabels()) == ["a", "b"]
    expected = pd.crosstab(sections.obs["section"], sections.obs["stmmr_domain"], normalize="index")
    for bars, (domain, shares) in zip(ax.containers, expected.items(), strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in bars], shares)
        assert {bar.get_facecolor() for bar in bars} == {to_rgba(PALETTE[int(domain) - 1])}
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    np.testing.assert_allclose(ends, 1)
    assert texts(ax.texts) == ["80", "74"]
    assert texts(ax.get_legend().get_texts()) == ["1", "2", "3"]


def test_bars_on_axes_that_are_given(sections):
    given = composition(sections, "section")
    assert composition(sections, "section", ax=given) is given


def test_bars_of_the_table_of_before(sections):
    with pytest.raises(InputError, match="Give section_key"):
        composition(sections)
    sections.uns["stmmr_composition"] = stmmr.tl.composition(sections, "section")
    assert texts(composition(sections).texts) == ["80", "74"]


def test_a_section_key_that_is_not_there(sections):
    with pytest.raises(InputError, match=r"key 'sectoin' in obs.*Did you mean 'section'"):
        composition(sections, "sectoin")


@pytest.fixture
def enriched():
    adata = AnnData(np.zeros((3, 2), np.float32))
    adata.uns["stmmr_enrichment"] = pd.DataFrame(
        {
            "domain": ["2", "2", "2", "1", "1"],
            "gene_set": ["MYELIN_SHEATH", "AXON", "SYNAPSE", "BLOOD", "RIBOSOME"],
            "n_shared": [9, 5, 4, 3, 1],
            "n_set": [20, 30, 40, 10, 50],
            "pval_adj": [1e-8, 1e-2, 1e-3, 0.04, 0.9],
        }
    )
    return adata


def test_bars_of_the_best_sets(enriched):
    ax = enrichment(enriched, n_sets=2)
    assert texts(ax.get_yticklabels()) == ["MYELIN SHEATH", "SYNAPSE", "BLOOD"]
    (bars,) = ax.containers
    np.testing.assert_allclose([bar.get_width() for bar in bars], -np.log10([1e-8, 1e-3, 0.04]))
    assert [bar.get_facecolor() for bar in bars] == [to_rgba(PALETTE[i]) for i in (1, 1, 0)]
    assert texts(ax.texts) == ["9 of 20", "4 of 40", "3 of 10"]
    assert texts(ax.get_legend().get_texts()) == ["2", "1"]


def test_sets_that_are_not_there(enriched):
    with pytest.raises(InputError, match=r"at most 1e-10, found none among 5\. Use a larger max_pval_adj"):
        enrichment(enriched, max_pval_adj=1e-10)
    with pytest.raises(InputError, match=r"stmmr_enrichmnt.*Run stmmr.tl.enrichment"):
        enrichment(enriched, key="stmmr_enrichmnt")
    with pytest.raises(InputError, match="n_sets"):
        enrichment(enriched, n_sets=0)


def test_sets_of_simulated_domains(tmp_path):
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_genes=60)
    adata.obs["stmmr_domain"] = adata.obs["ground_truth"]
    stmmr.tl.domain_genes(adata)
    table = stmmr.tl.domain_genes_table(adata, against="rest")
    lines = [
        "\t".join([f"SET_{domain}", "made", *rows["gene"][:6]])
        for domain, rows in table.groupby("domain", observed=True, sort=False)
    ]
    (tmp_path / "sets.gmt").write_text("\n".join(lines))
    stmmr.tl.enrichment(adata, tmp_path / "sets.gmt", n_genes=6)
    ax = enrichment(adata, n_sets=1)
    assert len(ax.get_yticklabels()) == len(table["domain"].unique())
