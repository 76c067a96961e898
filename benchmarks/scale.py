"""The whole command on more and more cells: `python -m benchmarks.scale` writes its part of docs/performance.md.

Each run is a process of its own, on a simulated section that is removed after it (`benchmarks._simulate`). What a run
gave is kept in .benchmarks/scale.jsonl at once, so that a measurement goes on where it was stopped; remove that file
after a change of the code. `--sizes` and `--genes` narrow it down; 0 among the sizes is the real sections.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from benchmarks._floor import FLOORS, REST, Facts, Machine, machine
from benchmarks._process import Row, keep, kept, measured, simulated
from benchmarks._simulate import N_DOMAINS
from benchmarks._table import DATA, PERFORMANCE, ROOT, stamp, write_section

CACHE = ROOT / ".benchmarks" / "scale.jsonl"
REAL = "xenium_mouse_brain"
VISIUM = "visium_dlpfc_151673"
"""What was profiled before, see `BEFORE`."""
SIZES = {500: (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000), 3_000: (10_000, 30_000, 100_000, 300_000)}
FITTED = (10_000, 1_000_000)
"""Numbers of cells that the exponents are fitted between."""
HOURS = 3
TEXT = """`stmmr run` from cold start to files written, on simulated sections of cells 10 µm apart
(`benchmarks/_simulate.py`: 12 domains, 15 % of the entries not zero for 500 genes and 5 % for 3,000; more cells are
more tissue), with the number of domains given, and on a section of Xenium, with the number of domains not given.
Seconds of each stage are those of run.json; "{rest}" is what remains of the whole process: imports, reading, UMAP,
figures and writing, where these are no stages of their own. A peak is the largest memory of the process so far. ARI
is with the known domains, which are read by this table and by nothing before it. b: exponent of the number of cells
from {least:,} to {most:,}, by least squares on logarithms where there are three sizes; 1 is linear.

![Seconds and memory against the number of cells](images/scale.png)"""
FLOOR_TEXT = """### What could be gained

The largest run beside a floor: what each stage must at least read, move and multiply, at the speed of this machine
measured just after it ({read:.1f} GB/s read and {write:.1f} GB/s written, {memory:.1f} GB/s copied,
{flops:.0f} GFLOP/s in a float32 product). No program reaches all of it at once; the last column tells where most is
left."""
BEFORE = {"expression": 5, "histology": 4, "training": 4, "number of domains": 76, "domains": 12, REST: 19}
"""Seconds of a profile of `VISIUM` on 2026-11-25; in all 120."""
BEFORE_TEXT = """### What it was before

One section of Visium (151673, 3,639 spots) with its picture, the number of domains not given: 120 s in a profile of
2026-11-25. The number of domains and the consensus were scikit-learn's mixtures of one covariance; of the rest, 7.6 s
were UMAP, 3 s figures and writing, and the graph was not told from the imports."""


def run(name: str, path: Path, n_domains: int | None) -> Row:
    """Run the command once, and compare its domains with those known."""
    with tempfile.TemporaryDirectory(dir=path.parent if n_domains else None) as folder:
        out = Path(folder) / "out"
        line = [sys.executable, "-m", "stmmr.cli", "run", path, "-o", out]
        row = measured([*line, *(["--n-domains", n_domains] if n_domains else [])], at_most_s=HOURS * 3600)
        row = {"data": name, "stamp": stamp()} | {k: v for k, v in row.items() if k != "said"}
        if not row["failed"]:
            row |= described(out, path) | {"machine": machine(Path(folder))._asdict()}
    return row


def described(out: Path, path: Path) -> Row:
    """Collect what a run wrote of itself, and its agreement with the known domains, if any."""
    told = json.loads((out / "run.json").read_text())
    facts = told["stmmr"]
    result = max(out.glob("result.*"))
    parts = [result] if result.is_file() else result.rglob("*")
    graph = facts["spatial_graph"]
    tried = np.array(graph.get("bandwidths_tried", []))
    with h5py.File(path) as file:
        entries = len(file["X/data"]) if "data" in file["X"] else file["X"].size
        obs = ad.io.read_elem(file["obs"])
    found = pd.read_csv(out / "domains.csv")
    known = obs.get("ground_truth")
    labelled = None if known is None else known.notna().to_numpy()
    return {
        "places": told["places"],
        "genes": told["genes"],
        "mode": facts.get("mode", "memory"),
        "stages": facts["seconds"],
        "peaks": facts["peak_memory_mb"],
        "ari": None if known is None else adjusted_rand_score(known[labelled], found["domain"][labelled]),
        "facts": Facts(
            places=told["places"],
            genes=facts["expression"]["n_genes_read"],
            entries=entries,
            components=facts["model"]["n_components"],
            neighbours=graph["mean_neighbours"] + 1,
            tried=float(((tried / graph["bandwidth"]) ** 2).sum()),
            directions=facts["model"]["latent"],
            domains=facts["consensus"]["n_domains"],
            partitions=facts["consensus"]["n_partitions"],
            decoder=decoder_work(facts),
            scales=facts["consensus"]["scales"],
            in_bytes=path.stat().st_size,
            out_bytes=sum(part.stat().st_size for part in parts if part.is_file()),
            on_disk=facts.get("mode") == "disk",
        )._asdict(),
    }


def decoder_work(facts: Row) -> float:
    """Count the operations of training the decoder: two for each weight and place forwards, four backwards."""
    model = facts["model"]
    weights = model["decoder_hidden"] * (model["latent"] + facts["expression"]["n_genes_read"])
    return 6.0 * weights * model["steps"] * model["batch_size"]


def stages(row: Row) -> dict[str, float]:
    """Seconds of each stage, and what remains of the process."""
    return row["stages"] | {REST: row["seconds"] - sum(row["stages"].values())}


def peaks(row: Row) -> dict[str, float]:
    """Peak memory after each stage, in GB."""
    return {name: mb / 1e3 for name, mb in row["peaks"].items()} | {REST: row["peak_mb"] / 1e3}


def exponent(places: list[int], values: list[float]) -> str:
    """Fit the exponent of growth, or tell that there are too few sizes."""
    fitted = [(n, v) for n, v in zip(places, values, strict=True) if FITTED[0] <= n <= FITTED[1] and v > 0]
    return f"{np.polyfit(*np.log(np.array(fitted).T), 1)[0]:.2f}" if len(fitted) > 2 else "–"


def table(rows: list[Row], value: str) -> list[list[str]]:
    """Set out the seconds or the GB of each stage, one row for each run, and how they grow."""
    of, digits = (stages, 1) if value == "seconds" else (peaks, 2)
    names = [*dict.fromkeys(name for row in rows for name in of(row) if name != REST), REST]
    whole = (lambda row: row["seconds"]) if value == "seconds" else (lambda row: row["peak_mb"] / 1e3)
    last = ["ARI"] if value == "seconds" else []
    written = [["cells", "genes", "counts in", *names, "**in all**" if last else "**peak**", *last]]
    for row in rows:
        cells = [f"{of(row)[name]:.{digits}f}" if name in of(row) else "–" for name in names]
        agreement = ["–" if row["ari"] is None else f"{row['ari']:.3f}"] if last else []
        first = f"{row['places']:,}" + (f" ({row['data']})" if row["data"] == REAL else "")
        written.append([first, f"{row['genes']:,}", row["mode"], *cells, f"**{whole(row):.{digits}f}**", *agreement])
    for genes in SIZES:
        of_these = grown(rows, genes)
        places = [row["places"] for row in of_these]
        if exponent(places, places) == "–":
            continue
        fits = [exponent(places, [of(row).get(name, 0) for row in of_these]) for name in names]
        bold = f"**{exponent(places, [whole(row) for row in of_these])}**"
        written.append(["b", f"{genes:,}", "", *fits, bold, *([""] if last else [])])
    return written


def grown(rows: list[Row], genes: int) -> list[Row]:
    """Take the simulated sections with so many genes, from the smallest."""
    these = (row for row in rows if row["data"].startswith("simulated") and row["genes"] == genes)
    return sorted(these, key=lambda row: row["places"])


def floors(row: Row) -> list[list[str]]:
    """Set each stage of a run beside the least it could take."""
    facts, reached = Facts(**row["facts"]), Machine(**row["machine"])
    written = [["stage", "what it cannot do without", "floor, s", "measured, s", "measured / floor"]]
    for name, took in stages(row).items():
        parts = {what: formula(facts, reached) for what, formula in FLOORS.get(name, {}).items()}
        for what, least in parts.items():
            written.append(["", what, f"{least:.2g}", "", ""])
        least = sum(parts.values())
        ratio = f"{took / least:,.0f}" if parts else "–"
        written.append([f"**{name}**", "", f"**{least:.2g}**" if parts else "–", f"{took:.1f}", ratio])
    return written


def compared(now: Row | None) -> list[list[str]]:
    """Set the seconds of the profile beside those of a run, where there is one."""
    took = {} if now is None else stages(now)
    names = list(dict.fromkeys([*took, *BEFORE]))
    written = [["stage", "before, s", "now, s"]]
    for name in names:
        cells = [f"{BEFORE[name]}" if name in BEFORE else "–", f"{took[name]:.1f}" if name in took else "–"]
        written.append([name, *cells])
    whole = "–" if now is None else f"{now['seconds']:.1f}"
    return [*written, ["**in all**", f"{sum(BEFORE.values())}", whole]]


def report(found: list[Row]) -> None:
    """Write the tables and the figure of all that is there."""
    rows = [row for row in found if not row["failed"]]
    visium = next((row for row in rows if row["data"] == VISIUM), None)
    rows = [row for genes in SIZES for row in grown(rows, genes)] + [row for row in rows if row["data"] == REAL]
    failed = [f"{row['data']}: {row['failed']}, after {row['seconds']:.0f} s." for row in found if row["failed"]]
    largest = max(rows, key=lambda row: row["facts"]["entries"])
    giga = {name: speed / 1e9 for name, speed in largest["machine"].items()}
    where = "on" if largest["mode"] == "disk" else "in"
    draw(rows)
    write_section(
        PERFORMANCE[0],
        TEXT.format(rest=REST, least=FITTED[0], most=FITTED[1]),
        "Seconds:",
        table(rows, "seconds"),
        "Peak memory at the end of each stage, GB:",
        table(rows, "GB"),
        *failed,
        FLOOR_TEXT.format(**giga),
        f"{largest['places']:,} cells, {largest['genes']:,} genes, counts {where} {largest['mode']}:",
        floors(largest),
        BEFORE_TEXT,
        compared(visium),
        rows[-1]["stamp"],
    )


def draw(rows: list[Row]) -> None:
    """Draw seconds and memory against the number of cells."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    looks = {500: ("#d55e00", "o"), 3_000: ("#0072b2", "s")}
    panels = {"seconds": lambda row: row["seconds"], "peak memory, GB": lambda row: row["peak_mb"] / 1e3}
    for ax, (label, value) in zip(axes, panels.items(), strict=True):
        for genes, (color, marker) in looks.items():
            of_these = grown(rows, genes)
            if not of_these:
                continue
            places = np.array([row["places"] for row in of_these])
            values = np.array([value(row) for row in of_these])
            ax.plot(places, values, color=color, marker=marker, linewidth=2.5, markersize=7, label=f"{genes:,} genes")
            if genes == min(SIZES):
                ax.plot(places, values[-1] * places / places[-1], color="#888888", linewidth=0.8, label="slope 1")
        for row in rows:
            if row["data"] == REAL:
                ax.plot(row["places"], value(row), "k*", markersize=11, label="Xenium, 248 genes, K not given")
        ax.set(xscale="log", yscale="log", xlabel="cells", title=label)
        shown = [value(row) for row in rows]
        ax.set_ylim(0.6 * min(shown), 1.6 * max(shown))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.grid(color="#eeeeee")
        ax.spines[["top", "right"]].set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(ROOT / "docs" / "images" / "scale.png", dpi=150)
    plt.close(figure)


@contextmanager
def section(name: str, folder: Path) -> Iterator[Path]:
    """Give the file of a section: a real one, or one simulated for this run."""
    if name in (REAL, VISIUM):
        yield DATA / f"{name}.h5ad"
    else:
        _, places, genes = name.split()
        with simulated(folder, int(places), int(genes)) as path:
            yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of cells")
    parser.add_argument("--genes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    names = [f"simulated {n} {genes}" for genes in asked.genes for n in SIZES[genes] if n in (asked.sizes or [n])]
    if not asked.sizes or 0 in asked.sizes:
        names += [REAL, VISIUM]
    rows = {row["data"]: row for row in kept(CACHE)}
    for name in names:
        if name in rows:
            continue
        with section(name, asked.folder) as path:
            rows[name] = run(name, path, None if name in (REAL, VISIUM) else N_DOMAINS)
        keep(CACHE, rows[name])
        print(f"{name:28s} {rows[name]['seconds']:8.1f} s  {rows[name]['failed']}", flush=True)
    report(list(rows.values()))


if __name__ == "__main__":
    main()
