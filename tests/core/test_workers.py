"""Tasks on workers of a Dask cluster: the same results, arrays by file, and one sentence when workers are not there."""

import os
import signal
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stmmr
from helpers import contents, run_main
from stmmr import InputError
from stmmr._core import workers
from stmmr._core.parallel import elsewhere, in_parallel
from stmmr._core.workers import on_workers

distributed = pytest.importorskip("distributed")
QUIET = dict.fromkeys(("dashboard_address", "worker_dashboard_address"), "127.0.0.1:0")
QUIET |= {"threads_per_worker": 1, "n_workers": 2}


@pytest.fixture(scope="module")
def cluster():
    """Two workers that are threads of this process."""
    with distributed.LocalCluster(processes=False, protocol="inproc", **QUIET) as cluster:
        yield cluster


def scaled(values, matrix, *, by):
    return {"sum": values.sum(axis=0), "product": matrix @ (values * by), "where": os.getpid()}


def test_results_in_order_and_arrays_by_file(cluster, tmp_path, monkeypatch):
    rng, sent = np.random.default_rng(0), []
    packed = workers._packed
    monkeypatch.setattr(workers, "_packed", lambda *args: (sent.append(packed(*args)), sent[-1])[1])
    tasks = [(rng.normal(size=(500, 40)), sparse.random(500, 500, 0.1, "csr", rng=rng)) for _ in range(6)]
    function = partial(scaled, by=rng.normal(size=(500, 40)))
    expected = [function(*task) for task in tasks]
    with on_workers(cluster.scheduler_address, tmp_path / "out"):
        results = list(in_parallel(function, tasks))
        assert [path.name for folder in tmp_path.iterdir() for path in folder.iterdir()] == [".stmmr"]
    for one, other in zip(results, expected, strict=True):
        for name in ("sum", "product"):
            np.testing.assert_array_equal(one[name], other[name])
    assert max(len(content) for content, _ in sent) < 2 * workers.BY_FILE
    assert not list(tmp_path.iterdir())
    assert elsewhere.get() is None


def test_the_steps_of_a_run_give_the_same_values(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("stmmr._core.rows.CHUNK", 50)
    monkeypatch.setattr("stmmr._core.kernel.TILE", 60)
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_genes=40, n_domains=3)
    del adata.uns["spatial"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    alone, helped = (ad.read_h5ad(tmp_path / "a.h5ad", backed="r") for _ in range(2))
    monkeypatch.chdir(tmp_path)
    stmmr.run(alone, n_domains=3, progress=False)
    stmmr.run(helped, n_domains=3, progress=False, scheduler=cluster.scheduler_address)
    for name in ("X_stmmr", "X_stmmr_pca"):
        np.testing.assert_array_equal(alone.obsm[name], helped.obsm[name])
    pd.testing.assert_frame_equal(alone.obs, helped.obs)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5ad"]


def test_an_error_of_a_task_is_raised_here(cluster, tmp_path):
    def fail(number):
        raise InputError(f"Expected even numbers, found {number}.")

    with (
        on_workers(cluster.scheduler_address, tmp_path / "out"),
        pytest.raises(InputError, match="even numbers, found 1"),
    ):
        list(in_parallel(fail, [(1,)]))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "CONNECTING", 0.3)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://here"])
def test_no_scheduler_is_one_sentence(address, tmp_path, impatient):
    with pytest.raises(InputError, match=r"at .*, found none that answers"), on_workers(address, tmp_path):
        pass
    adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_domains=2)
    with pytest.raises(InputError, match=r"found none that answers .* leave out scheduler \(--scheduler"):
        stmmr.run(adata, scheduler=address)


def test_no_workers_are_one_sentence(tmp_path, impatient, monkeypatch):
    with distributed.LocalCluster(processes=False, **QUIET | {"n_workers": 0}) as cluster:
        monkeypatch.setenv(workers.ADDRESS, cluster.scheduler_address)
        with pytest.raises(InputError, match=r"Expected workers .*, found none within"), on_workers(None, tmp_path):
            pass


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(ImportError, match=r"distributed is not installed; run: pip install 'stmmr-kit\[dask\]'"),
        on_workers("tcp://127.0.0.1:9", tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [(("0.0.0", True), r"found 0\.0\.0"), ((stmmr.__version__, False), "all workers reach")],
)
def test_workers_of_another_version_or_without_the_folder(cluster, tmp_path, monkeypatch, answer, message):
    answer = workers._Worker(*answer)
    monkeypatch.setattr(workers, "_asked", lambda path: answer)
    with pytest.raises(InputError, match=message), on_workers(cluster.scheduler_address, tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def processes():
    """Two workers that are processes, and are started again when they die."""
    with distributed.LocalCluster(processes=True, **QUIET) as cluster:
        yield cluster.scheduler_address


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_a_cohort_by_two_workers_has_the_same_bytes(processes, tmp_path, monkeypatch):
    for name, value in (("rows.CHUNK", 300), ("kernel.TILE", 500)):
        monkeypatch.setattr(f"stmmr._core.{name}", value)
    lines = ["section,path,condition"]
    for seed in range(3):
        adata = stmmr.datasets.simulated_tissue(n_rows=24, n_cols=24, n_genes=60, n_domains=3, random_state=seed)
        del adata.uns["spatial"]
        adata.write_h5ad(tmp_path / f"s{seed}.h5ad")
        lines.append(f"s{seed},s{seed}.h5ad,{'xy'[seed % 2]}")
    table = pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names)
    pd.DataFrame(adata.obsm["spatial"], adata.obs_names, ["x", "y"]).join(table).to_csv(tmp_path / "t.csv")
    (tmp_path / "samples.csv").write_text("\n".join([*lines, "t,t.csv,y"]))
    results = []
    for name, options in (("alone", ()), ("cluster", ("--scheduler", processes))):
        flags = ("--mode", "disk", "--no-report", "--no-progress")
        assert run_main("run", tmp_path / "samples.csv", "-o", tmp_path / name, *flags, *options) == 0
        results.append(contents(tmp_path / name))
    assert {path for path in results[0] if results[0][path] != results[1].get(path)} <= {"run.json", "result.h5ad"}
    alone, cluster = (ad.read_h5ad(tmp_path / name / "result.h5ad") for name in ("alone", "cluster"))
    for name in ("X_stmmr", "X_stmmr_pca"):
        np.testing.assert_array_equal(alone.obsm[name], cluster.obsm[name])
    pd.testing.assert_frame_equal(alone.obs, cluster.obs)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_a_worker_that_dies_are_done_again(processes, tmp_path):
    def deadly(number, values, *, mark):
        if number == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number, os.getpid(), values * number

    values = np.arange(20_000.0)
    with on_workers(processes, tmp_path / "out"):
        function = partial(deadly, mark=tmp_path / "mark")
        results = list(in_parallel(function, [(number, values) for number in range(8)]))
        assert [number for number, _, _ in results] == list(range(8))
        for number, pid, scaled in results:
            np.testing.assert_array_equal(scaled, values * number)
            assert pid != os.getpid()
        with pytest.raises(ChildProcessError, match="several ended during one task"):
            list(in_parallel(lambda: os.kill(os.getpid(), signal.SIGKILL), [()]))
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_ends_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "WITHOUT_WORKERS", 15)
    cluster = distributed.LocalCluster(processes=True, **QUIET)
    with on_workers(cluster.scheduler_address, tmp_path / "out"):
        results = in_parallel(lambda number: number, [(number,) for number in range(20)])
        assert next(results) == 0
        cluster.close()
        with pytest.raises(ChildProcessError, match="Expected the Dask cluster until the end of the run"):
            list(results)
