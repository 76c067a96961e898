"""Learning rate and steps of the default: `python -m benchmarks.training` writes docs/training.md.

No labels: a tenth of the places is left out, and the likelihood of their counts is compared.
"""

import logging

import numpy as np
import torch

import stmmr
from benchmarks._table import DATA, write
from stmmr.model.batches import whole_batch
from stmmr.model.loop import Options, train

NAMES = ["visium_dlpfc_151673", "osmfish_cortex", "starmap_mpfc_BZ9", "st_her2_A1", "st_pdac_A", "cosmx_lung9"]
RATES = [1e-4, 1e-3, 3e-3, 1e-2]
STEPS = [150, 300, 600]
TEXT = """Mean negative log-likelihood of the counts at a tenth of the places, which the decoder was not trained on,
less that of the best setting in the row (0.000 is best), for learning rate × steps of the default preset, seed 0.
Labels are not read. The encoders are kept as they start, so that this choice touches the denoised expression only,
never the domains."""


def held_out(name: str) -> dict[tuple[float, int], float]:
    """Negative log-likelihood of held-out places for each setting."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    left_out, rest = map(np.sort, np.split(order, [adata.n_obs // 10]))
    found = {}
    for rate in RATES:
        for steps in STEPS:
            model = stmmr.StMMR(adata, use_histology=False, learning_rate=rate, steps=steps)
            train(model.network, model.inputs.rows(rest), Options())
            with torch.no_grad():
                found[rate, steps] = float(model.network(whole_batch(model.inputs.rows(left_out)))["likelihood"])
    return found


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    settings = [(rate, steps) for rate in RATES for steps in STEPS]
    table = [["data", *(f"{rate:g} × {steps}" for rate, steps in settings)]]
    rows = []
    for name in NAMES:
        found = held_out(name)
        rows.append([found[key] - min(found.values()) for key in settings])
        table.append([name, *(f"{value:.3f}" for value in rows[-1])])
        print(table[-1], flush=True)
    table.append(["**mean**", *(f"**{value:.3f}**" for value in np.mean(rows, axis=0))])
    write("training.md", "Training of the default", TEXT, table)


if __name__ == "__main__":
    main()
