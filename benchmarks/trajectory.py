"""Pseudotime and PAGA on a cortex: `python -m benchmarks.trajectory` writes part of docs/trajectory.md and its figure.

Every result is kept in .benchmarks/trajectory.jsonl; remove that file after a change of the model.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy.stats import spearmanr

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, stamp, write_section
from benchmarks.accuracy import LABEL, embed, prepared, quiet
from stmmr._core import keys

CACHE = ROOT / ".benchmarks" / "trajectory.jsonl"
PAGE = ROOT / "docs" / "trajectory.md"
NAMES = ["visium_dlpfc_151673", "visium_dlpfc_151674"]
LAYERS = ["WM", "Layer6", "Layer5", "Layer4", "Layer3", "Layer2", "Layer1"]
STRONG = 0.1
"""Links that `stmmr.pl.paga` draws."""
ROOTS = ["domain of WM", "domain of Layer1", "gene MOBP", "none"]
TEXT = """`stmmr.tl.trajectory` on sections of the human cortex, whose layers lie one above the other: white matter
(WM), layers 6 to 1. Seven domains by `tl.consensus`; the number is given. Labels are read by this table, and to say
which domain is to be the root, as a user who knows the tissue would: the one that has most of the places of WM (or of
layer 1). Seeds change the embedding's decoder, the mixtures and the solver.

- **Spearman**: of pseudotime with the depth of a place's layer, counted from the root; WM for `none`, the rule that
  `tl.trajectory` states. Mean over seeds, least and most. Aim: .8 from white matter.
- **links between neighbours**: share of all connectivity (PAGA) that is between domains of the same or neighbouring
  layers. A domain holds the layer that most of its places are of, and the layers that have most of their places in it.
- **strong links**: those of a tenth or more of what is expected at random, which the figure draws, and how many of them
  are between other layers.
- **tree**: whether the spanning tree, too, links neighbours only.

![Pseudotime from the white matter of 151673, the graph over its domains and genes along it](images/trajectory.png)"""


def held(shared: pd.DataFrame) -> list[set[int]]:
    """Say which layers each domain holds, of a table of layers × domains."""
    counts = shared.loc[LAYERS].to_numpy()
    most = counts.argmax(axis=1)
    return [{int(column.argmax()), *np.flatnonzero(most == at).tolist()} for at, column in enumerate(counts.T)]


def run(adata: AnnData, root: str) -> None:
    """Take a root that a user would."""
    shared = pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN])
    kind, _, name = root.rpartition(" ")
    if kind == "gene":
        stmmr.tl.trajectory(adata, root_gene=name)
    elif kind == "domain of":
        stmmr.tl.trajectory(adata, root_domain=str(shared.loc[name].idxmax()))
    else:
        stmmr.tl.trajectory(adata)


def measure(data: str, method: str, seed: int) -> Row:
    """Find a trajectory and compare it with the layers."""
    quiet()
    adata = prepared(data).copy()
    embed(adata, seed)
    stmmr.tl.consensus(adata, 7, random_state=seed)
    start = time.perf_counter()
    run(adata, method)
    row: Row = {"data": data, "method": method, "seed": seed, "seconds": time.perf_counter() - start}
    found = adata.uns[keys.UNS]["trajectory"]
    depth = adata.obs[LABEL].astype(object).map({name: at for at, name in enumerate(LAYERS)}).astype(float)
    from_top = -1 if method.endswith("Layer1") else 1
    row["spearman"] = from_top * float(spearmanr(adata.obs[keys.PSEUDOTIME], depth, nan_policy="omit")[0])
    layers = held(pd.crosstab(adata.obs[LABEL], adata.obs[keys.DOMAIN])[found["domains"]])
    beside = np.array([[min(abs(i - j) for i in a for j in b) <= 1 for a in layers] for b in layers])
    upper = np.triu(np.ones_like(beside), 1).astype(bool)
    weights, tree = found["connectivities"], found["tree"]
    row["between neighbours"] = float(weights[beside & upper].sum() / weights[upper].sum())
    row["strong"] = int((upper & (weights >= STRONG)).sum())
    row["strong, others"] = int((upper & ~beside & (weights >= STRONG)).sum())
    row["tree, others"] = int((upper & ~beside & (tree > 0)).sum())
    return row


def draw() -> None:
    """Draw what a user sees of the first data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    adata = prepared(NAMES[0]).copy()
    embed(adata, 0)
    stmmr.tl.consensus(adata, 7)
    run(adata, ROOTS[0])
    stmmr.tl.gene_trends(adata)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    # the picture belongs to others
    stmmr.pl.domains(adata, image=False, ax=axes[0, 0])
    stmmr.pl.trajectory(adata, image=False, ax=axes[0, 1])
    stmmr.pl.paga(adata, ax=axes[1, 0])
    stmmr.pl.gene_trends(adata, genes=["MBP", "PCP4", "ENC1", "CUX2", "GFAP"], ax=axes[1, 1])
    target = ROOT / "docs" / "images" / "trajectory.png"
    figure.savefig(target, dpi=110)
    plt.close(figure)
    with Image.open(target) as drawn:  # a quarter of the size, and nothing of it is seen
        few = drawn.convert("RGB").quantize(256)
    few.save(target, optimize=True)


def report(rows: dict[Key, Row], seen: str) -> None:
    """Write the table and the figure."""
    columns = ["data", "root", "Spearman", "links between neighbours", "strong links (others)", "tree", "seconds"]
    table = [columns]
    for data in NAMES:
        for root in ROOTS:
            found = [row for (d, m, _), row in rows.items() if (d, m) == (data, root)]
            if found:
                table.append([data, root, *line(found)])
    write_section("On layers of the cortex", TEXT, table, seen, stamp(), page=PAGE)
    draw()


def line(rows: list[Row]) -> list[str]:
    """Write the cells of one root."""
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


SEEN = """What is seen: from white matter, by domain or by a gene of myelin, the layers are ordered on both sections,
and the links of 151673 are between neighbours only, but for one seed.

- **That seed** of 151673: a domain of 20 places, two fragments at the rim, has few links at all, so that a handful
  from elsewhere make it strong. Look at the size of a domain before its links.
- **From layer 1** the order is right but less steep: layer 1 is apart from the others in a direction of its own, and
  the distances to layers 2 to 5 from there are nearly the same.
- **151674** has no domain of layer 2 (ARI .56): its places are spread over the domains of layers 3 and 1, which are
  then linked across it, and the tree forks there.
- **None**: which end is first is no finding. Four of five seeds of 151673 take white matter's end, the one above the
  other.
- Near the last layers pseudotime is compressed: diffusion distances saturate far from the root.
- ``sc.tl.dpt`` leaves out diffusion components with an eigenvalue of 0.9994 and more. On a simulated line of 2,000
  places its Spearman with the position is .13, that of `tl.trajectory`, which takes scanpy's components and keeps all
  of them, 1.00; here both are nearly the same (.932 and .930)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    todo = [(data, root, seed) for data in asked.data for seed in range(asked.seeds) for root in ROOTS]
    report(complete(CACHE, todo, measure, asked.workers), SEEN)


if __name__ == "__main__":
    main()
