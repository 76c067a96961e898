"""The whole command for growing numbers of cells: `python -m benchmarks.scale` writes its part of docs/performance.md.

Each run is a process of its own, on a simulated section that is removed after it (`benchmarks._simulate`). Each result
is kept in .benchmarks/scale.jsonl at once, so that a stopped measurement can resume. Remove that file after a change of
the code. `--sizes` and `--genes` select a part; 0 among the sizes stands for the real sections.
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
from benchmarks._table import DATA, ROOT, Table, stamp, write_tables

CACHE = ROOT / ".benchmarks" / "scale.jsonl"
REAL = "xenium_mouse_brain"
VISIUM = "visium_dlpfc_151673"
"""The section of the earlier profile, see `BEFORE`."""
SIZES = {
    500: (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    3_000: (10_000, 30_000, 100_000, 300_000),
    5_000: (500_000,),
    18_000: (600_000,),
}
CHIPS = {5_000: "Xenium 5K", 18_000: "Visium HD, 8 µm"}
"""Whole chips, with so many genes."""
FITTED = (10_000, 10_000_000)
"""Range of cells in which the exponents are fitted."""
FLOORS_OF = 1_000_000
"""Cells of the run whose stages are compared with the least they could take."""
HOURS = 3
BEFORE = {"expression": 5, "histology": 4, "training": 4, "number of domains": 76, "domains": 12, REST: 19}
"""Seconds of a profile of `VISIUM` on 2026-11-25; 120 in total."""


def run(name: str, path: Path, n_domains: int | None) -> Row:
    """Run the command once, and compare its domains with the known ones."""
    with tempfile.TemporaryDirectory(dir=path.parent if n_domains else None) as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "stmmr.cli", "run", path, "-o", out]
        command += ["--n-domains", n_domains] if n_domains else []
        row = measured(command, at_most_s=HOURS * 3600)
        row = {"data": name, "stamp": stamp()} | {k: v for k, v in row.items() if k != "output"}
        if not row["failed"]:
            row |= described(out, path) | {"machine": machine(Path(folder))._asdict()}
    return row


def described(out: Path, path: Path) -> Row:
    """Collect what a run recorded, and its agreement with the known domains, if there are any."""
    facts = json.loads((out / "run.json").read_text())["stmmr"]
    result = max(out.glob("result.*"))
    parts = [result] if result.is_file() else result.rglob("*")
    graph = facts["spatial_graph"]
    tried = np.array(graph.get("bandwidths_tried", []))
    with h5py.File(path) as file:
        entries = len(file["X/data"]) if "data" in file["X"] else file["X"].size
        obs, var = ad.io.read_elem(file["obs"]), ad.io.read_elem(file["var"])
    domains = pd.read_csv(out / "domains.csv")["domain"]
    known = obs.get("ground_truth")
    labelled = None if known is None else known.notna().to_numpy()
    return {
        "cells": len(domains),
        "genes": len(var),
        "mode": facts.get("mode", "memory"),
        "stages": facts["seconds"],
        "peaks": facts["peak_memory_mb"],
        "ari": None if known is None else adjusted_rand_score(known[labelled], domains[labelled]),
        "facts": Facts(
            cells=len(domains),
            genes=facts["expression"]["n_genes_read"],
            entries=entries,
            components=facts["model"]["n_components"],
            neighbours=graph["mean_neighbours"] + 1,
            tried=float(((tried / graph["bandwidth"]) ** 2).sum()),
            informative=facts["model"]["latent"],
            domains=facts["consensus"]["n_domains"],
            partitions=facts["consensus"]["n_partitions"],
            scales=facts["consensus"]["scales"],
            in_bytes=path.stat().st_size,
            out_bytes=sum(part.stat().st_size for part in parts if part.is_file()),
            on_disk=facts.get("mode") == "disk",
        )._asdict(),
    }


def stages(row: Row) -> dict[str, float]:
    """Get the seconds of each stage, and what remains of the process."""
    return row["stages"] | {REST: row["seconds"] - sum(row["stages"].values())}


def peaks(row: Row) -> dict[str, float]:
    """Get the peak memory after each stage, in GB."""
    return {name: mb / 1e3 for name, mb in row["peaks"].items()} | {REST: row["peak_mb"] / 1e3}


def exponent(n_cells: list[int], values: list[float]) -> str:
    """Fit the exponent of growth; a dash if there are too few sizes."""
    fitted = [(n, v) for n, v in zip(n_cells, values, strict=True) if FITTED[0] <= n <= FITTED[1] and v > 0]
    return f"{np.polyfit(*np.log(np.array(fitted).T), 1)[0]:.2f}" if len(fitted) > 2 else "–"


def table(rows: list[Row], value: str) -> Table:
    """List the seconds or the GB of each stage, one run a row, and the exponents of their growth."""
    values, digits = (stages, 1) if value == "seconds" else (peaks, 2)
    names = [*dict.fromkeys(name for row in rows for name in values(row) if name != REST), REST]
    whole = (lambda row: row["seconds"]) if value == "seconds" else (lambda row: row["peak_mb"] / 1e3)
    last = ["ARI"] if value == "seconds" else []
    written = [["cells", "genes", "counts in", *names, "**total**" if last else "**peak**", *last]]
    for row in rows:
        cells = [f"{values(row)[name]:.{digits}f}" if name in values(row) else "–" for name in names]
        agreement = ["–" if row["ari"] is None else f"{row['ari']:.3f}"] if last else []
        kind = row["data"] if row["data"] == REAL else CHIPS.get(row["genes"])
        first = f"{row['cells']:,}" + (f" ({kind})" if kind else "")
        written.append([first, f"{row['genes']:,}", row["mode"], *cells, f"**{whole(row):.{digits}f}**", *agreement])
    for genes in SIZES:
        simulated_rows = grown(rows, genes)
        n_cells = [row["cells"] for row in simulated_rows]
        if exponent(n_cells, n_cells) == "–":
            continue
        fits = [exponent(n_cells, [values(row).get(name, 0) for row in simulated_rows]) for name in names]
        bold = f"**{exponent(n_cells, [whole(row) for row in simulated_rows])}**"
        written.append(["b", f"{genes:,}", "", *fits, bold, *([""] if last else [])])
    return written


def grown(rows: list[Row], genes: int) -> list[Row]:
    """Select the simulated sections with this number of genes, from the smallest."""
    selected = (row for row in rows if row["data"].startswith("simulated") and row["genes"] == genes)
    return sorted(selected, key=lambda row: row["cells"])


def floors(row: Row) -> Table:
    """Compare the seconds of each stage with the least it could take."""
    facts, reached = Facts(**row["facts"]), Machine(**row["machine"])
    written = [["stage", "work that it cannot avoid", "floor, s", "measured, s", "measured / floor"]]
    for name, took in stages(row).items():
        parts = {work: formula(facts, reached) for work, formula in FLOORS.get(name, {}).items()}
        for work, least in parts.items():
            written.append(["", work, f"{least:.2g}", "", ""])
        least = sum(parts.values())
        ratio = f"{took / least:,.0f}" if parts else "–"
        written.append([f"**{name}**", "", f"**{least:.2g}**" if parts else "–", f"{took:.1f}", ratio])
    return written


def compared(now: Row | None) -> Table:
    """Compare the seconds of the earlier profile with those of a run, if there is one."""
    took = {} if now is None else stages(now)
    names = list(dict.fromkeys([*took, *BEFORE]))
    written = [["stage", "before, s", "now, s"]]
    for name in names:
        cells = [f"{BEFORE[name]}" if name in BEFORE else "–", f"{took[name]:.1f}" if name in took else "–"]
        written.append([name, *cells])
    whole = "–" if now is None else f"{now['seconds']:.1f}"
    return [*written, ["**total**", f"{sum(BEFORE.values())}", whole]]


def speeds(row: Row) -> str:
    """Describe the machine at the time of a run."""
    giga = {name: speed / 1e9 for name, speed in row["machine"].items()}
    return (
        "Speed of the machine just after the largest run: "
        "{read:.1f} GB/s read, {write:.1f} GB/s written, {memory:.1f} GB/s copied, "
        "{flops:.0f} GFLOP/s in a float32 product.".format(**giga)
    )


def report(results: list[Row]) -> None:
    """Write the tables and the figure of all results."""
    rows = [row for row in results if not row["failed"]]
    visium = next((row for row in rows if row["data"] == VISIUM), None)
    rows = [row for genes in SIZES for row in grown(rows, genes)] + [row for row in rows if row["data"] == REAL]
    failed = [f"{row['data']}: {row['failed']}, after {row['seconds']:.0f} s." for row in results if row["failed"]]
    million = [row for row in rows if row["cells"] == FLOORS_OF]
    largest = max(million or rows, key=lambda row: row["facts"]["entries"])
    draw(rows)
    write_tables(
        "scale",
        table(rows, "seconds"),
        table(rows, "GB"),
        floors(largest),
        compared(visium),
        notes=(speeds(largest), *failed),
        measured=rows[-1]["stamp"],
    )


def draw(rows: list[Row]) -> None:
    """Draw seconds and memory against the number of cells."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
    looks = {500: ("#d55e00", "o"), 3_000: ("#0072b2", "s")}
    panels = {"seconds": lambda row: row["seconds"], "peak memory, GB": lambda row: row["peak_mb"] / 1e3}
    for ax, (label, value) in zip(axes, panels.items(), strict=True):
        for genes, (color, marker) in looks.items():
            selected = grown(rows, genes)
            if not selected:
                continue
            n_cells = np.array([row["cells"] for row in selected])
            values = np.array([value(row) for row in selected])
            ax.plot(n_cells, values, color=color, marker=marker, linewidth=2.5, markersize=7, label=f"{genes:,} genes")
            if genes == min(SIZES):
                ax.plot(n_cells, values[-1] * n_cells / n_cells[-1], color="#888888", linewidth=0.8, label="slope 1")
        for row in rows:
            if row["data"] == REAL:
                ax.plot(row["cells"], value(row), "k*", markersize=11, label="Xenium, 248 genes, K not given")
            elif row["genes"] in CHIPS:
                name = f"{CHIPS[row['genes']]}, {row['genes']:,} genes"
                ax.plot(row["cells"], value(row), "k^" if row["genes"] == 5_000 else "kD", markersize=7, label=name)
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
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(ROOT / "docs" / "images" / "scale.png", dpi=150)
    plt.close(figure)


@contextmanager
def section(name: str, folder: Path) -> Iterator[Path]:
    """Yield the file of a section: a real one, or one that is simulated for this run."""
    if name in (REAL, VISIUM):
        yield DATA / f"{name}.h5ad"
    else:
        _, n_cells, genes = name.split()
        with simulated(folder, int(n_cells), int(genes)) as path:
            yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of cells")
    parser.add_argument("--genes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    names = [f"simulated {n} {genes}" for genes in options.genes for n in SIZES[genes] if n in (options.sizes or [n])]
    if not options.sizes or 0 in options.sizes:
        names += [REAL, VISIUM]
    rows = {row["data"]: row for row in kept(CACHE)}
    for name in names:
        if name in rows:
            continue
        with section(name, options.folder) as path:
            rows[name] = run(name, path, None if name in (REAL, VISIUM) else N_DOMAINS)
        keep(CACHE, rows[name])
        print(f"{name:28s} {rows[name]['seconds']:8.1f} s  {rows[name]['failed']}", flush=True)
    report(list(rows.values()))


if __name__ == "__main__":
    main()
