"""Anyone's domains in the place of those of stmmr: in analyses, figures, tables and the report."""

import json

import numpy as np
import pandas as pd
import pytest

import stmmr
from helpers import run_main
from stmmr._core import keys
from stmmr._core.shown import domains_shown
from stmmr.report._methods import methods_of

QUIET = ("--no-progress", "-q")


@pytest.fixture(scope="module")
def found():
    adata = stmmr.datasets.simulated_tissue(n_rows=18, n_cols=18, n_domains=4, n_genes=80)
    adata.obs["expert"] = adata.obs["ground_truth"].cat.remove_categories(["Layer 1"])
    stmmr.run(adata, n_domains=3, histology=False, progress=False)
    stmmr.analyse(adata, genes=True, root_domain="2", progress=False)
    return adata


def snapshot(adata):
    return adata.obs.copy(), set(adata.uns), json.dumps(sorted(adata.uns["stmmr"]))


def test_others_domains_take_the_place_and_leave_it(found, tmp_path):
    adata = found.copy()
    stmmr.analyse(adata, domain_key="expert", genes=True, trajectory=True, progress=False)
    assert set(adata.uns[keys.DOMAIN_GENES]["domain"]) == set(adata.obs["expert"].dropna())
    before = snapshot(adata)
    with domains_shown(adata, "expert") as shown:
        assert shown.obs[keys.DOMAIN].astype(object).equals(adata.obs["expert"].astype(object))
        assert keys.CONFIDENCE not in shown.obs and keys.BRANCH in shown.obs
        text, _ = methods_of(shown)
        assert "domains are those of the annotation “expert”" in text and "voted" not in text
        assert "with the root in domain Layer" in text
        assert stmmr.tl.leading_genes(shown)
    pd.testing.assert_frame_equal(adata.obs, before[0])
    assert snapshot(adata)[1:] == before[1:]
    stmmr.report.write(adata, tmp_path / "expert.html", domain_key="expert")
    page = (tmp_path / "expert.html").read_text()
    assert "Layer 2" in page and "annotation “expert”" in page
    stmmr.report.write(adata, tmp_path / "own.html")  # has no genes of these domains
    page = (tmp_path / "own.html").read_text()
    assert "annotation “expert”" not in page and "rank-sum" not in page and "voted" in page
    pd.testing.assert_frame_equal(adata.obs, before[0])


def test_a_view_and_an_error_change_nothing(found):
    view = found[:]
    with domains_shown(view, "expert") as shown:
        assert not shown.is_view
    adata, before = found.copy(), snapshot(found)
    with pytest.raises(ZeroDivisionError), domains_shown(adata, "expert"):
        _ = 1 / 0
    pd.testing.assert_frame_equal(adata.obs, before[0])
    with pytest.raises(stmmr.InputError, match="Expected the key 'none' in obs"):
        stmmr.report.write(adata, "x.html", domain_key="none")
    with pytest.raises(stmmr.InputError, match=r"Expected the key '9' in obs\['expert'"):
        stmmr.analyse(adata, domain_key="expert", root_domain="9")


def test_the_folder_is_of_the_domains_that_are_named(tmp_path):
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    adata.obs["leiden"] = pd.Categorical(np.where(adata.obs["ground_truth"] == "Layer 1", "0", "1"))
    adata.write_h5ad(tmp_path / "in.h5ad")
    result = tmp_path / "result"
    assert run_main("run", tmp_path / "in.h5ad", "-o", result, "--n-domains", 3, "--no-histology", *QUIET) == 0
    own = pd.read_csv(result / "domain_genes.csv", dtype=str)
    assert set(own["domain"]) <= set("123")
    assert run_main("analyse", result, "--domain-key", "leiden", *QUIET) == 0  # the genes are found by default
    assert set(pd.read_csv(result / "domain_genes.csv", dtype=str)["domain"]) <= set("01")
    table = pd.read_csv(result / "domains.csv", dtype=str)
    assert table["leiden"].tolist() == adata.obs["leiden"].tolist() and set(table["domain"]) == set("123")
    assert "annotation “leiden”" in (result / "report.html").read_text()
    assert not (result / "confidence.png").exists()
    assert run_main("analyse", result, "--genes", *QUIET) == 0
    assert pd.read_csv(result / "domain_genes.csv", dtype=str).equals(own)
    assert (result / "confidence.png").exists()
    assert "annotation “leiden”" not in (result / "report.html").read_text()
    assert run_main("analyse", result, "--domain-key", "none", *QUIET) == 1


@pytest.mark.parametrize("key", [keys.ALTERNATIVE, keys.DOMAIN_REFINED, keys.BRANCH])
def test_columns_of_stmmr_take_the_place(found, key):
    adata = found.copy()
    if key == keys.ALTERNATIVE:
        adata.obs[key] = adata.obs["expert"]
    with domains_shown(adata, key) as shown:
        assert shown.obs[keys.DOMAIN].astype(object).equals(adata.obs[key].astype(object))
        methods_of(shown)
    with pytest.raises(stmmr.InputError, match="Expected categories in"):
        stmmr.analyse(adata, domain_key=keys.CONFIDENCE, genes=True, progress=False)


def test_report_of_the_second_answer(found, tmp_path):
    adata = found.copy()
    adata.obs[keys.ALTERNATIVE] = adata.obs["expert"]
    stmmr.analyse(adata, domain_key=keys.ALTERNATIVE, genes=True, progress=False)
    with domains_shown(adata, keys.ALTERNATIVE) as shown:
        stmmr.report.write(shown, tmp_path / "r.html")
    assert (tmp_path / "r.html").exists()
