"""Every recipe on a small folder in the layout of the authors' record."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stmmr.reproduce import reproduce
from stmmr.reproduce._recipes import RECIPES

_spec = importlib.util.spec_from_file_location("layout", Path(__file__).with_name("layout.py"))
layout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layout)

SMALL = {"epochs": 2, "width": 8, "progress": False}
LABELLED = set(RECIPES) - {"visium-hd"}
SECTIONS = {"chicken-heart": ["D4", "D7", "D10", "D14"], "cosmx-lung": ["1", "2"]}


@pytest.mark.parametrize("dataset", list(RECIPES))
def test_recipe_puts_presets_side_by_side(dataset, tmp_path):
    layout.WRITERS[dataset](tmp_path / "Data")
    presets = ("baseline", "default", "paper")
    table = reproduce(dataset, tmp_path, tmp_path / "out", presets=presets, **SMALL)
    single = table[~table["section"].str.contains(" of sections")]
    sections = SECTIONS.get(dataset, list(RECIPES[dataset].default_sections))
    assert single["section"].tolist() == [name for name in sections for _ in presets]
    assert single["preset"].tolist() == [*presets] * len(sections)
    few = dataset in ("pdac", "breast-cancer")  # the vote of 50 of 64 spots may leave one domain
    assert single["domains"].between(1 if few else 2, 2).all()
    assert (single["seconds"] > 0).all()
    assert (single["peak_memory_mb"] > 10).all()
    assert single.loc[single["preset"] != "baseline", "image"].eq("authors' features").all()
    if dataset in LABELLED:
        assert (single.loc[single["preset"] == "default", "ari"] > 0.9).all()
        assert single["ari"].notna().all()
    else:
        assert single["ari"].isna().all()
        assert single["notes"].str.contains("no labels").all()
    paper = single[single["preset"] == "paper"]
    assert paper["notes"].str.contains("not the published model: epochs 2 instead of").all()
    assert (tmp_path / "out/table.md").read_text().count("\n") == len(table) + 2
    if len(sections) > 1:
        of_default = single.loc[single["preset"] == "default", "ari"]
        means = table[table["section"].str.startswith("mean") & (table["preset"] == "default")]
        np.testing.assert_allclose(means["ari"], of_default.mean())
    domains = pd.read_csv(next((tmp_path / "out/domains").glob("*default*")), index_col=0)
    assert ("pseudotime" in domains) == (dataset == "chicken-heart")
    if dataset == "chicken-heart":
        assert domains["pseudotime"].between(0, 1).all()
        assert len(list((tmp_path / "out/figures").glob("*.png"))) == 8


class StopHere(Exception):  # noqa: N818
    pass


@pytest.fixture
def settings(monkeypatch):
    """Data and settings of the published model, which is not trained."""
    collected = {}

    def stop(adata, **settings):
        if not collected:  # of the first section; the others are tried as well
            collected.update(settings, adata=adata)
        raise StopHere

    monkeypatch.setattr("stmmr.model.StMMR", stop)
    return collected


@pytest.mark.parametrize(
    ("dataset", "expected", "bandwidth"),
    [
        ("dlpfc", {"learning_rate": 1e-4, "steps": 200, "hidden": 3000, "likelihood_loss": 10.0}, 2.0),
        ("breast-cancer", {"learning_rate": 1e-7, "steps": 200, "latent": 3000}, 0.63),
        ("chicken-heart", {"learning_rate": 5e-5, "steps": 200}, 2.0),
        ("mouse-brain", {"learning_rate": 1e-4, "steps": 50}, 1.0),
        ("pdac", {"steps": 50, "use_rep": "X_scaled", "likelihood": "zinb"}, 0.8),
        ("cosmx-lung", {"learning_rate": 1e-4, "steps": 200}, 2.0),
        ("visium-hd", {"learning_rate": 1e-5, "steps": 50, "hidden": 1000, "decoder_hidden": 1000}, 1.0),
    ],
)
def test_settings_of_the_authors_reach_the_model(dataset, expected, bandwidth, tmp_path, settings):
    layout.WRITERS[dataset](tmp_path)
    first = {"cosmx-lung": ("1",), "chicken-heart": ("D4",)}.get(dataset, ())
    with pytest.raises(StopHere):
        reproduce(dataset, tmp_path, tmp_path / "out", presets=("paper",), sections=first, progress=False)
    assert expected.items() <= settings.items()
    assert settings["random_state"] == 110
    adata = settings["adata"]
    assert adata.uns["stmmr"]["spatial_graph"]["bandwidth"] == bandwidth
    counts = layout.tissue(1 if dataset == "cosmx-lung" else 0)[0]
    if dataset == "pdac":
        np.testing.assert_allclose(adata.obsm["X_scaled"], counts / counts.sum(1, keepdims=True) * 1e4, rtol=1e-5)
    elif dataset == "cosmx-lung":
        np.testing.assert_allclose(adata.layers["stmmr_lognorm"].toarray(), np.log1p(counts), rtol=1e-6)
    else:
        size = counts.sum(1, keepdims=True)
        expected = np.log1p(counts / size * np.median(size))
        np.testing.assert_allclose(adata.layers["stmmr_lognorm"].toarray(), expected, rtol=1e-5)
    if dataset == "chicken-heart":
        np.testing.assert_array_equal(adata.obs[["array_col", "array_row"]], adata.obsm["spatial"])


def test_several_sections_share_one_model_and_all_genes(tmp_path, settings):
    sections = ("151673", "151674", "151675", "151676")
    layout.dlpfc(tmp_path, sections=sections)
    with pytest.raises(StopHere):
        reproduce("dlpfc", tmp_path, tmp_path / "out", presets=("paper",), together=True, progress=False)
    assert {"likelihood_loss": 100.0, "steps": 300}.items() <= settings.items()
    adata = settings["adata"]
    assert adata.obs["section"].value_counts().to_dict() == dict.fromkeys(sections, 64)
    block = adata.obs["section"].to_numpy()
    rows, cols = adata.obsp["stmmr_weights"].nonzero()
    assert (block[rows] == block[cols]).all()


def test_sections_together_are_scored_by_the_labels_of_each(tmp_path):
    layout.dlpfc(tmp_path, sections=("151673", "151674"))
    options = {"sections": ("151673", "151674"), "together": True, "presets": ("baseline", "default")}
    table = reproduce("dlpfc", tmp_path, tmp_path / "out", **options, progress=False)
    assert table["section"].tolist() == ["151673+151674"] * 2
    assert table["ari"].iloc[1] > 0.9
    assert pd.read_csv(tmp_path / "out/rows.csv")["n_labelled"].eq(120).all()


def test_seeds_and_auto(tmp_path):
    layout.pdac(tmp_path)
    table = reproduce("pdac", tmp_path, tmp_path / "out", presets=("default", "auto"), n_seeds=2, progress=False)
    assert table["seeds"].tolist() == [2, 2]
    assert table["domains_expected"].tolist() == ["2", "auto"]
    assert table["agreement_of_seeds"].between(-0.5, 1).all()
    assert np.isnan(table["agreement_with_default"].iloc[0])
    assert pd.read_csv(tmp_path / "out/rows.csv")["seed"].tolist() == [110, 111] * 2


@pytest.mark.realdata
def test_on_real_data_that_fit(shared_data, tmp_path, monkeypatch):
    monkeypatch.undo()  # the authors' number of domains
    table = reproduce("pdac", shared_data, tmp_path / "out", presets=("baseline", "default"), progress=False)
    assert table["domains"].tolist() == [4, 4]
    assert table["ari"].between(0.1, 0.6).all()


def test_vote_of_the_authors():
    """Against their rule, spot by spot: the nearest without the spot itself, and the nearest of those as frequent."""
    from stmmr.reproduce._methods import authors_vote

    rng = np.random.default_rng(0)
    xy, codes = rng.normal(size=(80, 2)), rng.integers(0, 4, 80)
    voted = authors_vote(codes, xy, n_neighbors=6)
    for i in range(80):
        nearest = [codes[j] for j in np.argsort(((xy - xy[i]) ** 2).sum(axis=1)) if j != i][:6]
        assert voted[i] == max(nearest, key=nearest.count)
