"""Names and merges from a file into a result folder: everything there is of the new domains, or as it was."""

import csv
import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmmr
from helpers import contents, run_main
from stmmr._core import keys
from stmmr._core.depends import outdated
from stmmr.pipeline.annotating import read_names

QUIET = ("--no-progress", "-q")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A result with genes, gene sets and a trajectory."""
    folder = tmp_path_factory.mktemp("annotate")
    tissue = stmmr.datasets.simulated_tissue(n_rows=18, n_cols=18, n_domains=4, n_genes=100, random_state=1)
    tissue.write_h5ad(folder / "in.h5ad")
    sets = ("\t".join([f"set{i}", "", *tissue.var_names[i::4]]) for i in range(4))
    (folder / "sets.gmt").write_text("\n".join(sets))
    options = ("--n-domains", 4, "--no-histology", "--root-domain", 3, "--gene-sets", folder / "sets.gmt")
    assert run_main("run", folder / "in.h5ad", "-o", folder / "result", *options, *QUIET) == 0
    return folder / "result"


@pytest.fixture
def result(found, tmp_path):
    return shutil.copytree(found, tmp_path / "result")


def written(path, sizes):
    """Write what the page exports after two domains were merged and one renamed."""
    entries = [
        {"domain": "2", "name": "White matter", "note": "MOBP, MBP", "n_obs": int(sizes["2"])},
        {"domain": "3", "name": "White matter", "note": "", "n_obs": int(sizes["3"])},
        {"domain": "1", "name": "Layer 1/2", "note": "thin", "n_obs": int(sizes["1"])},
    ]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            table = csv.DictWriter(file, ["domain", "name", "note", "n_obs"])
            table.writeheader()
            table.writerows(entries)
    else:
        content = {"format": "stmmr-domains", "version": 1, "domain_key": keys.DOMAIN, "domains": entries}
        path.write_text(json.dumps(content | {"made_by": "a later version"}))
    return path


NEW = {"1": "Layer 1/2", "2": "White matter", "3": "White matter", "4": "4"}


@pytest.mark.parametrize("separator", ";\t")
def test_tables_of_spreadsheets_are_read(tmp_path, separator):
    path = tmp_path / "names.csv"
    path.write_text(separator.join(["domain", "name", "note"]) + f"\n1{separator}Layer 1, 2{separator}thin\n")
    (entry,) = read_names(path).domains
    assert (entry.domain, entry.name, entry.note) == ("1", "Layer 1, 2", "thin")


@pytest.mark.parametrize("suffix", [".json", pytest.param(".csv", marks=pytest.mark.nightly)])
def test_a_rename_and_a_merge_reach_everything(result, tmp_path, capsys, suffix):
    before = stmmr.read(result / "result.h5ad")
    (result / "mine.txt").write_text("mine")
    names = written(tmp_path / f"names{suffix}", before.obs[keys.DOMAIN].value_counts())
    assert run_main("annotate", result, names, *QUIET) == 0
    table = pd.read_csv(result / "domains.csv", dtype={"domain": str})
    assert table["domain"].tolist() == [NEW[name] for name in before.obs[keys.DOMAIN]]
    assert set(table["domain_refined"]) <= set(NEW.values())
    assert (result / "mine.txt").read_text() == "mine"
    # genes, colours, trajectory
    for name in ("domain_genes.csv", "enrichment.csv"):
        named = set(pd.read_csv(result / name, dtype=str)["domain"])
        assert {"Layer 1/2", "White matter"} <= named <= set(NEW.values())
    after = stmmr.read(result / "result.h5ad")
    assert not outdated(after)
    again = before.copy()
    again.obs[keys.DOMAIN] = pd.Categorical(
        before.obs[keys.DOMAIN].map(NEW).tolist(), categories=["Layer 1/2", "White matter", "4"]
    )
    stmmr.analyse(again, genes=True, root_domain="White matter", progress=False)
    np.testing.assert_allclose(after.obs[keys.PSEUDOTIME], again.obs[keys.PSEUDOTIME])
    pd.testing.assert_frame_equal(after.uns[keys.DOMAIN_GENES], again.uns[keys.DOMAIN_GENES])
    assert list(after.uns[keys.DOMAIN_NOTES]["note"]) == ["thin", "MOBP, MBP"]
    # what is written about it
    facts = json.loads((result / "run.json").read_text())
    assert facts["annotations"][0]["names"] == {"1": "Layer 1/2", "2": "White matter", "3": "White matter"}
    assert "failed" not in facts and (result / "model" / "model.json").exists()
    page = (result / "report.html").read_text()
    assert "Domains 2 and 3 were merged into “White matter” by hand; 3 domains remain" in page
    assert "with the root in domain White matter" in page
    for name in ("domains.png", "domain_genes.png", "paga.png", "bandwidth.png"):
        assert (result / name).exists()
    # the same file again
    after = contents(result)
    assert run_main("annotate", result, names, *QUIET) == 1
    message = capsys.readouterr().err
    assert "'White matter', '4', found '2', '3', '1'. Of their new names, 'Layer 1/2', 'White matter' exist" in message
    assert contents(result) == after


def test_names_only_change_no_number(result, tmp_path):
    before = ad.read_h5ad(result / "result.h5ad")
    (tmp_path / "names.csv").write_text("domain,name\n4,tumour\n1,\n")
    assert run_main("annotate", result, tmp_path / "names.csv", "--no-report", *QUIET) == 0
    after = ad.read_h5ad(result / "result.h5ad")
    assert after.uns[keys.DOMAIN_GENES]["z"].equals(before.uns[keys.DOMAIN_GENES]["z"])
    old = before.uns[keys.ENRICHMENT]["domain"].astype(str)
    assert after.uns[keys.ENRICHMENT]["domain"].tolist() == old.replace("4", "tumour").tolist()
    assert not (result / "report.html").exists()
    assert run_main("analyse", result, "--root-domain", "tumour", *QUIET) == 0
    assert "with the root in domain tumour" in (result / "report.html").read_text()


def test_the_composition_of_a_mapped_section_follows(found, result, tmp_path, caplog):
    options = ("--model", result, "-o", tmp_path / "mapped", "--no-genes", "--no-report", *QUIET)
    assert run_main("map", found.parent / "in.h5ad", *options) == 0
    for name, text in (("renamed", "1,tumour"), ("merged", "tumour,x\n2,x")):
        (tmp_path / f"{name}.csv").write_text(f"domain,name\n{text}\n")
    assert run_main("annotate", tmp_path / "mapped", tmp_path / "renamed.csv", "--no-report", *QUIET) == 0
    assert set(pd.read_csv(tmp_path / "mapped" / "composition.csv", dtype=str)["domain"]) == {"tumour", *"234"}
    assert run_main("annotate", tmp_path / "mapped", tmp_path / "merged.csv", "--no-report", *QUIET) == 0
    assert "Map the section again" in caplog.text
    assert not (tmp_path / "mapped" / "composition.csv").exists()


def test_another_column(result, tmp_path):
    (tmp_path / "names.csv").write_text("domain,name\nLayer 1,L1\n")
    assert (
        run_main("annotate", result, tmp_path / "names.csv", "--domain-key", "ground_truth", "--no-report", *QUIET) == 0
    )
    after = ad.read_h5ad(result / "result.h5ad")
    assert "L1" in set(after.obs["ground_truth"]) and set(after.obs[keys.DOMAIN]) == set("1234")


BAD = [
    (None, "Expected a file with names of domains (.json or .csv), found none at"),
    ("[]", "found other content (a list)"),
    ('{"format": "other", "version": 1}', "found 'other' for format"),
    ('{"format": "stmmr-domains", "version": 2}', "found 2 for version"),
    ('{"format": "stmmr-domains", "version": 1}', "Expected names of domains in"),
    ('{"format": "stmmr-domains", "version": 1, "domains": [{"name": "x"}]}', "found no 'domain'"),
    ("domain:name\n1:x\n", "Expected the columns domain and name"),
    ("", "(CSV, UTF-8), found no rows"),
    (
        "domain,name\n9,x\n",
        "Expected domains of obs['stmmr_domain'], which are '1', '2', '3', '4', found '9'. Give the domains by",
    ),
    ("domain,name\n1,x\n1,y\n", "Expected each domain once in the file of names, found 1 twice"),
    ("domain,name,n_obs\n1,x,7\n", "was applied before. Export the names from the present report"),
    ("domain,name\n1,nan\n", "stands for a missing value"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_cannot_be_used_changes_nothing(found, tmp_path, capsys, content, message):
    before = contents(found)
    path = tmp_path / ("names.json" if content and content[0] in "[{" else "names.csv")
    if content is not None:
        path.write_text(content)
    assert run_main("annotate", found, path, *QUIET) == 1
    assert message in capsys.readouterr().err
    assert contents(found) == before
