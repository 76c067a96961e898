"""Batches against all spots at once, two processes against one: `python -m benchmarks.batches` (docs/batches.md)."""

import logging

import numpy as np
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import DATA, no_options, write_tables
from stmmr._core import keys

VISIUM, XENIUM = "visium_dlpfc_151673", "xenium_mouse_brain"
DOMAINS = {VISIUM: 7, XENIUM: 12}
LABEL = "ground_truth"
TRAINED = {"train_encoders": True, "learning_rate": 1e-4}
PAIRS = {"aligned_weight": 1.0, "contrast_loss": 1.0, "graph_loss": 1.0}
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    VISIUM: {"default": {}, "attention": {"attention": True}, "encoders trained, losses over pairs": TRAINED | PAIRS},
    XENIUM: {"default": {}, "encoders trained": TRAINED},
}


def prepared(name: str) -> AnnData:
    """Read a section and run the steps before the training."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    if stmmr.pp.has_image(adata):
        stmmr.pp.histology(adata, progress=False)
    return adata


def domains(adata: AnnData, k: int, *, seed: int, devices: int = 1, **settings: object) -> tuple[np.ndarray, int]:
    """Train and cluster; `seed` is that of the training, and the seed of the consensus is always 0."""
    model = stmmr.StMMR(adata, random_state=seed, **settings).fit(progress=False, devices=devices)
    stmmr.tl.consensus(adata, k, random_state=0)
    return adata.obs[keys.DOMAIN].astype(str).to_numpy(), len(model.history.get("loss", []))


def with_labels(adata: AnnData, labels: np.ndarray) -> str:
    """Compare domains with the expert labels."""
    if LABEL not in adata.obs:
        return "–"
    known = adata.obs[LABEL].notna().to_numpy()
    return f"{adjusted_rand_score(adata.obs[LABEL][known].astype(str), labels[known]):.3f}"


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    table = [["data", "model", "compared with", "ARI between", "ARI with labels", "batches per process"]]
    for name, k in DOMAINS.items():
        adata = prepared(name)
        for variant, settings in VARIANTS[name].items():
            reference, n_batches = domains(adata, k, seed=0, **settings)
            score = with_labels(adata, reference)
            others = {
                "one batch of all": {"seed": 0, "batch_size": 0},
                "other random batches": {"seed": 1},
                "two processes": {"seed": 0, "devices": 2},
            }
            for other, options in others.items():
                labels, n_other = domains(adata, k, **settings, **options)
                between = f"{adjusted_rand_score(reference, labels):.3f}"
                scores, numbers = f"{score} / {with_labels(adata, labels)}", f"{n_batches} / {n_other}"
                row = [name, variant, other, between, scores, numbers]
                print(row, flush=True)
                table.append(row)
    write_tables("batches", table)


if __name__ == "__main__":
    main()
