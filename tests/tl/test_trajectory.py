"""Pseudotime, branches and the graph over domains: what they must not depend on, and scanpy beside them."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import spearmanr

import stmmr
from stmmr import InputError
from stmmr._core.genes import gene_values
from stmmr.tl import _graphs, _trajectory
from stmmr.tl._graphs import neighbor_graph

LAYERS = ["WM", "Layer6", "Layer5", "Layer4", "Layer3", "Layer2", "Layer1"]


def along_a_line(n=400, *, seed=0, width=6):
    """Spots along a curve in the embedding, in four domains one after another, in no order."""
    rng = np.random.default_rng(seed)
    time = rng.permutation(np.linspace(0, 1, n))
    adata = AnnData(obs=pd.DataFrame({"time": time}, index=[f"spot{i}" for i in range(n)]))
    curve = np.column_stack([10 * time, 4 * np.sin(2 * time), np.zeros((n, width - 2))])
    adata.obsm["X_stmmr"] = (curve + rng.normal(0, 0.05, curve.shape)).astype(np.float32)
    adata.obs["stmmr_domain"] = pd.Categorical(np.array(list("abcd"))[np.minimum(time * 4, 3).astype(int)])
    adata.uns["stmmr"] = {"model": {"scaled": True}}
    return adata


def forked(n=150, *, seed=0):
    """A stem that forks into two arms of two domains each; the fork lies within the stem."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(0, 1, n)[:, None]
    stem = steps * [10, 0, 0, 0]
    arms = [[10, 0, 0, 0] + steps * [6, sign * 16, 0, 0] for sign in (-1, 1)]
    points = np.vstack([stem, *arms]) + rng.normal(0, 0.1, (3 * n, 4))
    parts = np.repeat([0, 1, 2], n // 3)
    names = np.concatenate([np.repeat("stem", n), *(np.array(["stem", f"{arm}1", f"{arm}2"])[parts] for arm in "LR")])
    adata = AnnData(obs=pd.DataFrame(index=[f"spot{i}" for i in range(3 * n)]))
    adata.obsm["X_stmmr"] = points.astype(np.float32)
    adata.obs["stmmr_domain"] = pd.Categorical(names)
    adata.uns["stmmr"] = {"model": {"scaled": True}}
    return adata


def time_of(adata):
    return adata.obs["stmmr_pseudotime"].to_numpy()


def noted(adata):
    return adata.uns["stmmr"]["trajectory"]


def test_follows_the_line_from_the_root():
    adata = along_a_line()
    stmmr.tl.trajectory(adata, root_domain="a")
    time = time_of(adata)
    assert time.dtype == np.float64
    assert time.min() == 0
    assert time.max() == 1
    assert noted(adata)["root"] == "domain"
    assert time[adata.obs_names == noted(adata)["root_spot"]] == 0
    assert spearmanr(time, adata.obs["time"])[0] > 0.98


def test_root_of_a_domain_is_at_its_far_end():
    adata = along_a_line()
    for domain, low, high in (("a", 0, 0.05), ("d", 0.95, 1)):
        stmmr.tl.trajectory(adata, root_domain=domain)
        root = adata.obs.loc[noted(adata)["root_spot"]]
        assert root["stmmr_domain"] == domain
        assert low <= root["time"] <= high


def test_outliers_do_not_draw_the_root_to_them():
    adata = along_a_line()
    rng = np.random.default_rng(1)
    strays = np.flatnonzero(adata.obs["stmmr_domain"] == "a")[:3]
    adata.obsm["X_stmmr"][strays] += rng.normal(0, 5, (3, 6))
    stmmr.tl.trajectory(adata, root_domain="a")
    assert adata.obs.loc[noted(adata)["root_spot"], "time"] < 0.06


def test_other_end_as_root_reverses_the_order():
    adata = along_a_line()
    stmmr.tl.trajectory(adata, root_domain="a")
    there = time_of(adata).copy()
    stmmr.tl.trajectory(adata, root_domain="d")
    assert spearmanr(there, time_of(adata))[0] < -0.97


def test_names_and_order_of_domains_do_not_matter():
    adata = forked()
    stmmr.tl.trajectory(adata, root_domain="stem")
    time, branch = time_of(adata).copy(), adata.obs["stmmr_branch"]
    renamed = {"stem": "z", "L1": "y", "L2": "x", "R1": "w", "R2": "v"}
    adata.obs["stmmr_domain"] = pd.Categorical(adata.obs["stmmr_domain"].astype(str).map(renamed))
    stmmr.tl.trajectory(adata, root_domain="z")
    np.testing.assert_array_equal(time_of(adata), time)
    assert pd.crosstab(branch, adata.obs["stmmr_branch"]).gt(0).sum().eq(1).all()


def test_same_seed_same_result_and_the_order_of_spots_hardly_matters():
    adata = forked()
    stmmr.tl.trajectory(adata, root_spot="spot0")
    time = time_of(adata).copy()
    stmmr.tl.trajectory(adata, root_spot="spot0")
    np.testing.assert_array_equal(time_of(adata), time)
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    stmmr.tl.trajectory(shuffled, root_spot="spot0")
    np.testing.assert_allclose(shuffled.obs["stmmr_pseudotime"][adata.obs_names], time, atol=1e-4)


def test_branches_run_from_fork_to_fork():
    adata = forked()
    stmmr.tl.trajectory(adata, root_domain="stem")
    pairs = adata.obs.groupby("stmmr_domain", observed=True)["stmmr_branch"].unique().map(lambda found: list(found))
    assert pairs.to_dict() == {
        "stem": ["stem"],
        "L1": ["L1 to L2"],
        "L2": ["L1 to L2"],
        "R1": ["R1 to R2"],
        "R2": ["R1 to R2"],
    }
    stmmr.tl.trajectory(adata, root_domain="L2")
    assert list(adata.obs["stmmr_branch"].cat.categories) == ["L2 to R2"]  # no fork from here


def test_without_a_root_the_larger_end_of_the_longest_path(caplog):
    adata = along_a_line()
    adata = adata[~((adata.obs["stmmr_domain"] == "a") & (adata.obs["time"] > 0.15))].copy()
    with caplog.at_level(logging.INFO, logger="stmmr"):
        stmmr.tl.trajectory(adata)
    assert noted(adata)["root"] == "tree"
    assert noted(adata)["root_domain"] == "d"
    assert "No root given: starting in domain 'd'" in caplog.text


def test_spots_without_a_link_have_no_pseudotime(caplog):
    adata = along_a_line()
    apart = adata[:60].copy()
    apart.obs_names = [f"apart{i}" for i in range(60)]
    apart.obsm["X_stmmr"] = apart.obsm["X_stmmr"] + np.float32(500)
    apart.obs["stmmr_domain"] = pd.Categorical(["e"] * 60)
    both = ad.concat([adata, apart])
    both.obs["stmmr_domain"] = pd.Categorical(both.obs["stmmr_domain"].astype(str))
    both.uns["stmmr"] = adata.uns["stmmr"]
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        stmmr.tl.trajectory(both, root_domain="a")
    assert np.isnan(time_of(both)[400:]).all()
    assert np.isfinite(time_of(both)[:400]).all()
    assert "60 of 460 cells are not connected to the root" in caplog.text
    assert noted(both)["n_unreachable"] == 60
    assert both.obs["stmmr_branch"].isna().sum() == 60


@pytest.mark.parametrize("higher_in", ["the piece", "the rest"])
def test_root_gene_in_a_smaller_piece(caplog, higher_in):
    adata = along_a_line()
    apart = adata[:60].copy()
    apart.obs_names = [f"apart{i}" for i in range(60)]
    apart.obsm["X_stmmr"] = apart.obsm["X_stmmr"] + np.float32(500)
    both = ad.concat([adata, apart])
    both.obs["stmmr_domain"] = pd.Categorical(both.obs["stmmr_domain"].astype(str))
    both.uns["stmmr"] = adata.uns["stmmr"]
    in_piece = both.obs_names.str.startswith("apart")
    gene = np.where(in_piece == (higher_in == "the piece"), 50.0, 0.0) + both.obs["time"].to_numpy()
    with_gene = AnnData(
        gene[:, None], obs=both.obs, var=pd.DataFrame(index=["g"]), obsm=dict(both.obsm), uns=dict(both.uns)
    )
    with_gene.layers["stmmr_lognorm"] = with_gene.X
    with caplog.at_level(logging.WARNING, logger="stmmr"):
        stmmr.tl.trajectory(with_gene, root_gene="g")
    time = time_of(with_gene)
    assert (np.isfinite(time) == (in_piece == (higher_in == "the piece"))).all()
    assert noted(with_gene)["root_spot"].startswith("apart" if higher_in == "the piece" else "spot")
    assert ("g is most extreme in a separate piece of 60 cells" in caplog.text) == (higher_in == "the piece")


def test_spots_without_a_domain_have_a_pseudotime_but_no_branch():
    adata = along_a_line()
    adata.obs.loc[adata.obs_names[:20], "stmmr_domain"] = np.nan
    stmmr.tl.trajectory(adata, root_spot="spot0")
    assert np.isfinite(time_of(adata)).all()
    assert adata.obs["stmmr_branch"].isna().sum() == 20
    assert noted(adata)["root_domain"] in "abcd"


def test_a_sample_stands_for_many_spots(monkeypatch):
    adata = along_a_line(2000)
    stmmr.tl.trajectory(adata, root_domain="a")
    whole = time_of(adata).copy()
    monkeypatch.setattr(_trajectory, "FITTED_AT_MOST", 500)
    stmmr.tl.trajectory(adata, root_spot="spot7")
    assert noted(adata)["n_fitted"] == 500
    assert time_of(adata)[7] == 0
    stmmr.tl.trajectory(adata, root_domain="a")
    assert spearmanr(whole, time_of(adata))[0] > 0.99


@pytest.mark.parametrize("n", [5, 9])
def test_few_spots(n):
    adata = along_a_line(n)
    stmmr.tl.trajectory(adata, root_spot="spot0")
    assert time_of(adata)[0] == 0


def test_connectivities_are_those_of_scanpy():
    pytest.importorskip("igraph", reason="scanpy's PAGA needs igraph")
    import scanpy as sc

    adata = forked()
    points = adata.obsm["X_stmmr"]
    codes = adata.obs["stmmr_domain"].cat.codes.to_numpy().astype(np.intp)
    light = neighbor_graph(points, 12)
    near = _graphs.nearest(points.astype(np.float64), 11)
    light.obsp["distances"] = light.obsp["connectivities"].copy() * 0
    distances = np.zeros((len(points), len(points)))
    np.put_along_axis(distances, near, 1.0, axis=1)
    from scipy import sparse

    light.obsp["distances"] = sparse.csr_matrix(distances)
    light.uns["neighbors"] |= {"distances_key": "distances"}
    light.uns["neighbors"]["params"]["n_neighbors"] = 12
    light.obs["domain"] = adata.obs["stmmr_domain"].to_numpy()
    sc.tl.paga(light, groups="domain")
    found = _graphs.connectivities(points, codes, n_neighbors=12)
    np.testing.assert_allclose(found, light.uns["paga"]["connectivities"].toarray(), atol=1e-9)
    theirs = light.uns["paga"]["connectivities_tree"].toarray()
    np.testing.assert_allclose(_graphs.spanning_tree(found), np.maximum(theirs, theirs.T), atol=1e-9)


def test_distances_are_those_between_the_scaled_components():
    adata = along_a_line()
    linked = _graphs.Linked.of(adata.obsm["X_stmmr"], np.zeros(400, dtype=np.intp), n_neighbors=15, random_state=0)
    at = _graphs.diffusion_coordinates(linked.diffusion(np.arange(400)))
    expected = np.linalg.norm(at - at[3], axis=1)
    np.testing.assert_allclose(linked.pseudotime(3), expected / expected.max(), rtol=2e-3, atol=2e-3)


def prepared_gradient(seed=0):
    """The genes of a simulated tissue that follow a gradient, and where on it each spot lies."""
    adata = stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_genes=1000, random_state=seed)
    position = adata.obsm["spatial"] @ [0.8, 0.6]
    adata = adata[:, adata.var["gradient"]].copy()
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.StMMR(adata, use_histology=False, steps=1, random_state=seed).fit(progress=False)
    stmmr.tl.domains(adata, 5, random_state=seed)
    return adata, position


@pytest.fixture(scope="module")
def gradient():
    return prepared_gradient()


def test_monotone_along_the_simulated_gradient(gradient):
    adata, position = gradient[0].copy(), gradient[1]
    mean = pd.Series(position).groupby(adata.obs["stmmr_domain"].to_numpy()).mean()
    for root, sign in ((mean.idxmin(), 1), (mean.idxmax(), -1)):
        stmmr.tl.trajectory(adata, root_domain=root)
        assert sign * spearmanr(time_of(adata), position)[0] > 0.9
    order = mean.sort_values().index
    codes = [noted(adata)["domains"].index(name) for name in order]
    weights = noted(adata)["connectivities"][np.ix_(codes, codes)]
    beside = np.abs(np.subtract.outer(range(5), range(5))) == 1
    assert weights[beside].min() > weights[~beside].max()


def test_root_of_a_gene_is_its_highest_or_lowest_end(gradient):
    adata, position = gradient[0].copy(), gradient[1]
    values = gene_values(adata, adata.var_names[0])
    lognorm = adata.layers["stmmr_lognorm"][:, 0].toarray().ravel()
    np.testing.assert_allclose(values, lognorm, rtol=1e-5)
    sign = np.array([spearmanr(column, position)[0] for column in adata.layers["stmmr_lognorm"].toarray().T])
    gene = adata.var_names[int(np.abs(sign).argmax())]
    rising = sign[int(np.abs(sign).argmax())] > 0
    for end in ("highest", "lowest"):
        stmmr.tl.trajectory(adata, root_gene=gene, expression=end)
        away = 1 if rising == (end == "lowest") else -1
        assert away * spearmanr(time_of(adata), position)[0] > 0.8
        assert noted(adata)["root_gene"] == gene


def test_results_survive_a_file(gradient, tmp_path):
    adata = gradient[0].copy()
    stmmr.tl.trajectory(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(time_of(back), time_of(adata))
    np.testing.assert_array_equal(noted(back)["tree"], noted(adata)["tree"])
    assert back.obs["stmmr_branch"].equals(adata.obs["stmmr_branch"])
    stmmr.tl.gene_trends(back, to_domain=str(noted(back)["domains"][0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root_domain": "aa"}, r"key 'aa' in obs\['stmmr_domain'\], found a, b, c, d.* Did you mean 'a'"),
        ({"root_gene": "MBP"}, "Expected the gene 'MBP' among the 0 genes of the data"),
        ({"root_spot": "sopt3"}, "in obs_names.*Did you mean 'spot3'"),
        (
            {"root_domain": "a", "root_spot": "spot3"},
            "Expected one root, found root_domain='a' and root_spot='spot3'",
        ),
        ({"root_domain": "a", "expression": "most"}, "Expected expression to be one of highest, lowest"),
        ({"domain_key": "cluster"}, "key 'cluster' in obs"),
        ({"use_rep": "X_other"}, r"key 'X_other' in obsm.*Fit a model first"),
        ({"n_neighbors": 2}, "Expected n_neighbors of at least 3, found 2"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        stmmr.tl.trajectory(along_a_line(50), **options)


def test_numbers_as_names(gradient):
    original, _ = gradient
    adata = original.copy()
    adata.obs.index, adata.var.index = pd.RangeIndex(adata.n_obs), pd.RangeIndex(adata.n_vars)
    stmmr.tl.trajectory(adata, root_spot="7")
    assert noted(adata)["root_spot"] == "7"
    stmmr.tl.trajectory(adata, root_gene="3")
    stmmr.tl.gene_trends(adata, genes=["3"])
    assert list(adata.uns["stmmr"]["gene_trends"]["table"].index) == ["3"]
    np.testing.assert_array_equal(gene_values(adata, "3"), gene_values(original, original.var_names[3]))


def test_one_domain_only():
    adata = along_a_line(50)
    adata.obs["stmmr_domain"] = pd.Categorical(["1"] * 50)
    with pytest.raises(InputError, match=r"at least 2 domains in obs.*, found 1"):
        stmmr.tl.trajectory(adata, root_domain="1")


@pytest.mark.realdata
@pytest.mark.slow
def test_layers_of_the_cortex(shared_data):
    adata = stmmr.read(shared_data / "visium_dlpfc_151673.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    stmmr.StMMR(adata, use_histology=False, steps=1).fit(progress=False)
    stmmr.tl.consensus(adata, 7)
    labels = adata.obs["ground_truth"]
    shared = pd.crosstab(labels, adata.obs["stmmr_domain"])
    stmmr.tl.trajectory(adata, root_domain=str(shared.loc["WM"].idxmax()))
    depth = labels.astype(object).map({name: depth for depth, name in enumerate(LAYERS)}).astype(float)
    assert spearmanr(time_of(adata), depth, nan_policy="omit")[0] > 0.8
    # a domain holds the layer that most of its spots are of, and those that have most of their spots in it
    held = shared[noted(adata)["domains"]].loc[LAYERS].to_numpy()
    held = [{column.argmax(), *np.flatnonzero(held.argmax(axis=1) == at)} for at, column in enumerate(held.T)]
    beside = np.array([[np.abs(np.subtract.outer([*a], [*b])).min() <= 1 for a in held] for b in held])
    # a piece of 25 spots at the rim is a domain of its own, like white matter and like the other rim
    large = shared[noted(adata)["domains"]].sum().to_numpy() > 0.02 * adata.n_obs
    beside, weights = beside[np.ix_(large, large)], noted(adata)["connectivities"][np.ix_(large, large)]
    assert weights[~beside].sum() < 0.1 * weights.sum()
    assert (~beside & (weights >= 0.1)).sum() <= 2  # one pair of domains, as docs/trajectory.md counts them
