"""Curves over pseudotime: statsmodels beside them, coverage of the bands, and which genes are found."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import stmmr
from stmmr import InputError
from stmmr.tl import _gene_trends


def simulated(n=1500, *, n_flat=40, n_changing=20, seed=0, spread=4.0):
    """Overdispersed counts of genes that follow a sine of pseudotime, or nothing; and their true log rates."""
    rng = np.random.default_rng(seed)
    time = rng.beta(2, 1.5, n)
    size = rng.lognormal(0, 0.4, n)
    level = rng.normal(0.5, 0.7, n_flat + n_changing)
    height = np.r_[np.zeros(n_flat), rng.uniform(0.3, 0.8, n_changing)]
    phase = rng.uniform(0, 3, n_flat + n_changing)
    log_rate = level + height * np.sin(3 * time[:, None] + phase)
    counts = rng.poisson(np.exp(log_rate) * size[:, None] * rng.gamma(spread, 1 / spread, log_rate.shape))
    names = [f"flat{i}" for i in range(n_flat)] + [f"changing{i}" for i in range(n_changing)]
    adata = AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame({"stmmr_pseudotime": time, "size": 1000 * size}, index=[str(i) for i in range(n)]),
        var=pd.DataFrame(index=names),
    )
    stmmr.pp.expression(adata, size_key="size")
    return adata, level, height, phase


def found(adata):
    return adata.uns["stmmr"]["gene_trends"]


def test_finds_the_genes_that_change_and_few_others():
    adata, *_ = simulated()
    stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
    table = found(adata)["table"]
    called = table.index[table["pval_adj"] < 0.05]
    assert sum(name.startswith("changing") for name in called) >= 18
    assert sum(name.startswith("flat") for name in called) <= 2
    assert table["pval"].is_monotonic_increasing
    np.testing.assert_allclose(table["pval_adj"], table["pval"][::-1].mul(60 / np.arange(60, 0, -1)).cummin()[::-1])


def test_p_values_of_flat_genes_are_even():
    from scipy.stats import kstest

    adata, *_ = simulated(n_flat=400, n_changing=1)
    stmmr.tl.gene_trends(adata, genes=[f"flat{i}" for i in range(400)])
    assert kstest(found(adata)["table"]["pval"], "uniform").pvalue > 0.01


def test_bands_cover_the_truth():
    inside = []
    for seed in range(5):
        adata, level, height, phase = simulated(n_flat=1, seed=seed)
        stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
        at = adata.var_names.get_indexer(found(adata)["table"].index)
        grid = found(adata)["pseudotime"][5:-5]
        median = np.median(adata.obs["size"]) / 1000
        truth = median * np.exp(level[at, None] + height[at, None] * np.sin(3 * grid + phase[at, None]))
        low, high = found(adata)["low"][:, 5:-5], found(adata)["high"][:, 5:-5]
        inside.append(((low <= truth) & (truth <= high)).mean())
    assert 0.9 < np.mean(inside) < 0.99


def test_is_the_quasi_poisson_fit_of_statsmodels(monkeypatch):
    sm = pytest.importorskip("statsmodels.api")
    from sklearn.preprocessing import SplineTransformer

    monkeypatch.setattr(_gene_trends, "N_BINS", 10**6)  # every spot by itself
    adata, *_ = simulated(n=400)
    gene = "changing3"
    stmmr.tl.gene_trends(adata, genes=[gene])
    time = adata.obs["stmmr_pseudotime"].to_numpy()
    size = adata.obs["size"].to_numpy() / np.median(adata.obs["size"])
    knots = np.quantile(time, np.linspace(0, 1, 4))[:, None]
    splines = SplineTransformer(degree=3, knots=knots).fit(time[:, None])
    y = adata[:, gene].X.toarray().ravel()
    fitted = sm.GLM(y, splines.transform(time[:, None]), family=sm.families.Poisson(), exposure=size).fit()
    flat = sm.GLM(y, np.ones(len(y)), family=sm.families.Poisson(), exposure=size).fit()
    grid = splines.transform(found(adata)["pseudotime"][:, None])
    expected = fitted.get_prediction(grid, exposure=np.ones(len(grid)))
    np.testing.assert_allclose(found(adata)["curve"][0], expected.predicted_mean, rtol=0.02)
    spread = np.square(y - fitted.mu).sum() / fitted.mu.sum() * 400 / 394
    f = (flat.deviance - fitted.deviance) / 5 / spread
    assert found(adata)["table"].loc[gene, "f"] == pytest.approx(f, rel=0.02)
    deviation = expected.se_mean / expected.predicted_mean
    width = np.log(found(adata)["high"][0] / found(adata)["low"][0]) / 2
    from scipy.stats import t

    np.testing.assert_allclose(width, t.ppf(0.975, 394) * np.sqrt(spread) * deviation, rtol=0.03)


def test_steps_of_pseudotime_lose_nothing(monkeypatch):
    adata, *_ = simulated()
    stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
    coarse = found(adata)
    monkeypatch.setattr(_gene_trends, "N_BINS", 10**6)
    stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
    fine = found(adata)
    np.testing.assert_allclose(fine["table"]["f"], coarse["table"]["f"][fine["table"].index], rtol=0.05, atol=0.05)


def test_spots_without_pseudotime_or_counts_do_not_count():
    adata, *_ = simulated(n=300)
    rows = np.arange(300) % 3 > 0
    some = adata[rows].copy()
    stmmr.tl.gene_trends(some, genes=list(adata.var_names))
    adata.obs.loc[~rows, "stmmr_pseudotime"] = np.nan
    adata.uns["stmmr"] = some.uns["stmmr"]
    expected = found(some)
    stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
    # rates are for the median library size, which is that of all spots
    np.testing.assert_allclose(found(adata)["table"]["f"], expected["table"]["f"], rtol=0.01)
    assert found(adata)["n_spots"] == 200


def test_a_gene_that_was_never_seen():
    adata, *_ = simulated(n=300)
    counts = adata.layers["counts"].toarray()
    counts[:, 0] = 0
    adata.layers["counts"] = sparse.csr_matrix(counts)
    stmmr.tl.gene_trends(adata, genes=["flat0", "changing1"])
    row = found(adata)["table"].loc["flat0"]
    assert row["mean"] == 0
    assert row["pval"] == pytest.approx(1)
    assert np.isfinite(found(adata)["high"]).all()


def test_gene_seen_at_one_end_only_has_a_finite_curve():
    adata, *_ = simulated(n=300)
    seen = (adata.obs["stmmr_pseudotime"] > 0.9).to_numpy()
    adata.layers["counts"] = sparse.csr_matrix(
        np.column_stack([5.0 * seen, adata.layers["counts"][:, 1:].toarray()]).astype(np.float32)
    )
    stmmr.tl.gene_trends(adata, genes=["flat0"])
    row = found(adata)["table"].loc["flat0"]
    assert row["pval_adj"] < 1e-6
    assert row["peak"] > 0.9
    assert row["log2_change"] > 5
    assert np.isfinite(found(adata)["curve"]).all()


def test_counts_on_disk_give_the_same(tmp_path):
    adata, *_ = simulated(n=300)
    del adata.layers["stmmr_lognorm"], adata.layers["counts"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = stmmr.read(tmp_path / "a.h5ad", backed=True)
    for each in (adata, backed):
        stmmr.tl.gene_trends(each)
    pd.testing.assert_frame_equal(found(adata)["table"], found(backed)["table"])


def test_noise_genes_of_the_simulated_tissue_are_left():
    adata = stmmr.datasets.simulated_tissue(n_rows=40, n_cols=40, n_genes=300)
    stmmr.pp.expression(adata)
    position = adata.obsm["spatial"] @ [0.8, 0.6]
    adata.obs["stmmr_pseudotime"] = (position - position.min()) / np.ptp(position)
    stmmr.tl.gene_trends(adata, genes=list(adata.var_names))
    table = found(adata)["table"].join(adata.var[["gradient", "marker_of"]])
    noise = table[~table["gradient"] & table["marker_of"].isna()]
    assert (table.loc[table["gradient"], "pval_adj"] < 0.05).mean() > 0.8
    assert (noise["pval_adj"] < 0.05).mean() < 0.05


def test_only_spots_on_the_way_to_a_domain(tmp_path):
    adata, *_ = simulated(n=300)
    time = adata.obs["stmmr_pseudotime"].to_numpy()
    adata.obs["stmmr_domain"] = pd.Categorical(np.where(time < 0.4, "a", np.where(np.arange(300) % 2, "b", "c")))
    tree = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=float)
    adata.uns["stmmr"]["trajectory"] = {
        "domains": ["a", "b", "c", "d"],
        "tree": tree,
        "root_domain": "a",
        "domain_key": "stmmr_domain",
    }
    stmmr.tl.gene_trends(adata, to_domain="b")
    assert found(adata)["n_spots"] == (adata.obs["stmmr_domain"] != "c").sum()
    with pytest.raises(InputError, match="Expected a domain that is connected to 'a' in the tree, found 'd'"):
        stmmr.tl.gene_trends(adata, to_domain="d")
    with pytest.raises(InputError, match="key 'e' in the domains of the trajectory, found a, b, c, d"):
        stmmr.tl.gene_trends(adata, to_domain="e")
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_tables_survive_a_file(tmp_path):
    adata, *_ = simulated(n=300)
    stmmr.tl.gene_trends(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(found(back)["table"], found(adata)["table"])
    np.testing.assert_array_equal(found(back)["low"], found(adata)["low"])
    stmmr.pl.gene_trends(back)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genes": ["flat1", "chnging3"]}, "Expected the gene 'chnging3' among.*Did you mean 'changing3'"),
        ({"genes": "flat1"}, "Expected a list of gene names, found 'flat1'"),
        ({"genes": []}, r"Expected a list of gene names, found \[\]"),
        ({"pseudotime_key": "dpt"}, r"key 'dpt' in obs.*Run stmmr.tl.trajectory\(adata\) first"),
        ({"pseudotime_key": "text"}, r"Expected numbers in obs\['text'\], found"),
        ({"pseudotime_key": "unknown"}, "Expected at least 30 cells along pseudotime, found 0"),
        ({"pseudotime_key": "same"}, "found 300 at a single value"),
        ({"n_knots": 1}, "Expected n_knots of at least 2, found 1"),
        ({"confidence": 95}, "Expected confidence to be a number between 0 and 1, found 95"),
        ({"to_domain": "a"}, r"Run stmmr.tl.trajectory\(adata\) first"),
    ],
)
def test_bad_input(options, message):
    adata, *_ = simulated(n=300)
    adata.obs["text"], adata.obs["unknown"], adata.obs["same"] = "a", np.nan, 0.5
    with pytest.raises(InputError, match=message):
        stmmr.tl.gene_trends(adata, **options)
