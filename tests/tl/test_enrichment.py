"""Gene sets: the p-values against Fisher's exact test, the file, and the species it is of."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests

from stmmr import InputError
from stmmr.tl import enrichment, gene_set_enrichment

GENES = [f"GENE{i}" for i in range(100)]


def write(path, sets):
    path.write_text("".join("\t".join([name, "https://where", *genes]) + "\n" for name, genes in sets.items()))
    return path


@pytest.fixture
def gmt(tmp_path):
    sets = {"myelin": GENES[:20], "mixed": GENES[10:60:2], "elsewhere": [*GENES[80:], "OTHER1"], "tiny": GENES[:3]}
    return write(tmp_path / "sets.gmt", sets)


def test_agrees_with_fisher(gmt):
    chosen = GENES[:15] + GENES[50:55]
    table = gene_set_enrichment(chosen, gmt, background=GENES).set_index("gene_set")
    assert list(table.index) == ["myelin", "mixed", "elsewhere"]
    for name, genes in {"myelin": GENES[:20], "mixed": GENES[10:60:2], "elsewhere": GENES[80:]}.items():
        a = len(set(chosen) & set(genes))
        counts = [[a, len(chosen) - a], [len(genes) - a, 100 - len(genes) - len(chosen) + a]]
        row = table.loc[name]
        assert row["pval"] == pytest.approx(fisher_exact(counts, alternative="greater")[1])
        assert (row["n_shared"], row["n_set"], row["n_genes"]) == (a, len(genes), 20)
        assert row["fold_enrichment"] == pytest.approx(a / (len(genes) * 20 / 100))
        assert row["genes"] == ";".join(sorted(set(chosen) & set(genes)))
    np.testing.assert_allclose(table["pval_adj"], multipletests(table["pval"], method="fdr_bh")[1])


def with_table(names=GENES):
    """Make a table of two domains, the first of which the first fifteen genes mark."""
    adata = AnnData(np.zeros((4, len(names)), dtype=np.float32), var=pd.DataFrame(index=names))
    rows = [
        {"domain": domain, "against": "rest", "gene": gene, "z": z, "pval_adj": p, "specific": False}
        for domain in "AB"
        for i, gene in enumerate(names)
        for z, p in [(5.0, 0.001) if domain == "A" and i < 15 else (-5.0, 0.001) if i < 30 else (0.5, 0.6)]
    ]
    adata.uns["stmmr_domain_genes"] = pd.DataFrame(rows)
    return adata


def test_genes_of_domains(gmt, tmp_path):
    adata = with_table()
    enrichment(adata, gmt)
    table = adata.uns["stmmr_enrichment"]
    assert set(table["domain"]) == {"A"}  # no gene is higher in B
    assert table["gene_set"].iloc[0] == "myelin"
    expected = gene_set_enrichment(GENES[:15], gmt, background=GENES)
    pd.testing.assert_frame_equal(table.drop(columns="domain").reset_index(drop=True), expected)
    assert adata.uns["stmmr"]["enrichment"]["stmmr_enrichment"]["n_shared"] == 60
    adata.write_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "a.h5ad").uns["stmmr_enrichment"], table)


def test_fewer_genes_and_none(gmt, caplog):
    adata = with_table()
    enrichment(adata, gmt, n_genes=4)
    assert adata.uns["stmmr_enrichment"]["n_genes"].unique().tolist() == [4]
    enrichment(adata, gmt, max_pval_adj=1e-9, key_added="none")
    assert "No gene set enrichment: no domain has genes" in caplog.text
    assert len(adata.uns["none"]) == 0


def test_another_species_is_refused_and_its_share_named(tmp_path):
    mouse = write(tmp_path / "mouse.gmt", {"myelin": [name.capitalize() for name in GENES]})
    with pytest.raises(InputError, match=r"0 of its 100 names \(0\.0% of the shorter list\).*100\.0% if upper and"):
        enrichment(with_table(), mouse)
    ids = write(tmp_path / "ids.gmt", {"myelin": [f"ENSG{i:08d}" for i in range(50)]})
    with pytest.raises(InputError, match=r"such as GENE0, GENE1, GENE10.*0 of its 50 names.*such as ENSG00000000") as e:
        enrichment(with_table(), ids)
    assert "upper and lower" not in str(e.value)


def test_overlap_is_said(tmp_path, gmt, caplog):
    caplog.set_level(logging.INFO, "stmmr")
    enrichment(with_table(), gmt)
    assert "60 of its 61 names (98.4% of the shorter list) among the 100 genes" in caplog.text
    some = write(tmp_path / "some.gmt", {"set": [*GENES[:20], *(f"X{i}" for i in range(80))]})
    enrichment(with_table(), some)
    assert [r.levelname for r in caplog.records if "20 of its 100 names" in r.message] == ["WARNING"]


def test_bad_files_and_genes(tmp_path, gmt):
    with pytest.raises(InputError, match="found none at"):
        enrichment(with_table(), tmp_path / "absent.gmt")
    (tmp_path / "empty.gmt").write_text("\n")
    with pytest.raises(InputError, match="found an empty file"):
        enrichment(with_table(), tmp_path / "empty.gmt")
    (tmp_path / "spaces.gmt").write_text("myelin where GENE1 GENE2\n")
    with pytest.raises(InputError, match="separated by tabs, found line 1 without genes: 'myelin where"):
        enrichment(with_table(), tmp_path / "spaces.gmt")
    (tmp_path / "bytes.gmt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match=r"Is it a \.gmt"):
        enrichment(with_table(), tmp_path / "bytes.gmt")
    with pytest.raises(InputError, match=r"50 to 500 measured genes, found none among 4 \(largest: 25\)"):
        enrichment(with_table(), gmt, min_set=50)
    with pytest.raises(InputError, match="1 ≤ min_set ≤ max_set, found 5 and 4"):
        enrichment(with_table(), gmt, max_set=4)
    with pytest.raises(InputError, match=r"found others: gene1\. Did you mean 'GENE1"):
        gene_set_enrichment(["gene1"], gmt, background=GENES)
    with pytest.raises(InputError, match="found none"):
        gene_set_enrichment([], gmt, background=GENES)
    with pytest.raises(InputError, match=r"Run stmmr\.tl\.domain_genes"):
        enrichment(AnnData(np.zeros((2, 2), dtype=np.float32)), gmt)
