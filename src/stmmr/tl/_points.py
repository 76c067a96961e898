"""The embedding as the readouts take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmmr._core import keys
from stmmr._core.checks import representation, require_key
from stmmr._core.record import recorded
from stmmr._core.sections import plane_coordinates
from stmmr.linear.blocks import features_of
from stmmr.linear.start import linear_start
from stmmr.settings import Block, used_blocks
from stmmr.tl._readouts import FITTED_AT_MOST, sample, whitened

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmmr._core.kernel import Kernel

N_COMPONENTS: Final = 15
"""Components of an embedding whose scales carry no meaning."""


def points_of(
    adata: AnnData,
    use_rep: str,
    *,
    fewest: int = 1,
    whiten: bool | None = None,
    n_components: int = N_COMPONENTS,
    random_state: int,
) -> tuple[NDArray[np.floating[Any]], bool]:
    """Get an embedding, scaled so that a readout can cut it.

    Parameters
    ----------
    adata
        With the embedding.
    use_rep
        Key of ``obsm``.
    fewest
        How many different places there must be.
    whiten
        Whether to take the leading components, each at unit variance. ``None``: unless the scales carry meaning.
    n_components
        How many components, where they are scaled.
    random_state
        Seed of the places that are counted.

    Returns
    -------
    Points, shape (n_obs, d), and whether they were whitened.

    Raises
    ------
    InputError
        If there is no such embedding, it has an entry that is not finite, or there are too few different places.
    """
    require_key(adata.obsm, use_rep, where="obsm", hint="Fit a model first: stmmr.StMMR(adata).fit().")
    embedding = representation(adata, use_rep)
    # before whitening, where round-off may set equal places apart
    sample(embedding, fewest, at_most=FITTED_AT_MOST, random_state=random_state)
    scaled = has_scales(adata, use_rep)
    whiten = not scaled if whiten is None else whiten
    if whiten:
        return whitened(embedding.astype(np.float64), n_components, random_state=random_state), True
    return embedding if scaled else _unit(embedding), False


def has_scales(adata: AnnData, use_rep: str) -> bool:
    """Tell whether the scales of an embedding carry meaning, as those of the default preset do."""
    return use_rep == keys.EMBEDDING and bool(recorded(adata).get("model", {}).get("scaled", False))


def moves_with_bandwidth(adata: AnnData, use_rep: str) -> bool:
    """Tell whether an embedding can be had at another bandwidth: one of linear encoders kept as they start."""
    if not has_scales(adata, use_rep):
        return False
    model = recorded(adata)["model"]
    return not (model.get("mapped") or model["train_encoders"] or model["attention"] or model["aligned_weight"])


def embedding_at(adata: AnnData, kernel: Kernel, *, progress: bool = False) -> NDArray[np.float32]:
    """Embed over another graph, as the linear encoders of the fitted model would; shape (n_obs, d)."""
    model = recorded(adata)["model"]
    given = {
        name: Block(of["key"], of["likelihood"] or None, of["weight"]) for name, of in model.get("blocks", {}).items()
    }
    weight = float(model.get("histology_weight_used", 0.0))
    further = used_blocks(given, histology=model["use_histology"], histology_weight=weight).values()
    n_components = int(model["n_components"])
    features = features_of(adata, list(further), use_rep=model["use_rep"] or None, n_components=n_components)
    first = Block("", likelihood=model["likelihood"], weight=model["expression_weight"])
    places = plane_coordinates(adata)
    start, propagated = linear_start(features, [first, *further], kernel, xy=places, progress=progress)
    return start.embed(propagated)


def _unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale as a whole, so that the column that varies most has variance 1."""
    spread = float(embedding.std(axis=0, dtype=np.float64).max())
    return embedding / spread if spread > 0 else embedding
