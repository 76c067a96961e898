"""Further blocks made of the expression: `python -m benchmarks.blocks` writes tables of docs/architecture.md.

Each block is added to the embedding of the default in three ways, on all labelled data without their images. Labels are
read by the score only. Results are kept in .benchmarks/blocks.jsonl.
"""

import argparse
from functools import cache, partial

import numpy as np

from benchmarks._cache import Row, complete
from benchmarks._table import ROOT, write_tables
from benchmarks._views import NAMES, Floats, Tissue, default_view, measured, table_of, tissue_of
from stmmr._core.kernel import nearest
from stmmr.linear.noise import local_noise, whitening
from stmmr.linear.start import predicted_share, regression
from stmmr.tl._consensus import one_mixture

CACHE = ROOT / ".benchmarks" / "blocks.jsonl"
STATES = 20
"""Cell states, whose composition around a spot is a block."""
WIDER = 2.0
"""The second scale, as a multiple of the bandwidth."""


def composition(tissue: Tissue, scale: float) -> Floats:
    """Embed the composition of cell states: soft groups of the features before propagation."""
    white = tissue.features @ whitening(local_noise(tissue.features, tissue.kernel.xy))
    leading = np.linalg.svd(white - white.mean(axis=0), full_matrices=False)[0][:, :15] * np.sqrt(len(white))
    states = one_mixture(leading.astype(np.float32), STATES, seed=0).predict_proba(leading)
    return tissue.block(states, scale)


def gradient(tissue: Tissue, scale: float) -> Floats:
    """Measure how steeply the embedding changes: the logarithm of its gradient, fitted to the neighbours."""
    z, xy, weights = default_view(tissue, scale), tissue.kernel.xy / tissue.kernel.bandwidth, tissue.weights(scale)

    def mean(values: Floats) -> Floats:
        return np.asarray(weights @ values, dtype=np.float64)

    products = mean((xy[:, :, None] * xy[:, None]).reshape(-1, 4)).reshape(-1, 2, 2)
    centre, level = mean(xy), mean(z)
    spread = products - centre[:, :, None] * centre[:, None] + 1e-3 * np.eye(2)
    covariance = mean((xy[:, :, None] * z[:, None]).reshape(len(z), -1)).reshape(len(z), 2, -1)
    slope = np.linalg.solve(spread, covariance - centre[:, :, None] * level[:, None])  # (N, 2, d)
    steepness = np.log((slope**2).sum(axis=(1, 2)) + 1e-6)[:, None]
    return (steepness - steepness.mean()) / steepness.std()


def second_scale(tissue: Tissue, scale: float) -> Floats:
    """Embed the features at a wider bandwidth."""
    return default_view(tissue, WIDER * scale)


BLOCKS = {"composition of cell states": composition, "gradient": gradient, "second scale": second_scale}


@cache
def shares(name: str, block: str) -> tuple[float, float]:
    """Measure the gates: what a block predicts of the embedding, and what it adds to it, in areas left out.

    The second is the part of the variance of the neighbours' features (a spot's nearest others, before propagation)
    that the block predicts beyond the embedding, relative to what the embedding predicts.
    """
    tissue = tissue_of(name)
    z, b, xy = default_view(tissue, 1.0), BLOCKS[block](tissue, 1.0), tissue.kernel.xy
    near = nearest(xy, 6)
    white = tissue.features @ whitening(local_noise(tissue.features, xy))
    others = white[near].mean(axis=1)
    alone, both = (predicted_share(values, others, xy) for values in (z, np.hstack([z, b])))
    return predicted_share(b, z, xy), max(0.0, both - alone) / max(alone, 1e-6)


def with_block(tissue: Tissue, scale: float, *, name: str, block: str, how: str) -> Floats:
    """Add a block to the embedding."""
    z, b = default_view(tissue, scale), BLOCKS[block](tissue, scale)
    share, added = shares(name, block)
    if how == "as the image":
        return z + share * regression(b, z)(b)
    weight = 1.0 if how == "weight 1" else min(1.0, added)
    return np.hstack([z, np.sqrt(weight) * b]) if weight else z


HOW = ("as the image", "weight 1", "weight by gain")
METHODS = ["default", *(f"{block}: {how}" for block in BLOCKS for how in HOW)]


def measure(name: str, method: str, seed: int) -> Row:
    block, _, how = method.partition(": ")
    view = partial(with_block, name=name, block=block, how=how) if how else default_view
    row = measured(name, method, seed, view)
    return row | ({"gates": shares(name, block)} if how else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    options = parser.parse_args()
    wanted = [
        (name, method, seed) for seed in range(options.seeds) for name in options.data for method in options.methods
    ]
    rows = complete(CACHE, wanted, measure, workers=1)
    gates = [["block", *("share of the embedding predicted", "gain")]]
    for block in BLOCKS:
        found = [row["gates"] for (_, method, seed), row in rows.items() if method.startswith(block) and seed == 0]
        gates.append([block, *(f"{np.median(g):.3f} ({min(g):.3f}–{max(g):.3f})" for g in zip(*found, strict=True))])
    write_tables("blocks", table_of(rows, METHODS), gates)


if __name__ == "__main__":
    main()
