"""Normalised expression and the genes the model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, require_positive, unique_names
from stmmr._core.counts import (
    Normalisation,
    count_statistics,
    highly_variable,
    library_size,
    lognorm,
    raw_counts,
)
from stmmr._core.pca import gene_components
from stmmr._core.record import record
from stmmr._core.rows import by_rows
from stmmr._core.sections import sections_of

if TYPE_CHECKING:
    from anndata import AnnData


def expression(
    adata: AnnData,
    *,
    layer: str | None = None,
    size_key: str | None = None,
    n_top_genes: int = 3000,
    min_spots: int = 3,
    n_components: int = 50,
    section_key: str | None = None,
    progress: bool = False,
) -> None:
    """Normalise counts to the median library size, take log1p, mark highly variable genes and find their components.

    Counts in a file (an AnnData read with ``backed=True``) or in a dask array are read a chunk of places at a time, and
    stay there. No place and no gene is dropped and ``X`` is left as it is. A place without counts gets zeros (its
    embedding comes from its neighbours); a gene seen in fewer than `min_spots` places is kept, but the model does not
    read it.

    Parameters
    ----------
    adata
        Places × genes.
    layer
        Layer with the raw counts; ``None`` takes ``layers["counts"]`` where there is one, otherwise ``X``.
    size_key
        Column of ``obs`` with the library size, where the genes at hand are only part of what was counted.
    n_top_genes
        How many highly variable genes (``seurat_v3`` on the counts); all eligible genes where there are fewer.
    min_spots
        Places in which a gene must be seen.
    n_components
        Principal components of the highly variable genes, at most one for every four places.
    section_key
        Column of ``obs`` that names the section of each place, where there are several: the mean of its section is then
        taken off each gene before the components, so that a shift between sections is no signal. Sections are taken to
        hold much the same tissue.
    progress
        Whether to show progress bars for what takes longer than two seconds.

    Returns
    -------
    None. Sets:

    ``layers["counts"]``
        the raw counts (CSR), where they were taken from elsewhere in memory.
    ``layers["stmmr_lognorm"]``
        float32 CSR, where the counts are in memory.
    ``var["stmmr_highly_variable"]``
        bool.
    ``obs["stmmr_library_size"]``
        float64.
    ``obsm["X_stmmr_pca"]``
        principal components, float32.
    ``varm["stmmr_loadings"]``
        their directions among the genes, float32; zeros for a gene that is not read.
    ``uns["stmmr"]["expression"]``
        the parameters.

    Raises
    ------
    InputError
        If there are no genes, values are no raw counts, or a key is not there.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(
            f"Expected places and genes, found {adata.n_obs} × {adata.n_vars}. For data without genes give use_rep='…'."
        )
    require_positive(n_top_genes, name="n_top_genes")
    require_positive(n_components, name="n_components")
    unique_names(adata)
    sections = sections_of(adata, section_key)
    where, given = raw_counts(adata, layer)
    counts = by_rows(given)
    statistics = count_statistics(counts, progress=progress)
    statistics.check(where)
    size = library_size(adata, statistics.size, size_key=size_key)
    chosen = highly_variable(counts, statistics, n_top_genes=n_top_genes, min_spots=min_spots, progress=progress)
    codes = np.zeros(adata.n_obs, dtype=np.intp) if sections is None else sections.codes.astype(np.intp)
    normalise = Normalisation(chosen, size, float(np.median(size[size > 0])), codes)
    components, axes = gene_components(counts, normalise, n_components=n_components, progress=progress)
    if isinstance(counts, sparse.csr_matrix):
        adata.layers[keys.LOGNORM] = lognorm(counts, size, normalise.median)
        if keys.COUNTS not in adata.layers:
            adata.layers[keys.COUNTS] = counts
    adata.obs[keys.LIBRARY_SIZE] = size
    adata.var[keys.HIGHLY_VARIABLE] = chosen
    adata.obsm[keys.COMPONENTS] = components
    adata.varm[keys.LOADINGS] = np.zeros((adata.n_vars, axes.shape[1]), dtype=np.float32)
    adata.varm[keys.LOADINGS][chosen] = axes
    parameters = {
        "counts": where,
        "layer": layer or "",
        "size_key": size_key or "",
        "section_key": section_key or "",
        "n_top_genes": n_top_genes,
        "min_spots": min_spots,
        "n_genes_read": int(chosen.sum()),
        "median_library_size": normalise.median,
        "n_empty_spots": int((size == 0).sum()),
    }
    record(adata, expression=parameters)
