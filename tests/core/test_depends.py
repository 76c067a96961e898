"""A result is removed, or warned of, once what it was computed from has changed."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stmmr
from stmmr._core import keys
from stmmr._core.checks import InputError
from stmmr._core.depends import drop_outdated, outdated
from stmmr._core.record import recorded
from stmmr.report._methods import methods_of

OF_DOMAINS = {
    "domain_genes:stmmr_domain_genes", "trajectory", "gene_trends", "evaluation:stmmr_domain",
    "refine:stmmr_domain_refined", "enrichment:stmmr_enrichment", "composition",
}  # fmt: skip
OF_EMBEDDING = {"trajectory", "gene_trends", "number_of_domains", "umap:X_stmmr_umap", "consensus"}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_domains=4, n_genes=60)
    adata.obs["section"] = np.where(np.arange(adata.n_obs) < adata.n_obs // 2, "a", "b")
    gmt = tmp_path_factory.mktemp("sets") / "sets.gmt"
    gmt.write_text("\n".join("\t".join([f"s{i}", "", *adata.var_names[i::3]]) for i in range(3)))
    stmmr.run(adata, histology=False, n_domains=4, section_key="section", label_key="ground_truth", progress=False)
    stmmr.tl.number_of_domains(adata, at_most=3, n_init=1)
    stmmr.tl.umap(adata)
    stmmr.analyse(adata, genes=True, gene_sets=gmt, trajectory=True, progress=False)
    return adata


def merged(adata):
    first = adata.obs[keys.DOMAIN].cat.categories[0]
    names = adata.obs[keys.DOMAIN].astype(str).replace(adata.obs[keys.DOMAIN].cat.categories[1], first)
    adata.obs[keys.DOMAIN] = pd.Categorical(names)


def renamed(adata):
    adata.obs[keys.DOMAIN] = adata.obs[keys.DOMAIN].cat.rename_categories({"1": "white matter"})


def swapped_names(adata):
    adata.obs[keys.DOMAIN] = adata.obs[keys.DOMAIN].cat.rename_categories({"1": "2", "2": "1"})


def by_hand(adata):
    adata.obs.loc[adata.obs_names[:5], keys.DOMAIN] = "4"


@pytest.mark.parametrize("change", [merged, by_hand])
def test_edited_domains(analysed, change, caplog):
    adata = analysed.copy()
    assert not outdated(adata)
    change(adata)
    stmmr.pl.trajectory(adata)
    assert "Trajectory: computed before obs['stmmr_domain'] changed" in caplog.text
    drop_outdated(adata)
    assert "Removed results that were computed before obs['stmmr_domain']" in caplog.text
    assert_dropped(adata)
    assert keys.DOMAIN in adata.obs and keys.CONFIDENCE in adata.obs
    assert "Domains were edited after they were found" in methods_of(adata)[0]


def matched(adata):
    adata.obs["names"] = adata.obs[keys.DOMAIN].cat.rename_categories(["d", "b", "a", "c"]).astype(str)
    stmmr.tl.match_domains(adata, "names")


@pytest.mark.parametrize("change", [renamed, swapped_names, matched])
def test_results_follow_new_names(analysed, change, caplog, tmp_path):
    adata = analysed.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata = stmmr.read(tmp_path / "a.h5ad")
    change(adata)
    pairs = zip(analysed.obs[keys.DOMAIN], adata.obs[keys.DOMAIN], strict=True)
    new = dict(set(pairs))
    stmmr.pl.trajectory(adata)
    drop_outdated(adata)
    assert "computed before" not in caplog.text and not outdated(adata)
    assert set(adata.uns[keys.DEPENDS]) == set(analysed.uns[keys.DEPENDS])
    for key in (keys.DOMAIN_GENES, keys.ENRICHMENT, keys.COMPOSITION):
        before, after = (table.uns[key]["domain"].astype(str).tolist() for table in (analysed, adata))
        assert after == [new[name] for name in before]
    assert list(recorded(adata)["trajectory"]["domains"]) == [new[name] for name in "1234"]
    branches = {f"{new[a]} to {new[b]}" for a, _, b in (name.partition(" to ") for name in _branches(analysed)) if b}
    assert branches <= set(adata.obs[keys.BRANCH].cat.categories)
    root = new[recorded(analysed)["trajectory"]["root_domain"]]
    assert f"with the root in domain {root}" in methods_of(adata)[0]
    assert set(adata.obs[keys.DOMAIN_REFINED].cat.categories) == set(new.values())
    np.testing.assert_array_equal(adata.obs[keys.PSEUDOTIME], analysed.obs[keys.PSEUDOTIME])


def _branches(adata):
    return adata.obs[keys.BRANCH].cat.categories


def assert_dropped(adata):
    assert not OF_DOMAINS & set(adata.uns[keys.DEPENDS])
    for key in (keys.DOMAIN_GENES, keys.ENRICHMENT, keys.COMPOSITION):
        assert key not in adata.uns
    for key in (keys.PSEUDOTIME, keys.BRANCH):
        assert key not in adata.obs
    assert not {"trajectory", "gene_trends", "enrichment", "composition"} & set(recorded(adata))
    assert keys.DOMAIN not in recorded(adata).get("evaluation", {})
    text, _ = methods_of(adata)
    assert "PAGA" not in text and "rank-sum" not in text and "annotation" not in text


CLUSTERINGS = {
    "consensus": lambda adata: stmmr.tl.consensus(adata, 2, n_partitions=3),
    "domains": lambda adata: stmmr.tl.domains(adata, 2, method="kmeans"),
    "cut_tree": lambda adata: (stmmr.tl.domain_tree(adata), stmmr.tl.cut_tree(adata, 2)),
    "run": lambda adata: stmmr.run(adata, n_domains=2, histology=False, progress=False),
}


@pytest.mark.parametrize("how", CLUSTERINGS)
def test_another_clustering(analysed, how):
    adata = analysed.copy()
    CLUSTERINGS[how](adata)
    if how == "run":  # refines again
        adata.uns[keys.DEPENDS].pop("refine:stmmr_domain_refined")
    assert_dropped(adata)
    assert (keys.CONFIDENCE in adata.obs) == (how != "domains")
    text, _ = methods_of(adata)
    assert ("k" in text and "was given by the user" in text) == (how != "none")
    assert ("voted" in text) == (how != "domains")


def test_the_same_clustering_again_keeps_its_results(analysed):
    adata = analysed.copy()
    stmmr.tl.consensus(adata, 4)
    assert set(analysed.uns[keys.DEPENDS]) == set(adata.uns[keys.DEPENDS])
    assert keys.DOMAIN_GENES in adata.uns


def test_another_column_keeps_the_results_of_the_first(analysed):
    adata = analysed.copy()
    stmmr.tl.domains(adata, 2, method="kmeans", key_added="two")
    stmmr.tl.domain_genes(adata, domain_key="two", key_added="genes of two")
    assert not outdated(adata)
    stmmr.tl.domains(adata, 3, method="kmeans", key_added="two")
    assert "genes of two" not in adata.uns
    assert keys.DOMAIN_GENES in adata.uns and keys.PSEUDOTIME in adata.obs


def test_another_embedding(analysed, caplog):
    adata = analysed.copy()
    stmmr.pp.spatial_graph(adata, bandwidth=300.0, section_key="section")
    stmmr.StMMR(adata).fit()
    assert not OF_EMBEDDING & set(adata.uns[keys.DEPENDS])
    assert keys.UMAP not in adata.obsm and keys.PSEUDOTIME not in adata.obs
    assert keys.DOMAIN in adata.obs
    assert keys.DOMAIN_GENES in adata.uns  # of the domains, which are still there
    assert "BIC" not in methods_of(adata)[0] and "Bayesian" not in methods_of(adata)[0]


PREPARED = {
    "expression": lambda adata: stmmr.pp.expression(adata, n_top_genes=30, section_key="section"),
    "spatial graph": lambda adata: stmmr.pp.spatial_graph(adata, bandwidth=300.0, section_key="section"),
}


def test_the_same_steps_before_the_embedding(analysed):
    adata = analysed.copy()
    stmmr.pp.expression(adata, section_key="section")
    stmmr.pp.spatial_graph(adata, section_key="section")
    assert set(adata.uns[keys.DEPENDS]) == set(analysed.uns[keys.DEPENDS]) and not outdated(adata)


@pytest.mark.parametrize("how", PREPARED)
def test_other_steps_before_the_embedding(analysed, how, caplog):
    adata = analysed.copy()
    PREPARED[how](adata)
    assert "Removed results that were computed before" in caplog.text and "embedding" in caplog.text
    assert not {"embedding", *OF_EMBEDDING} & set(adata.uns[keys.DEPENDS])
    assert not {keys.EMBEDDING, keys.UMAP} & set(adata.obsm) and "model" not in recorded(adata)
    assert keys.DOMAIN in adata.obs and keys.DOMAIN_GENES in adata.uns
    stmmr.StMMR(adata).fit()
    assert not outdated(adata) and keys.EMBEDDING in adata.obsm


def test_an_image_that_is_described_again(fitted):
    adata = fitted.adata
    adata.obsm[keys.HISTOLOGY] = np.random.default_rng(0).normal(size=(adata.n_obs, 8)).astype(np.float32)
    stmmr.StMMR(adata).fit()
    stmmr.pp.spatial_graph(adata)
    assert keys.EMBEDDING in adata.obsm
    adata.obsm[keys.HISTOLOGY][3] += 1
    stmmr.pp.spatial_graph(adata)
    assert keys.EMBEDDING not in adata.obsm


def test_a_mapped_embedding_depends_on_the_graph(fitted):
    new = fitted.adata[: fitted.adata.n_obs // 2].copy()
    fitted.transform(new, progress=False)
    assert not outdated(new)
    stmmr.pp.expression(new, n_top_genes=20)  # which it does not read
    assert keys.EMBEDDING in new.obsm
    stmmr.pp.spatial_graph(new, bandwidth=400.0)
    assert keys.EMBEDDING not in new.obsm


@pytest.mark.parametrize("change", ["order", "order of categories", "file", "subset"])
def test_what_changes_no_result(analysed, change, tmp_path):
    adata = analysed.copy()
    if change == "order":
        adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    elif change == "order of categories":
        adata.obs[keys.DOMAIN] = adata.obs[keys.DOMAIN].cat.reorder_categories(["4", "2", "1", "3"])
    elif change == "file":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = stmmr.read(tmp_path / "a.h5ad")
    else:  # pseudotime holds for some of the spots, a table of genes does not
        adata = adata[adata.obs["section"] == "a"].copy()
        drop_outdated(adata)
        assert keys.PSEUDOTIME in adata.obs and keys.DOMAIN_GENES not in adata.uns
    assert not outdated(adata)


@pytest.mark.parametrize("given", [True, False])
def test_who_chose_the_number(given):
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    stmmr.run(adata, histology=False, n_domains=3 if given else "auto", progress=False)
    text, _ = methods_of(adata)
    assert ("was given by the user" in text) == given
    assert ("Bayesian information criterion" in text) != given
    if not given:
        stmmr.tl.consensus(adata, 4, n_partitions=3)  # after the number was chosen, another one is given
        assert "The number of domains, 4, was given by the user" in methods_of(adata)[0]
        assert "Bayesian" not in methods_of(adata)[0]


def test_a_representation_after_counts():
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    stmmr.run(adata, histology=False, n_domains=3, progress=False)
    adata.obsm["X_mine"] = adata.obsm[keys.COMPONENTS][:, :10]
    stmmr.run(adata, histology=False, n_domains=3, use_rep="X_mine", progress=False)
    text, _ = methods_of(adata)
    assert "represented by X_mine" in text and "Counts were normalised" not in text


# models and the data that they were fitted to


@pytest.fixture
def fitted():
    adata = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60)
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    return stmmr.StMMR(adata, steps=2).fit()


@pytest.mark.parametrize("change", ["filtered", "reordered", "renamed", "genes"])
def test_a_model_refuses_data_that_changed(fitted, change):
    pytest.importorskip("torch")
    adata = fitted.adata
    if change == "filtered":
        adata._inplace_subset_obs(np.arange(adata.n_obs) != 3)
    elif change == "reordered":
        adata._inplace_subset_obs(np.arange(adata.n_obs)[::-1])
    elif change == "renamed":
        adata.obs_names = [f"new_{name}" for name in adata.obs_names]
    else:
        adata._inplace_subset_var(np.arange(adata.n_vars)[::-1])
    with pytest.raises(InputError, match="Fit a model to the data as they are now"):
        stmmr.tl.enhance(fitted, progress=False)


@pytest.mark.parametrize(
    "damage",
    [
        {"n_obs": np.arange(3)},
        {"n_obs": "many"},
        {"on": np.arange(2)},
        {"on": {"obs:stmmr_domain": 3}},
        {"writes": "uns:stmmr_domain_genes"},
        {"groups": np.array(["a", "b"])},
        {"groups": {"source": 1, "partition": "x", "names": ["a"]}},
    ],
)
def test_damaged_notes_of_results_are_refused(fitted, damage):
    adata = fitted.adata
    stmmr.tl.domains(adata, 3, method="kmeans")
    notes = adata.uns[keys.DEPENDS]
    name = next(iter(notes))
    for damaged in ({**notes, name: {**notes[name], **damage}}, {**notes, name: "x"}, np.arange(3)):
        adata.uns[keys.DEPENDS] = damaged
        with pytest.raises(InputError, match=r"del adata\.uns\['stmmr_depends'\]"):
            drop_outdated(adata)
    adata.uns[keys.DEPENDS] = notes


def test_a_model_is_loaded_with_its_own_data_only(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    same = fitted.adata[np.random.default_rng(0).permutation(fitted.adata.n_obs)].copy()
    before = same.obsm[keys.EMBEDDING].copy()
    stmmr.StMMR.load(tmp_path / "model", same)
    np.testing.assert_array_equal(same.obsm[keys.EMBEDDING], before)
    other = stmmr.datasets.simulated_tissue(n_rows=16, n_cols=16, n_domains=3, n_genes=60, random_state=1)
    other.obs_names = fitted.adata.obs_names[: other.n_obs] if other.n_obs <= fitted.adata.n_obs else other.obs_names
    stmmr.pp.expression(other)
    stmmr.pp.spatial_graph(other)
    with pytest.raises(InputError, match=r"found other data with the same genes.*transform.*stmmr\.map"):
        stmmr.StMMR.load(tmp_path / "model", other)


@pytest.mark.realdata
def test_a_model_of_another_real_section_of_the_same_panel(shared_data, tmp_path):
    first, second = (stmmr.read(shared_data / f"starmap_mpfc_{name}.h5ad") for name in ("BZ5", "BZ9"))
    assert first.var_names.equals(second.var_names)
    stmmr.run(first, n_domains=4, save_model=tmp_path / "model", progress=False)
    prepared = second.copy()
    stmmr.pp.expression(prepared)
    stmmr.pp.spatial_graph(prepared)
    with pytest.raises(InputError, match=r"found other data with the same genes.*transform.*stmmr\.map"):
        stmmr.StMMR.load(tmp_path / "model", prepared)
    stmmr.map(second, stmmr.StMMR.load(tmp_path / "model", first), progress=False)
    assert adjusted_rand_score(second.obs["ground_truth"], second.obs[keys.DOMAIN]) > 0.7
