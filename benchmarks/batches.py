"""Batches against all places, and two processes against one: `python -m benchmarks.batches` writes docs/batches.md."""

import logging

import numpy as np
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

import stmmr
from benchmarks._table import DATA, write
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
TEXT = """Domains after training in batches of 256, against those after training on all places at once, on other
draws of batches of the same size, and by two processes of this machine (gloo): adjusted Rand index between the two
partitions, and of each with the expert labels where there are any; these are read by this table only. Each takes 150
steps, but for two processes, which deal the batches out among them; the last column counts those that each process ran.

The default keeps its encoders, so that its domains do not depend on the training. With attention on, places attend to
all others in either case. With encoders trained and every loss over pairs of places on, these losses are estimated from
each batch (`nn/losses.py`). On Xenium there is no picture to align, and the graph loss over all pairs of 36,602 places
would take an hour."""


def prepared(name: str) -> AnnData:
    """Read a section and do what training does not change."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    if stmmr.pp.has_picture(adata):
        stmmr.pp.histology(adata, progress=False)
    return adata


def domains(adata: AnnData, k: int, *, seed: int, devices: int = 1, **settings: object) -> tuple[np.ndarray, int]:
    """Train and cut; the seed is that of the training, and the readout's is always 0."""
    model = stmmr.StMMR(adata, random_state=seed, **settings).fit(progress=False, devices=devices)
    stmmr.tl.consensus(adata, k, random_state=0)
    return adata.obs[keys.DOMAIN].astype(str).to_numpy(), len(model.history.get("loss", []))


def with_labels(adata: AnnData, found: np.ndarray) -> str:
    """Compare with the experts."""
    if LABEL not in adata.obs:
        return "–"
    known = adata.obs[LABEL].notna().to_numpy()
    return f"{adjusted_rand_score(adata.obs[LABEL][known].astype(str), found[known]):.3f}"


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    table = [["data", "model", "compared", "ARI between", "ARI with labels", "batches each"]]
    for name, k in DOMAINS.items():
        adata = prepared(name)
        for variant, settings in VARIANTS[name].items():
            one, n = domains(adata, k, seed=0, **settings)
            labels = with_labels(adata, one)
            others = {
                "all places at once": {"seed": 0, "batch_size": 0},
                "other draws": {"seed": 1},
                "two processes": {"seed": 0, "devices": 2},
            }
            for other, options in others.items():
                found, m = domains(adata, k, **settings, **options)
                between = f"{adjusted_rand_score(one, found):.3f}"
                row = [name, variant, other, between, f"{labels} / {with_labels(adata, found)}", f"{n} / {m}"]
                print(row, flush=True)
                table.append(row)
    write("batches.md", "Batches and processes", TEXT, table)


if __name__ == "__main__":
    main()
