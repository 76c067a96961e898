"""What the experiments with the embedding share: prepared tissue, and the vote of the default with other views in it.

The image is not read; otherwise the first variant is the default.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, Table, write_tables
from benchmarks.accuracy import LABEL, NAMES, prepared, quiet, representation_of
from stmmr._core import keys
from stmmr._core.kernel import Kernel, gaussian_weights, kernel_of, white_noise
from stmmr._core.sections import plane_coordinates
from stmmr.linear.blocks import features_of
from stmmr.linear.noise import local_noise, spatial_components, whitening
from stmmr.linear.start import Modality
from stmmr.tl._consensus import assigned_by_all, one_mixture
from stmmr.tl._points import variance_scaled
from stmmr.tl._vote import vote

TRAINED: dict[tuple[str, str], Any] = {}
"""Embeddings of the networks that were trained in this process."""
EACH = 16
"""Partitions of each of five views."""
NOISE_SCALES, VARIANCE_SCALES = (0.8, 1.0, 1.25), (0.85, 1.1)

Floats = NDArray[np.floating]
View = Callable[["Tissue", float], Floats]
"""Embedding, shape (N, d), at a multiple of the bandwidth; it replaces the first view of the vote."""


class Tissue(NamedTuple):
    """A labelled data set after the steps that all variants share."""

    features: NDArray[np.float32]
    """Principal components, shape (N, F)."""
    kernel: Kernel
    counts: Any
    """Counts of the genes that are read, CSR, shape (N, G); None: the data have none."""
    k: int
    labels: NDArray[Any]
    known: NDArray[np.bool_]

    def weights(self, scale: float = 1.0) -> sparse.csr_matrix:
        """Compute A at a multiple of the bandwidth."""
        kernel = self.kernel
        return gaussian_weights(kernel.xy, bandwidth=scale * kernel.bandwidth, tolerance=kernel.tolerance)

    def scaled(self, scale: float) -> Kernel:
        return self.kernel._replace(bandwidth=scale * self.kernel.bandwidth)

    def block(self, values: Floats, scale: float) -> Floats:
        """Embed values, shape (N, F), as the default does: informative components by their signal."""
        xy = self.kernel.xy
        block = Modality.of(np.asarray(values, dtype=np.float32), self.scaled(scale), xy)
        (informative,) = block.components([], at_least=2)
        return informative(block.propagated)


def default_view(tissue: Tissue, scale: float) -> Floats:
    return tissue.block(tissue.features, scale)


@cache
def tissue_of(name: str) -> Tissue:
    adata = prepared(name, image=False)
    features = features_of(adata, [], use_rep=representation_of(adata), n_components=50)[0]
    kernel = kernel_of(adata)._replace(xy=plane_coordinates(adata))
    counts = adata.layers.get(keys.COUNTS)
    if counts is not None and "highly_variable" in adata.var:
        counts = counts[:, adata.var["highly_variable"].to_numpy()]
    labels = adata.obs[LABEL]
    return Tissue(features, kernel, counts, labels.nunique(), labels.astype(str).to_numpy(), labels.notna().to_numpy())


@cache
def second_view(name: str, seed: int) -> NDArray[np.int8]:
    """Partition the second view of the default, shape (32, N)."""
    tissue = tissue_of(name)
    views = [variance_scaled(tissue.features, tissue.scaled(scale)) for scale in VARIANCE_SCALES]
    return np.vstack([partitions(view, tissue.k, range(seed * EACH, (seed + 1) * EACH)) for view in views])


def partitions(points: Floats, k: int, seeds: Sequence[int]) -> NDArray[np.int8]:
    points = np.asarray(points, dtype=np.float32)
    found = np.empty((len(seeds), len(points)), dtype=np.int8)
    for rows, groups in assigned_by_all([one_mixture(points, k, seed=seed) for seed in seeds], points):
        found[:, rows] = groups
    return found


def measured(name: str, method: str, seed: int, view: View) -> Row:
    """Score the vote of a view at three bandwidths and of the second view; its seconds are those of the embedding."""
    quiet()
    tissue, second = tissue_of(name), second_view(name, seed)
    start = time.process_time()
    embedded = [view(tissue, scale) for scale in NOISE_SCALES]
    seconds = time.process_time() - start
    starts = [range(first, first + EACH) for first in (100 * seed + np.arange(len(embedded)) * EACH)]
    first = np.vstack([partitions(points, tissue.k, seeds) for points, seeds in zip(embedded, starts, strict=True)])
    scores = []
    for voters in (np.vstack([first, second]), first):
        found = vote(voters, tissue.k, random_state=seed)[0]
        scores.append(float(adjusted_rand_score(tissue.labels[tissue.known], found[tissue.known])))
    return {"data": name, "method": method, "seed": seed, "seconds": seconds, "ari": scores[0], "alone": scores[1]}


def white(tissue: Tissue) -> Floats:
    """Scale features so that their noise is white."""
    centred = tissue.features - tissue.features.mean(axis=0)
    return (centred @ whitening(local_noise(tissue.features, tissue.kernel.xy))).astype(np.float32)


def embedded(features: Floats, smooth: Floats, smooth_noise: Floats, width: int) -> Floats:
    """Scale smooth features with white noise as the default does; the level is that of noise smoothed likewise."""
    draws = [
        np.linalg.eigvalsh(np.cov(draw.T))[-1]
        for draw in np.split(smooth_noise, smooth_noise.shape[1] // width, axis=1)
    ]
    found = spatial_components(smooth, np.eye(width), float(np.mean(draws)), at_least=2)
    return (smooth - found.centre) @ found.axes


def smoothed(features: Floats, apply) -> Floats:
    """Smooth features and white noise by one function, and embed them."""
    width = features.shape[1]
    noise = white_noise(np.arange(len(features)), 4 * width)
    both = apply(np.hstack([features, noise]))
    return embedded(features, both[:, :width], both[:, width:], width)


def run(name: str, variants: Mapping[str, View], description: str) -> None:
    """Measure variants and write their table; what is trained, is trained once and clustered from other starts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=list(variants), choices=list(variants))
    options = parser.parse_args()
    wanted = [
        (data, method, seed) for seed in range(options.seeds) for data in options.data for method in options.methods
    ]
    measure = partial(_measured_variant, variants=variants)
    rows = complete(ROOT / ".benchmarks" / f"{name}.jsonl", wanted, measure, workers=1)
    write_tables(name, table_of(rows, [m for m in variants if any(m == key[1] for key in rows)]))


def _measured_variant(name: str, method: str, seed: int, *, variants: Mapping[str, View]) -> Row:
    if not method.startswith("network"):
        return measured(name, method, seed, variants[method])

    def trained(tissue: Tissue, _: float) -> Floats:
        if (name, method) not in TRAINED:
            TRAINED[name, method] = variants[method](tissue, 1.0)
        return TRAINED[name, method]

    return measured(name, method, seed, trained)


def table_of(rows: dict[Key, Row], methods: Sequence[str]) -> Table:
    """Write one variant a row: means over the data sets on which it was measured, beside those of the first there."""
    table = [["", "data sets", "seeds", "ARI", methods[0], "alone", f"{methods[0]} alone", "ahead, behind"]]

    def mean(method: str, name: str, column: str = "ari") -> float:
        return float(np.mean([r[column] for (d, m, _), r in rows.items() if (d, m) == (name, method)]))

    for method in methods:
        seeds = [sum((d, m) == (name, method) for d, m, _ in rows) for name in NAMES]
        names = [name for name, n in zip(NAMES, seeds, strict=True) if n]
        gains = np.array([mean(method, name) - mean(methods[0], name) for name in names])
        means = [np.mean([mean(m, n, c) for n in names]) for c in ("ari", "alone") for m in (method, methods[0])]
        cells = [f"{value:.3f}" for value in means] + [f"{(gains > 0.01).sum()}, {(gains < -0.01).sum()}"]
        table.append([method, str(len(names)), str(min(filter(None, seeds))), *cells])
    return table
