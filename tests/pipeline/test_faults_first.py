"""What is wrong is told in one sentence, before the first long step."""

import pytest

import stmmr
from helpers import run_main
from stmmr._core.checks import shown_bytes
from stmmr.report._methods import methods_of


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "in.h5ad"
    stmmr.datasets.simulated_tissue(n_rows=14, n_cols=14, n_domains=3, n_genes=40).write_h5ad(path)
    return path


def test_a_missing_gpu_is_told_before_data_are_read(source, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("stmmr.pipeline.commands.read_inputs", lambda *_, **__: pytest.fail("data were read"))
    assert run_main("run", source, "-o", tmp_path / "out", "--accelerator", "cuda", "--enhance") == 1
    assert "Expected a GPU, found none. Use --accelerator cpu" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_processes_without_batches_are_told_before_the_long_steps(source, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lightning_fabric")
    monkeypatch.setattr("stmmr.pipeline.run.expression", lambda _: pytest.fail("the long steps began"))
    assert run_main("run", source, "-o", tmp_path / "out", "--preset", "paper", "--devices", 2) == 1
    message = capsys.readouterr().err
    assert "Expected one process (--devices 1, --num-nodes 1)" in message and "found 2" in message


@pytest.mark.parametrize("function", [stmmr.run, stmmr.analyse])
def test_a_path_instead_of_data(function):
    with pytest.raises(stmmr.InputError, match=r"found str\. Read it first: .*stmmr\.read\('outs/'\)"):
        function("outs/", progress=False)


def test_sizes_are_never_zero():
    assert [shown_bytes(n) for n in (0, 4_000, 30e6, 999e6, 2.5e9)] == ["1 kB", "4 kB", "30 MB", "999 MB", "2.5 GB"]


def test_methods_of_other_clusterings(source):
    adata = stmmr.read(source)
    stmmr.run(adata, n_domains=3, histology=False, method="kmeans", progress=False)
    text, _ = methods_of(adata)
    assert "Domains were found by k-means." in text and "For the refined domains" in text
