"""Growing cohorts: `python -m benchmarks.cohort` writes its part of docs/performance.md.

`stmmr run` reads a sample sheet of simulated sections with `--mode disk`, in a process of its own, from cold start to
files written. Sections are one simulated tissue, counted anew with another capture efficiency each
(`benchmarks._simulate`). Results are kept in .benchmarks/cohort.jsonl at once. `--sections` and `--cells` choose
the sizes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from benchmarks import _simulate
from benchmarks._process import Row, keep, kept, measured
from benchmarks._simulate import N_DOMAINS
from benchmarks._table import ROOT, Table, stamp, write_tables

CACHE = ROOT / ".benchmarks" / "cohort.jsonl"
SECTIONS, CELLS, GENES = (5, 10, 20, 40), 50_000, 500


def simulated_sections(folder: Path, n: int, *, cells: int, genes: int) -> list[Path]:
    """Simulate sections that are not there yet, of one kind of tissue: cell types have the same profiles."""
    paths = [folder / f"section_{number}_{cells}_{genes}.h5ad" for number in range(n)]
    first = [sys.executable, "-m", _simulate.__name__]
    for number, path in enumerate(paths):
        if not path.exists():
            size = ["--cells", str(cells), "--genes", str(genes), "--replicate", str(number)]
            subprocess.run([*first, str(path), *size], check=True, cwd=ROOT)
    return paths


def run(paths: list[Path], folder: Path) -> Row:
    """Run the command once, and compare its domains with the known ones, in all sections together."""
    sheet = folder / "samples.csv"
    lines = [f"s{number},{path},{'xy'[number % 2]}" for number, path in enumerate(paths)]
    sheet.write_text("\n".join(["section,path,condition", *lines]) + "\n")
    with tempfile.TemporaryDirectory(dir=folder) as results:
        out = Path(results) / "out"
        command = [sys.executable, "-m", "stmmr.cli", "run", sheet, "-o", out, "--mode", "disk"]
        row = measured([*command, "--n-domains", N_DOMAINS, "--max-memory", 16], at_most_s=3600)
        row = {"stamp": stamp(), "sections": len(paths)} | {k: v for k, v in row.items() if k != "output"}
        if not row["failed"]:
            facts = json.loads((out / "run.json").read_text())["stmmr"]
            domains = pd.read_csv(out / "domains.csv")["domain"]
            row |= {
                "cells": len(domains),
                "stages": facts["seconds"],
                "peaks": facts["peak_memory_mb"],
                "ari": adjusted_rand_score(np.concatenate([known(path) for path in paths]), domains),
                "entries": sum(entries(path) for path in paths),
            }
    return row


def known(path: Path) -> np.ndarray:
    """Read the simulated domains."""
    with h5py.File(path) as file:
        return ad.io.read_elem(file["obs"])["ground_truth"].to_numpy(str)


def entries(path: Path) -> int:
    """Count the stored counts."""
    with h5py.File(path) as file:
        return len(file["X/data"])


def table(rows: list[Row]) -> Table:
    """List seconds and peak memory of each cohort."""
    names = list(rows[-1]["stages"])
    written = [["sections", "cells", *names, "everything else", "**seconds**", "**peak, GB**", "ARI"]]
    for row in rows:
        stages = [row["stages"][name] for name in names]
        cells = [*(f"{seconds:.0f}" for seconds in stages), f"{row['seconds'] - sum(stages):.0f}"]
        last = [f"**{row['seconds']:.0f}**", f"**{row['peak_mb'] / 1e3:.2f}**", f"{row['ari']:.3f}"]
        written.append([f"{row['sections']}", f"{row['cells']:,}", *cells, *last])
    return written


def per_section(rows: list[Row]) -> str:
    """Say what each further section takes, between the smallest and the largest cohort."""
    first, last = rows[0], rows[-1]
    n = max(last["sections"] - first["sections"], 1)
    seconds, mb = ((last[name] - first[name]) / n for name in ("seconds", "peak_mb"))
    cells = last["cells"] / last["sections"]
    return (
        f"Each further section of {cells:,.0f} cells takes {seconds:.1f} s and {mb:.0f} MB, "
        f"{1e6 * mb / cells:,.0f} bytes a cell."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, nargs="+", default=list(SECTIONS))
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    rows = {row["sections"]: row for row in kept(CACHE)}
    for n in options.sections:
        if n not in rows:
            paths = simulated_sections(options.folder, n, cells=options.cells, genes=options.genes)
            rows[n] = run(paths, options.folder)
            keep(CACHE, rows[n])
        print(f"{n:4d} sections {rows[n]['seconds']:8.1f} s {rows[n]['peak_mb']} MB {rows[n]['failed']}", flush=True)
    done = sorted((row for row in rows.values() if not row["failed"]), key=lambda row: row["sections"])
    write_tables("cohort", table(done), notes=(per_section(done),), measured=done[-1]["stamp"])


if __name__ == "__main__":
    main()
