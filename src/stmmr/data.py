"""From AnnData to what the network reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy import sparse

from stmmr import _keys
from stmmr._scratch import empty
from stmmr._validate import representation
from stmmr.nn import Batch, Features, Graph, Keys, Partners, SparseRows
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


class RowSource(Protocol):
    """Rows of a sparse matrix, in memory or elsewhere."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and G."""

    def take(self, index: NDArray[np.intp]) -> sparse.csr_matrix[Any]:
        """Read some rows, shape (len(index), G); the index ascends."""


class RowsInMemory:
    """Rows of a CSR matrix that is in memory."""

    def __init__(self, matrix: sparse.csr_matrix[Any]) -> None:
        self.matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """N and G."""
        n, n_genes = self.matrix.shape
        return n, n_genes

    def take(self, index: NDArray[np.intp]) -> sparse.csr_matrix[Any]:
        """Read some rows."""
        return self.matrix[index]


class ChosenRows:
    """Some rows of a source, in ascending order."""

    def __init__(self, source: RowSource, index: NDArray[np.intp]) -> None:
        self.source, self.index = source, index

    @property
    def shape(self) -> tuple[int, int]:
        """How many were chosen, and G."""
        return len(self.index), self.source.shape[1]

    def take(self, index: NDArray[np.intp]) -> sparse.csr_matrix[Any]:
        """Read some of the chosen rows."""
        return self.source.take(self.index[index])


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Everything the network reads of one AnnData, rows in its order."""

    expression: torch.Tensor
    """A²F of the expression, (N, F)."""
    histology: torch.Tensor | None
    """A²F of the histology, (N, P)."""
    target: RowSource | torch.Tensor
    """What the likelihood is of, (N, G): rows of counts, or a representation."""
    library_size: torch.Tensor
    """Library size relative to its median, (N, 1)."""
    graph: sparse.csr_matrix[Any] | None
    """A, (N, N), where it is reconstructed."""
    start: LinearStart | None
    """First weights; None where they are drawn at random."""
    gene_names: list[str]
    """Names of the targets' columns; empty for a representation."""
    keys: tuple[Keys, Keys | None] | None = None
    """What expression and histology attend to, where they do."""

    @property
    def n_places(self) -> int:
        """N."""
        return len(self.expression)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Widths of expression features, histology features (0: none) and targets."""
        image = 0 if self.histology is None else self.histology.shape[1]
        return self.expression.shape[1], image, self.target.shape[1]

    def rows(self, index: NDArray[np.intp]) -> ModelInputs:
        """Keep some places only; `index` ascends."""
        target = self.target
        return replace(
            self,
            expression=self.expression[index],
            histology=None if self.histology is None else self.histology[index],
            target=target[index] if isinstance(target, torch.Tensor) else ChosenRows(target, index),
            library_size=self.library_size[index],
            graph=None if self.graph is None else self.graph[index][:, index],
        )

    def targets(self, index: NDArray[np.intp]) -> torch.Tensor | sparse.csr_matrix[Any]:
        """Read the targets of some places; `index` ascends."""
        return self.target[index] if isinstance(self.target, torch.Tensor) else self.target.take(index)

    def batch(
        self,
        index: NDArray[np.intp],
        target: torch.Tensor | sparse.csr_matrix[Any],
        *,
        partners: NDArray[np.intp] | None = None,
    ) -> Batch:
        """Put together what is read of some places, and of a partner of each.

        Parameters
        ----------
        index
            The places, shape (n,), in any order.
        target
            Their targets, shape (n, G).
        partners
            The partners, shape (n,), where the graph is reconstructed from those.
        """
        read = index if partners is None else np.concatenate([index, partners])
        return Batch(
            self.features(read),
            target if isinstance(target, torch.Tensor) else SparseRows.of(target),
            self.library_size[index],
            self.n_places,
            None if partners is None else Partners(torch.from_numpy(partners == index), self._squares, self.n_places),
        )

    def features(self, index: NDArray[np.intp]) -> Features:
        """Take what an embedding of some places reads."""
        return Features(self.expression[index], None if self.histology is None else self.histology[index], self.keys)

    def all_features(self) -> Features:
        """Take what an embedding of all places reads; where they attend to all places, that is to each other."""
        each_other = self.keys is None or self.keys[0].landmarks is None
        return Features(self.expression, self.histology, None if each_other else self.keys)

    def whole(self) -> Batch:
        """Put all places together, with the graph among them."""
        target = self.targets(np.arange(self.n_places))
        return Batch(
            self.all_features(),
            target if isinstance(target, torch.Tensor) else SparseRows.of(target),
            self.library_size,
            self.n_places,
            None if self.graph is None else Graph.of(self.graph),
        )

    @cached_property
    def _squares(self) -> torch.Tensor:
        """ΣA²/N."""
        assert self.graph is not None  # noqa: S101 - partners are drawn from it
        return torch.tensor(float(np.square(self.graph.data, dtype=np.float64).sum()) / self.n_places)

    def fingerprint(self) -> str:
        """Summarise shapes, genes and library sizes, so that other data are told from these."""
        digest = hashlib.sha256(repr((self.n_places, self.widths, self.gene_names)).encode())
        digest.update(np.ascontiguousarray(self.library_size.numpy()).data)
        return digest.hexdigest()


def model_inputs(
    adata: AnnData, settings: Settings, *, use_rep: str | None, use_histology: bool, progress: bool = False
) -> ModelInputs:
    """Gather features, targets, graph and the linear start.

    Raises
    ------
    InputError
        If a step before was not run, or a representation has missing values.
    """
    kernel = kernel_of(adata)
    names: list[str] = []
    relative = np.ones((adata.n_obs, 1), dtype=np.float32)
    target: RowSource | torch.Tensor
    if use_rep is not None:
        target = _target(representation(adata, use_rep), settings)
    else:
        target = gene_rows(adata, normalised=settings.likelihood != "nb")
        if settings.likelihood == "gaussian":
            target = _tensor(target.take(np.arange(adata.n_obs)).toarray())
        names = adata.var_names[adata.var[_keys.HIGHLY_VARIABLE].to_numpy()].tolist()
        size = adata.obs[_keys.LIBRARY_SIZE].to_numpy()
        relative = np.maximum(size / np.median(size[size > 0]), 1e-4).astype(np.float32)[:, None]
    image = histology_features(adata, n_components=settings.n_components) if use_histology else None
    start, smooth_image = None, None
    if settings.features == "pca" and not settings.hidden:
        xy = tissue_coordinates(adata)
        components = expression_features(adata, use_rep=use_rep, n_components=settings.n_components)
        expression = Modality.of(components, kernel, xy, progress=progress)
        histology = None if image is None else Modality.of(image, kernel, xy, progress=progress)
        weight = settings.histology_weight
        start = linear_start(expression, histology, xy, latent=settings.latent, histology_weight=weight)
        smooth, smooth_image = expression.propagated, None if histology is None else histology.propagated
    else:
        features = _features(adata, settings, use_rep=use_rep)
        smooth = propagated(features, kernel, progress=progress)
        if image is not None:
            smooth_image = propagated(image, kernel, progress=progress)
    return ModelInputs(
        expression=_tensor(smooth),
        histology=None if smooth_image is None else _tensor(smooth_image),
        target=target,
        library_size=_tensor(relative),
        graph=kernel.weights() if settings.graph_loss else None,
        start=start,
        gene_names=names,
    )


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _target(values: NDArray[Any] | sparse.csr_matrix[Any], settings: Settings) -> RowSource | torch.Tensor:
    if settings.likelihood != "gaussian":
        return RowsInMemory(sparse.csr_matrix(values))
    return _tensor(values.toarray() if sparse.issparse(values) else values)


def _features(adata: AnnData, settings: Settings, *, use_rep: str | None) -> NDArray[np.float32] | RowSource:
    """Get what the expression encoder reads, before propagation."""
    if settings.features == "pca":
        return expression_features(adata, use_rep=use_rep, n_components=settings.n_components)
    return gene_rows(adata, normalised=True) if use_rep is None else representation(adata, use_rep)


def propagated(features: NDArray[np.float32] | RowSource, kernel: Kernel, *, progress: bool) -> NDArray[np.float32]:
    """Compute A²F, shape (N, F), of features that are read for a tile of places at a time."""

    def rows_at(places: NDArray[np.intp]) -> NDArray[np.float32]:
        return features[places] if isinstance(features, np.ndarray) else features.take(places).toarray()

    smooth = empty(features.shape)
    for places, rows in kernel.propagate(rows_at, progress=progress):
        smooth[places] = rows
    return smooth
