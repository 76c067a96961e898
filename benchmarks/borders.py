"""Smoothing that keeps borders: `python -m benchmarks.borders` writes a table of docs/architecture.md.

Each variant takes the place of the embedding of the default in the vote, on all labelled data without their images.
Scales are learned or chosen by prediction; nothing reads labels but the score. Results are kept in
.benchmarks/borders.jsonl.
"""

from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import nn

from benchmarks._views import Floats, Tissue, default_view, run, smoothed, white
from stmmr._core.kernel import gaussian_weights, nearest
from stmmr.linear.bandwidth import informative_axes, without_share
from stmmr.linear.noise import propagated_with_level, spatial_components

SHARPNESS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, np.inf)
"""Candidate scales of the difference between neighbours, relative to its median."""


def row_normalised(values: Floats, rows: np.ndarray, columns: np.ndarray, n: int) -> sparse.csr_matrix:
    graph = sparse.csr_matrix((values, (rows, columns)), shape=(n, n))
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph)


def bilateral(tissue: Tissue, scale: float, *, wider: float, fixed: float | None = None) -> Floats:
    """Weigh neighbours also by how alike their smooth features are; the scale of this predicts left-out spots best."""
    features, weights = white(tissue), tissue.weights(wider * scale)
    axes = informative_axes(features.astype(np.float64), tissue.kernel)
    guide = default_view(tissue, scale)
    alone = tissue.weights(scale)
    own = np.asarray(alone.multiply(alone.T).sum(axis=1)).reshape(-1, 1)
    map_, *_ = np.linalg.lstsq(features, default_unsmoothed(tissue, scale, features), rcond=None)
    without = (guide - own * (features @ map_)) / np.maximum(1 - own, 1e-3)
    rows, columns = weights.nonzero()
    values = np.asarray(weights[rows, columns]).ravel()
    apart = ((without[rows] - guide[columns]) ** 2).sum(axis=1)
    unit = np.median(apart[rows != columns])
    target = features @ axes

    def graph(distance: Floats, sharpness: float) -> sparse.csr_matrix:
        kept = values * np.exp(-distance / (2 * sharpness**2 * unit)) if np.isfinite(sharpness) else values
        return row_normalised(kept, rows, columns, len(features))

    errors = [
        (((target - left_out(target, graph(apart, s))) ** 2).mean(axis=0) / (target**2).mean(axis=0)).mean()
        for s in SHARPNESS
    ]
    chosen = SHARPNESS[int(np.argmin(errors))] if fixed is None else fixed
    final = graph(((guide[rows] - guide[columns]) ** 2).sum(axis=1), chosen)
    return smoothed(features, lambda x: final @ (final @ x))


def left_out(features: Floats, weights: sparse.csr_matrix) -> Floats:
    """Predict each spot from the others."""
    share = np.asarray(weights.multiply(weights.T).sum(axis=1)).ravel()
    return without_share(features, weights @ (weights @ features), share)


def default_unsmoothed(tissue: Tissue, scale: float, features: Floats) -> Floats:
    """Project unsmoothed features on the axes of the default's embedding."""
    smooth, level = propagated_with_level(features, tissue.scaled(scale))
    found = spatial_components(smooth, np.eye(features.shape[1]), level, at_least=2)
    return features @ found.axes


def along_borders(tissue: Tissue, scale: float, *, longest: float) -> Floats:
    """Smooth farther along borders than across them, by the directions in which the embedding changes."""
    features, guide, xy = white(tissue), default_view(tissue, scale), tissue.kernel.xy
    length = scale * tissue.kernel.bandwidth
    near = nearest(xy, min(18, len(xy) - 1))
    d = (xy[near] - xy[:, None]) / length
    spread = np.einsum("nki,nkj->nij", d, d) + 0.1 * np.eye(2)
    slope = np.linalg.solve(spread, np.einsum("nki,nkc->nic", d, guide[near] - guide[:, None]))
    weights = tissue.weights(2 * scale)
    tensor = np.asarray(weights @ np.einsum("nic,njc->nij", slope, slope).reshape(-1, 4)).reshape(-1, 2, 2)
    strength, axes = np.linalg.eigh(tensor + 0.1 * np.median(np.trace(tensor, axis1=1, axis2=2)) * np.eye(2))
    ratio = np.minimum(np.sqrt(strength[:, 1] / strength[:, 0]), longest)
    metric = np.einsum("nia,na,nja->nij", axes, np.stack([1 / ratio, ratio], axis=1), axes) / length**2
    rows, columns = gaussian_weights(xy, bandwidth=longest**0.5 * length, tolerance=4e-5).nonzero()
    step = xy[rows] - xy[columns]
    values = np.exp(-np.einsum("ei,eij,ej->e", step, (metric[rows] + metric[columns]) / 2, step) / 2)
    values[rows == columns] = 2.0
    graph = row_normalised(values, rows, columns, len(xy))
    return smoothed(features, lambda x: graph @ (graph @ x))


def attention(tissue: Tissue, scale: float) -> Floats:
    """Learn weights between neighbours: how much a difference in each component counts, and the reach."""
    features, guide, weights = white(tissue), default_view(tissue, scale), tissue.weights(1.5 * scale)
    rows, columns = weights.nonzero()
    apart = torch.from_numpy(((guide[rows] - guide[columns]) ** 2).astype(np.float32))
    steps = torch.from_numpy(
        (((tissue.kernel.xy[rows] - tissue.kernel.xy[columns]) / tissue.kernel.bandwidth / scale) ** 2)
        .sum(axis=1)
        .astype(np.float32)
    )
    axes = informative_axes(features.astype(np.float64), tissue.kernel)
    target = torch.from_numpy((features @ axes / (features @ axes).std(axis=0)).astype(np.float32))
    strength = torch.full((guide.shape[1],), -2.0, requires_grad=True)
    reach = torch.tensor(0.5, requires_grad=True)
    adam = torch.optim.Adam([strength, reach], lr=0.1)
    at, to = torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))
    others = at != to

    def scores() -> torch.Tensor:
        return torch.exp(-apart @ nn.functional.softplus(strength) - steps * nn.functional.softplus(reach))

    def averaged(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(values), 1).index_add(0, at, weight[:, None]) + 1e-6
        return torch.zeros_like(values).index_add(0, at, weight[:, None] * values[to]) / total

    for _ in range(60):
        loss = ((averaged(scores() * others, target) - target) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        kept = torch.where(others, scores(), torch.tensor(2.0)).numpy()
    graph = row_normalised(kept, rows, columns, len(features))
    return smoothed(features, lambda v: graph @ (graph @ v))


VARIANTS = {
    "default": default_view,
    "bilateral weights": partial(bilateral, wider=1.0),
    "bilateral weights, 1.5 times as wide": partial(bilateral, wider=1.5),
    "learned weights between neighbours": attention,
    "1.5 times as far along borders as across": partial(along_borders, longest=1.5),
    "2.5 times as far along borders as across": partial(along_borders, longest=2.5),
}

if __name__ == "__main__":
    run("borders", VARIANTS, __doc__)
