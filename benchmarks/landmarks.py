"""Attention to landmarks against attention to all spots: `python -m benchmarks.landmarks` writes docs/landmarks.md."""

import logging
import time

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import stmmr
from benchmarks._table import DATA, no_options, write_tables
from stmmr.linear.start import Affine
from stmmr.model.landmarks import landmarks
from stmmr.nn import Keys
from stmmr.nn.layers import PropagatedEncoder
from stmmr.nn.pairs import attention

NUMBERS = [500, 1000, 2000, 4000]
SIDE, N_FIELDS = 174, 12
QUERIES = 5000


def simulated() -> tuple[Tensor, Affine]:
    """Draw smooth fields on a square, with an encoder that does not change them."""
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(2, 12)) for _ in range(N_FIELDS)])
    values = fields.reshape(N_FIELDS, -1).T
    values *= np.sqrt(1 - np.arange(1, N_FIELDS + 1) / (N_FIELDS + 1)) / values.std(axis=0)
    return torch.from_numpy(values.astype(np.float32)), Affine(np.eye(N_FIELDS), np.zeros(N_FIELDS))


def xenium() -> tuple[Tensor, Affine]:
    """Propagate the components of the mouse brain, with the encoder that the default starts from."""
    adata = stmmr.read(DATA / "xenium_mouse_brain.h5ad")
    stmmr.pp.expression(adata)
    stmmr.pp.spatial_graph(adata)
    inputs = stmmr.StMMR(adata, use_histology=False, attention=True).inputs
    return torch.from_numpy(inputs.blocks[0].features), inputs.start.encoders[0]


def encoder_of(start: Affine) -> PropagatedEncoder:
    encoder = PropagatedEncoder(*start.weight.shape[:1], hidden=0, latent=start.weight.shape[1])
    with torch.no_grad():
        encoder.weights[0].copy_(torch.from_numpy(start.weight))
        encoder.biases[0].copy_(torch.from_numpy(start.bias))
    return encoder


def means_only(encoder: PropagatedEncoder, query: Tensor, keys: Keys) -> Tensor:
    """Attend to landmarks without their spread."""
    key = encoder(keys.features).dense()
    return attention(encoder(query).dense() / key.shape[1] ** 0.5, key, log_size=keys.landmarks.log_size)


def normal(encoder: PropagatedEncoder, query: Tensor, keys: Keys) -> Tensor:
    """Attend to landmarks as the model does."""
    clusters = keys.landmarks
    parts = [keys.features, clusters.axes, torch.zeros_like(query[:1])]
    key, axes, origin = encoder(torch.cat(parts)).split(*map(len, parts))
    spread = {"axes": axes.rows - origin.rows, "variance": clusters.variance}
    return encoder(query).attend_normal(key, clusters.log_size, **spread)


@torch.no_grad()
def measured(name: str, features: Tensor, start: Affine) -> list[list[str]]:
    """Measure the error of each number of landmarks."""
    encoder = encoder_of(start)
    query = features[np.random.default_rng(0).permutation(len(features))[:QUERIES]]
    begin = time.perf_counter()
    exact = encoder(query).attend(encoder(features))
    rows = [[name, "all", "0", "0", "0", "0", f"{time.perf_counter() - begin:.2f}"]]
    for number in NUMBERS:
        # without a start all spots have the same weight; both kinds of clusters are of the embedding
        embedded = encoder(features).dense()
        plain = landmarks(embedded, number, None)
        identity = encoder_of(Affine(np.eye(embedded.shape[1]), np.zeros(embedded.shape[1])))
        keys = landmarks(features, number, start)
        outputs = [means_only(identity, encoder(query).dense(), plain), means_only(encoder, query, keys)]
        begin = time.perf_counter()
        outputs.append(normal(encoder, query, keys))
        seconds = time.perf_counter() - begin
        errors = [float((output - exact).norm() / exact.norm()) for output in outputs]
        median = float(((outputs[-1] - exact).norm(dim=1) / exact.norm(dim=1)).median())
        rows.append([name, str(number), *(f"{error:.4f}" for error in errors), f"{median:.4f}", f"{seconds:.2f}"])
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    no_options(__doc__)
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    table = [["features", "M", "means", "weighted", "normal", "normal, median", "seconds"]]
    for name, make in (("simulated", simulated), ("Xenium", xenium)):
        table += measured(name, *make())
    write_tables("landmarks", table)


if __name__ == "__main__":
    main()
