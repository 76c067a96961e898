"""No command removes or replaces what stmmr did not write, nor what it reads."""

import os
import shutil

import pytest

import stmmr
from stmmr import cli

from .conftest import contents


def refused(folder, capsys, *arguments):
    """Run a command in this process; get its sentence, after checking that nothing changed."""
    before = contents(folder)
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, arguments), "--no-progress"])
    assert end.value.code == 1
    assert contents(folder) == before
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].startswith("stmmr: Expected "), errors
    return errors.splitlines()[-1]


@pytest.mark.parametrize("where", ["working folder", "result", "link"])
def test_checkpoint_in_a_folder_of_the_user(source, result, tmp_path, monkeypatch, capsys, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(result / "figures")
    folder = {"working folder": ".", "result": "out", "link": "link"}[where]
    assert "checkpoint" in refused(tmp_path, capsys, "run", source, "-o", tmp_path / "new", "--checkpoint", folder)


def test_checkpoint_keeps_files_of_the_user(tissue, tmp_path):
    folder = tmp_path / "kept"
    for seed in (0, 1):  # the steps of another run are removed
        stmmr.run(tissue.copy(), n_domains=3, random_state=seed, checkpoint=folder, progress=False)
        assert (folder / "domains.h5").exists()
        if not seed:
            (folder / "notes.txt").write_text("years of work")
    assert (folder / "notes.txt").read_text() == "years of work"


@pytest.mark.parametrize("how", ["inside", "deep", "linked", "link inside", "image", "gene sets"])
def test_output_that_holds_an_input(source, result, tmp_path, capsys, how):
    arguments = [source]
    if how in ("inside", "deep"):
        folder = result / "raw/today" if how == "deep" else result
        folder.mkdir(parents=True, exist_ok=True)
        arguments = [source.rename(folder / "in.h5ad")]
    elif how == "linked":
        (tmp_path / "link.h5ad").symlink_to(source.rename(result / "in.h5ad"))
        arguments = [tmp_path / "link.h5ad"]
    elif how == "link inside":
        (result / "link.h5ad").symlink_to(source)
        arguments = [result / "link.h5ad"]
    elif how == "image":
        (result / "he.png").write_bytes(b"")
        arguments += ["--image", result / "he.png"]
    else:
        (result / "sets.gmt").write_text("a\tb\tc\n")
        arguments += ["--gene-sets", result / "sets.gmt"]
    (tmp_path / "latest").symlink_to(result)
    for output in (result, tmp_path / "latest"):
        message = refused(tmp_path, capsys, "run", *arguments, "-o", output, "--overwrite")
        assert "inside the output" in message
    assert (result / "run.json").exists()


def test_output_that_holds_the_model(source, result, tmp_path, capsys):
    message = refused(tmp_path, capsys, "map", source, "--model", result, "-o", result, "--overwrite")
    assert "inside the output" in message


def test_overwriting_keeps_files_of_the_user(source, result, tmp_path):
    (result / "elsewhere").symlink_to(tmp_path)
    (result / "gone").symlink_to(tmp_path / "nothing")
    before = contents(result)
    cli_run("run", source, "-o", result, "--n-domains", 2, "--overwrite")
    after = contents(result)
    for name in ("notes.txt", "model/notes.txt", "figures/mine.png"):
        assert after[name] == before[name]
    assert after["domains.csv"] != before["domains.csv"]
    assert (result / "elsewhere").readlink() == tmp_path
    assert (result / "gone").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "out"]


def test_a_folder_like_ours_is_not_ours(source, tmp_path, capsys):
    """Other programs write a run.json as well."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text('{"jobs": 3}')
    (tmp_path / "out/thesis.docx").write_text("years of work")
    assert "stmmr wrote" in refused(tmp_path, capsys, "run", source, "-o", tmp_path / "out", "--overwrite")


def test_models_and_features_keep_files_of_the_user(tissue, tmp_path):
    from stmmr.pp import histology

    adata = tissue.copy()
    stmmr.run(adata, n_domains=3, save_model=tmp_path / "model", cache=tmp_path / "cache", progress=False)
    (tmp_path / "model/notes.txt").write_text("years of work")
    (features,) = (tmp_path / "cache").iterdir()
    (features / "notes.txt").write_text("years of work")
    (features / "features.npy").write_bytes(b"damaged")
    histology(adata, cache=tmp_path / "cache", progress=False)
    stmmr.run(adata, n_domains=3, save_model=tmp_path / "model", progress=False)
    assert (tmp_path / "model/notes.txt").exists()
    assert (features / "notes.txt").exists()
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "weights.safetensors", "notes.txt"}


def cli_run(*arguments):
    try:
        cli.main([*map(str, arguments), "--no-progress"])
    except SystemExit as end:
        assert not end.code


posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")


@posix
@pytest.mark.parametrize("command", ["analyse", "info", "map", "run"])
def test_every_command_restores_a_folder_that_was_moved_aside(finished, tmp_path, monkeypatch, capsys, command):
    """Systems that cannot exchange folders move the old one aside; a kill at that moment hides it."""
    shutil.copytree(finished / "out", tmp_path / ".out.localhost-99999999-0123abcd.old")
    monkeypatch.setattr("platform.node", lambda: "localhost")
    result, source = tmp_path / "out", finished / "in.h5ad"
    monkeypatch.setattr("stmmr.pipeline.commands.run_steps", stop := Stop())
    monkeypatch.setattr("stmmr.pipeline.commands.map_section", stop)
    monkeypatch.setattr("stmmr.pipeline.commands.carry_out", stop)
    arguments = {
        "analyse": ("analyse", result, "--trajectory"),
        "info": ("info", result / "result.h5ad"),
        "map": ("map", source, "--model", result, "-o", tmp_path / "mapped"),
        "run": ("run", result / "result.h5ad", "-o", tmp_path / "again"),
    }[command]
    with pytest.raises((SystemExit, Stop)) as end:
        cli.main([*map(str, arguments)])
    assert isinstance(end.value, Stop) or not end.value.code, capsys.readouterr().err
    assert (result / "result.h5ad").exists()
    assert not list(tmp_path.glob(".out.*"))


class Stop(BaseException):
    def __call__(self, *arguments, **options):
        raise self
