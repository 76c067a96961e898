"""The whole command on what goes wrong: one sentence, exit status 1, and earlier results as they were."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import PIL.Image
import pytest
import tifffile

import processes
import stmmr
from helpers import BAD_DATA, contents, run_main
from stmmr import cli
from stmmr._core import keys
from stmmr._core.exits import end_partly
from stmmr._core.log import Worded
from stmmr._core.options import option_names
from stmmr.pipeline.options import RunOptions
from stmmr.pipeline.sources import open_input
from stmmr.pipeline.steps import attempt


@pytest.fixture(scope="module")
def simulated():
    return stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=3, n_genes=30)


@pytest.fixture
def tissue(simulated):
    return simulated.copy()


@pytest.fixture(scope="module")
def earlier(simulated, tmp_path_factory):
    """A folder with the data and what a run on them wrote, with a picture of 16 bit."""
    folder = tmp_path_factory.mktemp("earlier")
    without = simulated.copy()
    library = without.uns["spatial"]["simulated"]
    picture = library["images"].pop("hires")
    without.obsm["spatial"] *= library["scalefactors"]["tissue_hires_scalef"]
    library["scalefactors"] = {}
    without.write_h5ad(folder / "in.h5ad")
    tifffile.imwrite(folder / "deep.tif", picture.astype(np.uint16) * 257, photometric="rgb")
    options = ("--n-domains", 3, "--image", folder / "deep.tif", "--no-progress")
    assert run_main("run", folder / "in.h5ad", "-o", folder / "out", *options) == 0
    return folder


def test_picture_of_16_bit_is_kept_for_the_figures(earlier, simulated):
    (library,) = ad.read_h5ad(earlier / "out/result.h5ad").uns["spatial"].values()
    np.testing.assert_array_equal(library["images"]["hires"], simulated.uns["spatial"]["simulated"]["images"]["hires"])


def test_full_disk(earlier, monkeypatch, capsys):
    before = contents(earlier)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stmmr.io._unstorable.leave_out_unstorable", lambda adata: None)  # it writes to memory
    monkeypatch.setattr("stmmr.io._tables.write_escaped", full)
    monkeypatch.setattr("stmmr.tl.umap", lambda adata: None)
    status = run_main("run", earlier / "in.h5ad", "-o", earlier / "out", "--n-domains", 3, "--overwrite")
    assert status == 1
    line, note = capsys.readouterr().err.splitlines()[-2:]
    assert line.startswith("stmmr: Expected room for the results, found the disk")
    kept = earlier / ".out.unfinished"
    assert note == f"Finished steps are kept in {kept}: the same command continues there."
    after = contents(earlier)
    assert before.items() < after.items()
    assert all(name.startswith(".out.unfinished") for name in after.keys() - before.keys())
    shutil.rmtree(kept)


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("moment", ["analyses", "figures"])
def test_kill_while_writing(earlier, tmp_path, capsys, caplog, moment):
    """An earlier result stays until the new data are complete; then the new one is there, without figures."""
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    code = (
        "import os, signal, sys\n"
        "from stmmr import cli, pl, tl\n"
        "kill = lambda adata: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"tl.umap = {'kill' if moment == 'analyses' else 'lambda adata: None'}\n"
        "pl.domains = kill\n"
        "cli.main()"
    )
    out = tmp_path / "out"
    arguments = list(map(str, ["run", tmp_path / "in.h5ad", "-o", out, "--n-domains", 2, "--no-progress"]))
    assert processes.run(*arguments, "--overwrite", code=code).returncode == -9
    after = contents(tmp_path)
    kept = {name.partition("/")[2] for name in after if name.startswith(".out.unfinished")}
    assert kept >= {"run.json", "embedding.h5", "domains.h5"}
    facts = json.loads((out / "run.json").read_text())
    if moment == "analyses":
        assert before.items() < after.items()
        arguments.append("--overwrite")
    else:
        assert facts["unfinished"] == ["figures", "report"]
        assert ad.read_h5ad(out / "result.h5ad").obs[keys.DOMAIN].nunique() == 2
        assert {path.name for path in out.iterdir()} >= {"domains.csv", "domain_genes.csv", "model"}
        assert not list(out.glob("*.png"))
    assert run_main("run", tmp_path / "in.h5ad", "-o", out, "--n-domains", 3) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob(".*")} == {".out.unfinished"}
    assert run_main(*arguments) == 0  # continues
    assert "domains: finished before" in caplog.text
    assert not list(tmp_path.glob(".*"))
    assert "unfinished" not in json.loads((out / "run.json").read_text())
    assert (out / "domains.png").exists()


def refused(folder, capsys, *arguments):
    """Run the command and return its one line, after checking that it left nothing behind."""
    before = contents(folder)
    status = run_main("run", *arguments, "-o", folder / "out", "--no-progress")
    assert status == 1
    assert contents(folder) == before
    assert not list(folder.glob("*out*"))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("stmmr: Expected ")
    return error


@pytest.mark.parametrize(("spoil", "message"), BAD_DATA)
def test_bad_data(tissue, tmp_path, capsys, spoil, message):
    spoil(tissue)
    tissue.write_h5ad(tmp_path / "in.h5ad")
    error = refused(tmp_path, capsys, tmp_path / "in.h5ad", "--n-domains", 3)
    assert re.search(message.replace("layer=", "--layer ").replace("use_rep", "--use-rep"), error)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--n-domains", 1000), "at least as many spots"),
        (("--n-domains", 3, "--use-rep", "X_scvi"), "'X_scvi' in obsm"),
        (("--n-domains", 3, "--layer", "raw"), "found none there"),
    ],
)
def test_bad_options(earlier, tmp_path, capsys, options, found):
    assert found in refused(tmp_path, capsys, earlier / "in.h5ad", *options)


def test_h5_that_is_no_10x_file(tissue, tmp_path, capsys):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["pca"] = np.zeros(3)
    assert "name an AnnData file .h5ad" in refused(tmp_path, capsys, tmp_path / "in.h5", "--n-domains", 3)


def truncated(path, picture):
    PIL.Image.fromarray(picture).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:5000])


def bomb(path, picture):
    tifffile.imwrite(path, picture[:4, :4], photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[name].overwrite(40_000)


def another_section(path, picture):
    PIL.Image.fromarray(picture[:80, :80]).save(path, format="PNG")


@pytest.mark.parametrize(
    ("draw", "found"),
    [(truncated, "truncated"), (bomb, "truncated"), (another_section, "outside")],
)
def test_bad_picture(earlier, simulated, tmp_path, capsys, draw, found):
    draw(tmp_path / "he", simulated.uns["spatial"]["simulated"]["images"]["hires"])
    options = ("--n-domains", 3, "--image", tmp_path / "he")
    assert found in refused(tmp_path, capsys, earlier / "in.h5ad", *options)


def test_a_file_in_a_folder_called_tables_is_no_spatialdata(simulated, tmp_path):
    (tmp_path / "tables").mkdir()
    simulated.write_h5ad(tmp_path / "tables" / "in.h5ad")
    adata, options = open_input(tmp_path / "tables" / "in.h5ad", RunOptions(n_domains=3))
    assert adata.shape == simulated.shape
    assert options == RunOptions(n_domains=3)


@pytest.mark.parametrize(
    ("python", "command"),
    [
        (
            "x exists. Pass overwrite=True (--overwrite), or another name.",
            "x exists. Pass --overwrite, or another name.",
        ),
        ('Choose one: coordinate_system="…" (--coordinate-system …).', "Choose one: --coordinate-system …."),
        ("Name fewer genes, genes=[…] (--enhance-gene …).", "Name fewer genes, --enhance-gene …."),
        ('Name it (layer="…", --layer …).', "Name it (--layer …)."),
        ("Expected random_state to be a seed, found -1.", "Expected --seed to be a seed, found -1."),
        ("Expected method to be one of a, found 'b'.", "Expected --method to be one of a, found 'b'."),
        ("found root_domain='2' and root_gene='a'", "found --root-domain '2' and --root-gene 'a'"),
        (
            "Give one of root_domain, root_gene and root_spot.",
            "Give one of --root-domain, --root-gene and --root-spot.",
        ),
        ("Run pp.expression(adata, section_key='s') first.", "Run pp.expression(adata, section_key='s') first."),
        ("Expected the key 'n_domains' in obs of /n_domains/n_domains.csv", None),
        ("Another image and its encoder are of a preset.", None),
    ],
)
def test_messages_name_the_option_of_the_command(python, command):
    assert cli.by_option(python) == (python if command is None else command)


@pytest.mark.parametrize(("command", "kept"), [("run", True), ("info", True), ("map", False), ("", True)])
def test_messages_offer_no_option_of_another_command(command, kept, monkeypatch):
    monkeypatch.setattr(cli, "typed", [f"stmmr {command} a.h5ad"])
    text = 'Name the layer (layer="…", --layer …), or a key of obsm to use instead (use_rep="…", --use-rep …).'
    rest = ", or a key of obsm to use instead (--use-rep …)" * kept
    assert cli.by_option(text) == f"Name the layer (--layer …){rest}."


def test_every_option_that_messages_name_is_one_of_the_command():
    for arguments in (cli.RUN, cli.MAP, cli.ANALYSES, cli.REPRODUCE):
        for option in option_names(type(arguments)):
            assert cli.by_option(f"Expected {option} to be a").startswith("Expected --")
    assert cli.by_option("Give n_seeds or enhance_genes.") == "Give --seeds or --enhance-gene."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("analyse", "INPUT", "--genes"),
            "Expected a folder that stmmr run wrote (with run.json) at INPUT, found a file",
        ),
        (("run", "INPUT", "-o", "out", "-v", "-q"), "Expected --quiet or --verbose, found both. Leave one out."),
        (
            ("run", "INPUT", "-o", "out", "--encoder", "nope", "--no-histology"),
            "Expected the name of an encoder, found",
        ),
        (("run", "INPUT", "-o", "out", "--seed", "-1"), "Expected --seed to be a whole number from 0 to"),
        (("run", "INPUT", "-o", "out", "--n-domains", "0"), "Expected --n-domains to be a positive whole number"),
        (
            ("run", "INPUT", "-o", "/proc/out"),
            "Expected a folder for the results, found that nothing can be created in /proc",
        ),
    ],
)
def test_wrong_calls_end_in_one_sentence(earlier, capsys, arguments, message):
    if "/proc/out" in arguments and not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    path = str(earlier / "in.h5ad")
    assert run_main(*(path if argument == "INPUT" else argument for argument in arguments)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stmmr: {message.replace('INPUT', path)}")


def test_reason_of_a_failed_part_is_in_the_last_sentence_only(caplog, capsys):
    failed = {}
    with caplog.at_level("WARNING", logger="stmmr"), attempt("trajectory", failed):
        raise stmmr.InputError("Expected a domain, found root_domain='9'.")
    (record,) = caplog.records
    assert record.getMessage() == "Trajectory failed: Expected a domain, found root_domain='9'."
    assert Worded(cli.by_option).format(record) == "Trajectory failed."
    with pytest.raises(SystemExit):
        end_partly(failed, Path("out"), cli.by_option)
    assert "trajectory failed (Expected a domain, found --root-domain '9'.)" in capsys.readouterr().err


def test_info_says_that_an_image_is_blank(tissue, tmp_path, capsys):
    images = tissue.uns["spatial"]["simulated"]["images"]
    images["lowres"] = np.zeros_like(images["hires"])
    tissue.write_h5ad(tmp_path / "in.h5ad")
    assert run_main("info", tmp_path / "in.h5ad") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("images")]
    assert line.endswith("px, blank")
    assert line.count("blank") == 1


def test_data_with_hardly_any_gene_are_warned_of(tissue, caplog):
    with caplog.at_level("WARNING", logger="stmmr"):
        stmmr.pp.expression(tissue[:, :1].copy())
    assert "Domains rest on only 1 genes. Check that all genes were read." in caplog.messages


# no traceback reaches a user


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("odd\nmore"), 70, r"an error that stmmr does not expect \(RuntimeError: odd\)"),
        (RecursionError("too deep"), 70, "RecursionError"),
        (AssertionError(), 70, "AssertionError"),
        (MemoryError(), 1, "Expected enough memory, found too little"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
    ],
)
def test_each_error_is_one_sentence(monkeypatch, tmp_path, capsys, error, status, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("stmmr.pipeline.info.describe", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        cli.main(["info", "x"])
    assert ended.value.code == status
    message = capsys.readouterr().err.strip()
    assert re.search(said, message)
    assert "\n" not in message
    assert "Traceback" not in message
    logs = list(tmp_path.glob("stmmr-error-*.log"))
    assert len(logs) == (status == 70)
    for log in logs:
        assert str(log) in message
        assert "https://" in message
        text = log.read_text()
        assert text.startswith("stmmr info x\n")
        assert "Traceback" in text
        assert "numpy" in text


@pytest.mark.parametrize("variable", ["PYTHONIOENCODING=ascii", pytest.param("LC_ALL=C", marks=pytest.mark.nightly)])
def test_output_without_its_letters(tmp_path, variable):
    stmmr.datasets.simulated_tissue().write_h5ad(tmp_path / "a.h5ad")
    name, _, value = variable.partition("=")
    command = [sys.executable, "-m", "stmmr.cli", "info", str(tmp_path / "a.h5ad")]
    out = subprocess.run(command, capture_output=True, env=os.environ | {name: value}, check=True)
    assert b"coordinates" in out.stdout
    assert out.stderr == b""


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_closed_pipe_is_no_error(tmp_path):
    stmmr.datasets.simulated_tissue().write_h5ad(tmp_path / "a.h5ad")
    command = f"'{sys.executable}' -m stmmr.cli info '{tmp_path / 'a.h5ad'}' | true"
    out = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 - a pipe
    assert out.stderr == ""


def test_memory_is_limited(tmp_path, capsys):
    stmmr.datasets.simulated_tissue().write_h5ad(tmp_path / "a.h5ad")
    options = ["--max-memory", "0.00001", "--mode", "memory"]
    try:
        assert run_main("run", tmp_path / "a.h5ad", "-o", tmp_path / "out", *options) == 1
    finally:
        stmmr.settings.max_memory = None
    assert "--max-memory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
