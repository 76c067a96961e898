"""How many threads work at once."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import stmmr
from stmmr import InputError
from stmmr._core import parallel
from stmmr._core.parallel import in_parallel, limited_threads, one_thread, threads


@pytest.fixture(autouse=True)
def two_threads_of_libraries():
    """As with OMP_NUM_THREADS=2."""
    import sklearn.cluster  # noqa: F401 - loads OpenMP

    with threadpool_limits(2):
        yield


def library_threads():
    np.ones((4, 4)) @ np.ones((4, 4))
    return {pool["num_threads"] for pool in threadpool_info()}


def test_tasks_in_parallel_use_one_thread_of_libraries_each():
    found = list(in_parallel(library_threads, [() for _ in range(5)]))
    assert set().union(*found) == {1}
    assert library_threads() == {2}


@pytest.mark.parametrize("n", [1, 3])
def test_as_many_tasks_at_once_as_chosen(n):
    at_once, most, lock = 0, 0, threading.Lock()

    def task():
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1

    with limited_threads(n):
        assert threads() == n
        list(in_parallel(task, [() for _ in range(9)]))
        assert library_threads() == {n}
    assert most == n
    assert library_threads() == {2}
    assert parallel.chosen_threads() is None


def test_small_problems_one_after_another_use_one_thread():
    assert one_thread(library_threads)() == {1}
    assert library_threads() == {2}


@pytest.mark.parametrize("step", ["consensus", "number_of_domains", "domains", "spatial_graph"])
def test_steps_of_small_problems_use_one_thread(step, monkeypatch):
    from stmmr.pp import _graph
    from stmmr.tl import _consensus, _domains, _number

    module = {"consensus": _consensus, "number_of_domains": _number, "domains": _domains, "spatial_graph": _graph}[step]
    name = {"spatial_graph": "coordinates"}.get(step, "points_of")
    seen = []
    before = getattr(module, name)
    monkeypatch.setattr(
        module, name, lambda *args, **options: (seen.append(library_threads()), before(*args, **options))[1]
    )
    adata = stmmr.datasets.simulated_tissue(n_rows=8, n_cols=8, n_domains=2, n_genes=20)
    adata.obsm["X"] = adata.obsm["spatial"]
    if step == "spatial_graph":
        stmmr.pp.spatial_graph(adata, bandwidth=100.0)
    else:
        options = {"number_of_domains": {"at_most": 2}}.get(step, {"n_domains": 2})
        getattr(stmmr.tl, step)(adata, use_rep="X", **options)
    assert seen and all(found == {1} for found in seen)


def test_settings():
    assert stmmr.settings.threads is None
    stmmr.settings.threads = 3
    try:
        assert threads() == 3
        for bad in (0, -1, 1.5, True, "2"):
            with pytest.raises(InputError, match="Expected threads to be a positive whole number"):
                stmmr.settings.threads = bad
    finally:
        stmmr.settings.threads = None
    with pytest.raises(InputError, match="Expected threads to be a positive whole number"):
        stmmr.RunOptions(threads=0)


def test_a_run_with_chosen_threads(monkeypatch):
    seen = []
    adata = stmmr.datasets.simulated_tissue(n_rows=12, n_cols=12, n_domains=2, n_genes=30)
    other = adata.copy()
    before = stmmr.pp.expression
    monkeypatch.setattr(
        stmmr.pp, "expression", lambda *args, **options: (seen.append(threads()), before(*args, **options))
    )
    stmmr.run(adata, n_domains=2, histology=False, threads=3, progress=False)
    assert seen == [3]
    assert parallel.chosen_threads() is None
    stmmr.run(other, n_domains=2, histology=False, threads=1, progress=False)
    np.testing.assert_array_equal(adata.obsm["X_stmmr"], other.obsm["X_stmmr"])
    assert (adata.obs["stmmr_domain"] == other.obs["stmmr_domain"]).all()
