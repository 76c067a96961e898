"""Accuracy of the default against the linear line: `python -m benchmarks.accuracy` writes docs/accuracy.md."""

import logging

import numpy as np
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import DATA, write
from benchmarks.line import linear_line
from stmmr import _keys

NAMES = ["visium_dlpfc_151673", "visium_dlpfc_151674", "osmfish_cortex", "starmap_mpfc_BZ5", "starmap_mpfc_BZ9"]
TUMOURS = ["st_her2_A1", "st_pdac_A"]
SEEDS = range(5)
METHODS = ["line", "default", "default, refined", "default, no picture"]
TEXT = """ARI against the expert labels, mean ± standard deviation over seeds 0–4, number of domains given; labels
are read for this table only. The line is the linear baseline: PCA of log-normalised highly variable genes,
smoothed twice
over the spatial graph, whitened, k-means, tied Gaussian mixture. The first mean is over the first five data sets."""


def scores(name: str) -> dict[str, list[float]]:
    """ARI of each method, one per seed."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    truth = adata.obs["ground_truth"]
    known = truth.notna().to_numpy()
    k = truth.nunique()

    def ari(labels: np.ndarray) -> float:
        return adjusted_rand_score(truth[known].astype(str), np.asarray(labels)[known])

    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for seed in SEEDS:
        stmmr.run(adata, n_domains=k, random_state=seed, progress=False)
        found["default"].append(ari(adata.obs[_keys.DOMAIN]))
        found["default, refined"].append(ari(adata.obs[_keys.DOMAIN_REFINED]))
        found["line"].append(ari(linear_line(adata, k, seed=seed)))
        stmmr.run(adata, n_domains=k, random_state=seed, histology=False, progress=False)
        found["default, no picture"].append(ari(adata.obs[_keys.DOMAIN]))
    return found


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    table = [["data", *METHODS]]
    means: list[list[float]] = []
    for name in NAMES + TUMOURS:
        found = scores(name)
        if name in NAMES:
            means.append([float(np.mean(found[m])) for m in METHODS])
        table.append([name] + [f"{np.mean(found[m]):.3f} ± {np.std(found[m]):.3f}" for m in METHODS])
        print(table[-1], flush=True)
    table.insert(1 + len(NAMES), ["**mean of the five**", *(f"**{v:.3f}**" for v in np.mean(means, axis=0))])
    write("accuracy.md", "Accuracy", TEXT, table)


if __name__ == "__main__":
    main()
