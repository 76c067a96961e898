"""Attention to landmarks against attention to all places: `python -m benchmarks.landmarks` writes docs/landmarks.md."""

import logging
import time

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import stmmr
from benchmarks._table import DATA, write
from stmmr.linear.start import Affine
from stmmr.model.landmarks import landmarks
from stmmr.nn import Keys
from stmmr.nn.layers import PropagatedEncoder
from stmmr.nn.pairs import attention

NUMBERS = [500, 1000, 2000, 4000]
SIDE, DIRECTIONS = 174, 12
QUERIES = 5000
TEXT = """How far attention to M landmarks is from attention to all places, as it stands at the start of the default
with `attention=True`: ‖approximation − exact‖ / ‖exact‖ (Frobenius) over 5,000 places drawn as queries.

- **Means**: the landmarks are k-means clusters of equal weight, given by their means and sizes.
- **Weighted**: clusters in which a place weighs exp(‖e‖²/2√d).
- **Normal**: those, each as a normal distribution around its mean (`Encoded.attend_normal`); what the model does.
  **Median**: the median over places of the same ratio place by place.
- **Seconds**: of a forward pass for the queries, clustering aside.

*Simulated*: 30,276 places in a square, 12 smooth random fields of variance 12/13, 11/13, …, 1/13, as the default scales
its directions. *Xenium*: xenium_mouse_brain, 36,602 cells, 48 directions, some cells far out from all others; those
attend to little but themselves.

The aim was an error of 0.01. Smooth features reach it from M = 500 on; the cells of the mouse brain do not with 4,000.
Hence the default: all places are read up to 50,000 of them, and 4,000 landmarks beyond. One covariance for all
clusters, which cancels from the weights, was tried first: 0.132 → 0.122 on Xenium at M = 2,000, not worth its lines."""


def simulated() -> tuple[Tensor, Affine]:
    """Smooth fields on a square, with an encoder that takes them as they are."""
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(2, 12)) for _ in range(DIRECTIONS)])
    values = fields.reshape(DIRECTIONS, -1).T
    values *= np.sqrt(1 - np.arange(1, DIRECTIONS + 1) / (DIRECTIONS + 1)) / values.std(axis=0)
    return torch.from_numpy(values.astype(np.float32)), Affine(np.eye(DIRECTIONS), np.zeros(DIRECTIONS))


def xenium() -> tuple[Tensor, Affine]:
    """Propagated components of the mouse brain, with the start of the default."""
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
    """Attention to landmarks without their spread."""
    key = encoder(keys.features).dense()
    return attention(encoder(query).dense() / key.shape[1] ** 0.5, key, log_size=keys.landmarks.log_size)


def normal(encoder: PropagatedEncoder, query: Tensor, keys: Keys) -> Tensor:
    """Attention to landmarks as the model computes it."""
    of = keys.landmarks
    parts = [keys.features, of.axes, torch.zeros_like(query[:1])]
    key, axes, origin = encoder(torch.cat(parts)).split(*map(len, parts))
    return encoder(query).attend_normal(key, of.log_size, axes=axes.rows - origin.rows, variance=of.variance)


@torch.no_grad()
def measured(name: str, features: Tensor, start: Affine) -> list[list[str]]:
    encoder = encoder_of(start)
    query = features[np.random.default_rng(0).permutation(len(features))[:QUERIES]]
    begin = time.perf_counter()
    exact = encoder(query).attend(encoder(features))
    rows = [[name, "all", "0", "0", "0", "0", f"{time.perf_counter() - begin:.2f}"]]
    for number in NUMBERS:
        # without a start, places weigh the same; clusters are found in the embedding either way
        embedded = encoder(features).dense()
        plain = landmarks(embedded, number, None)
        identity = encoder_of(Affine(np.eye(embedded.shape[1]), np.zeros(embedded.shape[1])))
        keys = landmarks(features, number, start)
        found = [means_only(identity, encoder(query).dense(), plain), means_only(encoder, query, keys)]
        begin = time.perf_counter()
        found.append(normal(encoder, query, keys))
        seconds = time.perf_counter() - begin
        errors = [float((each - exact).norm() / exact.norm()) for each in found]
        median = float(((found[-1] - exact).norm(dim=1) / exact.norm(dim=1)).median())
        rows.append([name, str(number), *(f"{error:.4f}" for error in errors), f"{median:.4f}", f"{seconds:.2f}"])
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    logging.getLogger("stmmr").setLevel(logging.ERROR)
    table = [["features", "M", "means", "weighted", "normal", "normal, median", "seconds"]]
    for name, make in (("simulated", simulated), ("Xenium", xenium)):
        table += measured(name, *make())
    write("landmarks.md", "Landmarks of the attention", TEXT, table)


if __name__ == "__main__":
    main()
