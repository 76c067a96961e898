"""Sections mixed in the embedding beyond what the model does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, representation, require_extra
from stmmr._core.record import record
from stmmr._core.sections import section_key_of, sections_of

if TYPE_CHECKING:
    from anndata import AnnData


def integrate(
    adata: AnnData,
    section_key: str | None = None,
    *,
    use_rep: str = keys.EMBEDDING,
    key_added: str = keys.HARMONY,
    random_state: int = 0,
) -> None:
    """Correct the embedding for sections by Harmony (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

    The model takes the mean of each section off and brings its noise to that of the others, which is enough for the
    domains: docs/sections.md measures both. Harmony mixes sections further, for a UMAP or for clustering, and may mix
    layers of which sections hold different shares. Needs the extra ``integration`` (harmonypy, GPL).

    Parameters
    ----------
    adata
        With an embedding of several sections in one table.
    section_key
        Column of ``obs`` with the section of each place; ``None``: that of the spatial graph.
    use_rep
        Key of ``obsm`` to correct; it is left as it is.
    key_added
        Key of ``obsm`` for the corrected embedding.
    random_state
        Seed of the clusters of Harmony.

    Returns
    -------
    None. Sets ``obsm[key_added]``, float32, shape (n_obs, d), and ``uns["stmmr"]["integrate"]``.

    Raises
    ------
    InputError
        If there is no such embedding, or there is one section only.
    ImportError
        If harmonypy is not installed.
    """
    key = section_key or section_key_of(adata)
    if key is None:
        raise InputError("Expected several sections, found a graph made without. Name their column: section_key='…'.")
    sections, embedding = sections_of(adata, key), representation(adata, use_rep)
    if sections is None or len(sections.categories) < 2:
        raise InputError(
            f"Expected two sections or more in obs[{key!r}], found "
            f"{listed([] if sections is None else sections.categories)}: there is nothing to integrate."
        )
    harmony = require_extra("harmonypy", extra="integration")
    batches = pd.DataFrame({"section": sections.categories.astype(str).to_numpy()[sections.codes]})
    found = harmony.run_harmony(
        embedding.astype(np.float64), batches, ["section"], random_state=random_state, verbose=False
    )
    corrected = np.asarray(found.Z_corr, dtype=np.float32)
    # transposed before harmonypy 0.1
    adata.obsm[key_added] = corrected if corrected.shape == embedding.shape else corrected.T
    record(adata, integrate={"section_key": key, "use_rep": use_rep, "key_added": key_added, "method": "harmony"})
