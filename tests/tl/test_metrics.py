"""Scores against dense references, and what evaluate reads, stores and refuses."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from stmmr import InputError
from stmmr.tl._metrics import chaos, evaluate, pas


def dense_chaos(xy, domains):
    scaled = (xy - xy.mean(axis=0)) / xy.std(axis=0, ddof=1)
    distance = cdist(scaled, scaled)
    np.fill_diagonal(distance, np.inf)
    distance[domains[:, None] != domains[None, :]] = np.inf
    closest = distance.min(axis=1)
    return closest[np.isfinite(closest)].sum() / len(xy)


def dense_pas(xy, domains, n_neighbors):
    distance = cdist(xy, xy)
    np.fill_diagonal(distance, np.inf)
    closest = distance.argsort(axis=1)[:, :n_neighbors]
    others = (domains[closest] != domains[:, None]).sum(axis=1)
    return np.mean(others > n_neighbors / 2)


@pytest.fixture
def tissue():
    """Two halves of a 6 × 6 array; domains "1" and "2" follow them but for one spot."""
    column, row = np.meshgrid(np.arange(6.0), np.arange(6.0))
    adata = AnnData(obs=pd.DataFrame(index=[f"spot{i}" for i in range(36)]))
    adata.obsm["spatial"] = np.column_stack([column.ravel(), row.ravel()])
    half = np.where(column.ravel() < 3, "1", "2")
    adata.obs["layer"] = pd.Categorical(np.where(half == "1", "grey", "white"))
    half[1] = "2"
    adata.obs["stmmr_domain"] = pd.Categorical(half)
    return adata


spots = st.integers(13, 60).flatmap(
    lambda n: st.tuples(st.integers(0, 2**32 - 1), hnp.arrays(int, n, elements=st.integers(0, 4)))
)


@given(spots, st.integers(1, 12))
def test_chaos_and_pas_agree_with_the_dense_definition(seed_and_domains, n_neighbors):
    seed, domains = seed_and_domains
    xy = np.random.default_rng(seed).normal(size=(len(domains), 2)) * [3, 0.1]
    assert chaos(xy, domains) == pytest.approx(dense_chaos(xy, domains))
    assert pas(xy, domains, n_neighbors=n_neighbors) == pytest.approx(dense_pas(xy, domains, n_neighbors))


def test_continuity_does_not_depend_on_names_units_or_order():
    rng = np.random.default_rng(0)
    xy, domains = rng.normal(size=(80, 2)), rng.integers(0, 3, 80)
    order = rng.permutation(80)
    for score in (chaos, pas):
        other = score(100 + 7 * xy[order], np.array(["c", "a", "b"])[domains[order]])
        assert other == pytest.approx(score(xy, domains))


def test_one_domain_has_no_abnormal_spot():
    xy = np.random.default_rng(0).normal(size=(30, 2))
    assert pas(xy, np.zeros(30)) == 0


def test_a_domain_of_one_spot_adds_nothing_to_chaos():
    xy = np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    scaled = xy / xy.std(axis=0, ddof=1)
    to_its_nearest = [np.linalg.norm(scaled[i] - scaled[j]) for i, j in ((0, 1), (1, 0), (2, 0))]
    assert chaos(xy, [0, 0, 0, 1]) == pytest.approx(sum(to_its_nearest) / 4)


def test_spots_at_one_point_and_on_a_line_are_finite():
    xy = np.repeat([[0.0, 0], [1, 0]], 12, axis=0)
    domains = np.repeat(["a", "b"], 12)
    assert chaos(xy, domains) == 0
    assert pas(xy, domains) == 0


def test_shapes_have_to_fit():
    with pytest.raises(InputError, match=r"\(5, 2\) and \(4,\)"):
        chaos(np.ones((5, 2)), np.ones(4))


def test_evaluate_stores_what_it_returns(tissue):
    scores = evaluate(tissue, label_key="layer")
    assert set(scores) == {
        "ari", "nmi", "homogeneity", "completeness", "chaos", "pas", "n_labelled", "n_domains",
    }  # fmt: skip
    assert tissue.uns["stmmr"]["evaluation"]["stmmr_domain"] == scores
    assert (scores["n_labelled"], scores["n_domains"]) == (36, 2)
    assert 0.8 < scores["ari"] < 1
    assert scores["pas"] == pytest.approx(1 / 36)


def test_evaluate_keeps_earlier_records(tissue):
    tissue.uns["stmmr"] = {"graph": {"l": 2}}
    tissue.obs["other"] = tissue.obs["layer"]
    first = evaluate(tissue, label_key="layer")
    second = evaluate(tissue, label_key="layer", domain_key="other")
    assert second["ari"] == second["homogeneity"] == second["completeness"] == 1
    assert tissue.uns["stmmr"]["graph"] == {"l": 2}
    assert tissue.uns["stmmr"]["evaluation"] == {"stmmr_domain": first, "other": second}


MISSING = [None, np.nan, "", " ", "nan", "NaN", "NA", "N/A", "<NA>", "None", "null"]


@pytest.mark.parametrize("kind", [object, "category"])
@pytest.mark.parametrize("missing", MISSING)
def test_agreement_is_over_annotated_spots_only(tissue, missing, kind):
    whole = evaluate(tissue, label_key="layer")
    labels = tissue.obs["layer"].astype(object)
    labels.iloc[1] = missing  # the one spot that disagrees
    tissue.obs["layer"] = labels.astype(kind)
    scores = evaluate(tissue, label_key="layer")
    assert scores["n_labelled"] == 35
    assert scores["ari"] == 1
    assert (scores["chaos"], scores["pas"]) == (whole["chaos"], whole["pas"])


@pytest.mark.parametrize("name", ["unknown", "Unlabelled", "unassigned"])
def test_a_name_for_what_is_not_known_is_a_label_and_warned_of(tissue, name, caplog):
    tissue.obs["layer"] = tissue.obs["layer"].astype(object)
    tissue.obs.iloc[:3, tissue.obs.columns.get_loc("layer")] = name
    assert evaluate(tissue, label_key="layer")["n_labelled"] == 36
    assert f"has the label {name}, which counts as one" in caplog.text


def test_spots_without_domain_do_not_count(tissue):
    tissue.obs.loc["spot1", "stmmr_domain"] = None
    scores = evaluate(tissue, label_key="layer")
    assert scores["n_labelled"] == 35
    assert (scores["ari"], scores["pas"]) == (1, 0)


def test_renaming_labels_or_domains_changes_nothing(tissue):
    scores = evaluate(tissue, label_key="layer")
    tissue.obs["layer"] = tissue.obs["layer"].cat.rename_categories({"grey": "z", "white": "a"})
    tissue.obs["stmmr_domain"] = tissue.obs["stmmr_domain"].map({"1": 20, "2": 10}).astype(int)
    assert evaluate(tissue, label_key="layer") == pytest.approx(scores)


def test_evaluate_names_the_keys_there_are(tissue):
    with pytest.raises(InputError, match=r"'layers' in obs.*layer.*Did you mean 'layer'"):
        evaluate(tissue, label_key="layers")
    del tissue.obs["stmmr_domain"]
    with pytest.raises(InputError, match=r"'stmmr_domain' in obs.*tl\.domains"):
        evaluate(tissue, label_key="layer")


def test_evaluate_refuses_no_label_and_too_few_spots(tissue):
    with pytest.raises(InputError, match=r"more than 10 cells.*found 10"):
        evaluate(tissue[:10].copy(), label_key="layer")
    tissue.obs["layer"] = np.nan
    with pytest.raises(InputError, match="found none among 36"):
        evaluate(tissue, label_key="layer")
