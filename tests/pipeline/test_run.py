"""The whole way on a simulated tissue: run, save and load, the command line, and what it says to bad input."""

import inspect
import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

import processes
import stmmr
from helpers import BAD_DATA, run_main, without_coordinates
from stmmr._core import keys
from stmmr.pipeline.folder import CONTENTS, OF_ANALYSES, TILES, write_data, write_domains, write_figures, write_tables


@pytest.fixture(scope="module")
def simulated():
    return stmmr.datasets.simulated_tissue(n_rows=30, n_cols=30, n_domains=4, n_genes=200)


@pytest.fixture
def tissue(simulated):
    return simulated.copy()


@pytest.fixture(scope="module")
def done(simulated):
    adata = simulated.copy()
    stmmr.run(adata, n_domains=4, progress=False)
    return adata


def prepared(adata):
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    return adata


def small_paper(adata, **changes):
    return stmmr.StMMR(adata, preset="paper", hidden=16, latent=12, decoder_hidden=16, steps=3, **changes)


def test_run_finds_the_domains(done):
    known = done.obs["ground_truth"].notna()
    assert adjusted_rand_score(done.obs["ground_truth"][known], done.obs[keys.DOMAIN][known]) > 0.5
    assert done.obs[keys.DOMAIN].value_counts().is_monotonic_decreasing
    assert np.isfinite(done.obsm[keys.EMBEDDING]).all()


def test_progress_false_reaches_every_bar(tissue, capsys, monkeypatch):
    import tqdm.auto

    shown = tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda *args, **options: shown(*args, **options | {"delay": 0}))
    stmmr.pp.histology(tissue)
    assert capsys.readouterr().err == ""  # a file is no place for bars
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    stmmr.pp.histology(tissue)
    assert "histology" in capsys.readouterr().err
    stmmr.run(tissue, n_domains=3, progress=False)
    assert capsys.readouterr().err == ""


def test_x_stays_as_it_was(done, simulated):
    assert (done.X != simulated.X).nnz == 0
    assert done.shape == simulated.shape


def test_labels_change_nothing(tissue, done):
    rng = np.random.default_rng(0)
    tissue.obs["other"] = rng.permutation(tissue.obs["ground_truth"].astype(object))
    del tissue.obs["ground_truth"]
    stmmr.run(tissue, n_domains=4, label_key="other", progress=False)
    np.testing.assert_array_equal(tissue.obsm[keys.EMBEDDING], done.obsm[keys.EMBEDDING])
    assert (tissue.obs[keys.DOMAIN] == done.obs[keys.DOMAIN]).all()


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_steps_on_a_view_leave_its_parent_alone(tissue):
    tissue.uns["stmmr"] = {"note": "of the parent"}
    half = tissue[: tissue.n_obs // 2]
    stmmr.run(half, n_domains=3, label_key="ground_truth", progress=False)
    assert tissue.uns["stmmr"] == {"note": "of the parent"}
    assert set(half.uns["stmmr"]) > {"note", "histology", "model", "consensus", "refine", "evaluation", "seconds"}
    stmmr.pp.histology(view := tissue[::2])
    assert list(tissue.uns["stmmr"]) == ["note"]
    assert list(view.uns["stmmr"]) == ["note", "histology"]


def test_seed_is_local(tissue):
    import torch

    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    stmmr.run(tissue, n_domains=3, histology=False, progress=False)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_graph_is_the_cut_kernel(tissue):
    stmmr.pp.spatial_graph(tissue, use="array", bandwidth=2.0)
    xy = tissue.obs[["array_col", "array_row"]].to_numpy(float)
    dense = np.exp(-(cdist(xy, xy) ** 2) / 8) + np.eye(len(xy))
    dense /= dense.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(tissue.obsp[keys.GRAPH].toarray(), dense, atol=4e-5)
    assert sparse.issparse(tissue.obsp[keys.GRAPH])


def test_lognorm_is_scanpys(tissue):
    import scanpy as sc

    stmmr.pp.expression(tissue, n_top_genes=50)
    other = ad.AnnData(tissue.X.copy())
    sc.pp.normalize_total(other)
    sc.pp.log1p(other)
    np.testing.assert_allclose(tissue.layers[keys.LOGNORM].toarray(), other.X.toarray(), rtol=1e-5)
    assert tissue.var[keys.HIGHLY_VARIABLE].sum() == 50


@pytest.mark.parametrize("make", [stmmr.StMMR, small_paper])
def test_saved_model_gives_the_same_embedding(tissue, tmp_path, make):
    model = make(prepared(tissue))
    model.fit(progress=False)
    before = tissue.obsm[keys.EMBEDDING].copy()
    model.save(tmp_path / "model")
    del tissue.obsm[keys.EMBEDDING]
    loaded = stmmr.StMMR.load(tmp_path / "model", tissue)
    np.testing.assert_allclose(tissue.obsm[keys.EMBEDDING], before, rtol=1e-4, atol=1e-3)  # float32 round-off
    assert loaded.history == model.history
    assert loaded.denoise().shape[0] == tissue.n_obs
    with pytest.raises(stmmr.InputError, match="overwrite"):
        model.save(tmp_path / "model")


def test_the_default_trains_nothing_but_a_decoder_when_it_is_needed(done):
    assert "history" not in done.uns["stmmr"]
    done = done.copy()
    loss = stmmr.StMMR(done).fit().fit_decoder(progress=False).history["loss"]
    assert np.mean(loss[-10:]) < np.mean(loss[:10])


def test_paper_goes_downhill(tissue):
    stmmr.pp.histology(tissue)
    model = small_paper(prepared(tissue), dropout=0.0, learning_rate=1e-3).fit(progress=False)
    assert set(model.history) == {"loss", "likelihood", "contrast", "graph"}
    assert model.history["loss"][-1] < model.history["loss"][0]


def test_representation_without_genes(simulated):
    scores = np.random.default_rng(0).normal(size=(simulated.n_obs, 12)).astype("float32")
    codes = simulated.obs["ground_truth"].cat.codes.to_numpy()
    scores[:, 0] += 4 * codes
    adata = ad.AnnData(shape=(simulated.n_obs, 0), obs=simulated.obs[[]])
    adata.obsm["X_scvi"], adata.obsm["spatial"] = scores, simulated.obsm["spatial"]
    stmmr.run(adata, n_domains=4, use_rep="X_scvi", progress=False)
    assert adata.obs[keys.DOMAIN].nunique() == 4
    assert adata.uns["stmmr"]["model"]["likelihood"] == "gaussian"


def test_empty_places_and_genes_are_kept(tissue):
    counts = tissue.X.tolil()
    counts[3] = 0
    counts[:, 5] = 0
    tissue.X = counts.tocsr()
    stmmr.run(tissue, n_domains=3, histology=False, progress=False)
    assert np.isfinite(tissue.obsm[keys.EMBEDDING]).all()
    assert not tissue.var[keys.HIGHLY_VARIABLE].iloc[5]


@pytest.mark.parametrize(("spoil", "message"), BAD_DATA)
def test_bad_data(tissue, spoil, message):
    spoil(tissue)
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.run(tissue, n_domains=3, progress=False)
    assert keys.EMBEDDING not in tissue.obsm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_domains": 10_000}, "at least as many spots as domains"),
        ({"n_domains": 0}, "n_domains"),
        ({"n_domains": 3, "label_key": "ground_thruth"}, "Did you mean 'ground_truth'"),
        ({"n_domains": 3, "layer": "raw"}, "found none there"),
        ({"n_domains": 3, "size_key": "total"}, "'total' in obs"),
        ({"n_domains": 3, "use_rep": "X_pca"}, "'X_pca' in obsm"),
        ({"n_domains": 3, "preset": "best"}, "default, paper"),
    ],
)
def test_bad_options(tissue, options, message):
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.run(tissue, **options)


def test_repeated_names_are_made_unique(tissue, caplog):
    tissue.var_names = ["A", "A", *tissue.var_names[2:]]
    tissue.obs_names = ["s", "s", *tissue.obs_names[2:]]
    with caplog.at_level("WARNING", logger="stmmr"):
        stmmr.pp.expression(tissue)
    assert tissue.var_names.is_unique
    assert tissue.obs_names.is_unique
    assert "made unique" in caplog.text


def test_foreign_or_damaged_models(tissue, tmp_path):
    with pytest.raises(stmmr.InputError, match=r"model\.json"):
        stmmr.StMMR.load(tmp_path, tissue)
    model = stmmr.StMMR(prepared(tissue), steps=1)
    model.fit(progress=False).save(tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(stmmr.InputError, match="Expected whole weights"):
        stmmr.StMMR.load(tmp_path / "m", tissue)
    (tmp_path / "m" / "model.json").write_text("{")
    with pytest.raises(stmmr.InputError, match="Expected the description of a model"):
        stmmr.StMMR.load(tmp_path / "m", tissue)


def test_command_line_twice_the_same(tissue, tmp_path, capsys):
    """In two processes, whose sets have different orders."""
    tissue.write_h5ad(tmp_path / "in.h5ad")
    line = ("run", tmp_path / "in.h5ad", "--n-domains", 4, "--label-key", "ground_truth")
    out = processes.run(*line, "-o", tmp_path / "a")
    assert out.returncode == 0, out.stderr
    assert run_main(*line, "-o", tmp_path / "b") == 0
    assert (tmp_path / "a/domains.csv").read_bytes() == (tmp_path / "b/domains.csv").read_bytes()
    not_requested = {"number_of_domains.png", "training.png", "result.zarr", "spatialdata.zarr", TILES} | OF_ANALYSES
    not_requested -= {"domain_genes.csv", "domain_genes.png", "spatially_variable_genes.csv"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == set(CONTENTS) - not_requested
    facts = json.loads((tmp_path / "a/run.json").read_text())
    assert {"input", "options", "stmmr", "versions", "seconds_in_all", "peak_memory_mb"} <= set(facts)
    table = pd.read_csv(tmp_path / "a/domains.csv", index_col=0)
    assert table.index.tolist() == tissue.obs_names.tolist()
    assert keys.EMBEDDING in ad.read_h5ad(tmp_path / "a/result.h5ad").obsm
    capsys.readouterr()
    assert run_main("run", tmp_path / "in.h5ad", "-o", tmp_path / "a", "--n-domains", 4) == 1
    assert "overwrite" in capsys.readouterr().err
    assert run_main("run", tmp_path / "in.h5ad", "-o", tmp_path / "c", "--n-domains", 4, "--label-key", "nothing") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.glob("*c*"))


def write_results(adata, folder):
    stmmr.tl.umap(adata)
    write_domains(adata, folder)
    write_data(adata, folder)
    assert not write_tables(adata, folder) | write_figures(adata, folder)


def test_no_curve_of_a_bandwidth_that_was_given(done, tmp_path):
    stmmr.pp.spatial_graph(given := done.copy(), bandwidth=200.0)
    (done := done.copy()).uns["stmmr"]["spatial_graph"] = given.uns["stmmr"]["spatial_graph"]
    write_results(done, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(CONTENTS) - OF_ANALYSES - {
        "bandwidth.png",
        "model",
        "number_of_domains.png",
        "report.html",
        TILES,
        "result.zarr",
        "run.json",
        "spatialdata.zarr",
        "training.png",
    }


def test_info(tissue, tmp_path, capsys):
    def told():
        tissue.write_h5ad(tmp_path / "in.h5ad")
        assert run_main("info", tmp_path / "in.h5ad") == 0
        return capsys.readouterr().out

    out = told()
    assert "h5ad" in out
    assert str(tissue.n_obs) in out
    assert "px of obsm['spatial'], 0.5 µm each (from microns_per_pixel); neighbours are 100 µm apart\n" in out
    del tissue.uns["spatial"]
    units = "coordinate units of obsm['spatial'], 0.5 µm each (from hexagonal array); neighbours are 100 µm apart"
    assert units in told()
    without_coordinates(tissue)
    assert "not usable: Expected coordinates in" in told()


def test_command_has_the_options_of_run():
    from dataclasses import fields

    from stmmr import cli

    for command, function in ((cli.RunArguments, stmmr.RunOptions), (cli.MapArguments, stmmr.MapOptions)):
        own, base = ({f.name: f.default for f in fields(kind)} for kind in (command, function))
        assert own == base
    assert list(inspect.signature(stmmr.run).parameters)[2:] == [f.name for f in fields(stmmr.RunOptions)]


def test_unknown_options_are_named(tissue):
    with pytest.raises(TypeError, match=r"run\(\) got an unexpected option 'n_domain'. Did you mean 'n_domains'"):
        stmmr.run(tissue, n_domain=3)


def test_options_object_and_single_options(tissue):
    stmmr.run(tissue, stmmr.RunOptions(n_domains=3, histology=False, progress=False), n_domains=2)
    assert tissue.obs[keys.DOMAIN].nunique() == 2


@pytest.mark.parametrize(
    "method",
    ["kmeans", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("gaussian_mixture", "agglomerative"))],
)
def test_other_readouts(tissue, method, tmp_path):
    stmmr.run(tissue, n_domains=3, histology=False, method=method, progress=False)
    assert tissue.uns["stmmr"]["domains"]["method"] == method
    assert keys.CONFIDENCE not in tissue.obs
    write_results(tissue, tmp_path)
    assert "confidence.png" not in {path.name for path in tmp_path.iterdir()}
    stmmr.report.write(tissue, tmp_path / "report.html")


def test_a_new_run_forgets_the_results_of_the_first(tissue):
    tissue.uns["mine"] = "of the user"
    stmmr.run(tissue, n_domains=3, histology=False, label_key="ground_truth", progress=False)
    stmmr.analyse(tissue, genes=True, trajectory=True, progress=False)
    stmmr.run(tissue, n_domains=2, histology=False, method="kmeans", progress=False)
    assert tissue.uns["mine"] == "of the user"
    assert not {keys.DOMAIN_GENES} & set(tissue.uns)
    assert not {keys.PSEUDOTIME, keys.BRANCH, keys.CONFIDENCE} & set(tissue.obs)
    assert keys.MORAN_I not in tissue.var
    assert not {"trajectory", "gene_trends", "consensus", "evaluation"} & set(tissue.uns["stmmr"])


def test_messages_in_python(tissue):
    code = (
        "import stmmr, sys\n"
        "tissue = stmmr.datasets.simulated_tissue(n_rows=10, n_cols=10, n_domains=2, n_genes=30)\n"
        "tissue.obs_names = ['same', 'same', *tissue.obs_names[2:]]\n"
        "stmmr.settings.verbosity = int(sys.argv[1])\n"
        "stmmr.run(tissue, n_domains=2, histology=False, progress=False)\n"
    )
    lines = {}
    for level in (0, 1, 2):
        done = processes.run(level, code=code)
        assert done.returncode == 0, done.stderr
        lines[level] = done.stderr.splitlines()
    assert lines[0] == []
    assert len(lines[1]) == 2
    assert lines[1][0].startswith("Warning: ")
    answer = r"2 domains, mean confidence [01]\.\d\d(, and a second answer in .*)?; see adata\.obs\['stmmr_domain'\]\."
    assert re.fullmatch(answer, lines[1][1])
    assert set(lines[2]) > set(lines[1])
    with pytest.raises(ValueError, match="Expected a verbosity of 0"):
        stmmr.settings.verbosity = 7


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in ("starmap_mpfc_BZ5", "st_pdac_A")]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["osmfish_cortex", *NIGHTLY])
def test_real_tissue(name, shared_data):
    adata = stmmr.read(shared_data / f"{name}.h5ad")
    known = adata.obs["ground_truth"].notna()
    stmmr.run(adata, n_domains=adata.obs["ground_truth"].nunique(), progress=False)
    chance = 0.05
    assert adjusted_rand_score(adata.obs["ground_truth"][known], adata.obs[keys.DOMAIN][known]) > chance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_domains": 3.5}, "a positive whole number or 'auto', found 3.5"),
        ({"n_domains": "three"}, "a positive whole number or 'auto', found 'three'"),
        ({"n_domains": True}, "a positive whole number or 'auto', found True"),
        ({"n_domains": None}, "a positive whole number or 'auto', found None"),
        ({"random_state": -1}, "random_state .* from 0 to 4294967295, found -1"),
        ({"random_state": 2**32}, "random_state .* from 0 to 4294967295"),
        ({"um_per_pixel": 0}, "um_per_pixel to be a positive number, found 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(stmmr.InputError, match=message):
        stmmr.RunOptions(**options)


def test_command_takes_no_fraction_for_a_number_of_domains(tissue, tmp_path, capsys):
    tissue.write_h5ad(tmp_path / "in.h5ad")
    assert run_main("run", tmp_path / "in.h5ad", "-o", tmp_path / "out", "--n-domains", "3.5") != 0
    out, err = capsys.readouterr()
    assert "3.5" in out + err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_too_few_spots(tissue):
    with pytest.raises(stmmr.InputError, match="Expected at least 13 spots, found 3"):
        stmmr.run(tissue[:3].copy(), n_domains=2, histology=False)


def test_what_is_no_model_or_no_file(tissue, done, tmp_path):
    with pytest.raises(stmmr.InputError, match=r"Expected a fitted stmmr\.StMMR or a result folder as model, found N"):
        stmmr.map(tissue, None)
    with pytest.raises(stmmr.InputError, match="Expected a file name for the report in an existing folder"):
        stmmr.report.write(done, tmp_path / "nowhere" / "report.html")


SHOWN_IN_PYTHON = """
import sys
import numpy as np
import stmmr

case = sys.argv[1]
adata = stmmr.datasets.simulated_tissue(n_rows=20, n_cols=20, n_domains=4, n_genes=60)
if case == "mirrored":
    (library,) = adata.uns["spatial"].values()
    scale = library["scalefactors"]["tissue_hires_scalef"]
    image = library["images"]["hires"]
    border = image.shape[1] // 2
    adata = adata[adata.obsm["spatial"][:, 0] * scale < border].copy()
    (library,) = adata.uns["spatial"].values()
    image = image.copy()
    image[:, border:] = 245
    library["images"] = {"hires": np.ascontiguousarray(image[:, ::-1])}
    stmmr.run(adata, n_domains=2, progress=False)
else:
    adata.obsm["X_stmmr"] = np.random.default_rng(0).normal(0, 1, (adata.n_obs, 3))
    adata.obsm["X_stmmr"][:60] += 100
    adata.uns["stmmr"] = {"model": {"scaled": True}}
    adata.obs["stmmr_domain"] = np.where(np.arange(adata.n_obs) < 150, "a", "b")
    stmmr.tl.trajectory(adata, root_domain="b")
"""


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("mirrored", "Mirrored"),
        ("NaN", "60 of 282 spots are not connected to the root: their pseudotime is NaN"),
    ],
)
def test_warnings_are_shown_in_python(case, message):
    shown = processes.run(case, code=SHOWN_IN_PYTHON)
    assert shown.returncode == 0, shown.stderr
    assert "Warning: " in shown.stderr
    assert message in shown.stderr


@pytest.mark.nightly
@pytest.mark.slow
def test_figures_in_several_formats_of_a_given_width(tmp_path):
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=30)
    adata.write_h5ad(tmp_path / "in.h5ad")
    out = tmp_path / "out"
    figures = ("--figure-format", "svg", "--figure-format", "pdf", "--figure-width", "single")
    common = ("run", tmp_path / "in.h5ad", "-o", out, "--n-domains", 3, "--no-genes", "--no-report", "--no-progress")
    assert run_main(*common, *figures) == 0
    assert {path.name for path in out.glob("domains.*")} == {"domains.csv", "domains.pdf", "domains.svg"}
    assert 'width="252.28' in (out / "domains.svg").read_text(encoding="utf-8")  # points: 89 mm
    assert json.loads((out / "run.json").read_text())["options"]["figure_format"] == ["svg", "pdf"]
    assert run_main("analyse", out, "--trajectory", "--no-report", "--no-progress") == 0
    assert {path.name for path in out.glob("paga.*")} == {"paga.pdf", "paga.svg"}
    assert run_main(*common, "--overwrite") == 0
    assert {path.suffix for path in out.iterdir()} >= {".png"}
    assert not [*out.glob("*.svg"), *out.glob("*.pdf")]
