"""From AnnData to the input of the model, as NumPy arrays; rows are spots, cells or bins ("spots" in all pages)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from stmmr._core import keys as _keys
from stmmr._core.checks import InputError, representation
from stmmr._core.counts import gene_rows
from stmmr._core.kernel import kernel_of
from stmmr._core.order import put_back, tissue_order, without_counts
from stmmr._core.parallel import one_thread
from stmmr._core.rows import empty
from stmmr._core.sections import plane_coordinates
from stmmr._core.space import rows_called
from stmmr.linear.blocks import block_features, block_target, features_of
from stmmr.linear.noise import expression_features
from stmmr.linear.start import LinearStart, linear_start
from stmmr.settings import EXPRESSION, Block

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel
    from stmmr.linear.blocks import CSR
    from stmmr.nn import Keys, Shape
    from stmmr.settings import Settings


class RowSource(Protocol):
    """A sparse matrix that is read by rows, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and G."""

    def take(self, index: NDArray[np.intp]) -> CSR:
        """Read rows, shape (len(index), G); the index ascends."""


class RowsInMemory:
    """The rows of a CSR matrix in memory."""

    def __init__(self, matrix: CSR) -> None:
        self.matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """N and G."""
        n, n_genes = self.matrix.shape
        return n, n_genes

    def take(self, index: NDArray[np.intp]) -> CSR:
        """Read rows."""
        return self.matrix[index]


class ChosenRows:
    """Some rows of a source, in ascending order."""

    def __init__(self, source: RowSource, index: NDArray[np.intp]) -> None:
        self.source, self.index = source, index

    @property
    def shape(self) -> tuple[int, int]:
        """Number of chosen rows, and G."""
        return len(self.index), self.source.shape[1]

    def take(self, index: NDArray[np.intp]) -> CSR:
        """Read some of the chosen rows."""
        return self.source.take(self.index[index])


class BlockInputs(NamedTuple):
    """The input of one block; rows are spots."""

    name: str
    features: NDArray[np.float32]
    """A²F, (N, F)."""
    target: RowSource | NDArray[np.float32] | None = None
    """Values that the likelihood describes, (N, G): rows of counts, or a representation; None without a likelihood."""
    library_size: NDArray[np.float32] | None = None
    """Library size relative to its median, (N, 1), of a block with a likelihood."""
    likelihood: str | None = None
    weight: float = 1.0
    """Weight in the fusion."""

    @property
    def shape(self) -> Shape:
        """Sizes of the block, from which the network makes its layers; needs torch."""
        from stmmr.nn import Shape

        n_targets = 0 if self.target is None else self.target.shape[1]
        return Shape(self.name, self.features.shape[1], n_targets, self.likelihood, self.weight)

    def rows(self, index: NDArray[np.intp]) -> BlockInputs:
        """Keep some spots; `index` ascends."""
        features = self.features[index]
        if self.target is None or self.library_size is None:
            return self._replace(features=features)
        target = self.target
        chosen = target[index] if isinstance(target, np.ndarray) else ChosenRows(target, index)
        return self._replace(features=features, target=chosen, library_size=self.library_size[index])


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """The input of the model from one AnnData, rows in the order of the tissue."""

    blocks: tuple[BlockInputs, ...]
    """The expression, then further blocks."""
    graph: CSR | None
    """A, (N, N), where it is reconstructed."""
    start: LinearStart | None
    """The linear embedding; None where the first weights are drawn at random."""
    gene_names: list[str]
    """Names of the genes of the expression; empty for a representation."""
    order: NDArray[np.intp]
    """Row of each spot in the AnnData, shape (N,)."""
    keys: tuple[Keys, ...] | None = None
    """Keys of the attention of each block, where there is attention."""

    spots: pd.Index | None = None
    """Names of the spots, in the order of the AnnData."""

    def check_spots(self, adata: AnnData) -> None:
        """Check that the data still have the spots that the model read, in their order.

        Raises
        ------
        InputError
            If spots were removed, added, renamed or reordered since.
        """
        if self.spots is not None and not adata.obs_names.equals(self.spots):
            same = len(adata.obs_names.intersection(self.spots))
            raise InputError(
                f"Expected the {self.n_obs} {rows_called(adata)} that the model was made with, in their order, found "
                f"{adata.n_obs}, of which {same} have their names. Fit a model to the data as they are now."
            )

    def data_fingerprint(self) -> str:
        """Hash what tells these data from those of another section: their spots, genes and library sizes or values."""
        first = self.blocks[0]
        digest = hashlib.sha256(repr((self.n_obs, self.gene_names)).encode())
        if self.gene_names and first.library_size is not None:
            digest.update(np.ascontiguousarray(first.library_size).data)
        elif isinstance(first.target, np.ndarray):
            digest.update(np.ascontiguousarray(first.target).data)
        return digest.hexdigest()

    def put_back(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring rows into the order of the AnnData."""
        return np.ascontiguousarray(put_back(values, self.order))

    @property
    def n_obs(self) -> int:
        """N."""
        return len(self.blocks[0].features)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Sizes of the blocks; needs torch."""
        return tuple(block.shape for block in self.blocks)

    @property
    def decoded(self) -> tuple[BlockInputs, ...]:
        """The blocks with a likelihood."""
        return tuple(block for block in self.blocks if block.likelihood)

    def rows(self, index: NDArray[np.intp]) -> ModelInputs:
        """Keep some spots; `index` ascends."""
        graph = None if self.graph is None else self.graph[index][:, index]
        blocks = tuple(block.rows(index) for block in self.blocks)
        return replace(self, blocks=blocks, graph=graph, order=self.order[index], spots=None)

    def targets(self, index: NDArray[np.intp]) -> list[NDArray[np.float32] | CSR]:
        """Read the targets of some spots from each block with a likelihood; `index` ascends."""
        targets = (block.target for block in self.blocks if block.target is not None)
        return [target[index] if isinstance(target, np.ndarray) else target.take(index) for target in targets]

    def fingerprint(self) -> str:
        """Hash sizes, genes and library sizes, to recognise other data; needs torch."""
        digest = hashlib.sha256(repr((self.n_obs, self.shapes, self.gene_names)).encode())
        for block in self.decoded:
            digest.update(np.ascontiguousarray(block.library_size).data)
        return digest.hexdigest()


@one_thread
def model_inputs(
    adata: AnnData, settings: Settings, *, use_rep: str | None, blocks: Mapping[str, Block], progress: bool = False
) -> ModelInputs:
    """Collect features, targets, graph and the linear embedding.

    Raises InputError if a preprocessing step is missing, or values do not fit their likelihood.
    """
    order = tissue_order(adata)
    genes = partial(gene_rows, adata, order)
    adata = without_counts(adata, order)
    kernel, further = kernel_of(adata), list(blocks.values())
    first = Block(use_rep or "", settings.likelihood, settings.expression_weight)
    start = None
    if settings.starts_linear:
        features = features_of(adata, further, use_rep=use_rep, n_components=settings.n_components)
        xy, latent = plane_coordinates(adata), settings.latent
        start, smooth = linear_start(features, [first, *further], kernel, xy=xy, latent=latent, progress=progress)
        weights = start.weights
    else:
        others = [_further_features(adata, block, settings) for block in further]
        sources = [_features(adata, settings, genes, use_rep=use_rep), *others]
        smooth = [propagated(source, kernel, progress=progress) for source in sources]
        weights = [1.0 if block.weight is None else block.weight for block in (first, *further)]
    target = _expression_target(adata, settings, genes, use_rep=use_rep)
    targets = [target, *(_target(adata, block) for block in further)]
    parts = zip([EXPRESSION, *blocks], map(_single, smooth), targets, [first, *further], weights, strict=True)
    has_genes = use_rep is None
    return ModelInputs(
        blocks=tuple(
            BlockInputs(name, features, target, size, block.likelihood, weight)
            for name, features, (target, size), block, weight in parts
        ),
        graph=kernel.weights() if settings.graph_loss else None,
        start=start,
        order=order,
        spots=adata.obs_names[np.argsort(order)],
        gene_names=adata.var_names[adata.var[_keys.HIGHLY_VARIABLE].to_numpy()].tolist() if has_genes else [],
    )


def _single(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _expression_target(
    adata: AnnData, settings: Settings, genes: Callable[..., RowSource], *, use_rep: str | None
) -> tuple[RowSource | NDArray[np.float32], NDArray[np.float32]]:
    """Get the values that the likelihood of the expression describes, and the relative library sizes."""
    dense = settings.likelihood == "gaussian"
    if use_rep is not None:
        values = representation(adata, use_rep)
        target = _single(values) if dense else RowsInMemory(sparse.csr_matrix(values))
        return target, np.ones((adata.n_obs, 1), dtype=np.float32)
    size = _relative(adata.obs[_keys.LIBRARY_SIZE].to_numpy())
    rows = genes(normalised=settings.likelihood != "nb")
    return _single(rows.take(np.arange(adata.n_obs)).toarray()) if dense else rows, size


def _target(
    adata: AnnData, block: Block
) -> tuple[RowSource | NDArray[np.float32], NDArray[np.float32]] | tuple[None, None]:
    """Get the same of a further block, where it has a likelihood."""
    if block.likelihood is None:
        return None, None
    values, size = block_target(adata, block)
    return _single(values) if isinstance(values, np.ndarray) else RowsInMemory(values), _relative(size)


def _relative(size: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divide library sizes by their median, shape (N,) to (N, 1)."""
    return _single(np.maximum(size / np.median(size[size > 0]), 1e-4)[:, None])


def _features(
    adata: AnnData, settings: Settings, genes: Callable[..., RowSource], *, use_rep: str | None
) -> NDArray[np.float32] | RowSource:
    """Get the input of the expression encoder, before propagation."""
    if settings.features == "pca":
        return expression_features(adata, use_rep=use_rep, n_components=settings.n_components)
    return genes(normalised=True) if use_rep is None else representation(adata, use_rep)


def _further_features(adata: AnnData, block: Block, settings: Settings) -> NDArray[np.float32]:
    """Get the input of the encoder of a further block: features of an image as they are, as published."""
    if block.likelihood is None and settings.features == "genes":
        return representation(adata, block.key)
    return block_features(adata, block, n_components=settings.n_components)


def propagated(features: NDArray[np.float32] | RowSource, kernel: Kernel, *, progress: bool) -> NDArray[np.float32]:
    """Compute A²F, shape (N, F), reading the features one tile of spots at a time."""

    def rows_at(spots: NDArray[np.intp]) -> NDArray[np.float32]:
        return features[spots] if isinstance(features, np.ndarray) else features.take(spots).toarray()

    smooth = empty(features.shape)
    for spots, rows in kernel.propagate(rows_at, progress=progress):
        smooth[spots] = rows
    return smooth
