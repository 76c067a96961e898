"""Denoised expression on held-out counts: `python -m benchmarks.denoising` writes the table of docs/denoising.md.

Each result is kept in .benchmarks/denoising.jsonl as soon as it is measured. Remove that file after a change of the
model.
"""

import argparse
import os
import time
from functools import lru_cache
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.decomposition import PCA

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import DATA, ROOT, write_tables
from benchmarks.accuracy import quiet
from stmmr._core import keys
from stmmr._core.counts import gene_rows
from stmmr._core.kernel import kernel_of, nearest
from stmmr.tl._enhance import dispersions

CACHE = ROOT / ".benchmarks" / "denoising.jsonl"
NAMES = ["visium_dlpfc_151673", "osmfish_cortex"]
PSEUDO = np.geomspace(0.03, 30, 13)
MIXED = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)
WIDTH, STEPS, BATCH = 512, 200, 512
"""Width, steps and batch size of `paper` in this comparison."""


class Halves(NamedTuple):
    """A data set whose counts were split by binomial thinning."""

    adata: AnnData
    """The first half, prepared."""
    first: NDArray[np.float64]
    """Counts of the genes that the model reads, (n_obs, n_genes)."""
    held_out: NDArray[np.float64]
    size: NDArray[np.float64]
    """Relative library sizes, (n_obs, 1)."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Rate of each gene, (1, n_genes)."""
        return self.first.sum(axis=0, keepdims=True) / self.size.sum()


@lru_cache(maxsize=1)
def split(name: str, seed: int) -> Halves:
    """Split the counts and prepare the first half."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    counts = sparse.csr_matrix(adata.X).astype(np.int64)
    first = counts.copy()
    first.data = np.random.default_rng(seed).binomial(counts.data, 0.5)
    rest = counts - first
    first.eliminate_zeros()
    adata.X = first.astype(np.float32)
    kept = np.asarray(first.sum(axis=1)).ravel() > 0
    adata, rest = adata[kept].copy(), rest[kept]
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    if stmmr.pp.has_image(adata):
        stmmr.pp.histology(adata, progress=False)
    size = adata.obs[keys.LIBRARY_SIZE].to_numpy()
    every = np.arange(adata.n_obs)
    read = gene_rows(adata, every, normalised=False).take(every).toarray().astype(np.float64)
    rest = rest[:, adata.var[keys.HIGHLY_VARIABLE].to_numpy()].toarray().astype(np.float64)
    return Halves(adata, read, rest, (size / np.median(size))[:, None])


def with_pseudo_count(halves: Halves, counts: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide sums of counts by sums of library sizes, with the best pseudo-count; means, (n_obs, n_genes)."""
    tried = (halves.size * (counts + c * halves.mean) / (size + c) for c in PSEUDO)
    return max(tried, key=lambda mean: poisson(halves, mean))


def mixed(halves: Halves, rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each gene to its total and mix with its mean rate, at the best share; means, (n_obs, n_genes)."""
    rate = np.maximum(rate, 0)
    rate = rate * halves.first.sum(axis=0) / np.maximum((rate * halves.size).sum(axis=0), 1e-12)
    tried = (halves.size * np.maximum((1 - share) * rate + share * halves.mean, 1e-6 * halves.mean) for share in MIXED)
    return max(tried, key=lambda mean: poisson(halves, mean))


def poisson(halves: Halves, mean: NDArray[np.float64]) -> float:
    """Measure the log-likelihood of the held-out half per count, up to a constant."""
    mean = np.maximum(mean, 1e-10)
    return float((halves.held_out * np.log(mean) - mean).sum() / halves.held_out.sum())


def negative_binomial(halves: Halves, mean: NDArray[np.float64]) -> float:
    """Measure the same with the dispersions that are likeliest on the held-out half."""
    x, mean = halves.held_out, np.maximum(mean, 1e-10)
    theta = dispersions(x, mean)
    total = special.gammaln(x + theta) - special.gammaln(theta) + x * np.log(mean / (mean + theta))
    return float((total - theta * np.log1p(mean / theta)).sum() / x.sum())


def correlation(halves: Halves, mean: NDArray[np.float64]) -> float:
    """Correlate predicted and held-out rates over spots; mean over genes that vary in both."""
    centred = [rates - rates.mean(axis=0) for rates in (mean / halves.size, halves.held_out / halves.size)]
    norms = [np.sqrt(np.square(rates).sum(axis=0)) for rates in centred]
    varies = (norms[0] > 1e-9) & (norms[1] > 0)
    return float(((centred[0] * centred[1]).sum(axis=0)[varies] / (norms[0] * norms[1])[varies]).mean())


def raw(halves: Halves, _seed: int) -> NDArray[np.float64]:
    return with_pseudo_count(halves, halves.first, halves.size)


def around(halves: Halves, n_neighbors: int) -> NDArray[np.float64]:
    near = nearest(halves.adata.obsm[keys.SPATIAL][:, :2].astype(np.float64), n_neighbors)
    counts, size = (values + values[near].sum(axis=1) for values in (halves.first, halves.size))
    return with_pseudo_count(halves, counts, size)


def one_ring(halves: Halves, _seed: int) -> NDArray[np.float64]:
    return around(halves, 6)


def two_rings(halves: Halves, _seed: int) -> NDArray[np.float64]:
    return around(halves, 18)


def kernel(halves: Halves, _seed: int) -> NDArray[np.float64]:
    weights = kernel_of(halves.adata).weights()
    return with_pseudo_count(halves, weights @ (weights @ halves.first), weights @ (weights @ halves.size))


def components(halves: Halves, seed: int) -> NDArray[np.float64]:
    values = np.log1p(halves.first / halves.size)
    pca = PCA(min(50, values.shape[1] - 1), random_state=seed).fit(values)
    weights = kernel_of(halves.adata).weights()
    return mixed(halves, np.expm1(pca.inverse_transform(weights @ (weights @ pca.transform(values)))))


def decoder(halves: Halves, seed: int) -> NDArray[np.float64]:
    return fitted(halves, seed).denoise().astype(np.float64)


def enhanced(halves: Halves, seed: int) -> NDArray[np.float64]:
    model = fitted(halves, seed)
    stmmr.tl.enhance(model, genes=model.inputs.gene_names, scale="own", progress=False)
    return halves.adata.obsm[keys.ENHANCED].to_numpy(np.float64)


def fitted(halves: Halves, seed: int) -> stmmr.StMMR:
    return stmmr.StMMR(halves.adata, random_state=seed).fit(progress=False)


def paper(halves: Halves, seed: int) -> NDArray[np.float64]:
    adata = halves.adata.copy()
    stmmr.pp.spatial_graph(adata, use="array", bandwidth=2.0)
    widths = {"hidden": WIDTH, "latent": WIDTH, "decoder_hidden": WIDTH}
    model = stmmr.StMMR(adata, preset="paper", steps=STEPS, batch_size=BATCH, random_state=seed, **widths)
    model.fit(progress=False)
    return mixed(halves, np.expm1(np.minimum(model.denoise().astype(np.float64), 20)))


METHODS = {
    "raw": raw,
    "neighbours, 6": one_ring,
    "neighbours, 18": two_rings,
    "kernel": kernel,
    "components": components,
    "paper μ": paper,
    "decoder μ": decoder,
    "tl.enhance": enhanced,
}
SCORES = {"Poisson": poisson, "NB": negative_binomial, "correlation": correlation}


def measure(name: str, method: str, seed: int) -> Row:
    """Predict with one method; likelihoods are relative to those of the mean rates."""
    quiet()
    halves = split(name, seed)
    start = time.perf_counter()
    mean = METHODS[method](halves, seed)
    row: Row = {"data": name, "method": method, "seed": seed, "seconds": time.perf_counter() - start}
    flat = halves.size * halves.mean
    row |= {"Poisson": poisson(halves, mean) - poisson(halves, flat)}
    row |= {"NB": negative_binomial(halves, mean) - negative_binomial(halves, flat)}
    return row | {"correlation": correlation(halves, mean)}


def report(results: dict[Key, Row]) -> None:
    """Write the table of all results."""
    table = [["data", "method", *SCORES, "seeds", "seconds"]]
    for name in NAMES:
        by_method = {
            method: rows
            for method in METHODS
            if (rows := [row for (d, m, _), row in results.items() if (d, m) == (name, method)])
        }
        best = {score: max(np.mean([row[score] for row in rows]) for rows in by_method.values()) for score in SCORES}
        for method, rows in by_method.items():
            seconds = f"{np.median([row['seconds'] for row in rows]):.1f}"
            cells = (cell(rows, score, best[score]) for score in SCORES)
            table.append([name, method, *cells, f"{len(rows)}", seconds])
    write_tables("denoising", table)


def cell(rows: list[Row], score: str, best: float) -> str:
    values = [row[score] for row in rows]
    text = f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")
    return f"**{text}**" if np.mean(values) >= best - 5e-4 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    seeds = {method: 1 if method == "paper μ" else options.seeds for method in METHODS}
    wanted = [(d, m, s) for d in options.data for s in range(options.seeds) for m in options.methods if s < seeds[m]]
    report(complete(CACHE, wanted, measure, options.workers))


if __name__ == "__main__":
    main()
