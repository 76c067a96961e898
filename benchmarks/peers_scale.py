"""Seconds and memory of other methods for growing numbers of cells, as ratios to `stmmr run`; see `benchmarks.peers`.

Each run is a process of its own, from cold start to domains, with a limit on its memory and its time. Each result is
kept in .benchmarks/peers_scale.jsonl at once, so that a stopped measurement can resume. Remove that file after a change
of the code. A method is skipped if `.peers/NAME` does not exist.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from anndata import AnnData

import stmmr
from benchmarks._process import Row, keep, kept, measured, simulated
from benchmarks._simulate import N_DOMAINS
from benchmarks._table import ROOT, Table, stamp, write_tables
from benchmarks.peers import PEERS
from stmmr._core import keys
from stmmr.reproduce._baseline import linear_baseline as linear_baseline_domains

CACHE = ROOT / ".benchmarks" / "peers_scale.jsonl"
SIZES = (1_000, 3_000, 10_000, 30_000)
GENES = 500
OURS, BASELINE, DENSE = "`stmmr run`", "linear baseline", "dense form"
EPOCHS = 200
BANDWIDTH_UM = 20.0
N_IMAGE = 50


def linear_baseline(adata: AnnData) -> None:
    stmmr.pp.expression(adata)
    linear_baseline_domains(adata, N_DOMAINS, seed=0)


def dense(adata: AnnData, **widths: int) -> float:
    """Time one epoch of the dense form (forward, loss, backward, Adam), at the published widths by default."""
    import torch

    from benchmarks.speed import dense_module
    from stmmr.nn import Network, Shape
    from stmmr.settings import settings_of

    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata, bandwidth=BANDWIDTH_UM)
    values = torch.from_numpy(adata.layers[keys.LOGNORM].toarray())
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((adata.n_obs, N_IMAGE), dtype=np.float32))
    graph = torch.from_numpy(adata.obsp[keys.GRAPH].toarray())
    n_genes, settings = values.shape[1], settings_of("paper", **widths)
    shapes = [
        Shape("expression", n_genes, n_genes, settings.likelihood, settings.expression_weight),
        Shape("histology", N_IMAGE),
    ]
    network = Network(shapes, settings=settings).train()
    start = time.perf_counter()
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=1e-4)
    sum(dense_module().forward(network, values, [values, noise], graph)[1].values()).backward()
    optimizer.step()
    return time.perf_counter() - start


def run_here(method: str, path: Path) -> None:
    """Run one method in this process; print the seconds of an epoch if only one was run."""
    adata = stmmr.read(path)
    epoch = None
    if method == BASELINE:
        linear_baseline(adata)
    elif method == DENSE:
        epoch = dense(adata)
    else:
        adata.layers[keys.COUNTS] = adata.X.copy()
        PEERS[method](adata, N_DOMAINS, 0)
    print(json.dumps({"epoch": epoch}))


def command(method: str, path: Path, folder: Path) -> list[object]:
    """Get the command line of a method."""
    if method == OURS:
        return [sys.executable, "-m", "stmmr.cli", "run", path, "-o", folder / "out", "--n-domains", N_DOMAINS]
    python = environment(method) if method in PEERS else sys.executable
    return [python, "-m", "benchmarks.peers_scale", "--one", method, path]


def environment(method: str) -> Path:
    """Get the Python of another method's environment."""
    return ROOT / ".peers" / method / "bin" / "python"


def measure(method: str, path: Path, *, minutes: float, gb: float) -> Row:
    """Run a method once, within the limits."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        row = measured(command(method, path, Path(folder)), at_most_s=60 * minutes, at_most_gb=gb)
    output = row.pop("output").strip().splitlines()
    if method == DENSE and not row["failed"]:
        row["seconds"] += (EPOCHS - 1) * json.loads(output[-1])["epoch"]
    return {"method": method, "stamp": stamp(), "minutes": minutes, "gb": gb} | row


def cell(row: Row | None, ours: Row | None) -> str:
    """Write seconds and memory of a run with their ratios, or why it did not end."""
    if row is None:
        return "–"
    if row["failed"]:
        limits = {"memory": f"does not fit in {row['gb']:g} GB", "time": f"more than {row['minutes']:g} min"}
        return limits.get(row["failed"], "failed")
    seconds, gb = f"{row['seconds']:,.0f} s", f"{row['peak_mb'] / 1e3:.1f} GB"
    if row is ours or ours is None or ours["failed"]:
        return f"{seconds}, {gb}"
    times = [row[name] / ours[name] for name in ("seconds", "peak_mb")]
    ratios = [f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.1f} ×" for ratio in times]
    return f"{seconds} ({ratios[0]}), {gb} ({ratios[1]})"


def dense_limit(rows: list[Row], gb: float) -> list[str]:
    """Estimate how many cells the dense form can hold in a memory, from the largest run that ended."""
    peaks = {row["cells"]: row["peak_mb"] for row in rows if row["method"] == DENSE and not row["failed"]}
    if not peaks:
        return []
    n = max(peaks)
    factor = 1e3 * gb / peaks[n]
    return [
        f"The dense form takes {peaks[n] / 1e3:.1f} GB at {n:,} cells. If its memory grows between linearly and "
        f"quadratically, it fills {gb:g} GB at {n * factor**0.5:,.0f} to {n * factor:,.0f} cells."
    ]


def report(rows: list[Row]) -> None:
    """Write the table of all results."""
    by_run = {(row["method"], row["cells"]): row for row in rows}
    methods = [m for m in (OURS, BASELINE, DENSE, *PEERS) if any(row["method"] == m for row in rows)]
    table: Table = [["cells", *methods]]
    for n in sorted({row["cells"] for row in rows}):
        table.append([f"{n:,}", *(cell(by_run.get((m, n)), by_run.get((OURS, n))) for m in methods)])
    failed = [
        f"{row['method']} failed at {row['cells']:,} cells: {row['failed']}."
        for row in rows
        if row["failed"] not in ("", "memory", "time")
    ]
    limits = f"A process could take {rows[-1]['minutes']:g} minutes and {rows[-1]['gb']:g} GB of addresses."
    notes = (limits, *dense_limit(rows, rows[-1]["gb"]), *failed)
    write_tables("peers", table, notes=notes, measured=rows[-1]["stamp"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=[OURS.strip("`"), BASELINE, DENSE, *PEERS])
    parser.add_argument("--minutes", type=float, default=20, help="time limit of a run")
    parser.add_argument("--gb", type=float, default=16, help="memory limit of a run (addresses)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FILE"), help="run one method in this process")
    options = parser.parse_args()
    if options.one:
        run_here(options.one[0], Path(options.one[1]))
        return
    methods = [OURS if m == OURS.strip("`") else m for m in options.methods]
    if not_installed := [m for m in methods if m in PEERS and not environment(m).exists()]:
        print(f"Skipped, not installed: {', '.join(not_installed)}")
    rows = {(row["method"], row["cells"]): row for row in kept(CACHE)}
    for n in options.sizes:
        wanted = [m for m in methods if m not in not_installed and (m, n) not in rows]
        if not wanted:
            continue
        with simulated(options.folder, n, GENES) as path:
            for method in wanted:
                row = {"cells": n} | measure(method, path, minutes=options.minutes, gb=options.gb)
                rows[method, n] = row
                keep(CACHE, row)
                print(f"{n:8,} {method:12s} {row['seconds']:8.1f} s {row['peak_mb']} MB {row['failed']}", flush=True)
    report(list(rows.values()))


if __name__ == "__main__":
    main()
