"""Trained embeddings: `python -m benchmarks.network` writes a table of docs/architecture.md.

Each variant takes the place of the embedding of the default in the vote, on all labelled data without their images.
Nothing reads labels but the score. Results are kept in .benchmarks/network.jsonl.
"""

from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import nn

from benchmarks._views import Floats, Tissue, default_view, run, smoothed, white
from stmmr._core.kernel import nearest
from stmmr.linear.bandwidth import informative_axes
from stmmr.linear.noise import local_noise, propagated_with_level, spatial_components, whitening

STEPS, WIDTH, LATENT, BATCH, RATE = 200, 64, 16, 256, 3e-3


def halves(tissue: Tissue, seed: int = 0) -> tuple[Floats, Floats]:
    """Divide the counts at random into two halves, and compute the features of each on the axes of the whole."""
    rng = np.random.default_rng(seed)
    counts = tissue.counts.astype(np.int64)
    first = counts.copy()
    first.data = rng.binomial(counts.data, 0.5)

    def scores(part: sparse.csr_matrix) -> Floats:
        size = np.maximum(np.asarray(part.sum(axis=1)).ravel(), 1)
        return sparse.csr_matrix(sparse.diags(np.median(size) / size) @ part).log1p()

    whole = scores(counts)
    # loadings by which the features follow from the genes, exact for principal components
    centred = tissue.features - tissue.features.mean(axis=0)
    loadings = whole.T @ centred / (centred**2).sum(axis=0)
    kept = np.linalg.pinv(loadings.T @ loadings) @ loadings.T
    return tuple(
        (part @ kept.T - (part @ kept.T).mean(axis=0)).astype(np.float32)
        for part in map(scores, (first, counts - first))
    )


def filtered(tissue: Tissue, scale: float) -> Floats:
    """Learn a polynomial of the graph that predicts the held-out half of the counts from the other half."""
    if tissue.counts is None:
        return default_view(tissue, scale)
    features, graph = white(tissue), tissue.weights(scale / 2)
    maps = whitening(local_noise(tissue.features, tissue.kernel.xy))
    axes = informative_axes(features.astype(np.float64), tissue.kernel)
    near = nearest(tissue.kernel.xy, 6)
    first, second = (half @ maps @ axes for half in halves(tissue))
    second = second[near].mean(axis=1)  # a spot's own counts would tell its cell type rather than its domain
    powers = [first]
    for _ in range(12):
        powers.append(graph @ powers[-1])
    design = np.stack([(power / second.std(axis=0)).ravel() for power in powers], axis=1)
    weights = np.linalg.solve(
        design.T @ design + 1e-3 * len(design) * np.eye(13), design.T @ (second / second.std(axis=0)).ravel()
    )

    def apply(x: Floats) -> Floats:
        total = weights[0] * x
        for weight in weights[1:]:
            x = graph @ x
            total = total + weight * x
        return total

    return smoothed(features, apply)


def network(tissue: Tissue, scale: float, *, task: str) -> Floats:
    """Train a small network of the neighbourhoods for a task without labels, and embed its output."""
    torch.manual_seed(0)
    features, weights = white(tissue), tissue.weights(scale)
    xy, n, width = tissue.kernel.xy, *features.shape
    near = nearest(xy, 6)
    given, target = features, features[near].mean(axis=1)
    if task == "denoising":
        if tissue.counts is None:
            return default_view(tissue, scale)
        maps = whitening(local_noise(tissue.features, xy))
        given, held_out = (half @ maps for half in halves(tissue))
        target = held_out[near].mean(axis=1)

    def inputs(x: Floats) -> torch.Tensor:
        once = weights @ x
        return torch.from_numpy(np.hstack([once, weights @ once]).astype(np.float32))

    spread = inputs(given).std(0)
    x, y = inputs(given) / spread, torch.from_numpy(target.astype(np.float32))
    own = torch.from_numpy(features / features.std(axis=0))
    encoder = nn.Sequential(nn.Linear(2 * width, WIDTH), nn.GELU(), nn.Linear(WIDTH, LATENT))
    decoder = (
        nn.Linear(LATENT, width)
        if task != "contrast"
        else nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, LATENT))
    )
    adam = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=RATE, weight_decay=1e-2)
    place = torch.from_numpy(xy / tissue.kernel.bandwidth)
    for _ in range(STEPS):
        rows = torch.randint(n, (BATCH,))
        if task == "contrast":
            a, b = (nn.functional.normalize(z, dim=1) for z in (encoder(x[rows]), decoder(own[rows])))
            alike = a @ b.T / 0.2
            apart = torch.cdist(place[rows], place[rows])
            alike = alike.masked_fill((apart < 3) & ~torch.eye(BATCH, dtype=torch.bool), -torch.inf)
            loss = nn.functional.cross_entropy(alike, torch.arange(BATCH)) + nn.functional.cross_entropy(
                alike.T, torch.arange(BATCH)
            )
        else:
            hidden = torch.rand(BATCH, width) < (0.5 if task == "masked" else -1)
            shown = torch.where(torch.cat([hidden, hidden], 1), 0.0, x[rows] * (2 if task == "masked" else 1))
            error = (decoder(encoder(shown)) - y[rows]) ** 2
            loss = error[hidden].mean() if task == "masked" else error.mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        z = encoder(inputs(features) / spread) if task == "contrast" else decoder(encoder(inputs(features) / spread))
    z = z.numpy().astype(np.float64)
    if task == "contrast":
        scores, _, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
        return scores * np.sqrt(n)
    level = propagated_with_level(features, tissue.scaled(scale))[1]
    found = spatial_components(z, np.eye(width), level, at_least=2)
    return (z - found.centre) @ found.axes


VARIANTS = {
    "default": default_view,
    "learned polynomial of the graph": filtered,
    "network, held-out counts": partial(network, task="denoising"),
    "network, masked components": partial(network, task="masked"),
    "network, contrast of spot and neighbourhood": partial(network, task="contrast"),
}


if __name__ == "__main__":
    run("network", VARIANTS, __doc__)
