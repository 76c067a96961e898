"""From AnnData to what the network reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy import sparse

from stmmr._core import keys as _keys
from stmmr._core.checks import representation
from stmmr._core.counts import gene_rows
from stmmr._core.kernel import kernel_of
from stmmr._core.rows import empty
from stmmr._core.sections import plane_coordinates
from stmmr.linear.blocks import block_features, block_target, features_of
from stmmr.linear.noise import expression_features
from stmmr.linear.start import LinearStart, linear_start
from stmmr.nn import Batch, Features, Graph, Keys, Partners, Shape, SparseRows, Target
from stmmr.settings import EXPRESSION, Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel
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


class BlockInputs(NamedTuple):
    """What the network reads of one block; rows are places."""

    name: str
    features: torch.Tensor
    """A²F, (N, F)."""
    target: RowSource | torch.Tensor | None = None
    """What the likelihood is of, (N, G): rows of counts, or a representation; None where the block is read only."""
    library_size: torch.Tensor | None = None
    """Library size relative to its median, (N, 1), of a block with a likelihood."""
    likelihood: str | None = None
    weight: float = 1.0
    """Weight in the fusion."""

    @property
    def shape(self) -> Shape:
        """What the network is told of the block."""
        n_targets = 0 if self.target is None else self.target.shape[1]
        return Shape(self.name, self.features.shape[1], n_targets, self.likelihood, self.weight)

    def rows(self, index: NDArray[np.intp]) -> BlockInputs:
        """Keep some places only; `index` ascends."""
        features = self.features[index]
        if self.target is None or self.library_size is None:
            return self._replace(features=features)
        target = self.target
        chosen = target[index] if isinstance(target, torch.Tensor) else ChosenRows(target, index)
        return self._replace(features=features, target=chosen, library_size=self.library_size[index])


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Everything the network reads of one AnnData, rows in its order."""

    blocks: tuple[BlockInputs, ...]
    """The expression, then further blocks."""
    graph: sparse.csr_matrix[Any] | None
    """A, (N, N), where it is reconstructed."""
    start: LinearStart | None
    """First weights; None where they are drawn at random."""
    gene_names: list[str]
    """Names of the first targets' columns; empty for a representation."""
    keys: tuple[Keys, ...] | None = None
    """What each block attends to, where it does."""

    @property
    def n_places(self) -> int:
        """N."""
        return len(self.blocks[0].features)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What the network is told of the blocks."""
        return tuple(block.shape for block in self.blocks)

    @property
    def decoded(self) -> tuple[BlockInputs, ...]:
        """The blocks with a likelihood."""
        return tuple(block for block in self.blocks if block.likelihood)

    def rows(self, index: NDArray[np.intp]) -> ModelInputs:
        """Keep some places only; `index` ascends."""
        graph = None if self.graph is None else self.graph[index][:, index]
        return replace(self, blocks=tuple(block.rows(index) for block in self.blocks), graph=graph)

    def targets(self, index: NDArray[np.intp]) -> list[torch.Tensor | sparse.csr_matrix[Any]]:
        """Read the targets of some places, of each block with a likelihood; `index` ascends."""
        targets = (block.target for block in self.blocks if block.target is not None)
        return [target[index] if isinstance(target, torch.Tensor) else target.take(index) for target in targets]

    def batch(
        self,
        index: NDArray[np.intp],
        targets: Sequence[torch.Tensor | sparse.csr_matrix[Any]],
        *,
        partners: NDArray[np.intp] | None = None,
    ) -> Batch:
        """Put together what is read of some places, and of a partner of each.

        Parameters
        ----------
        index
            The places, shape (n,), in any order.
        targets
            Their targets, shape (n, G) each.
        partners
            The partners, shape (n,), where the graph is reconstructed from those.
        """
        read = index if partners is None else np.concatenate([index, partners])
        return Batch(
            self.features(read),
            self._with_sizes(targets, index),
            self.n_places,
            None if partners is None else Partners(torch.from_numpy(partners == index), self._squares, self.n_places),
        )

    def features(self, index: NDArray[np.intp]) -> Features:
        """Take what an embedding of some places reads."""
        return Features(tuple(block.features[index] for block in self.blocks), self.keys)

    def all_features(self) -> Features:
        """Take what an embedding of all places reads; where they attend to all places, that is to each other."""
        each_other = self.keys is None or self.keys[0].landmarks is None
        return Features(tuple(block.features for block in self.blocks), None if each_other else self.keys)

    def whole(self) -> Batch:
        """Put all places together, with the graph among them."""
        index = np.arange(self.n_places)
        return Batch(
            self.all_features(),
            self._with_sizes(self.targets(index), index),
            self.n_places,
            None if self.graph is None else Graph.of(self.graph),
        )

    def _with_sizes(
        self, targets: Sequence[torch.Tensor | sparse.csr_matrix[Any]], index: NDArray[np.intp]
    ) -> tuple[Target, ...]:
        """Put targets, shape (n, G) each, beside the library sizes of their places."""
        read = (target if isinstance(target, torch.Tensor) else SparseRows.of(target) for target in targets)
        sizes = (block.library_size[index] for block in self.decoded if block.library_size is not None)
        return tuple(Target(*each) for each in zip(read, sizes, strict=True))

    @cached_property
    def _squares(self) -> torch.Tensor:
        """ΣA²/N."""
        assert self.graph is not None  # noqa: S101 - partners are drawn from it
        return torch.tensor(float(np.square(self.graph.data, dtype=np.float64).sum()) / self.n_places)

    def fingerprint(self) -> str:
        """Summarise shapes, genes and library sizes, so that other data are told from these."""
        digest = hashlib.sha256(repr((self.n_places, self.shapes, self.gene_names)).encode())
        for block in self.decoded:
            digest.update(np.ascontiguousarray(block.library_size).data)
        return digest.hexdigest()


def model_inputs(
    adata: AnnData, settings: Settings, *, use_rep: str | None, blocks: Mapping[str, Block], progress: bool = False
) -> ModelInputs:
    """Gather features, targets, graph and the linear start.

    Raises
    ------
    InputError
        If a step before was not run, or values do not fit their likelihood.
    """
    kernel, further = kernel_of(adata), list(blocks.values())
    first = Block(use_rep or "", settings.likelihood, settings.expression_weight)
    start = None
    if settings.features == "pca" and not settings.hidden:
        read = features_of(adata, further, use_rep=use_rep, n_components=settings.n_components)
        xy, latent = plane_coordinates(adata), settings.latent
        start, smooth = linear_start(read, [first, *further], kernel, xy=xy, latent=latent, progress=progress)
        weights = start.weights
    else:
        images = [block_features(adata, block, n_components=settings.n_components) for block in further]
        sources = [_features(adata, settings, use_rep=use_rep), *images]
        smooth = [propagated(source, kernel, progress=progress) for source in sources]
        weights = [1.0 if block.weight is None else block.weight for block in (first, *further)]
    targets = [_expression_target(adata, settings, use_rep=use_rep), *(_target(adata, block) for block in further)]
    parts = zip([EXPRESSION, *blocks], map(_tensor, smooth), targets, [first, *further], weights, strict=True)
    named = use_rep is None
    return ModelInputs(
        blocks=tuple(
            BlockInputs(name, features, target, size, block.likelihood, weight)
            for name, features, (target, size), block, weight in parts
        ),
        graph=kernel.weights() if settings.graph_loss else None,
        start=start,
        gene_names=adata.var_names[adata.var[_keys.HIGHLY_VARIABLE].to_numpy()].tolist() if named else [],
    )


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _expression_target(
    adata: AnnData, settings: Settings, *, use_rep: str | None
) -> tuple[RowSource | torch.Tensor, torch.Tensor]:
    """Get what the likelihood of the expression is of, and library sizes relative to their median."""
    if use_rep is not None:
        values = representation(adata, use_rep)
        dense = settings.likelihood == "gaussian"
        return _tensor(values) if dense else RowsInMemory(sparse.csr_matrix(values)), torch.ones(adata.n_obs, 1)
    size = _relative(adata.obs[_keys.LIBRARY_SIZE].to_numpy())
    rows = gene_rows(adata, normalised=settings.likelihood != "nb")
    if settings.likelihood == "gaussian":
        return _tensor(rows.take(np.arange(adata.n_obs)).toarray()), size
    return rows, size


def _target(adata: AnnData, block: Block) -> tuple[RowSource | torch.Tensor, torch.Tensor] | tuple[None, None]:
    """Get the same of a further block, where it has a likelihood."""
    if block.likelihood is None:
        return None, None
    values, size = block_target(adata, block)
    return _tensor(values) if isinstance(values, np.ndarray) else RowsInMemory(values), _relative(size)


def _relative(size: NDArray[np.float64]) -> torch.Tensor:
    """Divide library sizes by their median, shape (N,) to (N, 1)."""
    return _tensor(np.maximum(size / np.median(size[size > 0]), 1e-4)[:, None])


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
