"""The whole command on what goes wrong: one sentence, exit status 1, and earlier results as they were."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import PIL.Image
import pytest
import tifffile

import stmmr
from stmmr import cli
from stmmr._core import keys
from stmmr.pipeline.options import RunOptions
from stmmr.pipeline.sources import open_input


def run_main(*arguments):
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, arguments)))
    return end.value.code


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("stmmr.tl.umap", lambda adata: None)
    monkeypatch.setattr("stmmr.pl.embedding", stmmr.pl.domains)
    status = run_main("run", earlier / "in.h5ad", "-o", earlier / "out", "--n-domains", 3, "--overwrite")
    assert status == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("stmmr: Expected room for the results, found the disk")
    assert contents(earlier) == before


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_kill_while_writing(earlier, capsys):
    before = contents(earlier)
    code = (
        "import os, signal, sys\n"
        "from stmmr import cli, pl, tl\n"
        "tl.umap = lambda adata: None\n"
        "pl.domains = lambda adata: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.main()"
    )
    arguments = ["run", earlier / "in.h5ad", "-o", earlier / "out", "--n-domains", 2, "--overwrite", "--no-progress"]
    died = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True)
    assert died.returncode == -9
    after = contents(earlier)
    assert before.items() < after.items()
    new = after.keys() - before.keys()
    kept = {name for name in new if name.startswith(".out.unfinished")}
    assert {name.partition("/")[2] for name in kept} >= {"run.json", "embedding.h5", "domains.h5"}
    partial = new - kept
    assert all(name.startswith(".out.") for name in partial)
    assert {name.rpartition("/")[2] for name in partial} >= {"domains.csv", "domain_genes.csv"}
    assert keys.DOMAIN in ad.read_h5ad(earlier / "out/result.h5ad").obs
    assert run_main("run", earlier / "in.h5ad", "-o", earlier / "out", "--n-domains", 3) == 1
    assert "--overwrite" in capsys.readouterr().err
    after = {name: content for name, content in contents(earlier).items() if name not in kept}
    assert after == before  # the next run has tidied; what is done of the one that was killed waits for it


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


def negative(adata):
    adata.X.data[0] = -1


def with_nan(adata):
    adata.X.data[0] = np.nan


def normalised(adata):
    adata.X = adata.X * 0.37


def without_coordinates(adata):
    del adata.obsm["spatial"]
    adata.obs = adata.obs[["ground_truth"]]


def nan_coordinates(adata):
    adata.obsm["spatial"][0] = np.nan


def one_point(adata):
    adata.obsm["spatial"][:] = 1.0


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (negative, "negative values"),
        (with_nan, "NaN"),
        (normalised, "look normalised"),
        (without_coordinates, "Expected coordinates"),
        (nan_coordinates, " without "),
        (one_point, "at one point"),
    ],
)
def test_bad_data(tissue, tmp_path, capsys, spoil, found):
    spoil(tissue)
    tissue.write_h5ad(tmp_path / "in.h5ad")
    assert found in refused(tmp_path, capsys, tmp_path / "in.h5ad", "--n-domains", 3)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--n-domains", 1000), "at least as many spots"),
        (("--n-domains", 3, "--use-rep", "X_scvi"), "'X_scvi' in obsm"),
        (("--n-domains", 3, "--layer", "raw"), "'raw' in layers"),
    ],
)
def test_bad_options(earlier, tmp_path, capsys, options, found):
    assert found in refused(tmp_path, capsys, earlier / "in.h5ad", *options)


def test_h5_that_is_no_10x_file(tissue, tmp_path, capsys):
    tissue.write_h5ad(tmp_path / "in.h5")
    assert "name an AnnData file .h5ad" in refused(tmp_path, capsys, tmp_path / "in.h5", "--n-domains", 3)


def test_greyscale_picture_in_the_data(tissue, tmp_path, capsys):
    images = tissue.uns["spatial"]["simulated"]["images"]
    images["hires"] = images["hires"][..., 0]
    tissue.write_h5ad(tmp_path / "in.h5ad")
    options = (tmp_path / "in.h5ad", "--n-domains", 3)
    assert "--no-histology" in refused(tmp_path, capsys, *options)
    assert run_main("run", *options, "-o", tmp_path / "out", "--no-histology", "--no-progress") == 0
    assert (tmp_path / "out/domains.png").stat().st_size


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


@pytest.mark.parametrize("variable", ["PYTHONIOENCODING=ascii", "LC_ALL=C"])
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
