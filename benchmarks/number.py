"""How many domains are found: `python -m benchmarks.number` writes docs/number_of_domains.md and its figure.

Every result is kept in .benchmarks/number.jsonl as soon as it is there, so that a run goes on where it was stopped;
remove that file after a change of the model. `--seeds` and `--data` narrow it down.
"""

import argparse
import os
import time
from functools import lru_cache

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from anndata import AnnData

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, write
from benchmarks.accuracy import LABEL, NAMES, embed, quiet, score
from benchmarks.accuracy import prepared as labelled
from stmmr._core import keys

CACHE = ROOT / ".benchmarks" / "number.jsonl"
SCORES = ("ari at annotated", "ari", "ari of tree")
SIMULATED = {f"simulated, {rows} × {rows}, {k} domains": (rows, k) for rows in (30, 45) for k in (3, 4, 5, 6, 8)}
TEXT = """How many domains `stmmr.tl.number_of_domains` finds, over five seeds, against how many are annotated. It
takes the number with the best Bayesian information criterion of tied Gaussian mixtures of the embedding, or a smaller
one that has 99 % of its gain over one domain, at the middle between the bandwidth of the graph and the one that
predicts best. As many places count as are independent:
propagation makes neighbours alike, and ‖A²‖², the trace of the squared smoother, says how many all places are worth.
The range holds the numbers whose criterion is less than one standard error below the best (Vuong's test of two models
on the same data). Labels are read by this table and by nothing before it.

- Of labelled data the seed changes the starts of the mixtures only. Of simulated tissue (no picture) each seed is
  another one.
- **chosen**: median over seeds, least and most. **range**: that of the seed with the median number, drawn below.
  **range covers**: with how many of the seeds the range holds the annotated number; a hit where with most.
- **ARI** with the annotation, by `tl.consensus` of seed 0: at the annotated number, and at the number chosen with that
  seed. **ARI of tree**: twice the annotated number by consensus, merged down to it by `tl.domain_tree` and
  `tl.cut_tree`.

![The criterion over the number of domains on each data set](images/number_of_domains.png)"""
SEEN = """What is seen: on real tissue the number is close to the annotated one and stable between seeds, and the range
is wide. Small simulated tissue is cut into too few.

- **How the bandwidth came in.** Counted at the bandwidth of the graph, which is kept small for sharp borders, the
  numbers were too large on all eight (1 within ±1, 4 covered); at the one that predicts best, right on real data and
  1 on all simulated tissue. The middle was chosen with these eight numbers in view; other tissue has to confirm it.
- **How the starts came in.** From k-means alone a mixture of six could be less likely than one of five (heart: 721 or
  450 at four domains, by the seed). The mixture of one domain less, with one split, is now a start as well.
- **151674** (range): 8 or 9; layer 3 and white matter are divided, and layer 2 has no domain of its own.
- **osmFISH** (number): the curve is flat from 11 to 19. Layer 4 and white matter are cut in three and more.
- **PDAC** (number): flat from 3 to 9. What the expert calls stroma lies in all domains.
- **The experts' own regions**, taken as the groups of a mixture, are far less likely than the mixture of as many
  groups, on all eight: what they drew is not what the embedding is divided by, and the curve cannot know how many
  they drew.
- **Simulated tissue** of 30 × 30 places is worth 16 independent ones at this bandwidth, that of 45 × 45 27: they
  cannot pay for six or eight domains, and the range does not say so.
- **The tree.** Merging twice as many domains down to the annotated number agrees less with the experts than cutting
  once on seven of the eight, more on osmFISH: it is for seeing which domains belong together.
- **The range** counts the sampling of places only: not the search, not batches, not that a gradient can be cut
  anywhere; and there are few independent places for each parameter. Take it as where to look."""


@lru_cache(maxsize=1)
def prepared(data: str, seed: int) -> AnnData:
    """Embed a labelled data set, or another simulated tissue for each seed, without its picture."""
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
    """Find the number of domains; with the first seed, also cut into as many, and into as many as are annotated."""
    quiet()
    adata = prepared(data, seed)
    annotated = adata.obs[LABEL].nunique()
    start = time.perf_counter()
    stmmr.tl.number_of_domains(adata, random_state=seed)
    row: Row = {"data": data, "method": method, "seed": seed, "seconds": time.perf_counter() - start}
    found = {name: np.asarray(value).tolist() for name, value in adata.uns[keys.UNS]["number_of_domains"].items()}
    row |= {"places": adata.n_obs, "annotated": annotated, "found": found}
    if seed == 0:
        row["ari at annotated"] = partition(adata, annotated)
        row["ari"] = partition(adata, found["chosen"])
        partition(adata, 2 * annotated)
        stmmr.tl.domain_tree(adata)
        stmmr.tl.cut_tree(adata, annotated, key_added="cut")
        row["ari of tree"] = score(adata, "cut")
    return row


def partition(adata: AnnData, k: int) -> float:
    """Cut into domains by consensus, and compare."""
    stmmr.tl.consensus(adata, k, random_state=0)
    return score(adata, keys.DOMAIN)


def median_seed(rows: list[Row]) -> Row:
    """Take the seed with the median number."""
    return sorted(rows, key=lambda row: (row["found"]["chosen"], row["seed"]))[len(rows) // 2]


def first_seed(rows: list[Row]) -> Row:
    """Take the seed that is scored against the labels."""
    return next(row for row in rows if row["seed"] == 0)


def is_near(rows: list[Row]) -> bool:
    """Tell whether the median number is within one of the annotated."""
    middle = median_seed(rows)
    return abs(middle["found"]["chosen"] - middle["annotated"]) <= 1


def n_covering(rows: list[Row]) -> int:
    """Count the seeds whose range holds the annotated number."""
    return sum(row["found"]["lowest"] <= row["annotated"] <= row["found"]["highest"] for row in rows)


def report(rows: dict[Key, Row]) -> None:
    """Write the table and the figure."""
    kinds = {data: [row for (d, _, _), row in rows.items() if d == data] for data in [*NAMES, *SIMULATED]}
    table = [
        [
            "data",
            "places",
            "independent places",
            "annotated",
            "chosen (least–most)",
            "range",
            "within ±1",
            "range covers, of the seeds",
            "ARI at annotated",
            "ARI at chosen",
            "ARI of tree",
            "seconds",
        ]
    ]
    for title, names in (("labelled", NAMES), ("simulated", SIMULATED)):
        table += [line(data, kinds[data]) for data in names]
        near = sum(is_near(kinds[data]) for data in names)
        covered = sum(2 * n_covering(kinds[data]) > len(kinds[data]) for data in names)
        hits = [f"{count} of {len(names)}" for count in (near, covered)]
        scores = [f"{np.mean([first_seed(kinds[data])[name] for data in names]):.3f}" for name in SCORES]
        table.append([f"**{title}: hits, means**", *[""] * 5, *(f"**{cell}**" for cell in [*hits, *scores]), ""])
        if names is NAMES:
            counts = f"Of the labelled data: **within ±1 on {hits[0]}, range of most seeds covers on {hits[1]}**."
    write("number_of_domains.md", "Number of domains", "\n\n".join([TEXT, counts, SEEN]), table)
    draw([median_seed(kinds[data]) for data in NAMES])


def line(data: str, rows: list[Row]) -> list[str]:
    """Write a line of the table."""
    middle = median_seed(rows)
    found, annotated = middle["found"], middle["annotated"]
    chosen = [row["found"]["chosen"] for row in rows]
    scored = first_seed(rows)
    return [
        data,
        f"{middle['places']}",
        f"{found['independent_places']:.0f}",
        f"{annotated}",
        f"{found['chosen']} ({min(chosen)}–{max(chosen)})",
        f"{found['lowest']}–{found['highest']}",
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

    figure, axes = plt.subplots(2, 4, figsize=(11, 5.4), layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=True):
        stmmr.pl.number_of_domains(AnnData(uns={keys.UNS: {"number_of_domains": row["found"]}}), ax=ax)
        ax.axvline(row["annotated"], color="black", linewidth=1, linestyle=":", ymax=0.8)
        ax.set_title(row["data"], fontsize="medium", loc="left")
        ax.set(xlabel="", ylabel="")
    figure.supxlabel("Domains; dotted: as many as are annotated", fontsize="medium")
    figure.supylabel("Bayesian information criterion", fontsize="medium")
    figure.savefig(ROOT / "docs" / "images" / "number_of_domains.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=[*NAMES, *SIMULATED], choices=[*NAMES, *SIMULATED])
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    todo = [(data, "number", seed) for data in asked.data for seed in range(asked.seeds)]
    report(complete(CACHE, todo, measure, asked.workers))


if __name__ == "__main__":
    main()
