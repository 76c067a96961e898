"""Normalised expression, highly variable genes and their principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import sparse

from stmmr._core import keys
from stmmr._core.checks import InputError, logger, unique_names
from stmmr._core.counts import Normalisation, count_statistics, highly_variable, library_size, lognorm
from stmmr._core.depends import clears_outdated
from stmmr._core.options import checked
from stmmr._core.pca import gene_components, number_of_components
from stmmr._core.raw import raw_counts
from stmmr._core.record import record
from stmmr._core.rows import by_rows
from stmmr._core.sections import section_codes, sections_of
from stmmr._core.space import rows_called

if TYPE_CHECKING:
    from anndata import AnnData

FEW_GENES: Final = 10
"""Varying genes below which there is a warning."""


@checked
@clears_outdated
def expression(
    adata: AnnData,
    *,
    layer: str | None = None,
    size_key: str | None = None,
    n_top_genes: int = 3000,
    min_spots: int = 3,
    n_components: int | None = None,
    section_key: str | None = None,
    progress: bool = False,
) -> None:
    """Normalise counts, select highly variable genes and compute their principal components.

    Counts are scaled to the median library size and transformed by log1p. Counts in a file (an AnnData read with
    ``backed=True``) or in a dask array are read a chunk of spots at a time. No spot and no gene is removed, and ``X``
    stays unchanged. A spot without counts gets zeros (its embedding comes from its neighbours). A gene seen in fewer
    than `min_spots` spots is kept, but not used by the model.

    Parameters
    ----------
    adata
        Spots × genes.
    layer
        Layer with the raw counts; None takes ``layers["counts"]`` if it exists, otherwise ``X``.
    size_key
        Column of ``obs`` with the library size, if the data hold only some of the genes that were counted.
    n_top_genes
        Number of highly variable genes (``seurat_v3`` on the counts); all eligible genes if there are fewer.
    min_spots
        Number of spots in which a gene must be seen to be eligible.
    n_components
        Number of principal components of the highly variable genes, at most one for every four spots. None: 50, or in
        a small tissue one for every 20 spots, at least 5.
    section_key
        Column of ``obs`` with the section of each spot, if there are several. Each gene is then centred within each
        section before the components are computed, so that a shift between sections is no signal. Sections should hold
        much the same tissue.

    Returns
    -------
    None. Sets:

    ``layers["counts"]``
        Raw counts (CSR), if they were in memory and elsewhere.
    ``layers["stmmr_lognorm"]``
        Log-normalised counts, float32 CSR, if the counts are in memory.
    ``var["stmmr_highly_variable"]``
        bool.
    ``obs["stmmr_library_size"]``
        float64.
    ``obsm["X_stmmr_pca"]``
        Principal components, float32.
    ``varm["stmmr_loadings"]``
        Their axes, float32; zeros for genes that are not highly variable.
    ``uns["stmmr"]["expression"]``
        Parameters.

    Raises
    ------
    InputError
        If there are no genes, values are not raw counts, or a key does not exist.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(
            f"Expected {rows_called(adata)} and genes, found a matrix of {adata.n_obs} × {adata.n_vars}. Without "
            'genes name a key of obsm (use_rep="…", --use-rep …).'
        )
    unique_names(adata)
    sections = sections_of(adata, section_key)
    where, matrix = raw_counts(adata, layer)
    counts = by_rows(matrix)
    statistics = count_statistics(counts, progress=progress)
    statistics.check(where, adata)
    size = library_size(adata, statistics.size, size_key=size_key)
    selected = highly_variable(counts, statistics, n_top_genes=n_top_genes, min_spots=min_spots, progress=progress)
    if (n_genes := int(selected.sum())) < FEW_GENES:
        logger.warning("Domains rest on only %d genes. Check that all genes were read.", n_genes)
    codes = section_codes(sections, adata.n_obs)
    normalise = Normalisation(selected, size, float(np.median(size[size > 0])), codes, statistics.largest)
    n = n_components or number_of_components(adata.n_obs)
    components, axes = gene_components(counts, normalise, n_components=n, progress=progress)
    if isinstance(counts, sparse.csr_matrix):
        adata.layers[keys.LOGNORM] = lognorm(counts, size, normalise.median)
        if keys.COUNTS not in adata.layers:
            adata.layers[keys.COUNTS] = counts
    adata.obs[keys.LIBRARY_SIZE] = size
    adata.var[keys.HIGHLY_VARIABLE] = selected
    adata.obsm[keys.COMPONENTS] = components
    adata.varm[keys.LOADINGS] = np.zeros((adata.n_vars, axes.shape[1]), dtype=np.float32)
    adata.varm[keys.LOADINGS][selected] = axes
    parameters = {
        "counts": where,
        "layer": layer or "",
        "size_key": size_key or "",
        "section_key": section_key or "",
        "n_top_genes": n_top_genes,
        "min_spots": min_spots,
        "n_genes_read": n_genes,
        "median_library_size": normalise.median,
        "n_empty_spots": int((size == 0).sum()),
    }
    record(adata, expression=parameters)
