"""From AnnData to what the network reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from stmmr import _keys
from stmmr._validate import InputError, require_key
from stmmr.nn import Batch, Graph

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Everything the network reads of one AnnData, rows in its order."""

    batch: Batch
    """All places."""
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


def model_inputs(
    adata: AnnData, settings: Settings, *, use_rep: str | None, use_histology: bool, random_state: int
) -> ModelInputs:
    """Gather features, targets and graph.

    Raises
    ------
    InputError
        If a step before was not run, or a representation has missing values.
    """
    require_key(adata.obsp, _keys.GRAPH, where="obsp", hint="Run stmmr.pp.spatial_graph(adata) first.")
    graph = sparse.csr_matrix(adata.obsp[_keys.GRAPH])
    names: list[str] = []
    relative = np.ones((adata.n_obs, 1), dtype=np.float32)
    if use_rep is not None:
        features = target = representation(adata, use_rep)
    else:
        require_key(adata.layers, _keys.LOGNORM, where="layers", hint="Run stmmr.pp.expression(adata) first.")
        chosen = adata.var[_keys.HIGHLY_VARIABLE].to_numpy()
        names = adata.var_names[chosen].tolist()
        features = sparse.csr_matrix(adata.layers[_keys.LOGNORM])[:, chosen].toarray()
        target = (
            features
            if settings.likelihood == "zinb"
            else sparse.csr_matrix(adata.layers[_keys.COUNTS])[:, chosen].toarray()
        )
        size = adata.obs[_keys.LIBRARY_SIZE].to_numpy()
        relative = np.maximum(size / np.median(size[size > 0]), 1e-4).astype(np.float32)[:, None]
    if settings.features == "pca":
        features = components(features, settings.n_components, random_state=random_state)
    image = None
    if use_histology:
        image = standardised(representation(adata, _keys.HISTOLOGY))
        image = propagate(graph, components(image, settings.n_components, random_state=random_state))
    batch = Batch(
        _tensor(propagate(graph, features)),
        None if image is None else _tensor(image),
        _tensor(target),
        _tensor(relative),
        Graph.of(graph) if settings.graph_loss else None,
    )
    return ModelInputs(batch=batch, gene_names=names)


def representation(adata: AnnData, key: str) -> NDArray[np.float32]:
    """Get a representation of ``obsm`` as float32, checked."""
    require_key(adata.obsm, key, where="obsm")
    found: Any = adata.obsm[key]
    values = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected obsm[{key!r}] with one row per place, found shape {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise InputError(f"Expected finite values in obsm[{key!r}], found NaN or infinite ones at {bad} places.")
    return values


def propagate(graph: sparse.csr_matrix[Any], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute A(A·F), shape (N, F)."""
    return np.asarray(graph @ (graph @ features), dtype=np.float32)


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre and scale each column; constant columns become zeros."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 1e-6, spread, 1), dtype=np.float32)


def components(values: NDArray[np.float32], n: int, *, random_state: int) -> NDArray[np.float32]:
    """Project on the leading principal components, at most as many as the data have."""
    from sklearn.decomposition import PCA

    n = max(1, min(n, min(values.shape) - 1))
    return np.asarray(PCA(n, random_state=random_state).fit_transform(values), dtype=np.float32)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
