"""From AnnData to what the network reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmmr import _keys
from stmmr._scratch import empty
from stmmr._validate import representation
from stmmr.nn import Batch, Graph
from stmmr.pp._components import expression_features
from stmmr.pp._expression import gene_rows
from stmmr.pp._graph import kernel_of
from stmmr.pp._sections import tissue_coordinates
from stmmr.start import LinearStart, Modality, histology_features, linear_start

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.pp._weights import Kernel
    from stmmr.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Everything the network reads of one AnnData, rows in its order."""

    batch: Batch
    """All places."""
    start: LinearStart | None
    """First weights; None where they are drawn at random."""
    gene_names: list[str]
    """Names of the targets' columns; empty for a representation."""

    @property
    def widths(self) -> tuple[int, int, int]:
        """Widths of expression features, histology features (0: none) and targets."""
        batch = self.batch
        return (
            batch.expression.shape[1],
            0 if batch.histology is None else batch.histology.shape[1],
            batch.target.shape[1],
        )


def model_inputs(adata: AnnData, settings: Settings, *, use_rep: str | None, use_histology: bool) -> ModelInputs:
    """Gather features, targets, graph and the linear start.

    Raises
    ------
    InputError
        If a step before was not run, or a representation has missing values.
    """
    kernel = kernel_of(adata)
    names: list[str] = []
    everywhere = np.arange(adata.n_obs)
    relative = np.ones((adata.n_obs, 1), dtype=np.float32)
    if use_rep is not None:
        target = representation(adata, use_rep)
    else:
        target = gene_rows(adata, normalised=settings.likelihood == "zinb").take(everywhere).toarray()
        names = adata.var_names[adata.var[_keys.HIGHLY_VARIABLE].to_numpy()].tolist()
        size = adata.obs[_keys.LIBRARY_SIZE].to_numpy()
        relative = np.maximum(size / np.median(size[size > 0]), 1e-4).astype(np.float32)[:, None]
    if settings.features == "pca":
        features = expression_features(adata, use_rep=use_rep, n_components=settings.n_components)
    elif use_rep is not None or settings.likelihood == "zinb":
        features = target
    else:
        features = gene_rows(adata, normalised=True).take(everywhere).toarray()
    image = None
    if use_histology:
        image = histology_features(adata, n_components=settings.n_components)
    start = None
    if settings.features == "pca" and not settings.hidden:
        xy = tissue_coordinates(adata)
        expression = Modality.of(features, kernel, xy)
        histology = None if image is None else Modality.of(image, kernel, xy)
        weight = settings.histology_weight
        start = linear_start(expression, histology, xy, latent=settings.latent, histology_weight=weight)
        smooth, smooth_image = expression.propagated, None if histology is None else histology.propagated
    else:
        smooth, smooth_image = propagated(features, kernel), None if image is None else propagated(image, kernel)
    batch = Batch(
        _tensor(smooth),
        None if smooth_image is None else _tensor(smooth_image),
        _tensor(target),
        _tensor(relative),
        Graph.of(kernel.weights()) if settings.graph_loss else None,
    )
    return ModelInputs(batch=batch, start=start, gene_names=names)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def propagated(features: NDArray[Any], kernel: Kernel) -> NDArray[np.float32]:
    """Compute A²F, shape (N, F)."""
    smooth = empty(features.shape)
    for places, rows in kernel.propagate(lambda places: np.asarray(features[places], dtype=np.float32)):
        smooth[places] = rows
    return smooth
