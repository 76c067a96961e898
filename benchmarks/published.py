"""The published model beside the default: `python -m benchmarks.published` writes a table of docs/accuracy.md.

The domains of the preset "paper" are read from its embedding in four ways, after the last epoch. Each result is kept in
.benchmarks/published.jsonl as soon as it is measured.
"""

import argparse
import time

import numpy as np

import stmmr
from benchmarks._cache import Key, Row, complete
from benchmarks._table import ROOT, write_tables
from benchmarks.accuracy import BASELINE, LABEL, METHODS, prepared, quiet, score
from stmmr._core import keys
from stmmr.reproduce._methods import authors_vote, leading_components

CACHE = ROOT / ".benchmarks" / "published.jsonl"
EPOCHS = {"st_her2_A1": 200, "st_pdac_A": 200, "visium_dlpfc_151673": 5}
READOUTS = ("k-means", "k-means of 20 components", "k-means, vote of 50", "mixtures")


def measure(name: str, method: str, seed: int) -> Row:
    """Run one method once; "paper" gives a score for each way of reading its domains."""
    quiet()
    adata, start = prepared(name).copy(), time.process_time()
    k = adata.obs[LABEL].nunique()
    if method != "paper":
        METHODS[method](adata, k, seed)
        scores = {method: score(adata, keys.DOMAIN)}
    else:
        stmmr.pp.spatial_graph(adata, use="array", bandwidth=2.0)
        state = CACHE.with_name(f"published_{name}_{seed}.safetensors")
        model = stmmr.StMMR(adata, preset="paper", random_state=seed, steps=EPOCHS[name])
        model.fit(progress=False, checkpoint=state)  # a run of an hour resumes where it was stopped
        scores = read(adata, k, seed)
        state.unlink(missing_ok=True)
    return {"data": name, "method": method, "seed": seed, "seconds": time.process_time() - start, "scores": scores}


def read(adata, k: int, seed: int) -> dict[str, float]:
    """Cluster the embedding in each way."""
    options = {"method": "kmeans", "whiten": False, "random_state": seed}
    stmmr.tl.domains(adata, k, **options)
    scores = {"k-means": score(adata, keys.DOMAIN)}
    domains = adata.obs[keys.DOMAIN].cat
    adata.obs["voted"] = authors_vote(domains.codes.to_numpy(), adata.obsm[keys.SPATIAL][:, :2], n_neighbors=50)
    scores["k-means, vote of 50"] = score(adata, "voted")
    adata.obsm["emb_pca"] = leading_components(adata.obsm[keys.EMBEDDING], random_state=seed)
    stmmr.tl.domains(adata, k, use_rep="emb_pca", **options)
    scores["k-means of 20 components"] = score(adata, keys.DOMAIN)
    stmmr.tl.domains(adata, k, random_state=seed)
    return scores | {"mixtures": score(adata, keys.DOMAIN)}


def report(rows: dict[Key, Row]) -> None:
    """Write the table: mean ± standard deviation over seeds."""
    table = [["data", "epochs", BASELINE, "default", *(f"paper, {name}" for name in READOUTS), "seeds", "seconds"]]
    for name, epochs in EPOCHS.items():
        of = {method: [r for (d, m, _), r in rows.items() if (d, m) == (name, method)] for method in METHODS}
        columns = [(m, of[m]) for m in (BASELINE, "default")] + [(readout, of["paper"]) for readout in READOUTS]
        cells = [_cell([row["scores"][column] for row in kept]) for column, kept in columns]
        seconds = " / ".join(
            f"{np.median([r['seconds'] for r in of[m]]):.1f}" if of[m] else "–" for m in (BASELINE, "default", "paper")
        )
        table.append([name, str(epochs), *cells, str(len(of["paper"])), seconds])
    write_tables("published", table)


def _cell(scores: list[float]) -> str:
    if not scores:
        return "–"
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}" if len(scores) > 1 else f"{scores[0]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    options = parser.parse_args()
    methods = (BASELINE, "default", "paper")
    wanted = [(name, method, seed) for seed in range(options.seeds) for method in methods for name in options.data]
    report(complete(CACHE, wanted, measure, workers=1))


if __name__ == "__main__":
    main()
