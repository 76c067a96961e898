"""A run repeated by a file: run.json, TOML and YAML; options on the command line win."""

import json

import pandas as pd
import pytest

import stmmr
from helpers import run_main
from stmmr._core.options import option_names
from stmmr.pipeline import commands
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.configuring import NOT_REPEATED, read_config
from stmmr.pipeline.options import RunFolderOptions, RunOptions

QUIET = ("--no-progress", "-q")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=40).write_h5ad(folder / "in.h5ad")
    options = ("--n-domains", 3, "--no-histology", "--seed", 7, "--root-domain", 2, "--no-report", *QUIET)
    assert run_main("run", folder / "in.h5ad", "-o", folder / "out", *options) == 0
    return folder


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def test_run_json_repeats_the_run(first, tmp_path, monkeypatch):
    content = facts(first / "out")
    assert content["command"].startswith(f"stmmr run {first / 'in.h5ad'} -o") and "--seed 7" in content["command"]
    names = {name for kind in (RunFolderOptions, RunOptions, AnalysisOptions) for name in option_names(kind)}
    assert set(content["config"]) == (names - NOT_REPEATED) | {"input"}
    assert content["config"]["random_state"] == 7 and content["config"]["n_domains"] == 3
    monkeypatch.chdir(tmp_path)
    assert run_main("run", "--config", first / "out" / "run.json", "-o", "again") == 0
    for name in ("domains.csv", "domain_genes.csv", "gene_trends.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (first / "out" / name).read_bytes()
    again = facts(tmp_path / "again")
    assert again["options"] == content["options"]
    different = {name for name in names - NOT_REPEATED if again["config"][name] != content["config"][name]}
    assert different == {"output"}
    assert run_main("run", "--config", first / "out" / "run.json") == 1  # its folder is there already


def test_files_with_the_same_names(first, tmp_path):
    off = ("histology", "genes", "report")
    texts = {
        "toml": "n-domains = 2\nseed = 3\ninput = '{}'\noutput = '{}'\n" + "".join(f"{name} = false\n" for name in off),
        "yaml": "n_domains: 2\nrandom_state: 3\ninput: ['{}']\noutput: '{}'\n"
        + "".join(f"{name}: no\n" for name in off),
        "json": '{{"input": {{"a": "{}"}}, "output": "{}", "n_domains": 2, "seed": 3, "enhance_genes": [], '
        + ", ".join(f'"{name}": false' for name in off)
        + "}}",
    }
    read = {}
    for suffix, text in texts.items():
        path = tmp_path / f"options.{suffix}"
        path.write_text(text.format(first / "in.h5ad", tmp_path / "out"))
        read[suffix] = {
            name: str(value) for name, value in read_config(path).items() if name not in ("input", "enhance_genes")
        }
    assert read["toml"] == read["yaml"] == read["json"]
    assert run_main("run", "--config", path, "--n-domains", 3, *QUIET) == 0
    content = facts(tmp_path / "out")
    assert content["config"]["n_domains"] == 3 and content["config"]["random_state"] == 3
    assert "domain genes" not in content["analyses"] and not (tmp_path / "out" / "report.html").exists()
    assert pd.read_csv(tmp_path / "out" / "domains.csv")["domain"].nunique() == 3


@pytest.fixture
def options_of(first, tmp_path, monkeypatch):
    """Get a function: sources and options with which a command would run."""

    def parsed(text, *arguments):
        called = {}
        monkeypatch.setattr(
            commands,
            "run_to_folder",
            lambda sources, folder, options, analyses, **_: called.update(
                sources=sources, **vars(folder), **vars(options), **vars(analyses)
            ),
        )
        (tmp_path / "options.toml").write_text(text)
        line = (
            "run",
            first / "in.h5ad",
            "--config",
            tmp_path / "options.toml",
            "-o",
            tmp_path / "out",
            *arguments,
            *QUIET,
        )
        assert run_main(*line) == 0
        return called

    return parsed


def test_a_flag_of_the_command_line_wins(first, options_of):
    text = "input = 'none.h5ad'\nreport = false\ngenes = true\nhistology = false\nn_domains = 3\n"
    options = options_of(text, "--report", "--no-genes")
    assert options["report"] and not options["genes"] and not options["histology"] and options["n_domains"] == 3
    assert "in.h5ad" in str(options["sources"])


def test_a_run_json_of_an_earlier_version(first, tmp_path):
    content = facts(first / "out")
    for name in ("config", "command"):
        del content[name]
    (tmp_path / "run.json").write_text(json.dumps(content))
    options = read_config(tmp_path / "run.json")
    assert options["n_domains"] == 3 and options["root_domain"] == "2" and options["random_state"] == 7


BAD = [
    ("toml", "n_domain = 3", "found 'n_domain'. Did you mean 'n_domains'?"),
    ("toml", "n_domains = ", "found other content"),
    ("json", "[1]", "found other content (a list)"),
    ("yaml", "a: [", "found other content"),
    ("ini", "[a]", "that ends with .json, .toml, .yaml, .yml"),
    ("toml", "[n_domains]\nx = 1", "Expected a value or a list for 'n_domains'"),
    ("toml", "n_domains = 'many'", "many"),
    ("toml", "preset = 'quick'", "quick"),
    (None, "", "Expected a file with options (--config), found none at"),
]


@pytest.mark.parametrize(("suffix", "text", "message"), BAD)
def test_bad_files(first, tmp_path, capsys, suffix, text, message):
    path = tmp_path / f"options.{suffix}"
    if suffix is not None:
        path.write_text(text)
    assert run_main("run", first / "in.h5ad", "-o", tmp_path / "out", "--config", path) in (1, 2)
    out, err = capsys.readouterr()
    assert message in " ".join((out + err).split())
    assert not (tmp_path / "out").exists()


def test_a_flag_of_the_file_is_switched_off(options_of):
    text = "trajectory = true\ngenes = false\noverwrite = true\nn_domains = 3\n"
    options = options_of(text, "--no-trajectory", "--no-overwrite")
    assert not options["trajectory"] and not options["overwrite"] and not options["genes"]
