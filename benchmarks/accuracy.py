"""Accuracy on labelled data: `python -m benchmarks.accuracy` writes the tables and the figure of docs/accuracy.md.

Each result is kept in .benchmarks/accuracy.jsonl as soon as it is measured, so that a stopped run can resume. Remove
that file after a change of the model. `--seeds`, `--data` and `--methods` select a part. Other methods
(`benchmarks.peers`) are skipped if their package is not installed.
"""

import argparse
import logging
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

import numpy as np
import torch
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import DATA, ROOT, Table, write_tables
from benchmarks.peers import PEERS, missing
from stmmr._core import keys
from stmmr._core.kernel import propagate
from stmmr.reproduce._baseline import linear_baseline as linear_baseline_domains

CACHE = ROOT / ".benchmarks" / "accuracy.jsonl"
LABEL = "ground_truth"
HEART, SYNOVIUM = "st_human_heart_9sections", "st_synovium_RA2"
SHAPED_ON = [
    "visium_dlpfc_151673",
    "visium_dlpfc_151674",
    "osmfish_cortex",
    "starmap_mpfc_BZ5",
    "starmap_mpfc_BZ9",
    "st_her2_A1",
    "st_pdac_A",
    HEART,
]
"""Data sets that version 0.1.0 was shaped on."""
LATER = [
    "pcs_merfish_0.04",
    "pcs_merfish_0.19",
    "merfish_visp",
    "st_mob1_img",
    "st_mob4_img",
    SYNOVIUM,
    "visium_dlpfc_151508_pcs15_img",
    "visium_dlpfc_151671_pcs15_img",
    "visium_mouse_skin_wound_pcs_img",
]
NAMES = [*SHAPED_ON, *LATER]
WITH_IMAGE = {"visium_dlpfc_151673", "visium_dlpfc_151674", "st_her2_A1"} | {name for name in LATER if "_img" in name}
SECTIONS = dict.fromkeys((HEART, SYNOVIUM), "image")
"""Column of the sections, of data with several."""


def embed(adata: AnnData, seed: int, **settings: object) -> None:
    """Fit a model, which trains nothing unless `settings` differ."""
    stmmr.StMMR(adata, use_rep=representation_of(adata), random_state=seed, **settings).fit(progress=False)


def representation_of(adata: AnnData) -> str | None:
    """Get the representation of data without genes."""
    return None if adata.n_vars else "X_pca"


def default(adata: AnnData, k: int, seed: int) -> None:
    embed(adata, seed)
    stmmr.tl.consensus(adata, k, random_state=seed)


def refined(adata: AnnData, k: int, seed: int) -> None:
    default(adata, k, seed)
    stmmr.tl.refine(adata, key_added=keys.DOMAIN)


def no_image(adata: AnnData, k: int, seed: int) -> None:
    embed(adata, seed, use_histology=False)
    stmmr.tl.consensus(adata, k, random_state=seed)


def no_consensus(adata: AnnData, k: int, seed: int) -> None:
    embed(adata, seed)
    stmmr.tl.domains(adata, k, random_state=seed)


def one_view(adata: AnnData, k: int, seed: int) -> None:
    embed(adata, seed)
    stmmr.tl.consensus(adata, k, variance_scales=(), n_partitions=40, random_state=seed)


def fixed_bandwidth(adata: AnnData, k: int, seed: int) -> None:
    graph = adata.uns[keys.UNS]["spatial_graph"]
    distance, section_key = graph["nearest_neighbour_distance"], graph["section_key"] or None
    stmmr.pp.spatial_graph(adata, bandwidth=distance, section_key=section_key)
    default(adata, k, seed)


def all_components(adata: AnnData, k: int, seed: int) -> None:
    adata.obsm["X_smooth"] = propagate(adata.obsp[keys.GRAPH], adata.obsm[keys.COMPONENTS])
    stmmr.tl.consensus(adata, k, use_rep="X_smooth", random_state=seed)


def trained_encoders(adata: AnnData, k: int, seed: int, **settings: float) -> None:
    embed(adata, seed, **({"train_encoders": True, "steps": 150, "learning_rate": 1e-4} | settings))
    stmmr.tl.consensus(adata, k, random_state=seed)


def attention(adata: AnnData, k: int, seed: int) -> None:
    embed(adata, seed, attention=True, batch_size=0)
    stmmr.tl.consensus(adata, k, random_state=seed)


def alignment(adata: AnnData, k: int, seed: int) -> None:
    trained_encoders(adata, k, seed, aligned_weight=1.0, contrast_loss=1.0)


def graph_loss(adata: AnnData, k: int, seed: int) -> None:
    trained_encoders(adata, k, seed, graph_loss=1.0, batch_size=0)


def paper(adata: AnnData, k: int, seed: int) -> None:
    graph = adata.uns[keys.UNS]["spatial_graph"]
    stmmr.pp.spatial_graph(adata, use="array", bandwidth=2.0, section_key=graph["section_key"] or None)
    stmmr.StMMR(adata, preset="paper", random_state=seed).fit(progress=False)
    stmmr.tl.domains(adata, k, random_state=seed)


def linear_baseline(adata: AnnData, k: int, seed: int) -> None:
    adata.obs[keys.DOMAIN] = linear_baseline_domains(adata, k, seed=seed).astype(str)


def pca(adata: AnnData, k: int, seed: int) -> None:
    scores = adata.obsm[keys.COMPONENTS][:, :15].astype(float)
    mixture = GaussianMixture(k, covariance_type="tied", n_init=5, random_state=seed)
    adata.obs[keys.DOMAIN] = mixture.fit_predict(scores / scores.std(axis=0)).astype(str)


Method = Callable[[AnnData, int, int], None]
Grouped = dict[tuple[str, str], list[Row]]
"""Results of all seeds, by data set and method."""
BASELINE = "linear baseline"
WHOLE: dict[str, Method] = {
    "PCA + mixture": pca,
    BASELINE: linear_baseline,
    "default": default,
    "refined": refined,
    "paper": paper,
}
PARTS: dict[str, Method] = {
    "no image": no_image,
    "no consensus": no_consensus,
    "one view": one_view,
    "fixed bandwidth": fixed_bandwidth,
    "all components": all_components,
    "trained encoders": trained_encoders,
    "attention": attention,
    "alignment": alignment,
    "graph loss": graph_loss,
}
METHODS: dict[str, Method] = {**WHOLE, **PARTS, **PEERS}


@cache
def prepared(name: str, *, image: bool = True) -> AnnData:
    """Read a data set and run the steps that all methods share."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    section_key, use_rep = SECTIONS.get(name), representation_of(adata)
    if use_rep is None:
        stmmr.pp.expression(adata, section_key=section_key)
    else:
        adata.obsm[keys.COMPONENTS] = np.asarray(adata.obsm[use_rep], dtype=np.float32)
    stmmr.pp.spatial_graph(adata, use_rep=use_rep, section_key=section_key)
    if image and stmmr.pp.has_image(adata):
        stmmr.pp.histology(adata, progress=False)
    return adata


def measure(name: str, method: str, seed: int) -> Row:
    """Run one method once on one data set."""
    quiet()
    return {"data": name} | scored(prepared(name).copy(), method, seed)


def quiet() -> None:
    """Limit a worker to one core, without warnings and log lines."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("stmmr").setLevel(logging.ERROR)


def scored(adata: AnnData, method: str, seed: int) -> Row:
    """Run one method on prepared data; its labels are kept to measure the agreement between seeds."""
    start = time.perf_counter()
    METHODS[method](adata, adata.obs[LABEL].nunique(), seed)
    seconds = time.perf_counter() - start
    _, codes = np.unique(adata.obs[keys.DOMAIN].astype(str), return_inverse=True)
    return {
        "method": method,
        "seed": seed,
        "ari": score(adata, keys.DOMAIN),
        "seconds": seconds,
        "weight": adata.uns[keys.UNS].get("model", {}).get("histology_weight_used"),
        "labels": codes.tolist(),
    }


def score(adata: AnnData, key: str) -> float:
    """Compare with the expert labels, without the spots that have none."""
    known = adata.obs[LABEL].notna()
    return float(adjusted_rand_score(adata.obs[LABEL][known].astype(str), adata.obs[key][known].astype(str)))


def cell(rows: list[Row]) -> str:
    """Write median, standard deviation and agreement; the latter two need several seeds."""
    scores = [row["ari"] for row in rows]
    pairs = [adjusted_rand_score(a["labels"], b["labels"]) for a, b in combinations(rows, 2)]
    spread = f" ± {np.std(scores):.3f} / {np.median(pairs):.2f}" if pairs else ""
    return f"{np.median(scores):.3f}{spread}"


def report(rows: dict[Key, Row]) -> None:
    """Write the tables and the figure of all results."""
    grouped = defaultdict(list)
    for row in rows.values():
        grouped[row["data"], row["method"]].append(row)
    for name in set(NAMES) - WITH_IMAGE:
        grouped[name, "no image"] = grouped[name, "default"]
    write_tables("accuracy", methods_table(grouped), parts_table(grouped))
    if others := others_table(grouped):
        write_tables("accuracy, other methods", others)
    draw({m: [median(grouped[name, m]) for name in NAMES] for m in ("PCA + mixture", BASELINE, "default", "refined")})


def methods_table(grouped: Grouped) -> Table:
    """Compare the methods, one data set a row."""
    methods = [m for m in WHOLE if any(grouped[name, m] for name in NAMES)]
    seconds = (np.median([row["seconds"] for name in NAMES for row in grouped[name, m]]) for m in methods)
    return [
        ["data", *methods],
        *([name, *(cell(grouped[name, m]) if grouped[name, m] else "–" for m in methods)] for name in NAMES),
        ["**mean of the first eight**", *(f"**{mean_of_medians(grouped, m, SHAPED_ON)}**" for m in methods)],
        ["**mean of all**", *(f"**{mean_of_medians(grouped, m, NAMES)}**" for m in methods)],
        ["seconds", *(f"{value:.1f}" for value in seconds)],
        ["seeds", *(str(min(len(grouped[n, m]) for n in NAMES if grouped[n, m])) for m in methods)],
    ]


def parts_table(grouped: Grouped) -> Table:
    """Compare the default with variants of it, one variant a row."""
    table = [["", *(name.split("_", 1)[1] for name in SHAPED_ON), "mean", "mean of all", "seeds"]]
    for method in ("default", *(m for m in PARTS if all(grouped[name, m] for name in SHAPED_ON))):
        seeds = min(len(grouped[name, method]) for name in SHAPED_ON)
        medians = (f"{median(grouped[name, method]):.3f}" for name in SHAPED_ON)
        means = (mean_of_medians(grouped, method, names) for names in (SHAPED_ON, NAMES))
        table.append([method, *medians, *means, str(seeds)])
    return table


def others_table(grouped: Grouped) -> Table:
    """Compare the default and the linear baseline with other methods; no rows if none was run."""
    others = [m for m in PEERS if any(grouped[name, m] for name in NAMES)]
    if not others:
        return []

    def timed(rows: list[Row]) -> str:
        return f"{cell(rows)}, {np.median([row['seconds'] for row in rows]):.0f} s × {len(rows)}" if rows else "–"

    methods = ["default", BASELINE, *others]
    return [["data", *methods], *([name, *(timed(grouped[name, m]) for m in methods)] for name in NAMES)]


def median(rows: list[Row]) -> float:
    return float(np.median([row["ari"] for row in rows]))


def mean_of_medians(grouped: Grouped, method: str, names: Sequence[str]) -> str:
    """Write the mean over data sets, if the method ran on all of them."""
    if not all(grouped[name, method] for name in names):
        return "–"
    return f"{np.mean([median(grouped[name, method]) for name in names]):.3f}"


def draw(medians: dict[str, list[float]]) -> None:
    """Draw the medians, one data set a row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
    rows = np.arange(len(NAMES))
    shown = {"PCA + mixture": ("#bbbbbb", "o"), BASELINE: ("#555555", "D"), "default": ("#d55e00", "o")}
    shown["refined"] = ("#56b4e9", "|")
    for method, (color, marker) in shown.items():
        ax.scatter(medians[method], rows, s=45, color=color, marker=marker, label=method, zorder=3)
    ax.set(
        yticks=rows, yticklabels=NAMES, xlim=(0, 1), xlabel="adjusted Rand index with the experts (median over seeds)"
    )
    ax.invert_yaxis()
    ax.grid(axis="x", color="#eeeeee")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(ROOT / "docs" / "images" / "accuracy.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not_installed := missing(options.methods):
        print(f"Skipped, not installed: {', '.join(not_installed)}")
    wanted = [
        (name, method, seed)
        for name in options.data
        for method in options.methods
        if method not in not_installed
        if method != "no image" or name in WITH_IMAGE
        for seed in range(options.seeds)
    ]
    report(complete(CACHE, wanted, measure, options.workers))


if __name__ == "__main__":
    main()
