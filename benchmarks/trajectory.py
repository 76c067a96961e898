"""Pseudotime and PAGA on a cortex: `python -m benchmarks.trajectory` writes table and figure of docs/trajectory.md.

Each result is kept in .benchmarks/trajectory.jsonl. Remove that file after a change of the model.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy.stats import spearmanr

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, write_tables
from benchmarks.accuracy import LABEL, embed, prepared, quiet
from stmmr._core import keys

CACHE = ROOT / ".benchmarks" / "trajectory.jsonl"
NAMES = ["visium_dlpfc_151673", "visium_dlpfc_151674"]
LAYERS = ["WM", "Layer6", "Layer5", "Layer4", "Layer3", "Layer2", "Layer1"]
STRONG = 0.1
"""Links that `stmmr.pl.paga` draws."""
ROOTS = ["domain of WM", "domain of Layer1", "gene MOBP", "none"]


def layers_of_domains(shared: pd.DataFrame) -> list[set[int]]:
    """Find the layers that each domain represents, from a table of spots by layer and domain."""
    counts = shared.loc[LAYERS].to_numpy()
    most = counts.argmax(axis=1)
    return [{int(column.argmax()), *np.flatnonzero(most == i).tolist()} for i, column in enumerate(counts.T)]


def run(adata: AnnData, root: str) -> None:
    """Start from a root as a user would choose it."""
    shared = pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN])
    kind, _, name = root.rpartition(" ")
    if kind == "gene":
        stmmr.tl.trajectory(adata, root_gene=name)
    elif kind == "domain of":
        stmmr.tl.trajectory(adata, root_domain=str(shared.loc[name].idxmax()))
    else:
        stmmr.tl.trajectory(adata)


def measure(data: str, method: str, seed: int) -> Row:
    """Compute a trajectory and compare it with the layers."""
    quiet()
    adata = prepared(data).copy()
    embed(adata, seed)
    stmmr.tl.consensus(adata, 7, random_state=seed)
    start = time.perf_counter()
    run(adata, method)
    row: Row = {"data": data, "method": method, "seed": seed, "seconds": time.perf_counter() - start}
    result = adata.uns[keys.UNS]["trajectory"]
    depth = adata.obs[LABEL].astype(object).map({name: i for i, name in enumerate(LAYERS)}).astype(float)
    from_top = -1 if method.endswith("Layer1") else 1
    row["spearman"] = from_top * float(spearmanr(adata.obs[keys.PSEUDOTIME], depth, nan_policy="omit")[0])
    layers = layers_of_domains(pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN])[result["domains"]])
    beside = np.array([[min(abs(i - j) for i in a for j in b) <= 1 for a in layers] for b in layers])
    upper = np.triu(np.ones_like(beside), 1).astype(bool)
    weights, tree = result["connectivities"], result["tree"]
    row["between neighbours"] = float(weights[beside & upper].sum() / weights[upper].sum())
    row["strong"] = int((upper & (weights >= STRONG)).sum())
    row["strong, others"] = int((upper & ~beside & (weights >= STRONG)).sum())
    row["tree, others"] = int((upper & ~beside & (tree > 0)).sum())
    return row


def draw() -> None:
    """Draw the figures of the first data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    adata = prepared(NAMES[0]).copy()
    embed(adata, 0)
    stmmr.tl.consensus(adata, 7)
    run(adata, ROOTS[0])
    stmmr.tl.gene_trends(adata)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    # the H&E image has another owner
    stmmr.pl.domains(adata, image=False, ax=axes[0, 0])
    stmmr.pl.trajectory(adata, image=False, ax=axes[0, 1])
    stmmr.pl.paga(adata, ax=axes[1, 0])
    stmmr.pl.gene_trends(adata, genes=["MBP", "PCP4", "ENC1", "CUX2", "GFAP"], ax=axes[1, 1])
    target = ROOT / "docs" / "images" / "trajectory.png"
    figure.savefig(target, dpi=110)
    plt.close(figure)
    with Image.open(target) as drawn:  # a quarter of the size, without a visible difference
        few = drawn.convert("RGB").quantize(256)
    few.save(target, optimize=True)


def report(results: dict[Key, Row]) -> None:
    """Write the table and the figure of all results."""
    columns = ["data", "root", "Spearman", "links between neighbours", "strong links (others)", "tree", "seconds"]
    table = [columns]
    for data in NAMES:
        for root in ROOTS:
            rows = [row for (d, m, _), row in results.items() if (d, m) == (data, root)]
            if rows:
                table.append([data, root, *cells(rows)])
    write_tables("trajectory", table)
    draw()


def cells(rows: list[Row]) -> list[str]:
    """Write the cells of one root in the table."""
    rho = [row["spearman"] for row in rows]
    strong = [f"{row['strong']} ({row['strong, others']})" for row in rows]
    right = sum(row["tree, others"] == 0 for row in rows)
    return [
        f"{np.mean(rho):.3f} ({min(rho):.3f}–{max(rho):.3f})",
        f"{np.mean([row['between neighbours'] for row in rows]):.3f}",
        ", ".join(dict.fromkeys(strong)),
        f"{right} of {len(rows)}",
        f"{np.median([row['seconds'] for row in rows]):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    wanted = [(data, root, seed) for data in options.data for seed in range(options.seeds) for root in ROOTS]
    report(complete(CACHE, wanted, measure, options.workers))


if __name__ == "__main__":
    main()
