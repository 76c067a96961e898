"""The simulated section of the benchmarks, their measurements, and the tables they write."""

import re
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
    _simulate.simulate(path, n_cells=N, n_genes=500)
    return ad.read_h5ad(path)


def test_section_is_an_ordinary_anndata(section):
    assert section.shape == (N, 500)
    assert isinstance(section.X, sparse.csr_matrix)
    assert section.X.dtype == np.float32
    assert section.X.has_canonical_format
    assert (section.X.data == np.round(section.X.data)).all()
    assert section.X.data.min() == 1
    assert section.X.nnz / np.prod(section.shape) == pytest.approx(0.15, abs=0.02)


def test_density_does_not_depend_on_the_number_of_cells(section):
    few = _simulate.cells(1000, np.random.default_rng(0))
    for xy in (section.obsm["spatial"], few[["x", "y"]].to_numpy()):
        assert np.median(cKDTree(xy).query(xy, 2)[0][:, 1]) == pytest.approx(8, abs=1)
    assert section.obsm["spatial"].max() == pytest.approx(10 * np.ceil(N**0.5), rel=0.02)


def test_each_of_twelve_domains_has_its_own_mixture(section):
    table = np.array(
        [
            np.bincount(section.obs["cell_type"].cat.codes[section.obs["ground_truth"] == name], minlength=16)
            for name in section.obs["ground_truth"].cat.categories
        ]
    )
    assert len(table) == 12
    assert table.sum(axis=1).min() > 0.01 * N
    assert stats.contingency.association(table) > 0.3


def test_cells_are_ordered_by_field_of_view():
    cells = _simulate.cells(50_000, np.random.default_rng(0))
    assert cells["field"].nunique() > 4
    assert cells["field"].is_monotonic_increasing


def test_counts_are_negative_binomial():
    mean = np.full((200_000, 1), 3.0, dtype=np.float32)
    drawn = _simulate.counts(mean, np.random.default_rng(0)).toarray().ravel()
    r = float(_simulate.DISPERSION)
    expected = stats.nbinom(r, r / (r + 3)).pmf(np.arange(20))
    observed = np.bincount(drawn.astype(int), minlength=20)[:20] / len(drawn)
    assert np.abs(observed - expected).max() < 0.005
    assert drawn.mean() == pytest.approx(3, rel=0.02)


def test_same_seed_same_file(tmp_path):
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for path in paths:
        _simulate.simulate(path, n_cells=1000, n_genes=50, seed=3)
    first, second = map(ad.read_h5ad, paths)
    assert (first.X != second.X).nnz == 0
    assert first.obs.equals(second.obs)


PAGE = """# Page

What it is.

| kept | x |
| --- | --- |
| 1 | 2 |

## First

```text
# no heading

| no | table |
```

| old | x |
| --- | --- |
| 1 | 2 |

Between.

| old | y |
| --- | --- |
| 1 | 2 |

Measured 2026-01-01 on another machine. Old note.

After.

## Second

| kept | z |
| --- | --- |
| 1 | 2 |

Measured 2026-01-01 on another machine.
"""


def test_tables_of_a_section_are_replaced(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text(PAGE)
    monkeypatch.setitem(_table.TARGETS, "first", _table.Target("page.md", 2, "First"))
    new = [[["old", column.upper()], ["3", "4"]] for column in "xy"]
    _table.write_tables("first", *new, notes=("New note.",), measured="Measured now.", docs=tmp_path)
    expected = PAGE.replace("| old | x |\n| --- | --- |\n| 1 | 2 |", "| old | X |\n| --- | --- |\n| 3 | 4 |")
    expected = expected.replace("| old | y |\n| --- | --- |\n| 1 | 2 |", "| old | Y |\n| --- | --- |\n| 3 | 4 |")
    expected = expected.replace("Measured 2026-01-01 on another machine. Old note.", "Measured now. New note.")
    assert (tmp_path / "page.md").read_text() == expected
    for third in (new[0], [["other", "x"]]):  # a table of something else is never replaced
        with pytest.raises(
            RuntimeError, match=rf"Expected a table of '{third[0][0]}' in page\.md, section 'First', found"
        ):
            _table.write_tables("first", *new, third, docs=tmp_path)
        assert (tmp_path / "page.md").read_text() == expected


def test_a_date_is_added_where_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("| one |\n| --- |\n| 1 |\n\nText.\n")
    monkeypatch.setitem(_table.TARGETS, "page", _table.Target("page.md", 1))
    _table.write_tables("page", [["one"], ["2"]], measured="Measured now.", docs=tmp_path)
    assert (tmp_path / "page.md").read_text() == "| one |\n| --- |\n| 2 |\n\nMeasured now.\n\nText.\n"


@pytest.mark.parametrize("name", _table.TARGETS)
def test_pages_have_the_tables_that_benchmarks_write(name):
    target = _table.TARGETS[name]
    blocks = re.split(r"\n{2,}", (_table.DOCS / target.page).read_text(encoding="utf-8"))
    assert len(_table.table_positions(blocks, target.section)) >= target.n_tables


PARSED = re.compile(r"ArgumentParser\(|\bno_options\(__doc__\)|\brun\(.*, __doc__\)|\bpeers_scale\.main\(\)")
"""How a program takes its options; the last two are functions of other benchmarks that do."""
PROGRAMS = [
    path
    for folder in ("benchmarks", "tools")
    for path in sorted((_table.ROOT / folder).glob("*.py"))
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
]


def test_every_program_takes_options_so_that_help_runs_nothing():
    assert len(PROGRAMS) > 30
    without = [path.name for path in PROGRAMS if not PARSED.search(path.read_text(encoding="utf-8"))]
    assert without == []


def test_a_benchmark_without_options_prints_help_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["batches", "--help"])
    with pytest.raises(SystemExit) as end:
        _table.no_options("What it measures.")
    assert end.value.code == 0
    assert "What it measures." in capsys.readouterr().out


def test_a_process_is_measured_by_itself():
    held = np.ones(40_000_000)  # 320 MB of this process, not of the measured one
    row = _process.measured([sys.executable, "-S", "-c", "print('text')"], at_most_s=60)
    assert row["failed"] == ""
    assert row["output"] == "text\n"
    assert 0 < row["peak_mb"] < held.nbytes / 2e6


def test_a_process_meets_its_limits():
    greedy = "import numpy as np; np.ones(10**9)"
    assert _process.measured([sys.executable, "-c", greedy], at_most_s=60, at_most_gb=4)["failed"] == "memory"
    assert _process.measured(["sleep", "60"], at_most_s=0.1)["failed"] == "time"
    assert _process.measured([sys.executable, "-c", "1 / 0"], at_most_s=60)["failed"].startswith("ZeroDivisionError")


def test_a_terminated_process_is_no_measurement():
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]
    with pytest.raises(RuntimeError, match="terminated"):
        _process.measured(command, at_most_s=60)


def test_exponent_of_growth():
    n_cells = [1_000, 10_000, 100_000, 1_000_000]
    assert scale.exponent(n_cells, [9.0, *(n**1.5 for n in n_cells[1:])]) == "1.50"  # the smallest is not fitted
    assert scale.exponent(n_cells[:3], [1.0, 2.0, 3.0]) == "–"


def test_floors_of_a_run():
    facts = _floor.Facts(
        cells=1000,
        genes=100,
        entries=10_000,
        components=50,
        neighbours=100,
        tried=3,
        informative=10,
        domains=12,
        partitions=40,
        scales=(1, 1.25),
        in_bytes=8 * 10**5,
        out_bytes=10**6,
        on_disk=True,
    )
    slow, fast = _floor.Machine(1e9, 1e9, 1e9, 1e9), _floor.Machine(1e12, 1e12, 1e12, 1e12)
    for stage in _floor.FLOORS.values():
        for formula in stage.values():
            assert formula(facts, slow) == pytest.approx(1000 * formula(facts, fast))
            assert formula(facts, slow) > 0


def test_a_cell_of_the_table_of_methods():
    ours = {"failed": "", "seconds": 10.0, "peak_mb": 1000.0}
    limits = {"minutes": 20, "gb": 16}
    assert peers_scale.cell(ours, ours) == "10 s, 1.0 GB"
    assert peers_scale.cell({"failed": "", "seconds": 25.0, "peak_mb": 2000.0}, ours) == "25 s (2.5 ×), 2.0 GB (2.0 ×)"
    assert peers_scale.cell({"failed": "time", **limits}, ours) == "more than 20 min"
    assert peers_scale.cell({"failed": "memory", **limits}, ours) == "does not fit in 16 GB"
    assert peers_scale.cell(None, ours) == "–"


def test_limit_of_the_dense_form_is_between_linear_and_quadratic_growth():
    rows = [{"method": peers_scale.DENSE, "failed": "", "cells": n, "peak_mb": n / 2} for n in (1_000, 8_000)]
    rows.append({"method": peers_scale.DENSE, "failed": "memory", "cells": 30_000, "peak_mb": 1e3})
    assert "4.0 GB at 8,000 cells" in peers_scale.dense_limit(rows, 16)[0]
    assert peers_scale.dense_limit(rows, 16)[0].endswith("16 GB at 16,000 to 32,000 cells.")
    assert peers_scale.dense_limit(rows[2:], 16) == []


def test_the_dense_form_runs_an_epoch(section):
    assert peers_scale.dense(section[:50].copy(), hidden=8, latent=8, decoder_hidden=8) > 0


def test_before_and_now_name_every_stage():
    table = scale.compared({"stages": {"expression": 1.0, "spatial graph": 2.0}, "seconds": 10.0})
    assert ["expression", "5", "1.0"] in table
    assert ["spatial graph", "–", "2.0"] in table
    assert [_floor.REST, "19", "7.0"] in table
    assert table[-1] == ["**total**", "120", "10.0"]
    assert all(row[2] == "–" for row in scale.compared(None)[1:])
