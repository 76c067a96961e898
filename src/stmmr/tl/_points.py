"""The embedding, scaled for clustering, and the embedding at other bandwidths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import representation, require_key
from stmmr._core.pca import mean_and_covariance
from stmmr._core.record import recorded
from stmmr._core.rows import CHUNK, empty, slices
from stmmr._core.sections import plane_coordinates
from stmmr.linear.blocks import features_of
from stmmr.linear.start import linear_start
from stmmr.model.inputs import propagated
from stmmr.settings import Block, used_blocks
from stmmr.tl._readouts import FITTED_AT_MOST, sample, whitened

if TYPE_CHECKING:
    from anndata import AnnData

    from stmmr._core.kernel import Kernel
    from stmmr._core.types import Float32, Floats

N_COMPONENTS: Final = 15
"""Principal components of an embedding whose scales have no meaning."""


def points_of(
    adata: AnnData,
    use_rep: str,
    *,
    fewest: int = 1,
    whiten: bool | None = None,
    n_components: int = N_COMPONENTS,
    random_state: int,
) -> tuple[Floats, bool]:
    """Get an embedding, scaled for clustering, shape (n_obs, d), and whether it was whitened.

    Parameters
    ----------
    adata, use_rep
        With the embedding in ``obsm[use_rep]``, checked to have at least `fewest` different points.
    fewest
        Smallest number of different points.
    whiten
        Whether to take the leading `n_components` principal components, each scaled to unit variance. None: unless the
        scales of the embedding have a meaning.
    n_components
        Number of components, if they are scaled.
    random_state
        Seed of the points that are counted.
    """
    require_key(adata.obsm, use_rep, where="obsm", hint="Fit a model first: stmmr.StMMR(adata).fit().")
    embedding = representation(adata, use_rep)
    # before whitening, after which equal points may differ by round-off
    sample(embedding, fewest, at_most=FITTED_AT_MOST, random_state=random_state)
    scaled = has_scales(adata, use_rep)
    whiten = not scaled if whiten is None else whiten
    if whiten:
        return whitened(embedding.astype(np.float64), n_components, random_state=random_state), True
    return embedding if scaled else _unit(embedding), False


def has_scales(adata: AnnData, use_rep: str) -> bool:
    """Check whether the scales of an embedding have a meaning, as those of the default preset do."""
    return use_rep == keys.EMBEDDING and bool(recorded(adata).get("model", {}).get("scaled", False))


def moves_with_bandwidth(adata: AnnData, use_rep: str) -> bool:
    """Check whether the embedding can be computed at another bandwidth, as with untrained linear encoders."""
    if not has_scales(adata, use_rep):
        return False
    model = recorded(adata)["model"]
    return not (model.get("mapped") or model["train_encoders"] or model["attention"] or model["aligned_weight"])


def fitted_features(adata: AnnData) -> list[Float32]:
    """Compute the features of the blocks that the fitted model reads, the expression first; (n_obs, F) each."""
    model = recorded(adata)["model"]
    n_components = int(model["n_components"])
    return features_of(adata, _further_blocks(adata), use_rep=model["use_rep"] or None, n_components=n_components)


def embedding_at(
    adata: AnnData, kernel: Kernel, *, features: list[Float32] | None = None, progress: bool = False
) -> Float32:
    """Compute the embedding over another graph with the linear encoders of the fitted model, shape (n_obs, d).

    `features` are those of `fitted_features`, which are computed where they are not at hand.
    """
    model = recorded(adata)["model"]
    first = Block("", likelihood=model["likelihood"], weight=model["expression_weight"])
    blocks = [first, *_further_blocks(adata)]
    features = fitted_features(adata) if features is None else features
    start, smooth = linear_start(features, blocks, kernel, xy=plane_coordinates(adata), progress=progress)
    return start.embed(smooth)


def variance_scaled(expression: Float32, kernel: Kernel, *, progress: bool = False) -> Float32:
    """Compute the leading components of the propagated expression, each scaled to unit variance, shape (n_obs, ≤ 15).

    It is what the linear baseline clusters. The embedding scales components by their signal relative to noise instead.
    """
    smooth = propagated(expression, kernel, progress=progress)
    centre, covariance = mean_and_covariance(smooth)
    variances, axes = np.linalg.eigh(covariance)
    leading = np.flatnonzero(variances > 1e-8 * variances[-1])[::-1][:N_COMPONENTS]
    if not len(leading):
        return np.zeros((len(smooth), 1), dtype=np.float32)
    axes = (axes[:, leading] / np.sqrt(variances[leading])).astype(np.float32)
    centre = centre.astype(np.float32)
    scores = empty((len(smooth), len(leading)))
    for rows in slices(len(smooth), CHUNK):
        scores[rows] = (smooth[rows] - centre) @ axes
    return scores


def _further_blocks(adata: AnnData) -> list[Block]:
    """Get the blocks of the fitted model besides the expression."""
    model = recorded(adata)["model"]
    blocks = {
        name: Block(block["key"], block["likelihood"] or None, block["weight"])
        for name, block in model.get("blocks", {}).items()
    }
    weight = float(model.get("histology_weight_used", 0.0))
    return list(used_blocks(blocks, histology=model["use_histology"], histology_weight=weight).values())


def _unit(embedding: Float32) -> Float32:
    """Scale all columns by one factor, so that the most variable one has variance 1."""
    spread = float(embedding.std(axis=0, dtype=np.float64).max())
    return embedding / spread if spread > 0 else embedding
