"""Integration of sections with Harmony."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmmr._core import keys
from stmmr._core.checks import InputError, listed, representation, require_extra
from stmmr._core.depends import depends
from stmmr._core.options import checked
from stmmr._core.order import in_tissue_order
from stmmr._core.record import record
from stmmr._core.sections import section_key_of, sections_of

if TYPE_CHECKING:
    from anndata import AnnData


@checked
@in_tissue_order
def integrate(
    adata: AnnData,
    section_key: str | None = None,
    *,
    use_rep: str = keys.EMBEDDING,
    key_added: str = keys.HARMONY,
    random_state: int = 0,
) -> None:
    """Correct the embedding for sections with Harmony (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

    The model centres each section and equalises the noise between sections, which is enough for domains:
    docs/sections.md measures both. Harmony mixes sections further, for a UMAP or for clustering, and may also mix
    layers that have different shares in the sections. Needs the extra ``integration`` (harmonypy, GPL).

    Parameters
    ----------
    adata
        With an embedding of several sections.
    section_key
        Column of ``obs`` with the section of each spot; None: that of the spatial graph.
    use_rep
        Key of ``obsm`` to correct; it stays unchanged.
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
        If there is no such embedding, or only one section.
    ImportError
        If harmonypy is not installed.
    """
    key = section_key or section_key_of(adata)
    if key is None:
        raise InputError(
            'Expected several sections, found a spatial graph without. Name their column (section_key="…").'
        )
    sections, embedding = sections_of(adata, key), representation(adata, use_rep)
    if sections is None or len(sections.categories) < 2:
        raise InputError(
            f"Expected two sections or more in obs[{key!r}], found "
            f"{listed([] if sections is None else sections.categories)}."
        )
    harmony = require_extra("harmonypy", extra="integration")
    batches = pd.DataFrame({"section": sections.categories.astype(str).to_numpy()[sections.codes]})
    result = harmony.run_harmony(
        embedding.astype(np.float64), batches, ["section"], random_state=random_state, verbose=False
    )
    corrected = np.asarray(result.Z_corr, dtype=np.float32)
    # transposed before version 0.1 of harmonypy
    adata.obsm[key_added] = corrected if corrected.shape == embedding.shape else corrected.T
    record(adata, integrate={"section_key": key, "use_rep": use_rep, "key_added": key_added, "method": "harmony"})
    depends(adata, "integrate", on=[f"obsm:{use_rep}"], writes=[f"obsm:{key_added}", "notes:integrate"])
