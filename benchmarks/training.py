"""Learning rate and steps of the default: `python -m benchmarks.training` writes the table of docs/training.md.

No labels are read: a tenth of the spots is held out, and the likelihood of their counts is compared.
"""

import logging

import numpy as np
import torch

import stmmr
from benchmarks._table import DATA, no_options, write_tables
from stmmr.model.batches import whole_batch
from stmmr.model.loop import Options, train

NAMES = ["visium_dlpfc_151673", "osmfish_cortex", "starmap_mpfc_BZ9", "st_her2_A1", "st_pdac_A", "cosmx_lung9"]
RATES = [1e-4, 1e-3, 3e-3, 1e-2]
STEPS = [150, 300, 600]


def held_out(name: str) -> dict[tuple[float, int], float]:
    """Measure the negative log-likelihood of the held-out spots for each setting."""
    adata = stmmr.read(DATA / f"{name}.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    left_out, rest = map(np.sort, np.split(order, [adata.n_obs // 10]))
    losses = {}
    for rate in RATES:
        for steps in STEPS:
            model = stmmr.StMMR(adata, use_histology=False, learning_rate=rate, steps=steps)
            train(model.network, model.inputs.rows(rest), Options())
            with torch.no_grad():
                losses[rate, steps] = float(model.network(whole_batch(model.inputs.rows(left_out)))["likelihood"])
    return losses


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    settings = [(rate, steps) for rate in RATES for steps in STEPS]
    table = [["data", *(f"{rate:g} × {steps}" for rate, steps in settings)]]
    differences = []
    for name in NAMES:
        losses = held_out(name)
        differences.append([losses[key] - min(losses.values()) for key in settings])
        table.append([name, *(f"{value:.3f}" for value in differences[-1])])
        print(table[-1], flush=True)
    table.append(["**mean**", *(f"**{value:.3f}**" for value in np.mean(differences, axis=0))])
    write_tables("training", table)


if __name__ == "__main__":
    main()
