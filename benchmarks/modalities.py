"""Expression, protein, and both: `python -m benchmarks.modalities` fills the table of docs/modalities.md.

In two minutes. A simulated tissue whose largest domain is two to the protein, which the expression does not tell apart.
"""

import logging
import re

import numpy as np
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import ROOT, markdown, stamp
from stmmr._core import keys

SEEDS = range(5)
N_DOMAINS, N_PROTEINS, DEPTH = 4, 20, 300
MARKERS, FOLD = 4, 1.0
"""Proteins that mark one half of the largest domain, and their log fold there."""
PAGE = ROOT / "docs" / "modalities.md"
BLOCK = {"protein": stmmr.Block("protein", "nb")}
MODELS = ("expression", "protein", "both", "expression and noise")
BEGIN, END = "<!-- table by benchmarks.modalities -->", "<!-- end of table -->"


def tissue(seed: int) -> AnnData:
    """Simulate counts of genes and proteins; `obs["truth"]` has a domain more than the expression shows."""
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
    """Draw negative binomial counts of proteins of different abundance, shape (N, P)."""
    rate = np.exp(rng.normal(0, 1, log_fold.shape[1]) + log_fold)
    rate *= DEPTH * rng.lognormal(0, 0.35, (len(rate), 1)) / rate.sum(axis=1).mean()
    return rng.poisson(rate * rng.gamma(5, 1 / 5, rate.shape)).astype(np.float32)


def score(adata: AnnData, model: str, seed: int) -> float:
    """ARI of the domains of a model with the truth."""
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
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    found = {model: [score(tissue(seed), model, seed) for seed in SEEDS] for model in MODELS}
    rows = [["read", *(f"seed {seed}" for seed in SEEDS), "mean"]]
    rows += [[model, *(f"{ari:.3f}" for ari in aris), f"{np.mean(aris):.3f}"] for model, aris in found.items()]
    table = f"{BEGIN}\n\n{markdown(rows)}\n\n{stamp()}\n\n{END}"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, page, flags=re.DOTALL), encoding="utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
