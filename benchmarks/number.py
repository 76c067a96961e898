"""The chosen number of domains: `python -m benchmarks.number` writes table and figure of docs/number_of_domains.md.

Each result is kept in .benchmarks/number.jsonl as soon as it is measured, so that a stopped run can resume. Remove that
file after a change of the model. `--seeds` and `--data` select a part.
"""

import argparse
import os
import time
from functools import lru_cache

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from anndata import AnnData

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, write_tables
from benchmarks.accuracy import LABEL, NAMES, embed, quiet, score
from benchmarks.accuracy import prepared as labelled
from benchmarks.gallery import WIDEST, smaller
from stmmr._core import keys

CACHE = ROOT / ".benchmarks" / "number.jsonl"
SCORES = ("ari at annotated", "ari", "ari of tree")
SIMULATED = {f"simulated, {rows} × {rows}, {k} domains": (rows, k) for rows in (30, 45) for k in (3, 4, 5, 6, 8)}


@lru_cache(maxsize=1)
def prepared(data: str, seed: int) -> AnnData:
    """Embed a labelled data set, or a simulated tissue (another one for each seed, without its image)."""
    if data not in SIMULATED:
        adata = labelled(data).copy()
    else:
        rows, k = SIMULATED[data]
        adata = stmmr.datasets.simulated_tissue(n_rows=rows, n_cols=rows, n_domains=k, random_state=seed)
        del adata.uns[keys.SPATIAL]
        stmmr.pp.expression(adata)
        stmmr.pp.spatial_graph(adata)
    embed(adata, seed)
    return adata


def measure(data: str, method: str, seed: int) -> Row:
    """Choose the number of domains; with the first seed, also cluster into the chosen and the annotated number."""
    quiet()
    adata = prepared(data, seed)
    annotated = adata.obs[LABEL].nunique()
    start = time.perf_counter()
    stmmr.tl.number_of_domains(adata, random_state=seed)
    row: Row = {"data": data, "method": method, "seed": seed, "seconds": time.perf_counter() - start}
    choice = {name: np.asarray(value).tolist() for name, value in adata.uns[keys.UNS]["number_of_domains"].items()}
    row |= {"n_obs": adata.n_obs, "annotated": annotated, "choice": choice}
    if seed == 0:
        row["ari at annotated"] = partition(adata, annotated)
        row["ari"] = partition(adata, choice["chosen"])
        partition(adata, 2 * annotated)
        stmmr.tl.domain_tree(adata)
        stmmr.tl.cut_tree(adata, annotated, key_added="merged")
        row["ari of tree"] = score(adata, "merged")
    return row


def partition(adata: AnnData, k: int) -> float:
    """Cluster into domains by consensus, and compare with the labels."""
    stmmr.tl.consensus(adata, k, random_state=0)
    return score(adata, keys.DOMAIN)


def median_seed(rows: list[Row]) -> Row:
    """Take the seed with the median number."""
    return sorted(rows, key=lambda row: (row["choice"]["chosen"], row["seed"]))[len(rows) // 2]


def first_seed(rows: list[Row]) -> Row:
    """Take the seed that is scored against the labels."""
    return next(row for row in rows if row["seed"] == 0)


def is_near(rows: list[Row]) -> bool:
    """Tell whether the median number differs from the annotated one by at most one."""
    middle = median_seed(rows)
    return abs(middle["choice"]["chosen"] - middle["annotated"]) <= 1


def n_covering(rows: list[Row]) -> int:
    """Count the seeds whose range contains the annotated number."""
    return sum(row["choice"]["lowest"] <= row["annotated"] <= row["choice"]["highest"] for row in rows)


def report(rows: dict[Key, Row]) -> None:
    """Write the table and the figure of all results."""
    kinds = {data: [row for (d, _, _), row in rows.items() if d == data] for data in [*NAMES, *SIMULATED]}
    table = [
        [
            "data",
            "spots",
            "independent spots",
            "annotated",
            "chosen (min–max)",
            "range",
            "within ±1",
            "seeds whose range covers it",
            "ARI at annotated",
            "ARI at chosen",
            "ARI of tree",
            "seconds",
        ]
    ]
    for title, names in (("labelled", NAMES), ("simulated", SIMULATED)):
        table += [table_row(data, kinds[data]) for data in names]
        near = sum(is_near(kinds[data]) for data in names)
        covered = sum(2 * n_covering(kinds[data]) > len(kinds[data]) for data in names)
        hits = [f"{count} of {len(names)}" for count in (near, covered)]
        scores = [f"{np.mean([first_seed(kinds[data])[name] for data in names]):.3f}" for name in SCORES]
        table.append([f"**{title}: hits, means**", *[""] * 5, *(f"**{cell}**" for cell in [*hits, *scores]), ""])
        if names is NAMES:
            summary = f"Labelled data: within ±1 on {hits[0]}; the range of most seeds covers it on {hits[1]}."
    write_tables("number", table)
    print(summary)
    draw([median_seed(kinds[data]) for data in NAMES])


def table_row(data: str, rows: list[Row]) -> list[str]:
    """Write the row of a data set."""
    middle = median_seed(rows)
    choice, annotated = middle["choice"], middle["annotated"]
    chosen = [row["choice"]["chosen"] for row in rows]
    scored = first_seed(rows)
    return [
        data,
        f"{middle['n_obs']}",
        f"{choice['independent_spots']:.0f}",
        f"{annotated}",
        f"{choice['chosen']} ({min(chosen)}–{max(chosen)})",
        f"{choice['lowest']}–{choice['highest']}",
        "yes" if is_near(rows) else "no",
        f"{n_covering(rows)} of {len(rows)}",
        *(f"{scored[name]:.3f}" for name in SCORES),
        f"{np.median([row['seconds'] for row in rows]):.1f}",
    ]


def draw(rows: list[Row]) -> None:
    """Draw the curve of each data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 6, figsize=(16, 8), layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=False):
        stmmr.pl.number_of_domains(AnnData(uns={keys.UNS: {"number_of_domains": row["choice"]}}), ax=ax)
        ax.axvline(row["annotated"], color="black", linewidth=1, linestyle=":", ymax=0.8)
        ax.set_title(row["data"], fontsize="medium", loc="left")
        ax.set(xlabel="", ylabel="")
    for ax in axes.flat[len(rows) :]:
        ax.remove()
    figure.supxlabel("Domains; dotted: annotated number", fontsize="medium")
    figure.supylabel("Bayesian information criterion", fontsize="medium")
    target = ROOT / "docs" / "images" / "number_of_domains.png"
    figure.savefig(target, dpi=150)
    smaller(target, width=2 * WIDEST)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=[*NAMES, *SIMULATED], choices=[*NAMES, *SIMULATED])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    wanted = [(data, "number", seed) for data in options.data for seed in range(options.seeds)]
    report(complete(CACHE, wanted, measure, options.workers))


if __name__ == "__main__":
    main()
