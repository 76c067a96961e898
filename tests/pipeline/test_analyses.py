"""Analyses: each option, each bad input with its message, folders that are whole or as they were."""

import json
import os
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import processes
import stmmr
from helpers import contents, run_main
from stmmr._core import keys
from stmmr._core.depends import drop_outdated
from stmmr._core.options import option_names
from stmmr.pipeline import analyse
from stmmr.pipeline.analyses import ANALYSES, AnalysisOptions
from stmmr.pipeline.analysis import Prepared
from stmmr.pipeline.folder import CONTENTS, OF_ANALYSES

GENES = {"domain_genes.csv", "domain_genes.png", "spatially_variable_genes.csv"}
TRAJECTORY = {"trajectory.png", "paga.png", "gene_trends.csv", "gene_trends.png"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def write_gmt(path, genes):
    path.write_text("".join(f"set{i}\t\t" + "\t".join(genes[i::4]) + "\n" for i in range(4)))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    tissue = stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=40)
    tissue.write_h5ad(folder / "in.h5ad")
    write_gmt(folder / "sets.gmt", list(tissue.var_names))
    write_gmt(folder / "mouse.gmt", [name.lower().capitalize() + "x" for name in tissue.var_names])
    (folder / "table.gmt").write_text("gene,count\nA,1\n")
    return folder


@pytest.fixture(scope="module")
def plain(source):
    """What a run without any of it wrote."""
    options = ("--n-domains", 3, "--no-genes", "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", source / "plain", *options) == 0
    return source / "plain"


@pytest.fixture
def result(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "result")


@pytest.fixture(scope="module")
def run_once(source):
    """What stmmr.run wrote in memory; to be copied."""
    adata = stmmr.read(source / "in.h5ad")
    stmmr.run(adata, n_domains=3, histology=False, save_model=source / "once", progress=False)
    return adata


@pytest.fixture
def found(run_once):
    return run_once.copy()


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Four sections of two groups."""
    folder = tmp_path_factory.mktemp("several")
    parts = {
        f"s{i}": stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=40, random_state=i)
        for i in range(4)
    }
    both = ad.concat(parts, label="section", index_unique="-")
    both.obs["group"] = np.where(both.obs["section"].isin(["s0", "s1"]), "healthy", "ill")
    both.obs["mixed"] = np.where(np.arange(both.n_obs) % 2, "a", "b")
    both.write_h5ad(folder / "in.h5ad")
    return folder


SEVERAL = ("--n-domains", 3, "--section-key", "section", "--no-genes", "--no-progress", "--no-report")


@pytest.fixture(scope="module")
def several_plain(several):
    """What a run of them wrote."""
    assert run_main("run", several / "in.h5ad", "-o", several / "plain", *SEVERAL) == 0
    return several / "plain"


def test_run_with_everything(source, tmp_path):
    out = tmp_path / "out"
    asked = ("--gene-sets", source / "sets.gmt", "--root-domain", 2, "--enhance")
    options = ("--n-domains", 3, "--no-histology", "--no-progress")
    assert run_main("run", source / "in.h5ad", "-o", out, *options, *asked) == 0
    assert names(out) >= GENES | TRAJECTORY | {"enrichment.csv", "model"}
    adata = ad.read_h5ad(out / "result.h5ad")
    assert adata.layers[keys.ENHANCED].dtype == np.float32
    assert set(adata.uns) >= {keys.DOMAIN_GENES, keys.ENRICHMENT}
    spots = pd.read_csv(out / "domains.csv", index_col="spot", dtype={"domain": str})
    np.testing.assert_allclose(spots["pseudotime"], adata.obs[keys.PSEUDOTIME])
    assert spots["branch"].notna().all()
    root = adata.uns["stmmr"]["trajectory"]["root_spot"]
    assert spots.loc[root, "domain"] == "2"
    assert spots.loc[root, "pseudotime"] == 0
    genes = pd.read_csv(out / "domain_genes.csv")
    assert (genes["z"] > 0).all()
    assert (genes["pval_adj"] < 0.05).all()
    assert pd.read_csv(out / "spatially_variable_genes.csv")["morans_i"].is_monotonic_decreasing
    assert list(pd.read_csv(out / "gene_trends.csv")["gene"]) == list(adata.uns["stmmr"]["gene_trends"]["table"].index)
    done = facts(out)["analyses"]
    assert list(done) == [
        "domain genes",
        "spatially variable genes",
        "gene sets",
        "trajectory",
        "gene trends",
        "denoised expression",
    ]
    assert done["trajectory"]["options"] == {"root_domain": "2"}
    assert all(one["seconds"] >= 0 for one in done.values())


def test_genes_are_found_by_default_and_nothing_else(source, tmp_path):
    options = ("--n-domains", 3, "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", tmp_path / "out", *options) == 0
    assert names(tmp_path / "out") & OF_ANALYSES == GENES
    adata = ad.read_h5ad(tmp_path / "out/result.h5ad")
    # p-values of the file are those of the function
    again = stmmr.tl.domain_genes_table(adata).copy()
    stmmr.tl.domain_genes(adata)
    pd.testing.assert_frame_equal(again, stmmr.tl.domain_genes_table(adata))


def test_one_domain_has_no_genes_and_that_is_no_error(source, tmp_path):
    options = ("--n-domains", 1, "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", tmp_path / "out", *options) == 0
    assert not names(tmp_path / "out") & OF_ANALYSES


def test_genes_of_very_many_spots_are_not_found_by_default(source, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(analyse, "BY_DEFAULT_AT_MOST", 100)
    caplog.set_level("INFO", logger="stmmr")
    options = ("--n-domains", 3, "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", tmp_path / "out", *options) == 0
    assert not names(tmp_path / "out") & OF_ANALYSES
    assert "Domain genes are left out: 133 spots take minutes. Request them by --genes" in caplog.text


def test_plain_run_has_none(plain):
    assert not names(plain) & OF_ANALYSES
    assert (plain / "model/weights.safetensors").stat().st_size < 1_000_000
    assert facts(plain)["analyses"] == {}


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (("--genes",), GENES),
        (("--gene-sets", "sets.gmt"), {"domain_genes.csv", "domain_genes.png", "enrichment.csv"}),
        (("--trajectory",), TRAJECTORY),
        pytest.param(("--root-domain", "3"), TRAJECTORY, marks=pytest.mark.nightly),
        (("--root-gene", "GENE"), TRAJECTORY),
        pytest.param(("--root-gene", "GENE", "--root-expression", "lowest"), TRAJECTORY, marks=pytest.mark.nightly),
        pytest.param(("--root-spot", "SPOT"), TRAJECTORY, marks=pytest.mark.nightly),
        (("--root-cell", "SPOT"), TRAJECTORY),
        (("--enhance",), set()),
        (("--enhance-gene", "GENE"), set()),
    ],
)
def test_each_flag_added_later(source, result, options, written):
    before = ad.read_h5ad(result / "result.h5ad")
    (result / "notes.txt").write_text("of the user")
    kept = contents(result)
    words = {"GENE": before.var_names[0], "SPOT": before.obs_names[7], "sets.gmt": source / "sets.gmt"}
    assert run_main("analyse", result, *(words.get(one, one) for one in options), "--no-progress", "--no-report") == 0
    assert names(result) & OF_ANALYSES == written
    after = contents(result)
    for name in set(kept) - {"result.h5ad", "report.html", "run.json", "domains.csv"}:
        if not (name.startswith("model") and "--enhance" in " ".join(map(str, options))):
            assert after[name] == kept[name]  # other figures, the model, and files of the user
    adata = ad.read_h5ad(result / "result.h5ad")
    np.testing.assert_array_equal(adata.obsm[keys.EMBEDDING], before.obsm[keys.EMBEDDING])
    assert (adata.obs[keys.DOMAIN] == before.obs[keys.DOMAIN]).all()
    if "--enhance" in options:
        assert keys.ENHANCED in adata.layers
    if "--enhance-gene" in options:
        assert list(adata.obsm[keys.ENHANCED]) == [before.var_names[0]]
    said = set(facts(result)["analyses"])
    assert said == {"domain genes", "gene sets"} or "--gene-sets" not in options
    if "SPOT" in options:
        assert adata.uns["stmmr"]["trajectory"]["root_spot"] == before.obs_names[7]


def test_twice_the_same_and_additions_add_up(result):
    def written():
        return {name: content for name, content in contents(result).items() if name.endswith((".csv", ".png"))}

    assert run_main("analyse", result, "--root-domain", 2, "--no-progress", "--no-report") == 0
    first = written()
    assert run_main("analyze", result, "--root-domain", 2, "--no-progress", "--no-report") == 0
    assert written() == first
    assert run_main("analyse", result, "--genes", "--no-progress", "--no-report") == 0
    assert written().items() > first.items()
    assert set(facts(result)["analyses"]) == {
        "trajectory",
        "gene trends",
        "domain genes",
        "spatially variable genes",
    }


def test_enhanced_as_in_python(source, found, result):
    assert run_main("analyse", result, "--enhance", "--no-progress", "--no-report") == 0
    model = stmmr.StMMR.load(source / "once", found)
    stmmr.analyse(found, enhance=True, model=model, progress=False)
    written = ad.read_h5ad(result / "result.h5ad").layers[keys.ENHANCED]
    np.testing.assert_allclose(written, found.layers[keys.ENHANCED], rtol=1e-5)


def test_model_of_a_run_that_goes_on_is_saved(source, tmp_path, monkeypatch):
    monkeypatch.setattr("stmmr.pp._graph.WRITTEN_AT_MOST", 0)
    options = {"n_domains": 3, "histology": False, "progress": False, "checkpoint": tmp_path / "unfinished"}
    first, again = (stmmr.read(source / "in.h5ad", backed=True) for _ in range(2))
    stmmr.run(first, **options)
    stmmr.run(again, **options, save_model=tmp_path / "model")
    np.testing.assert_array_equal(again.obsm[keys.EMBEDDING], first.obsm[keys.EMBEDDING])
    stmmr.StMMR.load(tmp_path / "model", again)
    np.testing.assert_allclose(again.obsm[keys.EMBEDDING], first.obsm[keys.EMBEDDING], rtol=1e-4, atol=1e-4)


BAD = [
    (("--root-domain", "2", "--root-gene", "GENE"), "Expected one root, found --root-domain '2' and --root-gene 'g"),
    (("--root-domain", "9"), "Expected the key '9' in obs['stmmr_domain'], found 1, 2, 3."),
    (("--root-gene", "CLOSE"), "found none. Did you mean 'g"),
    (("--root-spot", "nowhere"), "'nowhere' in obs_names"),
    (("--gene-sets", "none.gmt"), "Expected a file of gene sets (.gmt), found none at"),
    (("--gene-sets", "table.gmt"), "Expected a name, a description and genes in each line of table.gmt"),
    (("--gene-sets", "mouse.gmt"), "Use a file for this species"),
    (("--enhance-gene", "CLOSE"), "found none. Did you mean 'g"),
    (("--group-key", "ground_truth"), "Expected several sections for --group-key"),
    (("--pseudobulk",), "Expected several sections for pseudobulk"),
]


@pytest.fixture
def words(source):
    gene = ad.read_h5ad(source / "in.h5ad", backed="r").var_names[0]
    files = {name: source / name for name in ("none.gmt", "table.gmt", "mouse.gmt")}
    return files | {"GENE": gene, "CLOSE": gene + "1"}


@pytest.mark.parametrize(("options", "found"), BAD)
def test_bad_input_is_said_before_the_long_steps(source, words, tmp_path, capsys, monkeypatch, options, found):
    monkeypatch.setattr("stmmr.pipeline.commands.run_steps", lambda *_, **__: pytest.fail("the long steps began"))
    given = [words.get(one, one) for one in options]
    run = ("run", source / "in.h5ad", "-o", tmp_path / "out", "--n-domains", 3, "--no-histology", "--no-progress")
    assert run_main(*run, *given) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stmmr: Expected ")
    assert found.replace("'g", f"'{words['GENE'][:1]}") in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "found"), [*BAD, ((), "Expected at least one analysis")])
def test_bad_input_leaves_a_result_as_it_was(source, words, result, capsys, options, found):
    before = contents(result.parent)
    assert run_main("analyse", result, *(words.get(one, one) for one in options), "--no-progress", "--no-report") == 1
    assert found.replace("'g", f"'{words['GENE'][:1]}") in capsys.readouterr().err.splitlines()[-1]
    assert contents(result.parent) == before


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--n-domains", 1, "--trajectory"), "Expected at least 2 domains for the analysis 'trajectory', found 1"),
        (("--n-domains", 1, "--genes"), "Expected at least 2 domains for the analysis 'domain genes', found 1"),
        (("--preset", "paper", "--enhance"), "Expected a model of counts (the default preset)"),
        (("--use-rep", "spatial", "--enhance"), "Expected a model of counts (the default preset)"),
        (("--mode", "disk", "--enhance"), "Expected names of genes for counts that stay on disk"),
    ],
)
def test_options_that_do_not_go_together(source, tmp_path, capsys, options, found):
    assert run_main("run", source / "in.h5ad", "-o", tmp_path / "out", "--no-histology", *options) == 1
    assert found in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_root_that_is_not_among_the_domains_found_loses_nothing(source, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(
        "stmmr.pipeline.commands.prepared_by", lambda options: Prepared(None)
    )  # as with --n-domains auto
    options = ("--n-domains", 3, "--root-domain", 99, "--genes", "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", out, *options) == 3
    *_, said = capsys.readouterr().err.splitlines()
    found = ad.read_h5ad(out / "result.h5ad").obs[keys.DOMAIN].cat.categories
    reason = f"Expected the key '99' in obs['stmmr_domain'], found {', '.join(found)}."
    assert said.startswith(f"stmmr: trajectory failed ({reason})")
    assert f"stmmr analyse {out}" in said
    assert names(out) & OF_ANALYSES == GENES
    assert facts(out)["analyses"]["trajectory"]["error"] == reason
    assert [part["part"] for part in facts(out)["failed"]] == ["trajectory", "gene trends"]
    assert names(tmp_path) == {"out"}
    assert run_main("analyse", out, "--root-domain", found[0], "--no-progress", "--no-report") == 0
    assert "error" not in facts(out)["analyses"]["trajectory"]
    assert "failed" not in facts(out)
    assert names(out) & OF_ANALYSES == GENES | TRAJECTORY


def test_whatever_fails_at_the_end_loses_nothing(source, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise ZeroDivisionError("of the analysis")

    for fails in ("stmmr.tl.gene_trends", "stmmr.pl.paga"):
        monkeypatch.setattr(fails, broken)
    out = tmp_path / "out"
    options = ("--n-domains", 3, "--trajectory", "--no-genes", "--no-histology", "--no-progress", "--no-report")
    assert run_main("run", source / "in.h5ad", "-o", out, *options) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("stmmr: gene trends failed (of the analysis); paga.png failed (of the analysis).")
    assert f"All other results are in {out}" in said
    assert keys.PSEUDOTIME in ad.read_h5ad(out / "result.h5ad").obs
    assert names(out) >= {"domains.png", "trajectory.png", "run.json", "model"}
    assert facts(out)["analyses"]["gene trends"]["error"] == "of the analysis"
    assert set(facts(out)["analyses"]) == {"trajectory", "gene trends"}


def test_failed_analysis_leaves_a_result_as_it_was(result, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    before = contents(result.parent)
    monkeypatch.setattr("stmmr.tl.trajectory", broken)
    assert run_main("analyse", result, "--root-domain", 2, "--no-progress") == 70
    assert contents(result.parent) == before
    assert run_main("analyse", result, "--genes", "--root-domain", 2, "--no-progress", "--no-report") == 3
    assert names(result) & OF_ANALYSES == GENES


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_killed_analysis_leaves_a_result_as_it_was(result):
    before = contents(result)
    code = (
        "import os, signal\n"
        "from stmmr import cli, pl\n"
        "pl.paga = lambda adata: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.main()"
    )
    line = ("analyse", result, "--root-domain", 2, "--no-progress")
    assert processes.run(*line, code=code).returncode == -9
    assert contents(result) == before
    assert run_main("analyse", result, "--root-domain", 2, "--no-progress", "--no-report") == 0
    assert names(result.parent) == {"result"}


def test_folders_that_are_no_result(source, tmp_path, result, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/run.txt").touch()
    for folder, found in (("nothing", "no such folder"), ("other", "run.txt")):
        assert run_main("analyse", tmp_path / folder, "--genes") == 1
        assert f"(with run.json) at {tmp_path / folder}, found {found}." in capsys.readouterr().err
    (result / "run.json").write_text("{")
    assert run_main("analyse", result, "--genes") == 1
    assert "found other content" in capsys.readouterr().err
    shutil.rmtree(result / "model")
    (result / "run.json").write_text('{"stmmr": {}, "versions": {}}')
    assert run_main("analyse", result, "--enhance") == 1
    assert "Expected the model in" in capsys.readouterr().err
    assert run_main("map", source / "in.h5ad", "--model", result, "-o", tmp_path / "out") == 1
    assert "Expected the model among the results" in capsys.readouterr().err
    (result / "result.h5ad").unlink()
    assert run_main("analyse", result, "--genes") == 1
    assert "found neither" in capsys.readouterr().err


def test_counts_on_disk(source, tmp_path):
    out, options = (
        tmp_path / "out",
        ("--n-domains", 3, "--mode", "disk", "--no-histology", "--no-progress", "--no-report"),
    )
    assert run_main("run", source / "in.h5ad", "-o", out, *options) == 0
    before = ad.read_h5ad(out / "result.h5ad")
    gene = before.var_names[0]
    assert run_main("analyse", out, "--root-domain", 2, "--enhance-gene", gene, "--no-progress", "--no-report") == 0
    after = ad.read_h5ad(out / "result.h5ad")
    assert (after.X != before.X).nnz == 0
    assert {keys.PSEUDOTIME, keys.BRANCH} <= set(after.obs)
    assert list(after.obsm[keys.ENHANCED]) == [gene]
    assert facts(out)["stmmr"]["mode"] == "disk"


def test_several_sections(several, several_plain, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_main("run", several / "in.h5ad", "-o", out, *SEVERAL, "--group-key", "mixed") == 1
    assert "Expected one mixed for each section" in capsys.readouterr().err
    shutil.copytree(several_plain, out)
    assert set(facts(out)["analyses"]) == {"composition"}
    assert names(out) & OF_ANALYSES == {"composition.csv", "composition.png"}
    table = pd.read_csv(out / "composition.csv", dtype={"domain": str})
    np.testing.assert_allclose(table.groupby("section")["share"].sum(), 1, rtol=1e-5)
    assert table["n_obs"].sum() == ad.read_h5ad(out / "result.h5ad").n_obs
    assert run_main("analyse", out, "--group-key", "group", "--no-progress") == 0
    tests = pd.read_csv(out / "composition_tests.csv", dtype={"domain": str})
    assert {"share_healthy", "share_ill", "pval_adj"} <= set(tests)
    assert facts(out)["stmmr"]["composition"] == {
        "section_key": "section",
        "group_key": "group",
        "domain_key": keys.DOMAIN,
    }
    assert run_main("analyse", out, "--genes", "--no-progress", "--no-report") == 0
    assert names(out) >= GENES | {"composition_tests.csv", "composition.png"}


def test_pseudobulk(several_plain, tmp_path):
    pytest.importorskip("pydeseq2")
    shutil.copytree(several_plain, tmp_path / "out")
    assert run_main("analyse", tmp_path / "out", "--pseudobulk", "--no-progress", "--no-report") == 0
    table = pd.read_csv(tmp_path / "out/domain_genes_pseudobulk.csv", dtype={"domain": str})
    assert table["domain"].nunique() >= 2


@pytest.fixture(scope="module")
def other(source):
    """Another section of the same kind, without a picture."""
    tissue = stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=40, random_state=0)
    tissue[: tissue.n_obs // 2].copy().write_h5ad(source / "other.h5ad")
    return source / "other.h5ad"


def test_map(source, plain, other, tmp_path):
    out = tmp_path / "out"
    options = ("--label-key", "ground_truth", "--root-domain", 2, "--no-progress")
    assert run_main("map", other, "--model", plain, "-o", out, *options) == 0
    there = {"result.h5ad", "domains.csv", "domains.png", "confidence.png", "domains_refined.png", "embedding.png"}
    assert names(out) >= there | GENES | {"composition.csv", "composition.png", "trajectory.png", "paga.png"}
    assert not names(out) & {"training.png", "model"}
    adata, trained = ad.read_h5ad(out / "result.h5ad"), ad.read_h5ad(plain / "result.h5ad")
    known = trained.obs[keys.DOMAIN][adata.obs_names].astype(str)
    assert (adata.obs[keys.DOMAIN].astype(str) == known).mean() > 0.8
    assert list(adata.obs[keys.DOMAIN].cat.categories) == list(trained.obs[keys.DOMAIN].cat.categories)
    table = pd.read_csv(out / "composition.csv")
    assert table.groupby("section")["n_obs"].sum().to_dict() == {"other": adata.n_obs, "in": trained.n_obs}
    assert facts(out)["model"] == str(plain)
    assert facts(out)["stmmr"]["evaluation"]
    assert run_main("analyse", out, "--gene-sets", source / "sets.gmt", "--no-progress", "--no-report") == 0
    assert names(out) >= GENES | {"composition.csv", "composition.png", "enrichment.csv"}


def test_map_reads_the_picture_that_the_model_reads(source, other, tmp_path, capsys):
    trained, out = tmp_path / "trained", tmp_path / "out"
    assert run_main("run", source / "in.h5ad", "-o", trained, "--n-domains", 3, "--no-progress", "--no-report") == 0
    assert run_main("map", other, "--model", trained, "-o", out, "--no-progress", "--no-report") == 0
    assert keys.HISTOLOGY in ad.read_h5ad(out / "result.h5ad").obsm
    blind = ad.read_h5ad(other)
    del blind.uns["spatial"]
    blind.write_h5ad(tmp_path / "blind.h5ad")
    assert run_main("map", tmp_path / "blind.h5ad", "--model", trained, "-o", tmp_path / "no") == 1
    assert "Expected an image, which the model uses" in capsys.readouterr().err


def test_map_of_several_sections(several, several_plain, tmp_path):
    out = tmp_path / "out"
    options = ("--section-key", "section", "--no-progress", "--no-report", "--no-genes")
    assert run_main("map", several / "in.h5ad", "--model", several_plain, "-o", out, *options) == 0
    table = pd.read_csv(out / "composition.csv")
    assert set(table["section"]) == {f"in s{i}" for i in range(4)} | {f"in s{i} (trained)" for i in range(4)}
    mapped = ad.read_h5ad(out / "result.h5ad")
    mapped.obs[keys.DOMAIN] = mapped.obs[keys.DOMAIN].cat.rename_categories({"1": "white matter"})
    drop_outdated(mapped)
    assert list(mapped.uns[keys.COMPOSITION]["domain"]) == list(
        table["domain"].astype(str).replace("1", "white matter")
    )


def test_counts_in_a_layer(source, plain, tmp_path):
    adata = ad.read_h5ad(source / "in.h5ad")
    adata.layers["raw"], adata.X = adata.X, adata.X * 0.37
    adata.obsm["X_own"] = np.linalg.svd(np.log1p(adata.X.toarray()), full_matrices=False)[0][:, :5]
    adata.write_h5ad(tmp_path / "in.h5ad")
    gene, rest = adata.var_names[0], ("--layer", "raw", "--no-progress", "--no-report")
    mapped, represented = tmp_path / "mapped", tmp_path / "represented"
    assert run_main("map", tmp_path / "in.h5ad", "--model", plain, "-o", mapped, *rest, "--root-gene", gene) == 0
    assert names(mapped) >= GENES | {"trajectory.png"}
    options = ("--use-rep", "X_own", "--n-domains", 3, "--no-histology", "--genes", "--root-gene", gene)
    assert run_main("run", tmp_path / "in.h5ad", "-o", represented, *rest, *options) == 0
    assert names(represented) >= GENES | {"trajectory.png"}


def test_in_python(source, found):
    adata = stmmr.read(source / "in.h5ad")
    with pytest.raises(stmmr.InputError, match=r"Run stmmr\.run"):
        stmmr.analyse(adata, genes=True)
    adata = found
    with pytest.raises(stmmr.InputError, match="Expected at least one analysis"):
        stmmr.analyse(adata)
    with pytest.raises(stmmr.InputError, match=r"Give it as model="):
        stmmr.analyse(adata, enhance=True)
    stmmr.analyse(adata, genes=True, root_domain="2", progress=False)
    assert {keys.PSEUDOTIME, keys.BRANCH} <= set(adata.obs)
    assert keys.MORAN_I in adata.var
    assert {"domain genes", "trajectory", "gene trends"} <= set(adata.uns["stmmr"]["seconds"])


def test_another_root_forgets_the_curves_of_the_first(found):
    adata = found
    stmmr.analyse(adata, root_domain="2", progress=False)
    del adata.uns["stmmr"]["expression"]
    stmmr.analyse(adata, root_domain="1", progress=False)
    assert "gene_trends" not in adata.uns["stmmr"]


def test_errors_of_several_analyses_are_all_said(found, monkeypatch):
    adata = found

    def broken(*_, **__):
        raise stmmr.InputError("no such thing")

    monkeypatch.setattr("stmmr.tl.trajectory", broken)
    monkeypatch.setattr("stmmr.tl.spatially_variable_genes", broken)
    with pytest.raises(stmmr.InputError, match="no such thing") as error:
        stmmr.analyse(adata, genes=True, trajectory=True, progress=False)
    assert error.value.__notes__ == ["Trajectory: no such thing", "Gene trends: left out, because trajectory failed"]
    assert keys.DOMAIN_GENES in adata.uns


def test_every_option_belongs_to_an_analysis():
    of_analyses = {name for analysis in ANALYSES for name in analysis.options}
    assert of_analyses | {"domain_key"} == set(option_names(AnalysisOptions))
    for analysis in ANALYSES:
        assert analysis.needs in {"", *(other.name for other in ANALYSES)}


def test_unknown_options_are_named(found):
    with pytest.raises(TypeError, match=r"unexpected option 'root_domian'. Did you mean 'root_domain'"):
        stmmr.analyse(found, root_domian="2")


def test_contents_are_what_can_be_written():
    assert set(CONTENTS) >= OF_ANALYSES >= GENES | TRAJECTORY
