"""The help: the most used options first, all of them on request; completion of shells."""

import pytest
from rich.console import Console

from helpers import run_main
from stmmr._core.options import option_names
from stmmr.cli import app
from stmmr.pipeline.analyses import AnalysisOptions
from stmmr.pipeline.arguments import GROUPS, MOST_USED, group_of, option_names_of
from stmmr.pipeline.options import MapOptions, RunFolderOptions, RunOptions

OF_RUN = {name for kind in (RunFolderOptions, RunOptions, AnalysisOptions) for name in option_names(kind)} - {
    "save_model"
}


def shown(capsys, *arguments):
    assert run_main(*arguments) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Use a wide terminal; the app keeps the first one that it made."""
    monkeypatch.setenv("COLUMNS", "200")
    app.console = Console(width=200)
    yield
    app.console = None


def test_the_most_used_options_come_first(capsys):
    text = shown(capsys, "run", "--help")
    assert "--n-domains" in text and "--config" in text and "stmmr run --help-all" in text
    assert "--precision" not in text and len(text.splitlines()) < 45
    assert text.index("INPUT --input") < text.index("--n-domains")


def test_all_options_are_there_on_request(capsys):
    text = shown(capsys, "run", "--help-all")
    missing = [name for name in OF_RUN if f"{option_names_of(name)[0]} " not in text]
    assert missing == []
    assert text.count("All options") == 0
    titles = [group.name for group in GROUPS]
    assert sorted(titles, key=text.index) == titles


@pytest.mark.parametrize("command", ["analyse", "annotate", "info", "reproduce", "demo"])
def test_other_commands_show_all(command, capsys):
    assert shown(capsys, command, "--help") == shown(capsys, command, "--help-all")


def test_groups_name_options_that_exist():
    known = OF_RUN | set(option_names(MapOptions)) | {"max_memory", "progress", "quiet", "verbose"}
    assert {name for names in GROUPS.values() for name in names} <= known
    assert MOST_USED <= OF_RUN and group_of("genes") == group_of("output")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell):
    script = app.generate_completion(shell=shell)
    assert "annotate" in script and "n-domains" in script


REFUSED = [
    ("run x -o o --n-domains abc", "Expected --n-domains to be a whole number or \"auto\", found 'abc'."),
    ("run x -o o --threads 1.5", "Expected --threads to be a whole number, found '1.5'."),
    ("run x -o o --um-per-pixel small", "Expected --um-per-pixel to be a number, found 'small'."),
    (
        "run x -o o --mode memroy",
        'Expected --mode to be "auto", "memory" or "disk", found \'memroy\'. Did you mean \'memory\'?',
    ),
    ("run x -o o --n-domain 3", "Expected options of stmmr run, found --n-domain. Did you mean --n-domains?"),
    ("run x -o o --zzz", "Expected options of stmmr run, found --zzz. stmmr run --help lists them."),
    ("run x -o", "Expected a value after -o, found none."),
    ("run x", "Expected --output for stmmr run, found none."),
    ("run", "Expected INPUT for stmmr run, found none."),
    ("info a b", "Expected no further inputs for stmmr info, found b. Run it once for each;"),
    (
        "rum x",
        "Expected a command (run, analyse, analyze, annotate, map, export, demo, info, reproduce), found 'rum'.",
    ),
    ("run --config CONFIG", "Expected --n-domains to be a whole number or \"auto\", found 'abc' in CONFIG."),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSED)
def test_options_that_cannot_be_read_are_one_sentence(line, sentence, capsys, tmp_path):
    config = tmp_path / "bad.toml"
    config.write_text("n_domains = 'abc'\ninput = 'x'\noutput = 'o'\n")
    assert run_main(*(str(config) if word == "CONFIG" else word for word in line.split())) == 1
    printed = capsys.readouterr().err.replace(str(config), "CONFIG")
    assert printed.startswith(f"stmmr: {sentence}") and printed.count("\n") == 1
