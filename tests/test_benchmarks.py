"""The simulated section of the benchmarks, and what they make of what they measured."""

import sys

import anndata as ad
import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not part of the source distribution")
from benchmarks import _floor, _process, _simulate, _table, peers_scale, scale
from scipy import sparse, stats
from scipy.spatial import cKDTree

N = 5000  # more than one chunk


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "section.h5ad"
    _simulate.simulate(path, n_places=N, n_genes=500)
    return ad.read_h5ad(path)


def test_section_reads_as_any_other(section):
    assert section.shape == (N, 500)
    assert isinstance(section.X, sparse.csr_matrix)
    assert section.X.dtype == np.float32
    assert section.X.has_canonical_format
    assert (section.X.data == np.round(section.X.data)).all()
    assert section.X.data.min() == 1
    assert section.X.nnz / np.prod(section.shape) == pytest.approx(0.15, abs=0.02)


def test_cells_are_as_dense_whatever_their_number(section):
    few = _simulate.cells(1000, np.random.default_rng(0))
    for xy in (section.obsm["spatial"], few[["x", "y"]].to_numpy()):
        assert np.median(cKDTree(xy).query(xy, 2)[0][:, 1]) == pytest.approx(8, abs=1)
    assert section.obsm["spatial"].max() == pytest.approx(10 * np.ceil(N**0.5), rel=0.02)


def test_twelve_domains_of_their_own_mixtures(section):
    table = np.array(
        [
            np.bincount(section.obs["cell_type"].cat.codes[section.obs["ground_truth"] == name], minlength=16)
            for name in section.obs["ground_truth"].cat.categories
        ]
    )
    assert len(table) == 12
    assert table.sum(axis=1).min() > 0.01 * N
    assert stats.contingency.association(table) > 0.3


def test_cells_lie_by_field_of_view():
    found = _simulate.cells(50_000, np.random.default_rng(0))
    assert found["field"].nunique() > 4
    assert found["field"].is_monotonic_increasing


def test_counts_are_negative_binomial():
    mean = np.full((200_000, 1), 3.0, dtype=np.float32)
    drawn = _simulate.counts(mean, np.random.default_rng(0)).toarray().ravel()
    r = float(_simulate.DISPERSION)
    expected = stats.nbinom(r, r / (r + 3)).pmf(np.arange(20))
    found = np.bincount(drawn.astype(int), minlength=20)[:20] / len(drawn)
    assert np.abs(found - expected).max() < 0.005
    assert drawn.mean() == pytest.approx(3, rel=0.02)


def test_same_seed_same_file(tmp_path):
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for path in paths:
        _simulate.simulate(path, n_places=1000, n_genes=50, seed=3)
    first, second = map(ad.read_h5ad, paths)
    assert (first.X != second.X).nnz == 0
    assert first.obs.equals(second.obs)


def test_a_section_of_the_page_leaves_the_others(tmp_path):
    page = tmp_path / "page.md"
    first, second, third = _table.PERFORMANCE
    page.write_text(f"# Page\n\nWhat it is.\n\n## {third}\n\nkept\n\n### its part\n")
    _table.write_section(first, "old", page=page)
    _table.write_section(first, "new", [["a", "b"], ["1", "2"]], page=page)
    _table.write_section(second, "between", page=page)
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert page.read_text() == (
        f"# Page\n\nWhat it is.\n\n## {first}\n\nnew\n\n{table}\n\n## {second}\n\nbetween\n\n"
        f"## {third}\n\nkept\n\n### its part\n"
    )


def test_a_process_is_measured_by_itself():
    held = np.ones(40_000_000)  # 320 MB, which are not those of the process
    row = _process.measured([sys.executable, "-S", "-c", "print('said')"], at_most_s=60)
    assert row["failed"] == ""
    assert row["said"] == "said\n"
    assert 0 < row["peak_mb"] < held.nbytes / 2e6


def test_a_process_meets_its_limits():
    greedy = "import numpy as np; np.ones(10**9)"
    assert _process.measured([sys.executable, "-c", greedy], at_most_s=60, at_most_gb=4)["failed"] == "memory"
    assert _process.measured(["sleep", "60"], at_most_s=0.1)["failed"] == "time"
    assert _process.measured([sys.executable, "-c", "1 / 0"], at_most_s=60)["failed"].startswith("ZeroDivisionError")


def test_what_was_terminated_is_no_measurement():
    line = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]
    with pytest.raises(RuntimeError, match="terminated"):
        _process.measured(line, at_most_s=60)


def test_exponent_of_growth():
    places = [1_000, 10_000, 100_000, 1_000_000]
    assert scale.exponent(places, [9.0, *(n**1.5 for n in places[1:])]) == "1.50"  # the smallest is not fitted
    assert scale.exponent(places[:3], [1.0, 2.0, 3.0]) == "–"


def test_floors_of_a_run():
    facts = _floor.Facts(
        places=1000,
        genes=100,
        entries=10_000,
        components=50,
        neighbours=100,
        tried=3,
        directions=10,
        domains=12,
        partitions=60,
        decoder=1e9,
        scales=(0.8, 1, 1.25),
        in_bytes=8 * 10**5,
        out_bytes=10**6,
        on_disk=True,
    )
    slow, fast = _floor.Machine(1e9, 1e9, 1e9, 1e9), _floor.Machine(1e12, 1e12, 1e12, 1e12)
    for stage in _floor.FLOORS.values():
        for formula in stage.values():
            assert formula(facts, slow) == pytest.approx(1000 * formula(facts, fast))
            assert formula(facts, slow) > 0


def test_a_cell_of_the_peers():
    ours = {"failed": "", "seconds": 10.0, "peak_mb": 1000.0}
    limits = {"minutes": 20, "gb": 16}
    assert peers_scale.cell(ours, ours) == "10 s, 1.0 GB"
    assert peers_scale.cell({"failed": "", "seconds": 25.0, "peak_mb": 2000.0}, ours) == "25 s (2.5 ×), 2.0 GB (2.0 ×)"
    assert peers_scale.cell({"failed": "time", **limits}, ours) == "more than 20 min"
    assert peers_scale.cell({"failed": "memory", **limits}, ours) == "does not fit in 16 GB"
    assert peers_scale.cell(None, ours) == "–"
