"""Seconds and memory of other methods on more and more cells, as ratios to `stmmr run`; see `benchmarks.peers`.

Each run is a process of its own, from cold start to domains, with a limit on its memory and its time. What a run gave
is kept in .benchmarks/peers_scale.jsonl at once, so that a measurement goes on where it was stopped; remove that file
after a change of the code. Peers are left out where `.peers/NAME` is not there.
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
from benchmarks._table import PERFORMANCE, ROOT, stamp, write_section
from benchmarks.peers import PEERS
from stmmr._core import keys
from stmmr.reproduce._line import linear_line

CACHE = ROOT / ".benchmarks" / "peers_scale.jsonl"
SIZES = (1_000, 3_000, 10_000, 30_000)
GENES = 500
OURS, LINE, DENSE = "`stmmr run`", "line", "dense form"
EPOCHS = 200
BANDWIDTH_UM = 20.0
N_IMAGE = 50
TEXT = """Simulated sections of {genes} genes and 12 domains, as above, for all methods; seconds and GB at the peak,
each a process of its own from cold start to domains, and in brackets how many times those of `stmmr run`, which also
writes data, figures and UMAP. The number of domains is given. A process may take {minutes:g} minutes and {gb:g} GB of
addresses.

- **line**: the linear baseline of [accuracy.md](accuracy.md): principal components smoothed once, k-means, one mixture.
- **dense form**: the published model with every N × N matrix written out (`tests/nn/dense.py`, widths 3,000), with
  noise in place of the picture. One of its 200 epochs is timed; the seconds are those before it and 200 times its own.
- **banksy**, **GraphST** and others: by their own recipes, as in [accuracy.md](accuracy.md)."""


def line(adata: AnnData) -> None:
    stmmr.pp.expression(adata)
    linear_line(adata, N_DOMAINS, seed=0)


def dense(adata: AnnData, **widths: int) -> float:
    """Time one epoch of the dense form, at the published widths unless told others: forward, loss, backward, Adam."""
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


def one(method: str, path: Path) -> None:
    """Run one method in this process, and say how long an epoch took, where it is all that ran."""
    adata = stmmr.read(path)
    epoch = None
    if method == LINE:
        line(adata)
    elif method == DENSE:
        epoch = dense(adata)
    else:
        adata.layers[keys.COUNTS] = adata.X.copy()
        PEERS[method](adata, N_DOMAINS, 0)
    print(json.dumps({"epoch": epoch}))


def command(method: str, path: Path, folder: Path) -> list[object]:
    """Write the command line of a method."""
    if method == OURS:
        return [sys.executable, "-m", "stmmr.cli", "run", path, "-o", folder / "out", "--n-domains", N_DOMAINS]
    python = environment(method) if method in PEERS else sys.executable
    return [python, "-m", "benchmarks.peers_scale", "--one", method, path]


def environment(peer: str) -> Path:
    """Name the Python of a peer."""
    return ROOT / ".peers" / peer / "bin" / "python"


def measure(method: str, path: Path, *, minutes: float, gb: float) -> Row:
    """Run a method once, within the limits."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        row = measured(command(method, path, Path(folder)), at_most_s=60 * minutes, at_most_gb=gb)
    said = row.pop("said").strip().splitlines()
    if method == DENSE and not row["failed"]:
        row["seconds"] += (EPOCHS - 1) * json.loads(said[-1])["epoch"]
    return {"method": method, "stamp": stamp(), "minutes": minutes, "gb": gb} | row


def cell(row: Row | None, ours: Row | None) -> str:
    """Write seconds and memory of a run with their ratios, or why there are none."""
    if row is None:
        return "–"
    if row["failed"]:
        limits = {"memory": f"does not fit in {row['gb']:g} GB", "time": f"more than {row['minutes']:g} min"}
        return limits.get(row["failed"], "failed")
    seconds, gb = f"{row['seconds']:,.0f} s", f"{row['peak_mb'] / 1e3:.1f} GB"
    if row is ours or ours is None or ours["failed"]:
        return f"{seconds}, {gb}"
    times = [row[of] / ours[of] for of in ("seconds", "peak_mb")]
    ratios = [f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.1f} ×" for ratio in times]
    return f"{seconds} ({ratios[0]}), {gb} ({ratios[1]})"


def room(rows: list[Row], gb: float) -> list[str]:
    """Tell between which numbers of cells the dense form outgrows a memory, by the largest run that fitted."""
    peaks = {row["places"]: row["peak_mb"] for row in rows if row["method"] == DENSE and not row["failed"]}
    if not peaks:
        return []
    n = max(peaks)
    more = 1e3 * gb / peaks[n]
    return [
        f"The dense form takes {peaks[n] / 1e3:.1f} GB at {n:,} cells; between the growth with N and with N², it fills "
        f"{gb:g} GB at {n * more**0.5:,.0f} to {n * more:,.0f} cells."
    ]


def report(rows: list[Row]) -> None:
    """Write the table of all that is there."""
    found = {(row["method"], row["places"]): row for row in rows}
    methods = [m for m in (OURS, LINE, DENSE, *PEERS) if any(row["method"] == m for row in rows)]
    sizes = sorted({row["places"] for row in rows})
    table = [["cells", *methods]]
    for n in sizes:
        table.append([f"{n:,}", *(cell(found.get((m, n)), found.get((OURS, n))) for m in methods)])
    failed = [
        f"{row['method']} failed at {row['places']:,} cells: {row['failed']}."
        for row in rows
        if row["failed"] not in ("", "memory", "time")
    ]
    text = TEXT.format(genes=GENES, gb=rows[-1]["gb"], minutes=rows[-1]["minutes"])
    write_section(PERFORMANCE[1], text, table, *room(rows, rows[-1]["gb"]), *failed, rows[-1]["stamp"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=[OURS.strip("`"), LINE, DENSE, *PEERS])
    parser.add_argument("--minutes", type=float, default=20, help="time that a run may take")
    parser.add_argument("--gb", type=float, default=16, help="addresses that a run may take")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FILE"), help="what it runs itself in a process")
    asked = parser.parse_args()
    if asked.one:
        one(asked.one[0], Path(asked.one[1]))
        return
    methods = [OURS if m == OURS.strip("`") else m for m in asked.methods]
    if left_out := [m for m in methods if m in PEERS and not environment(m).exists()]:
        print(f"Left out, not installed: {', '.join(left_out)}")
    rows = {(row["method"], row["places"]): row for row in kept(CACHE)}
    for n in asked.sizes:
        todo = [m for m in methods if m not in left_out and (m, n) not in rows]
        if not todo:
            continue
        with simulated(asked.folder, n, GENES) as path:
            for method in todo:
                row = {"places": n} | measure(method, path, minutes=asked.minutes, gb=asked.gb)
                rows[method, n] = row
                keep(CACHE, row)
                print(f"{n:8,} {method:12s} {row['seconds']:8.1f} s {row['peak_mb']} MB {row['failed']}", flush=True)
    report(list(rows.values()))


if __name__ == "__main__":
    main()
