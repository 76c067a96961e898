"""Tests between groups of sections: `python -m benchmarks.calibration` writes its part of docs/sections.md.

How often is p < 0.05 where there is no difference (it should be 5 %), and where there is one? Cohorts are simulated.
Each draw gives one p-value, of one domain, pair of domains or cell type; of genes, each gene gives one.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks._table import write_tables
from stmmr import tl
from stmmr._core import keys

DOMAINS = np.array(list("abc"))
DRAWS, ALPHA, COHORTS = 500, 0.05, 10


def cohort(
    rng: np.random.Generator,
    *,
    shift: float = 0.0,
    donors: bool = False,
    nested: bool = False,
    n: int = 12,
    spots: int = 60,
    batch: float = 0.0,
) -> AnnData:
    """Simulate sections of the groups x and y, whose log-shares of domain "a" differ by `shift`.

    Each donor has two sections: one of each group, or two of one group (`nested`). With either, donors differ as well.
    """
    rows = []
    of_donor = rng.normal(0, 0.6 * (donors or nested), (n // 2, 3))
    for number in range(n):
        group = int(number >= n // 2) if nested else number % 2
        logits = of_donor[number // 2] + rng.normal(0, 0.3, 3)
        logits[0] += shift * group + batch * (number % 4 // 2)
        section = {
            "section": f"s{number:02d}",
            "group": "xy"[group],
            "donor": f"d{number // 2}",
            "batch": f"b{number % 4 // 2}",
            "age": 30.0 + number % 5,
            "stmmr_domain": rng.choice(DOMAINS, spots, p=np.exp(logits) / np.exp(logits).sum()),
        }
        x, y = rng.uniform(0, 10, (2, spots))
        rows.append(pd.DataFrame(section | {"x": x, "y": y}))
    obs = pd.concat(rows, ignore_index=True).rename(index=str)
    text = obs.select_dtypes(exclude="number").columns
    obs[text] = obs[text].astype("category")
    return AnnData(np.zeros((len(obs), 1), np.float32), obs=obs, obsm={"spatial": obs[["x", "y"]].to_numpy()})


def with_counts(
    rng: np.random.Generator, adata: AnnData, *, fold: float = 1.0, changed: int = 1, n_genes: int = 60
) -> AnnData:
    """Draw counts that vary between sections; the first genes change in domain "a" of group "y"."""
    sections = pd.Categorical(adata.obs["section"]).codes
    rate = rng.gamma(2, 1, n_genes) * np.exp(rng.normal(0, 0.3, (sections.max() + 1, n_genes)))[sections]
    there = ((adata.obs["stmmr_domain"] == "a") & (adata.obs["group"] == "y")).to_numpy()
    rate[np.ix_(there, np.arange(changed))] *= fold
    return AnnData(rng.poisson(rate).astype(np.float32), obs=adata.obs, obsm=dict(adata.obsm))


def field(rng: np.random.Generator, xy: np.ndarray, *, length: float = 3.0, n_waves: int = 40) -> np.ndarray:
    """Draw a smooth random field at positions, as a sum of waves."""
    numbers, phase = rng.normal(0, 1 / length, (2, n_waves)), rng.uniform(0, 2 * np.pi, n_waves)
    return np.cos(xy @ numbers + phase).sum(axis=1) / np.sqrt(n_waves / 2)


def patchy(rng: np.random.Generator, *, effect: float = 0.0, n: int = 400) -> AnnData:
    """Simulate a section with patchy domains and patchy cell types, which depend on domain "a" by `effect`."""
    xy = rng.uniform(0, 20, (n, 2))
    domain = DOMAINS[np.digitize(field(rng, xy), [-0.5, 0.5])]
    kind = field(rng, xy) + rng.normal(0, 0.5, n) + effect * (domain == "a") > 0
    obs = pd.DataFrame({"stmmr_domain": domain, "kind": np.where(kind, "t1", "t2")}).rename(index=str)
    return AnnData(np.zeros((n, 1), np.float32), obs=obs.astype("category"), obsm={"spatial": xy})


def p_composition(rng: np.random.Generator, effect: float, **options: object) -> float:
    """Get the p-value of domain "a"."""
    simulated = {name: options.pop(name) for name in ("donors", "nested", "batch") if name in options}
    adata = cohort(rng, shift=effect, **simulated)
    table = tl.compare_composition(adata, "section", group_key="group", **options)
    return float(table.set_index("domain").loc["a", "pval"])


def p_contacts(rng: np.random.Generator, effect: float) -> float:
    """Get the p-value of domains "a" and "b", which are apart in group y by `effect`."""
    adata = cohort(rng)
    apart = (adata.obs["group"] == "y").to_numpy() & (rng.random(adata.n_obs) < effect)
    sides = np.where(adata.obs["x"] < 5, "a", "b")
    domain = np.where(apart, sides, adata.obs["stmmr_domain"].astype(str))
    adata.obs["stmmr_domain"] = pd.Categorical(domain)
    tl.compare_contacts(adata, "section", group_key="group")
    return float(adata.uns[keys.CONTACT_TESTS].set_index(["domain", "other"]).loc[("a", "b"), "pval"])


def p_cell_types(rng: np.random.Generator, effect: float) -> float:
    """Get the p-value of a cell type in domain "a"."""
    adata = patchy(rng, effect=effect)
    tl.cell_types(adata, "kind", n_permutations=199, random_state=int(rng.integers(2**31)))
    return float(adata.uns[keys.CELL_TYPES].set_index(["domain", "cell_type"]).loc[("a", "t1"), "pval"])


def p_genes(rng: np.random.Generator, fold: float, n_genes: int) -> np.ndarray:
    """Get the p-values of genes in domain "a", of which all or none change."""
    adata = cohort(rng, donors=True)
    half = 2 * n_genes  # the others are the reference of the depth
    adata = with_counts(rng, adata, fold=fold, changed=n_genes, n_genes=half)
    adata.obs.loc[adata.obs["stmmr_domain"] == "c", "stmmr_domain"] = None  # two domains are needed, a third takes time
    tl.condition_genes(adata, "~ donor + group", section_key="section", min_spots=3)
    table = adata.uns[keys.CONDITION_GENES]
    own = table[(table["domain"] == "a") & (table["gene"].astype(int) < n_genes)]
    return own["pval"].dropna().to_numpy()


CASES: dict[str, tuple[Callable[..., float], dict[str, object], float, str]] = {
    "composition": (p_composition, {}, 0.8, "log-share + 0.8"),
    "composition, batch and age removed": (
        p_composition,
        {"batch": 2.0, "covariates": ["batch", "age"]},
        0.8,
        "log-share + 0.8",
    ),
    "composition, within donors": (p_composition, {"donors": True, "donor_key": "donor"}, 0.8, "log-share + 0.8"),
    "composition, donors of one group": (p_composition, {"nested": True, "donor_key": "donor"}, 2.4, "log-share + 2.4"),
    "neighbouring domains": (p_contacts, {}, 0.5, "half of the spots sorted"),
    "cell types of a domain": (p_cell_types, {}, 1.0, "log-odds + 1.8"),
}
"""Function, options, effect, and its description."""


def rate(case: str, *, null: bool, draws: int = DRAWS, seed: int = 0) -> float:
    """Get the share of draws with p < 0.05."""
    function, options, effect, _ = CASES[case]
    rng = np.random.default_rng(seed)
    found = [function(rng, 0.0 if null else effect, **options) < ALPHA for _ in range(draws)]
    return float(np.mean(found))


def gene_rate(fold: float, *, draws: int = DRAWS, cohorts: int = COHORTS) -> float:
    """Get the share of genes with p < 0.05, `draws` in each of several cohorts: genes of one share its sections."""
    found = [p_genes(np.random.default_rng(seed), fold, draws) < ALPHA for seed in range(cohorts)]
    return float(np.concatenate(found).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    draws = parser.parse_args().draws
    table = [["test", "p < 0.05 without a difference", "difference", "p < 0.05 with it"]]
    for case, (_, _, _, effect) in CASES.items():
        null, power = (rate(case, null=null, draws=draws) for null in (True, False))
        table.append([case, f"{null:.3f}", effect, f"{power:.2f}"])
        print(table[-1], flush=True)
    genes = [gene_rate(fold, draws=draws) for fold in (1.0, 3.0)]
    table.append(["genes of conditions, within donors", f"{genes[0]:.3f}", "threefold", f"{genes[1]:.2f}"])
    write_tables("calibration", table)


if __name__ == "__main__":
    main()
