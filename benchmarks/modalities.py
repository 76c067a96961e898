"""Expression, protein, and both: `python -m benchmarks.modalities` writes the last table of docs/modalities.md.

It takes two minutes. In this simulated tissue, the proteins divide the largest domain into two, and the expression does
not.
"""

import logging

import numpy as np
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import no_options, write_tables
from stmmr._core import keys

SEEDS = range(5)
N_DOMAINS, N_PROTEINS, DEPTH = 4, 20, 300
MARKERS, FOLD = 4, 1.0
"""Proteins that mark one half of the largest domain, and their log fold change there."""
BLOCK = {"protein": stmmr.Block("protein", "nb")}
MODELS = ("expression", "protein", "both", "expression and noise")


def tissue(seed: int) -> AnnData:
    """Simulate counts of genes and proteins; `obs["truth"]` has one domain more than the expression shows."""
    adata = stmmr.datasets.simulated_tissue(n_rows=32, n_cols=32, n_domains=N_DOMAINS, n_genes=200, random_state=seed)
    adata = adata[adata.obs["ground_truth"].notna()].copy()
    rng = np.random.default_rng(seed)
    domain = adata.obs["ground_truth"].cat.codes.to_numpy()
    largest = domain == np.bincount(domain).argmax()
    x = adata.obsm["spatial"][:, 0]
    half = largest & (x > np.median(x[largest]))
    adata.obs["truth"] = np.where(half, N_DOMAINS, domain)
    marks = np.arange(N_PROTEINS) < MARKERS
    adata.obsm["protein"] = proteins(rng, FOLD * np.outer(half, marks))
    adata.obsm["noise"] = proteins(rng, np.zeros((adata.n_obs, N_PROTEINS)))
    return adata


def proteins(rng: np.random.Generator, log_fold: np.ndarray) -> np.ndarray:
    """Draw negative binomial counts of proteins of different abundance, shape (n_obs, n_proteins)."""
    rate = np.exp(rng.normal(0, 1, log_fold.shape[1]) + log_fold)
    rate *= DEPTH * rng.lognormal(0, 0.35, (len(rate), 1)) / rate.sum(axis=1).mean()
    return rng.poisson(rate * rng.gamma(5, 1 / 5, rate.shape)).astype(np.float32)


def score(adata: AnnData, model: str, seed: int) -> float:
    """Measure the ARI between the domains of a model and the truth."""
    options: dict[str, object] = {"blocks": BLOCK} if model == "both" else {}
    if model == "protein":
        alone = AnnData(adata.obsm["protein"], obs=adata.obs, obsm={"spatial": adata.obsm["spatial"]})
        alone.var_names = [f"protein_{i}" for i in range(N_PROTEINS)]
        adata = alone
    elif model == "expression and noise":
        options = {"blocks": {"noise": stmmr.Block("noise", "nb")}}
    stmmr.run(adata, n_domains=N_DOMAINS + 1, histology=False, random_state=seed, progress=False, **options)
    return float(adjusted_rand_score(adata.obs["truth"], adata.obs[keys.DOMAIN]))


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    scores = {model: [score(tissue(seed), model, seed) for seed in SEEDS] for model in MODELS}
    table = [["modalities", *(f"seed {seed}" for seed in SEEDS), "mean"]]
    table += [[model, *(f"{ari:.3f}" for ari in aris), f"{np.mean(aris):.3f}"] for model, aris in scores.items()]
    write_tables("modalities", table)


if __name__ == "__main__":
    main()
