"""Domains renamed and merged: results keep their values under new names, or are those of the merged domains."""

import numpy as np
import pandas as pd
import pytest
from benchmarks.calibration import cohort, with_counts

import stmmr
from stmmr import tl
from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.depends import outdated
from stmmr._core.record import recorded
from stmmr.io._tables import write_h5ad
from stmmr.report._methods import methods_of
from stmmr.tl import merge_domains, rename_domains

NAMES = {"1": "White matter", "3": "Layer 1/2", "2": "3"}
"""Two names with a space or a slash, and one that another domain had."""
AFTER = ["White matter", "3", "Layer 1/2", "4"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_domains=4, n_genes=60)
    adata.obs["section"] = np.where(np.arange(adata.n_obs) < adata.n_obs // 2, "a", "b")
    gmt = tmp_path_factory.mktemp("sets") / "sets.gmt"
    gmt.write_text("\n".join("\t".join([f"s{i}", "", *adata.var_names[i::3]]) for i in range(3)))
    stmmr.run(adata, histology=False, n_domains=4, section_key="section", label_key="ground_truth", progress=False)
    stmmr.analyse(adata, genes=True, gene_sets=gmt, root_domain="3", progress=False)
    stmmr.tl.domain_tree(adata)
    adata.uns["stmmr_domain_colors"] = ["#000001", "#000002", "#000003", "#000004"]
    return adata


def test_renamed_domains_keep_every_value(found, tmp_path):
    adata = found.copy()
    rename_domains(adata, NAMES, notes={"1": "MOBP"})
    assert list(adata.obs[keys.DOMAIN].cat.categories) == AFTER
    new = dict(zip("1234", AFTER, strict=True))
    pd.testing.assert_frame_equal(
        adata.uns[keys.DOMAIN_GENES].drop(columns="domain"), found.uns[keys.DOMAIN_GENES].drop(columns="domain")
    )
    for key in (keys.DOMAIN_GENES, keys.ENRICHMENT, keys.COMPOSITION):
        assert adata.uns[key]["domain"].tolist() == [new[str(name)] for name in found.uns[key]["domain"]]
    for key in (keys.DOMAIN, keys.DOMAIN_REFINED):
        assert adata.obs[key].tolist() == [new[name] for name in found.obs[key]]
    assert recorded(adata)["trajectory"]["root_domain"] == "Layer 1/2"
    assert adata.obs[keys.PSEUDOTIME].equals(found.obs[keys.PSEUDOTIME])
    assert recorded(adata)["evaluation"] == recorded(found)["evaluation"]
    assert list(recorded(adata)["domain_tree"]["domains"]) == AFTER
    stmmr.tl.cut_tree(adata, 2, key_added="two")
    assert not outdated(adata)
    write_h5ad(adata, tmp_path / "a.h5ad")
    adata = stmmr.read(tmp_path / "a.h5ad")
    assert not outdated(adata)
    assert stmmr.tl.domain_genes_table(adata, domain="Layer 1/2", n_genes=1).shape[0] == 2
    assert adata.uns[keys.DOMAIN_NOTES].to_numpy().tolist() == [["White matter", "MOBP"]]
    text, _ = methods_of(adata)
    assert "with the root in domain Layer 1/2" in text and "edited" not in text and "merged" not in text


def test_there_and_back_is_the_same(found):
    adata = found.copy()
    rename_domains(adata, NAMES)
    rename_domains(adata, dict(zip(AFTER, "1234", strict=True)))
    pd.testing.assert_frame_equal(adata.obs, found.obs)
    for key in (keys.DOMAIN_GENES, keys.ENRICHMENT, keys.COMPOSITION):
        pd.testing.assert_frame_equal(adata.uns[key], found.uns[key], check_dtype=key != keys.COMPOSITION)
    assert set(adata.uns[keys.DEPENDS]) == set(found.uns[keys.DEPENDS])


def test_a_merge_gives_what_the_merged_domains_give(found, caplog):
    adata = found.copy()
    merge_domains(adata, {"Inside": ["2", "3"]}, notes={"2": "one", "3": "other"})
    by_hand = found.copy()
    names = {"1": "1", "2": "Inside", "3": "Inside", "4": "4"}
    by_hand.obs[keys.DOMAIN] = pd.Categorical(
        found.obs[keys.DOMAIN].map(names).tolist(), categories=["1", "Inside", "4"]
    )
    stmmr.tl.refine(by_hand)
    stmmr.analyse(by_hand, genes=True, root_domain="Inside", progress=False)
    stmmr.tl.evaluate(by_hand, label_key="ground_truth")
    pd.testing.assert_series_equal(adata.obs[keys.DOMAIN], by_hand.obs[keys.DOMAIN])
    for key in (keys.DOMAIN_REFINED, keys.PSEUDOTIME, keys.BRANCH):
        pd.testing.assert_series_equal(adata.obs[key], by_hand.obs[key])
    for key in (keys.DOMAIN_GENES, keys.COMPOSITION):
        pd.testing.assert_frame_equal(adata.uns[key], by_hand.uns[key])
    mine, theirs = recorded(adata), recorded(by_hand)
    pd.testing.assert_frame_equal(mine["gene_trends"]["table"], theirs["gene_trends"]["table"])
    assert mine["evaluation"][keys.DOMAIN] == theirs["evaluation"][keys.DOMAIN]
    assert list(mine["domain_tree"]["domains"]) == ["1", "Inside", "4"]
    assert adata.obs[keys.CONFIDENCE].equals(found.obs[keys.CONFIDENCE])
    assert keys.ENRICHMENT not in adata.uns  # its file is not at hand
    assert "Removed results of the domains before the merge: enrichment. Compute them again." in caplog.text
    assert adata.uns[keys.DOMAIN_NOTES].to_numpy().tolist() == [["Inside", "one\nother"]]
    assert not outdated(adata)
    text, _ = methods_of(adata)
    assert "Domains 2 and 3 were merged into “Inside” by hand; 3 domains remain" in text


def test_the_largest_gives_the_colour(found):
    adata = found.copy()
    merge_domains(adata, {"a": ["2", "4"], "b": ["1", "3"]}, recompute=False)
    assert list(adata.uns["stmmr_domain_colors"]) == ["#000001", "#000002"]
    assert list(adata.obs[keys.DOMAIN].cat.categories) == ["b", "a"]


def test_what_is_not_computed_again_is_removed(found):
    adata = found.copy()
    merge_domains(adata, {"2": ["2", "3"]}, recompute=False)
    for key in (keys.DOMAIN_GENES, keys.ENRICHMENT, keys.COMPOSITION):
        assert key not in adata.uns
    for key in (keys.PSEUDOTIME, keys.BRANCH, keys.DOMAIN_REFINED):
        assert key not in adata.obs
    assert not {"trajectory", "gene_trends", "domain_tree"} & set(recorded(adata))


@pytest.mark.parametrize("genes", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_tests_of_a_cohort_are_those_of_the_merged_domains(genes, caplog):
    rng = np.random.default_rng(0)
    adata = with_counts(rng, cohort(rng), n_genes=8)
    adata.obs["kind"] = pd.Categorical(rng.choice(["t1", "t2"], adata.n_obs))

    def compare(adata):
        tl.compare_contacts(adata, "section", group_key="group", covariates=["age"], n_neighbors=5)
        tl.cell_types(adata, "kind", section_key="section", n_permutations=99, random_state=3)
        if genes:
            pytest.importorskip("pydeseq2")
            tl.condition_genes(adata, "~ group", section_key="section", min_spots=3, min_counts=5)

    expected = adata.copy()
    names = expected.obs["stmmr_domain"].astype(str).replace({"a": "ab", "b": "ab"})
    expected.obs["stmmr_domain"] = pd.Categorical(names, ["ab", "c"])
    compare(expected)
    compare(adata)
    merge_domains(adata, {"ab": ["a", "b"]})
    for note in ("contact_tests", "cell_types", *["condition_genes"][: int(genes)]):
        pd.testing.assert_frame_equal(adata.uns[f"stmmr_{note}"], expected.uns[f"stmmr_{note}"])
        assert str(adata.uns["stmmr"][note]) == str(expected.uns["stmmr"][note])
    assert "Removed" not in caplog.text


def test_all_merged_into_one(found, caplog):
    adata = found.copy()
    merge_domains(adata, {"all": list("1234")})
    assert adata.obs[keys.DOMAIN].unique().tolist() == ["all"]
    assert keys.DOMAIN_GENES not in adata.uns and "Expected at least two domains" in caplog.text


def test_merged_twice_is_told_by_the_domains_that_were_found(found):
    adata = found.copy()
    merge_domains(adata, {"x": ["2", "3"]}, recompute=False)
    merge_domains(adata, {"y": ["x", "4"]}, recompute=False)
    rename_domains(adata, {"y": "z"})
    assert "Domains 2, 3 and 4 were merged into “z” by hand" in methods_of(adata)[0]
    stmmr.tl.domains(adata, 3, method="kmeans")
    assert "annotation" not in recorded(adata) and "by hand" not in methods_of(adata)[0]


def test_another_column(found):
    adata = found.copy()
    adata.obs["mine"] = adata.obs["ground_truth"].astype(str)
    old = sorted(set(adata.obs["mine"].dropna()) - {"nan"})  # NaN from pandas 3 on
    stmmr.tl.domain_genes(adata, domain_key="mine", key_added="genes of mine")
    rename_domains(adata, {old[0]: "first"}, domain_key="mine", notes={old[0]: "n"})
    assert set(adata.uns["genes of mine"]["domain"]) == {"first", *old[1:]}
    assert list(adata.uns["mine_notes"]["domain"]) == ["first"]
    merge_domains(adata, {"first": ["first", old[1]]}, domain_key="mine")
    assert set(adata.uns["genes of mine"]["domain"]) == {"first", *old[2:]}
    assert adata.uns[keys.DOMAIN_GENES].equals(found.uns[keys.DOMAIN_GENES])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda adata: rename_domains(adata, {"9": "x"}),
            r"Expected domains of obs\['stmmr_domain'\], .*found '9'",
        ),
        (lambda adata: rename_domains(adata, {"1": "2"}), r"found '2' for 1, 2. To merge them, use .*merge_domains"),
        (lambda adata: rename_domains(adata, {"1": " nan "}), "stands for a missing value"),
        (
            lambda adata: rename_domains(adata, {}, notes={"9": "x"}),
            "found '9'. Give the domains by",
        ),
        (lambda adata: merge_domains(adata, {"x": "12"}), "Expected a list of domains"),
        (lambda adata: merge_domains(adata, {"x": ["1", "2"], "y": ["2", "3"]}), "found 2 in two"),
        (lambda adata: merge_domains(adata, {"4": ["1", "2"]}), "the name of another domain. Add 4 to the group"),
        (lambda adata: merge_domains(adata, {"x": ["1"]}, domain_key="none"), "Expected the key 'none' in obs"),
    ],
)
def test_bad_names(found, change, message):
    adata = found.copy()
    with pytest.raises(InputError, match=message):
        change(adata)
    assert adata.obs.equals(found.obs)


@pytest.mark.parametrize("again", [merge_domains, rename_domains])
def test_names_that_were_applied_before_are_told(found, again):
    adata = found.copy()
    merge_domains(adata, {"White matter": ["1", "2"]})
    before = adata.obs.copy()
    names = {"White matter": ["1", "2"]} if again is merge_domains else {"1": "White matter"}
    message = "which are 'White matter', '3', .*found '1'.* 'White matter' exist already: they may"
    with pytest.raises(InputError, match=message):
        again(adata, names)
    with pytest.raises(InputError, match=r"found 'white matter'\..* Did you mean 'White matter'\?"):
        rename_domains(adata, {"white matter": "WM"})
    assert adata.obs.equals(before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda adata: merge_domains(adata, ["1", "2"]), "groups to be a mapping"),
        (lambda adata: merge_domains(adata, {"A": "12"}), "a list of domains to merge into 'A', found '12'"),
        (lambda adata: merge_domains(adata, {"A": 5}), "a list of domains to merge into 'A', found 5"),
        (lambda adata: rename_domains(adata, ["1"]), "names to be a mapping"),
        (lambda adata: rename_domains(adata, {"1": "A"}, notes="h"), "notes to be a mapping, .*found 'h'"),
    ],
)
def test_what_is_no_mapping_is_an_input_error(found, call, message):
    with pytest.raises(InputError, match=f"^Expected {message}"):
        call(found.copy())
