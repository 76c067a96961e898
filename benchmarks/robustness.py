"""Accuracy on simulated tissue of growing difficulty: `python -m benchmarks.robustness` writes docs/robustness.md.

Each result is kept in .benchmarks/robustness.jsonl as soon as it is measured, so that a stopped run can resume. Remove
that file after a change of the model or of the tissue. `--seeds` and `--cases` select a part.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, Table, write_tables
from benchmarks.accuracy import BASELINE, LABEL, quiet, scored
from stmmr._core import keys
from stmmr.datasets import _counts

CACHE = ROOT / ".benchmarks" / "robustness.jsonl"
METHODS = ["PCA + mixture", BASELINE, "default", "refined"]
KEPT = 0.5
"""Share of the simulated counts that the base keeps: about 750 per spot."""
THIN = "thin layer"
SECTION = "half"


def dropout(adata: AnnData, lost: float, rng: np.random.Generator) -> None:
    """Remove each count with a probability in percent."""
    thin(adata, KEPT * (1 - lost / 100), rng)


def thin_layer(adata: AnnData, width: float, rng: np.random.Generator) -> None:
    """Replace the domains: one layer, `width` rows of the array wide, between two broad domains."""
    layers = ["upper", THIN, "lower"]
    row = adata.obs[keys.ARRAY_ROW].to_numpy(int)
    top = 20 - int(width) // 2
    domain = np.digitize(row, [top, top + int(width)])
    xy_um = adata.obsm[keys.SPATIAL] * 0.5
    counts, _ = _counts(rng, domain, xy_um, n_genes=adata.n_vars, names=layers)
    adata.X = counts
    adata.obs[LABEL] = pd.Categorical.from_codes(domain, layers)
    thin(adata, KEPT, rng)


def rotated(adata: AnnData, degrees: float, rng: np.random.Generator) -> None:
    """Rotate the coordinates."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    adata.obsm[keys.SPATIAL] = adata.obsm[keys.SPATIAL] @ np.array([[cos, sin], [-sin, cos]])
    thin(adata, KEPT, rng)


def stretched(adata: AnnData, times: float, rng: np.random.Generator) -> None:
    """Stretch the y axis."""
    adata.obsm[keys.SPATIAL] = adata.obsm[keys.SPATIAL] * [1, times]
    thin(adata, KEPT, rng)


def batches(adata: AnnData, spread: float, rng: np.random.Generator) -> None:
    """Split the tissue, move the halves apart, and shift each gene between them by a normal log fold change."""
    xy = adata.obsm[keys.SPATIAL].copy()
    right = right_half(adata)
    xy[right, 0] += 10 * np.ptp(xy[:, 0])
    adata.obsm[keys.SPATIAL] = xy
    shift = spread * rng.standard_normal(adata.n_vars)
    # the ratio of both shares is the fold change; without a shift they are 0.5
    thin(adata, expit(np.where(right, 1, -1)[:, None] * shift), rng)


def named(adata: AnnData, spread: float, rng: np.random.Generator) -> None:
    """Shift the halves in the same way, and name the half of each spot."""
    adata.obs[SECTION] = right_half(adata)
    batches(adata, spread, rng)


def right_half(adata: AnnData) -> np.ndarray:
    """Mark the spots right of the middle."""
    x = adata.obsm[keys.SPATIAL][:, 0]
    return x > np.median(x)


def foreign(adata: AnnData, share: float, rng: np.random.Generator) -> None:
    """Give scattered spots the counts of another tissue, in which every gene has another level."""
    chosen = scattered(adata, share, rng)
    other = tissue(1000)
    counts = adata.X.toarray()
    counts[chosen] = other.X[rng.choice(other.n_obs, len(chosen))].toarray()
    adata.X = counts
    thin(adata, KEPT, rng)


def depths(adata: AnnData, share: float, rng: np.random.Generator) -> None:
    """Give scattered spots a twentieth of their counts or ten times as many, half of the spots each."""
    chosen = scattered(adata, share, rng)
    factor = np.ones(adata.n_obs)
    factor[chosen] = np.resize([0.05, 10], len(chosen))
    thin(adata, KEPT * np.minimum(factor, 1)[:, None], rng)
    more = np.maximum(factor, 1)[:, None]
    counts = adata.X.toarray()
    adata.X = sparse.csr_matrix(np.where(more > 1, rng.poisson(more * counts), counts), dtype=np.float32)


def thin(adata: AnnData, kept: float | np.ndarray, rng: np.random.Generator) -> None:
    """Keep each count with a probability."""
    counts = adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()
    adata.X = sparse.csr_matrix(rng.binomial(counts.astype(int), kept), dtype=np.float32)


def scattered(adata: AnnData, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of the spots, in percent."""
    return rng.permutation(adata.n_obs)[: round(adata.n_obs * share / 100)]


class Case(NamedTuple):
    """One kind of difficulty, at several levels."""

    change: Callable[[AnnData, float, np.random.Generator], None]
    levels: Sequence[float]
    title: str
    unit: str


CASES = {
    "dropout": Case(dropout, (0, 25, 50, 65, 80, 90), "Dropout", "counts lost, %"),
    THIN: Case(thin_layer, (10, 7, 5, 3, 2, 1), "Thin layer", "width in spots"),
    "batches": Case(batches, (0, 0.1, 0.2, 0.3, 0.5, 0.8), "Batch shift", "SD of log fold"),
    "sections": Case(named, (0, 0.1, 0.2, 0.3, 0.5, 0.8), "Batch shift, halves as sections", "SD of log fold"),
    "rotation": Case(rotated, (0, 10, 20, 30, 45, 90), "Rotated grid", "degrees"),
    "stretch": Case(stretched, (1, 1.25, 1.5, 2, 3, 4), "Stretched grid", "one axis, factor"),
    "foreign": Case(foreign, (0, 2, 5, 10, 20, 30), "Foreign spots", "spots, %"),
    "depth": Case(depths, (0, 2, 5, 10, 20, 30), "Spots of unusual depth", "spots, %"),
}


@lru_cache(maxsize=8)
def tissue(seed: int) -> AnnData:
    """Simulate the tissue, without its image."""
    adata = stmmr.datasets.simulated_tissue(random_state=seed)
    del adata.uns[keys.SPATIAL]
    return adata


@lru_cache(maxsize=2)
def prepared(data: str, seed: int) -> AnnData:
    """Make the tissue of one case and level, and run the steps that all methods share."""
    case, level = data.rsplit(maxsplit=1)
    adata = tissue(seed).copy()
    CASES[case].change(adata, float(level), np.random.default_rng(seed))
    section_key = SECTION if SECTION in adata.obs else None
    stmmr.pp.expression(adata, section_key=section_key)
    stmmr.pp.spatial_graph(adata, section_key=section_key)
    return adata


def measure(data: str, method: str, seed: int) -> Row:
    """Run one method on one tissue; the seed is that of the tissue and of the method."""
    quiet()
    adata = prepared(data, seed).copy()
    row = {"data": data} | scored(adata, method, seed)
    if data.startswith(THIN):
        row["recall"] = recall(adata.obs[LABEL], np.array(row["labels"]), THIN)
    return row


def recall(truth: pd.Series, labels: np.ndarray, domain: str) -> float:
    """Share of a domain's spots that have the label matched to it; each domain is matched to one label."""
    table = pd.crosstab(truth, labels)
    domains, matched = linear_sum_assignment(table, maximize=True)
    label_of = dict(zip(table.index[domains], matched, strict=True))
    if domain not in label_of:
        return 0.0
    return float(table.loc[domain].iloc[label_of[domain]] / table.loc[domain].sum())


def names(case: str) -> list[str]:
    """Name the tissues of a case, one for each level."""
    return [f"{case} {level:g}" for level in CASES[case].levels]


def curves(rows: dict[Key, Row], case: str, value: str) -> dict[str, np.ndarray]:
    """Get median, minimum and maximum over seeds of each method at each level, shape (3, n_levels)."""
    by_method = {}
    for method in METHODS:
        values = [[row[value] for (d, m, _), row in rows.items() if (d, m) == (data, method)] for data in names(case)]
        by_method[method] = np.array([[np.median(v), min(v), max(v)] for v in values]).T
    return by_method


def report(rows: dict[Key, Row]) -> None:
    """Write the table and the figure of all results."""
    panels = [(case, "ari") for case in CASES]
    panels.insert(2, (THIN, "recall"))
    drawn = {panel: curves(rows, *panel) for panel in panels}
    table: Table = [["difficulty", "level", *METHODS]]
    for (case, value), by_method in drawn.items():
        title, unit = panel_title(case, value), CASES[case].unit
        for i, level in enumerate(CASES[case].levels):
            first = [f"{title} ({unit})" if i == 0 else "", f"{level:g}"]
            table.append([*first, *(f"{by_method[method][0, i]:.3f}" for method in METHODS)])
    write_tables("robustness", table)
    draw(drawn)


def panel_title(case: str, value: str) -> str:
    return f"{CASES[case].title}: recall" if value == "recall" else CASES[case].title


def draw(panels: dict[tuple[str, str], dict[str, np.ndarray]]) -> None:
    """Draw a panel for each case: medians over seeds, bands from the minimum to the maximum."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    looks = {"PCA + mixture": ("#bbbbbb", 1.5), BASELINE: ("#555555", 1.5), "default": ("#d55e00", 3.5)}
    looks["refined"] = ("#56b4e9", 1.2)  # drawn above the default
    figure, axes = plt.subplots(3, 3, figsize=(8, 7.6), sharey=True, layout="constrained")
    for ax, ((case, value), by_method) in zip(axes.flat, panels.items(), strict=True):
        x = np.arange(len(CASES[case].levels))
        for method, (color, width) in looks.items():
            median, lowest, highest = by_method[method]
            if method != "refined":
                ax.fill_between(x, lowest, highest, color=color, alpha=0.2, linewidth=0)
            ax.plot(x, median, color=color, linewidth=width, marker="o", markersize=width + 2, label=method)
        ax.set_title(panel_title(case, value), fontsize="medium", loc="left")
        ax.set(xlabel=CASES[case].unit, xticks=x, xticklabels=[f"{level:g}" for level in CASES[case].levels])
        ax.grid(axis="y", color="#eeeeee")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylim(-0.04, 1.04)
    figure.supylabel("adjusted Rand index with the truth, or recall", fontsize="medium")
    handles = {curve.get_label(): curve for curve in axes[0, 0].get_lines()}
    figure.legend([handles[m] for m in METHODS], METHODS, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(ROOT / "docs" / "images" / "robustness.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    # methods innermost, as they share the prepared tissue
    wanted = [
        (data, method, seed)
        for case in options.cases
        for data in names(case)
        for seed in range(options.seeds)
        for method in METHODS
    ]
    report(complete(CACHE, wanted, measure, options.workers))


if __name__ == "__main__":
    main()
